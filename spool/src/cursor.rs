//! The cursor file: what is settled, how far each lane was durable, what was lost.
//!
//! Why slots in one file of fixed size: a segment may be taken for new data once a *durable*
//! cursor says that everything in it is settled, so the cursor is part of what must survive. Four
//! slots are written in turn; a power cut can tear the one being written and no other.
//!
//! Which slots may be written over is the whole matter. After a failed sync nobody can see, not
//! even by reading, which slots are on the disk: the page cache shows them all. So every slot says
//! which generations had to outlive its own write, and who finds it newest spares it *and* those.
//! The first write of a process cannot know whether the slot it started from is durable; it marks
//! itself as opening, and when it is synced a second, unsynced copy in another slot takes the mark
//! away. Until then nothing was done in its name, so a later process need not spare it: however
//! often opening fails, two slots are always free.
//!
//! Invariants:
//! - A slot that was durable, or may have been and was acted upon, is not written over before a
//!   newer one is durable.
//! - A slot is only ever written to a file whose creation, length and name were all synced.

pub(crate) mod slot;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use contract::{Gap, SettledRanges, SpoolId};
use thiserror::Error;

use crate::fs::{Fs, FsFile};
use crate::mutant::{Mutant, active};
use crate::zeroed;
use slot::SlotHeader;

/// The file's name.
pub(crate) const FILE: &str = "cursor";

/// Slots written in turn: two that must be spared at the worst, one to write, one to confirm.
pub(crate) const SLOTS: u64 = 4;

/// A slot at most; only what is used of it is written.
pub(crate) const SLOT_BYTES: usize = 256 * 1024;

/// The whole file.
const FILE_BYTES: u64 = SLOTS * SLOT_BYTES as u64;

/// Writes are whole blocks.
const BLOCK_BYTES: usize = 4096;

/// What is known about one opening of one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CursorEntry {
    /// Last position known committed and synced; 0 = unknown.
    pub(crate) tail: u64,
    /// Positions stored in the database.
    pub(crate) settled: SettledRanges,
    /// Losses not settled yet.
    pub(crate) gaps: Vec<Gap>,
}

impl CursorEntry {
    /// `settled` and `gaps` together: nothing of it will be sent.
    pub(crate) fn closed(&self) -> SettledRanges {
        let mut closed = self.settled.clone();
        for gap in &self.gaps {
            closed.insert(gap.first.get(), gap.last.get());
        }
        closed
    }
}

/// Everything a slot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CursorState {
    /// By spool id.
    pub(crate) entries: BTreeMap<SpoolId, CursorEntry>,
}

