//! Which segments are there: by their first block, or by their commits where that is gone. How far
//! they reach is measured next door.
//!
//! Invariant: nothing is written here.

use std::collections::BTreeSet;
use std::io;

use contract::SpoolId;

use super::{measure, salvage};
use crate::cursor::CursorState;
use crate::format::{HEADER_BYTES, HeaderError, SegmentHeader, header};
use crate::fs::{Fs, FsFile};
use crate::index::{Part, Segment};
use crate::mutant::{Mutant, active};
use crate::{Geometry, SpoolError, pool};

/// Times a read that fails is tried before the file is left alone for this opening.
const READ_TRIES: u32 = 3;

/// More segments than were begun since any file that cannot be read now was written.
const IDS_SKIPPED: u64 = 1 << 32;

/// What the pool holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Segments that hold something.
    pub(crate) segments: Vec<Segment>,
    /// Slots with a header and nothing of value.
    pub(crate) free: Vec<Free>,
    /// Segments whose content stands in a later one too. That one may be in memory alone: its
    /// writer may have seen the sync fail. So these are kept until this opening has made a copy
    /// of its own.
    pub(crate) held: Vec<Free>,
    /// Slots without a header and without any commit: never used, or used and never synced.
    pub(crate) unproven: Vec<u64>,
    /// The last commit of each key: the only one whose sync its writer may not have seen.
    pub(crate) tails: Vec<Tail>,
    /// Of each key whose last segment cannot be read now, what may stand in it. Nothing that the key
    /// wrote may be given up on its account: an earlier segment may hold the one durable copy.
    pub(crate) blind: Vec<Part>,
    /// Segments whose bytes are not what they should be.
    pub(crate) damaged: Vec<(u64, u64, SpoolId)>,
    pub(crate) strangers: Vec<String>,
    /// Something could not be read, so what is missing is not proved to be lost.
    pub(crate) is_partial: bool,
    /// All our files, whatever is in them.
    pub(crate) files: u64,
    pub(crate) next_slot: u64,
    pub(crate) next_id: u64,
}

/// A file with a header and nothing of value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Free {
    pub(crate) slot: u64,
    pub(crate) header: SegmentHeader,
    pub(crate) file_bytes: u64,
}

/// The last commit of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    /// Of its segment.
    pub(crate) id: u64,
    /// Where it stands there.
    pub(crate) offset: u64,
    pub(crate) len_bytes: usize,
    pub(crate) part: Part,
}

/// A file with a header.
pub(super) struct Headed {
    pub(super) slot: u64,
    pub(super) header: SegmentHeader,
    pub(super) file_bytes: u64,
    /// The header is what its commits say: it was never written whole, so its writer was never told that
    /// it is durable.
    pub(super) is_torn: bool,
}

impl Headed {
    pub(super) fn free(&self) -> Free {
        Free {
            slot: self.slot,
            header: self.header,
            file_bytes: self.file_bytes,
        }
    }
}

pub(crate) fn scan<F: Fs>(
    fs: &F,
    geometry: &Geometry,
    cursor: &CursorState,
) -> Result<Found, SpoolError> {
    let mut found = Found::default();
    let names = fs.list("").map_err(|source| SpoolError::open("", source))?;
    let mut slots: Vec<u64> = names
        .iter()
        .filter_map(|name| pool::slot_of(name))
        .collect();
    let odd = names
        .into_iter()
        .filter(|n| n.starts_with("seg-") && pool::slot_of(n).is_none());
    found.strangers.extend(odd);
    slots.sort_unstable();
    found.next_slot = slots.last().map_or(0, |last| last + 1);
    let (headed, headless) = read_headers(fs, geometry, slots, &mut found)?;
    let mut keys: BTreeSet<SpoolId> = cursor.entries.keys().copied().collect();
    keys.extend(headed.iter().map(|h| h.header.key));
    let mut all = headed;
    for (slot, file_bytes, is_torn) in headless {
        rescue(
            fs,
            geometry,
            &keys,
            (slot, file_bytes, is_torn),
            &mut all,
            &mut found,
        );
    }
    all.sort_by_key(|h| (h.header.id, h.slot));
    // The same segment under two names: a copy that somebody made.
    let mut seen = BTreeSet::new();
    all.retain(|h| {
        let key = (!active(Mutant::ReuseSegmentIds)).then_some(h.header.key);
        let is_new = seen.insert((h.header.id, key));
        if !is_new {
            found.strangers.push(pool::name(h.slot));
        }
        is_new
    });
    found.files += all.len() as u64;
    found.next_id = all.last().map_or(1, |h| h.header.id + 1);
    if found.is_partial {
        // A file that could not be read may hold a higher id, and no two may be the same.
        found.next_id += IDS_SKIPPED;
    }
    measure::measure(fs, geometry, cursor, all, &mut found);
    Ok(found)
}

