//! The command-intent log: which commands may have gone out to a tracker.
//!
//! Why: a command is delivered at most once. What was written to a socket cannot be taken back
//! and, after a crash, not be known; so the intent is durable before the first byte goes out, and
//! what was begun and not finished is answered `unknown`, never sent again in silence.
//!
//! The file has three regions. The live intents and what happens to them stand in one of them; when
//! it is full, when a write to it failed, and at every opening, the live ones are written to a
//! region that may be given up. Which one may is the cursor file's rule (see there): a region that
//! was durable, or may have been and was acted upon, is not written over before a newer one is
//! durable.
//!
//! Invariants:
//! - A [`Begun`] exists only for an intent that was synced, and cannot be made elsewhere:
//!   ```compile_fail,E0451
//!   let forged = spool::intents::Begun { cid: String::new() };
//!   ```
//! - A sector that holds a durable record is not written again while the record counts.

mod region;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use contract::Device;
use contract::envelope::DEVICE_TEXT_BYTES_MAX;

use crate::SpoolError;
use crate::fs::{Fs, FsFile};
use crate::zeroed;
use region::{CONFIRM_AT, Record, RegionHeader};

/// The file's name.
pub(crate) const FILE: &str = "intents";

/// Longest command id in bytes; a UUID has 36.
pub const CID_BYTES_MAX: usize = 64;

/// Largest payload of a command in bytes: far above what a tracker takes.
pub const PAYLOAD_BYTES_MAX: usize = 4096;

/// Regions written in turn: two that must be spared at the worst, one to write.
const REGIONS: usize = 3;

/// One region. Half of it may be live, so that there is always room for what happens next:
/// 512 short commands on their way at once.
const REGION_BYTES: usize = 512 * 1024;

/// Sectors of live intents at most, in bytes.
const LIVE_BYTES_MAX: usize = REGION_BYTES / 2;

/// A command that is about to be written to a tracker's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The command's id, 1 to [`CID_BYTES_MAX`] bytes.
    pub cid: String,
    /// Who is to receive it.
    pub device: Device,
    /// Gateway clock, milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// What is sent, at most [`PAYLOAD_BYTES_MAX`] bytes.
    pub payload: Vec<u8>,
}

/// Receipt: the intent survives a power cut. Only with one may the command be written to a socket.
#[derive(Debug)]
#[must_use = "the intent counts as unknown until it is finished"]
pub struct Begun {
    cid: String,
}

impl Begun {
    /// The command it is for.
    #[must_use]
    pub fn cid(&self) -> &str {
        &self.cid
    }
}

/// The log, one owner.
#[derive(Debug)]
pub struct IntentLog<File> {
    file: File,
    live: BTreeMap<String, Record>,
    live_bytes: usize,
    /// Generation in each region as far as it can be read; 0 = nothing.
    generations: [u64; REGIONS],
    /// Generations that must not be written over.
    kept: [u64; 2],
    /// The region in use and the last generation tried.
    current: (usize, u64),
    /// Where the next record goes; past the end = this region must not be written to again.
    next_at: usize,
    failed: Option<Arc<io::Error>>,
}

impl<File: FsFile> IntentLog<File> {
    /// Opens the log, making it when it is missing; also gives the intents that were begun and not
    /// finished: their outcome is unknown. They stay until [`IntentLog::finish`].
    /// # Errors
    /// [`SpoolError::Open`], [`SpoolError::NoSpace`].
    pub fn open<F: Fs<File = File>>(fs: &F) -> Result<(Self, Vec<Intent>), SpoolError> {
        Self::open_file(fs).map_err(|source| {
            let (file, source) = (FILE.to_owned(), Arc::new(source));
            match source.kind() {
                ErrorKind::StorageFull => SpoolError::NoSpace { file, source },
                _ => SpoolError::Open { file, source },
            }
        })
    }