/// Why the cursor was not written. The last durable slot stands.
#[derive(Debug, Error)]
pub(crate) enum CursorWriteError {
    /// Try again later; until it works nothing may be recycled.
    #[error("cursor file cannot be written")]
    Io(#[source] io::Error),
    /// Forget wholly settled openings first.
    #[error("cursor of {bytes} bytes; a slot holds {bytes_max}")]
    TooLarge {
        /// What the state takes.
        bytes: usize,
        /// What a slot holds.
        bytes_max: usize,
    },
}

/// The open file, for writing.
#[derive(Debug)]
pub(crate) struct CursorFile<File> {
    file: File,
    /// Generation in each slot as far as it can be read; 0 = nothing whole.
    generations: [u64; SLOTS as usize],
    /// Generations that must not be written over.
    kept: [u64; 2],
    /// The opening slot of this process, durable and not confirmed; 0 = none.
    opened: u64,
    /// The slot and generation of the last attempt.
    last: (usize, u64),
    /// Did a write of this process succeed?
    confirmed: bool,
    buffer: Vec<u8>,
}

impl<File: FsFile> CursorFile<File> {
    /// Opens the file, or makes it when it is missing or holds no whole slot.
    /// # Errors
    /// As the file system says. Damage is none: the newest whole slot counts.
    pub(crate) fn open<F: Fs<File = File>>(fs: &F) -> io::Result<(Self, CursorState)> {
        let found = match fs.open(FILE) {
            Ok(file) => {
                let slots = read_slots(&file)?;
                slots.newest.is_some().then_some((file, slots))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let Some((file, slots)) = found else {
            return Ok((
                Self::fresh(zeroed::make(fs, "", FILE, FILE_BYTES)?),
                CursorState::default(),
            ));
        };
        let Some((at, header, state)) = slots.newest else {
            return Ok((Self::fresh(file), CursorState::default()));
        };
        // An opening slot was never acted upon; what it had to spare is still the newest word.
        let kept = if header.opening {
            header.kept
        } else {
            [header.generation, header.kept[0]]
        };
        let cursor = Self {
            generations: slots.generations,
            kept,
            last: (at, header.generation),
            ..Self::fresh(file)
        };
        Ok((cursor, state))
    }

    fn fresh(file: File) -> Self {
        Self {
            file,
            generations: [0; SLOTS as usize],
            kept: [0; 2],
            opened: 0,
            last: (SLOTS as usize - 1, 0),
            confirmed: false,
            buffer: Vec::new(),
        }
    }

    /// Makes `state` durable: one write and one sync; the first of a process does both twice.
    /// # Errors
    /// [`CursorWriteError`]; the last durable slot is untouched then.
    pub(crate) fn write(&mut self, state: &CursorState) -> Result<(), CursorWriteError> {
        if self.confirmed {
            let header = SlotHeader {
                kept: self.kept,
                ..SlotHeader::default()
            };
            let written = self.put(state, header)?;
            self.kept = [written, 0];
            return Ok(());
        }
        let opening = SlotHeader {
            kept: self.kept,
            opening: true,
            ..SlotHeader::default()
        };
        self.opened = self.put(state, opening)?;
        // Whoever finds the opening slot unconfirmed goes by what that one had to spare, so the
        // confirmation goes to the one slot that is none of these.
        let confirmation = SlotHeader {
            kept: [self.opened, 0],
            ..SlotHeader::default()
        };
        let confirmed = self.put(state, confirmation)?;
        (self.kept, self.opened, self.confirmed) = ([confirmed, 0], 0, true);
        Ok(())
    }

    /// Writes the next slot that may be written; gives its generation.
    fn put(&mut self, state: &CursorState, header: SlotHeader) -> Result<u64, CursorWriteError> {
        let at = if active(Mutant::SingleCursorSlot) {
            0
        } else {
            self.next_slot()
        };
        let header = SlotHeader {
            generation: self.last.1 + 1,
            ..header
        };
        slot::encode(&mut self.buffer, header, state);
        if self.buffer.len() > SLOT_BYTES {
            return Err(CursorWriteError::TooLarge {
                bytes: self.buffer.len(),
                bytes_max: SLOT_BYTES,
            });
        }
        let padded = self.buffer.len().next_multiple_of(BLOCK_BYTES);
        self.buffer.resize(padded, 0);
        // Noted before the attempt: a failed write may have reached the disk all the same.
        self.last = (at, header.generation);
        self.generations[at] = header.generation;
        let offset = at as u64 * SLOT_BYTES as u64;
        let wrote = self.file.write_all_at(&self.buffer, offset);
        wrote.map_err(CursorWriteError::Io)?;
        self.file.sync().map_err(CursorWriteError::Io)?;
        Ok(header.generation)
    }

    /// The slot after the last attempt's that need not be spared.
    fn next_slot(&self) -> usize {
        let slots = self.generations.len();
        let spared = |at: &usize| {
            let generation = self.generations[*at];
            generation > 0 && (self.kept.contains(&generation) || self.opened == generation)
        };
        (1..=slots)
            .map(|step| (self.last.0 + step) % slots)
            .find(|at| !spared(at))
            .expect("at most three of four slots are spared")
    }
}

/// What can be read of a file: the newest state and its generation; nothing is written.
/// # Errors
/// As the file system says; a missing file is an empty state of generation 0.
#[allow(dead_code, reason = "for tools that look at a stopped spool")]
pub(crate) fn read<F: Fs>(fs: &F) -> io::Result<(CursorState, u64)> {
    let file = match fs.open(FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok((CursorState::default(), 0));
        }
        Err(error) => return Err(error),
    };
    let newest = read_slots(&file)?.newest;
    Ok(newest.map_or_else(Default::default, |(_, header, state)| {
        (state, header.generation)
    }))
}

struct Slots {
    generations: [u64; SLOTS as usize],
    newest: Option<(usize, SlotHeader, CursorState)>,
}

fn read_slots<File: FsFile>(file: &File) -> io::Result<Slots> {
    let mut slots = Slots {
        generations: [0; SLOTS as usize],
        newest: None,
    };
    let mut buffer = vec![0; SLOT_BYTES];
    for (at, generation) in slots.generations.iter_mut().enumerate() {
        let offset = at as u64 * SLOT_BYTES as u64;
        let mut bytes = file.read_up_to(&mut buffer[..BLOCK_BYTES], offset)?;
        if slot::stated_bytes(&buffer[..bytes]) > bytes {
            bytes = file.read_up_to(&mut buffer, offset)?;
        }
        let Some((header, state)) = slot::decode(&buffer[..bytes]) else {
            continue;
        };
        *generation = header.generation;
        let newer =
            |newest: &(usize, SlotHeader, CursorState)| newest.1.generation < header.generation;
        if slots.newest.as_ref().is_none_or(newer) {
            slots.newest = Some((at, header, state));
        }
    }
    Ok(slots)
}

#[cfg(test)]
mod tests;