/// A file without a header: its slot, its bytes, and whether its header was never written whole.
type Headless = (u64, u64, bool);

fn read_headers<F: Fs>(
    fs: &F,
    geometry: &Geometry,
    slots: Vec<u64>,
    found: &mut Found,
) -> Result<(Vec<Headed>, Vec<Headless>), SpoolError> {
    let (mut headed, mut headless) = (Vec::new(), Vec::new());
    let mut block = vec![0; HEADER_BYTES];
    for slot in slots {
        let name = pool::name(slot);
        let read = patiently(|| {
            let file = fs.open(&name)?;
            let file_bytes = file.len_bytes()?;
            let wanted = usize::try_from(file_bytes)
                .unwrap_or(usize::MAX)
                .min(HEADER_BYTES);
            file.read_exact_at(&mut block[..wanted], 0)?;
            Ok((file_bytes, wanted))
        });
        let (file_bytes, read_bytes) = match read {
            Ok(read) => read,
            Err(source) => {
                // One file that cannot be read holds back nothing else; it stays as it is.
                tracing::error!(file = name, %source, "segment cannot be read");
                found.is_partial = true;
                found.files += 1;
                found.strangers.push(name);
                continue;
            }
        };
        match SegmentHeader::decode(&block[..read_bytes]) {
            Ok(header) => headed.push(Headed {
                slot,
                header,
                file_bytes: file_bytes.min(u64::MAX - geometry.segment_bytes),
                is_torn: false,
            }),
            Err(HeaderError::Newer { version }) => {
                return Err(SpoolError::Newer {
                    file: name,
                    version,
                    read: header::VERSION,
                });
            }
            Err(HeaderError::Zero) => headless.push((slot, file_bytes, true)),
            Err(HeaderError::Damaged) => {
                // An old header half overwritten looks like this too.
                let block = &block[..read_bytes];
                let is_torn = header::was_never_whole(block) || header::is_ours(block);
                headless.push((slot, file_bytes, is_torn));
            }
        }
    }
    Ok((headed, headless))
}

/// Searches a file without a header for commits under a key that is known.
fn rescue<F: Fs>(
    fs: &F,
    geometry: &Geometry,
    known: &BTreeSet<SpoolId>,
    (slot, file_bytes, is_torn): Headless,
    headed: &mut Vec<Headed>,
    found: &mut Found,
) {
    let name = pool::name(slot);
    let searched = patiently(|| salvage::search(&fs.open(&name)?, file_bytes, geometry, known));
    match searched {
        Ok(salvage::Search {
            header: Some(header),
            ..
        }) => {
            // A header that was never written whole is a power cut, not damage.
            if !is_torn {
                tracing::error!(
                    file = name,
                    segment = header.id,
                    "segment header is damaged; its commits were found by their key"
                );
                found.damaged.push((slot, header.id, header.key));
            }
            headed.push(Headed {
                slot,
                header,
                file_bytes,
                is_torn,
            });
        }
        // Nothing in it was ever acknowledged: that needs a header that was synced whole.
        Ok(search) if search.is_zero || (is_torn && file_bytes <= geometry.segment_bytes) => {
            found.files += 1;
            found.unproven.push(slot);
        }
        Ok(_) => found.strangers.push(name),
        Err(source) => {
            tracing::error!(file = name, %source, "segment cannot be read");
            found.is_partial = true;
            found.files += 1;
            found.strangers.push(name);
        }
    }
}

/// Reads again a few times before it is believed that something cannot be read.
pub(crate) fn patiently<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 1;
    loop {
        match read() {
            Err(_) if tries < READ_TRIES => tries += 1,
            answer => return answer,
        }
    }
}