    fn open_file<F: Fs<File = File>>(fs: &F) -> io::Result<(Self, Vec<Intent>)> {
        let found = match fs.open(FILE) {
            Ok(file) => Some((Found::read(&file)?, file)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        // Without a whole header it may be what a failed sync left behind.
        let found = found.filter(|(found, _)| found.newest.is_some());
        let (found, file) = match found {
            Some(found) => found,
            None => {
                let bytes = (REGIONS * REGION_BYTES) as u64;
                (Found::default(), zeroed::make(fs, "", FILE, bytes)?)
            }
        };
        let (newest, header) = found.newest.unwrap_or((REGIONS - 1, NOTHING));
        let highest = found.highest.max(header.generation);
        let records = found.live.iter();
        let live: BTreeMap<_, _> = records
            .map(|(cid, intent)| (cid.clone(), Record::begun(intent)))
            .collect();
        let mut log = Self {
            file,
            live_bytes: live.values().map(Record::len_bytes).sum(),
            live,
            generations: found.generations,
            kept: found.kept,
            current: (newest, highest),
            next_at: REGION_BYTES,
            failed: None,
        };
        // Twice: the first region may lie on a bad place.
        log.rewrite(None, true)
            .or_else(|_| log.rewrite(None, true))?;
        Ok((log, found.live.into_values().collect()))
    }

    /// Notes that a command is about to be sent: durable when this returns. One with the same id
    /// takes the place of the first.
    /// # Errors
    /// [`SpoolError::TooLarge`]; [`SpoolError::Full`] when too many commands are on their way;
    /// [`SpoolError::Storage`] after two failures in a row, and from then on. In every case the
    /// command must not be sent; after a failure of storage it may still come back as unknown.
    pub fn begin(&mut self, intent: &Intent) -> Result<Begun, SpoolError> {
        let name_bytes = match &intent.device {
            Device::Imei(_) => 0,
            Device::Text(text) => text.len(),
        };
        let fits = (1..=CID_BYTES_MAX).contains(&intent.cid.len())
            && intent.payload.len() <= PAYLOAD_BYTES_MAX
            && name_bytes <= DEVICE_TEXT_BYTES_MAX;
        if !fits {
            let bytes = intent.cid.len() + name_bytes + intent.payload.len();
            return Err(SpoolError::TooLarge { bytes });
        }
        let record = Record::begun(intent);
        let old_bytes = self.live.get(&intent.cid).map_or(0, Record::len_bytes);
        let live_bytes = self.live_bytes - old_bytes + record.len_bytes();
        if live_bytes > LIVE_BYTES_MAX {
            return Err(SpoolError::Full {
                used_bytes: self.live_bytes as u64,
                bytes_max: LIVE_BYTES_MAX as u64,
            });
        }
        self.append(&record)?;
        self.live_bytes = live_bytes;
        self.live.insert(intent.cid.clone(), record);
        Ok(Begun {
            cid: intent.cid.clone(),
        })
    }

    /// Notes that the outcome of a command is known and written down elsewhere. One that is not
    /// under way changes nothing.
    /// # Errors
    /// [`SpoolError::Storage`]; then it may come back as unknown after a restart.
    pub fn finish(&mut self, cid: &str) -> Result<(), SpoolError> {
        let Some(begun) = self.live.get(cid) else {
            return Ok(());
        };
        let begun_bytes = begun.len_bytes();
        self.append(&Record::finished(cid))?;
        self.live.remove(cid);
        self.live_bytes -= begun_bytes;
        Ok(())
    }

    /// Did storage fail for good? Then no command may be sent until a restart.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Makes one record durable: here, or after a failure in the next region.
    fn append(&mut self, record: &Record) -> Result<(), SpoolError> {
        if let Some(source) = &self.failed {
            return Err(storage(Arc::clone(source)));
        }
        if self.next_at + record.len_bytes() <= REGION_BYTES {
            let mut bytes = Vec::new();
            record.push_to(&mut bytes, self.current.1);
            let offset = (self.current.0 * REGION_BYTES + self.next_at) as u64;
            let written = self.file.write_all_at(&bytes, offset);
            if written.and_then(|()| self.file.sync()).is_ok() {
                self.next_at += bytes.len();
                return Ok(());
            }
            // What is there now nobody knows: this region is not written to again.
        }
        let rewritten = self.rewrite(Some(record), false);
        rewritten.map_err(|source| {
            let source = Arc::new(source);
            self.failed = Some(Arc::clone(&source));
            storage(source)
        })
    }

    /// Writes the live intents and one record more to a region that may be given up, and goes on
    /// there.
    fn rewrite(&mut self, record: Option<&Record>, opening: bool) -> io::Result<()> {
        let at = self.next_region();
        let header = RegionHeader {
            generation: self.current.1 + 1,
            kept: self.kept,
            opening,
        };
        let mut bytes = Vec::new();
        region::encode(&mut bytes, header, self.live.values().chain(record));
        // Noted before the attempt: a failed write may have reached the disk all the same.
        self.current = (at, header.generation);
        self.generations[at] = header.generation;
        let offset = (at * REGION_BYTES) as u64;
        self.file.write_all_at(&bytes, offset)?;
        self.file.sync()?;
        if opening {
            let confirm = region::encode_confirm(header.generation);
            let confirm_at = offset + CONFIRM_AT as u64;
            self.file.write_all_at(&confirm, confirm_at)?;
            self.file.sync()?;
        }
        // Not before it is confirmed: whoever finds it unconfirmed goes by what it had to spare.
        self.kept = [header.generation, 0];
        self.next_at = bytes.len();
        Ok(())
    }

    /// The region after the last one that need not be spared.
    fn next_region(&self) -> usize {
        let spared = |at: &usize| {
            let generation = self.generations[*at];
            generation > 0 && self.kept.contains(&generation)
        };
        (1..=REGIONS)
            .map(|step| (self.current.0 + step) % REGIONS)
            .find(|at| !spared(at))
            .expect("at most two of three regions are spared")
    }
}

const NOTHING: RegionHeader = RegionHeader {
    generation: 0,
    kept: [0; 2],
    opening: false,
};

fn storage(source: Arc<io::Error>) -> SpoolError {
    let file = FILE.to_owned();
    SpoolError::Storage { file, source }
}

/// What an earlier process left.
#[derive(Default)]
struct Found {
    generations: [u64; REGIONS],
    newest: Option<(usize, RegionHeader)>,
    /// Of all records, those without a header included.
    highest: u64,
    kept: [u64; 2],
    live: BTreeMap<String, Intent>,
}

impl Found {
    fn read<File: FsFile>(file: &File) -> io::Result<Self> {
        let mut found = Self::default();
        let mut regions = Vec::new();
        for at in 0..REGIONS {
            let mut bytes = vec![0; REGION_BYTES];
            file.read_up_to(&mut bytes, (at * REGION_BYTES) as u64)?;
            let highest = region::highest_generation(&bytes);
            found.highest = found.highest.max(highest);
            if let Some(region) = region::decode(&bytes) {
                found.generations[at] = region.header.generation;
                regions.push((at, region, bytes));
            }
        }
        regions.sort_by_key(|(_, region, _)| region.header.generation);
        let Some((at, newest, _)) = regions.last() else {
            return Ok(found);
        };
        let header = newest.header;
        found.newest = Some((*at, header));
        // A torn region was never acted upon, nor was an opening one that nobody confirmed: what it
        // had to spare is still the newest word.
        found.kept = if !newest.whole || header.opening && !newest.confirmed {
            header.kept
        } else if header.opening {
            [header.generation, 0]
        } else {
            [header.generation, header.kept[0]]
        };
        // The newest whole snapshot and what stands behind it; whole records of torn ones too.
        let from = regions.iter().rposition(|(_, region, _)| region.whole);
        for (_, region, bytes) in &regions[from.unwrap_or(0)..] {
            region::replay(bytes, region.header.generation, &mut found.live);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
