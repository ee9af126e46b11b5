//! One file in two layers: what a process reads (the cache) and what a power cut leaves (the disk).
//!
//! Why an overlay: the layers agree almost everywhere, so only the sectors that differ are kept
//! twice, and forgetting one of them is what "it reached the disk" means.
//!
//! Invariants: a sector without an overlay entry is the same in both layers. A *clean* entry is
//! one whose sync failed: no later sync will write it, only a new write makes it dirty again.

use std::collections::BTreeMap;

use super::chance::Chance;

/// What storage writes whole or tears.
pub const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

/// What becomes of one unsynced thing when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never reached the disk.
    Lost,
    /// It did.
    Kept,
    /// Of a sector: so many bytes from its start did. Of anything else: lost.
    Torn(usize),
    /// Of a sector: the cut came while it was programmed. Of anything else: lost.
    Garbage(u64),
}

#[derive(Clone, Debug)]
struct Behind {
    /// What the disk holds; `None` is zeros.
    disk: Option<Box<Sector>>,
    clean: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// The cache, padded to whole sectors.
    bytes: Vec<u8>,
    len: usize,
    disk_len: usize,
    /// Every length since the last sync.
    lens: Vec<usize>,
    behind: BTreeMap<usize, Behind>,
}

impl Inode {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let from = offset.min(self.len);
        let count = buffer.len().min(self.len - from);
        buffer[..count].copy_from_slice(&self.bytes[from..from + count]);
        count
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        let padded = end.next_multiple_of(SECTOR_BYTES);
        if self.bytes.len() < padded {
            self.bytes.resize(padded, 0);
        }
        for sector in offset / SECTOR_BYTES..padded / SECTOR_BYTES {
            let old = &self.bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES];
            self.behind
                .entry(sector)
                .or_insert_with(|| Behind {
                    disk: kept(old),
                    clean: false,
                })
                .clean = false;
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        if end > self.len {
            self.len = end;
            self.lens.push(end);
        }
    }

    /// Everything dirty reaches the disk.
    pub(super) fn sync(&mut self) {
        self.behind.retain(|_, behind| behind.clean);
        if !self.lens.is_empty() {
            self.disk_len = self.len;
            self.lens.clear();
        }
    }

    /// Everything dirty becomes clean; some of it reached the disk.
    pub(super) fn sync_failed(&mut self, chance: &mut Chance) {
        self.behind
            .retain(|_, behind| behind.clean || !chance.one_in(2));
        for behind in self.behind.values_mut() {
            behind.clean = true;
        }
        if !self.lens.is_empty() {
            if chance.one_in(2) {
                self.disk_len = self.len;
            }
            self.lens.clear();
        }
    }

    /// The kernel writes back what it likes, when it likes.
    pub(super) fn write_back(&mut self, chance: &mut Chance) {
        self.behind
            .retain(|_, behind| behind.clean || chance.one_in(2));
        if !self.lens.is_empty() && chance.one_in(2) {
            self.disk_len = self.len;
            self.lens.clear();
        }
    }

    /// Is there anything that [`Inode::evict`] could change?
    pub(super) fn has_clean(&self) -> bool {
        self.behind.values().any(|behind| behind.clean)
    }

    /// Clean pages may leave the cache at any time: what is read afterwards is what the disk has.
    pub(super) fn evict(&mut self, offset: usize, bytes: usize, chance: &mut Chance) {
        if self.behind.is_empty() || bytes == 0 {
            return;
        }
        let sectors = offset / SECTOR_BYTES..(offset.saturating_add(bytes)).div_ceil(SECTOR_BYTES);
        let clean = self.behind.range(sectors).filter(|(_, b)| b.clean);
        let leave: Vec<usize> = clean
            .map(|(&sector, _)| sector)
            .filter(|_| chance.one_in(2))
            .collect();
        for sector in leave {
            if let Some(behind) = self.behind.remove(&sector) {
                self.put(sector, behind.disk.as_deref());
            }
        }
    }

    /// How many things [`Inode::cut`] will ask about.
    pub(super) fn unsynced(&self) -> usize {
        self.behind.values().filter(|b| !b.clean).count() + usize::from(!self.lens.is_empty())
    }

    /// The power goes: `fate` decides for each dirty sector and for the length.
    pub(super) fn cut(&mut self, chance: &mut Chance, fate: &mut dyn FnMut(&mut Chance) -> Fate) {
        for (sector, behind) in std::mem::take(&mut self.behind) {
            let fate = if behind.clean {
                Fate::Lost
            } else {
                fate(chance)
            };
            match fate {
                Fate::Kept => {}
                Fate::Lost => self.put(sector, behind.disk.as_deref()),
                Fate::Torn(bytes) => {
                    let mut torn = behind.disk.map_or([0; SECTOR_BYTES], |disk| *disk);
                    let bytes = bytes.min(SECTOR_BYTES);
                    torn[..bytes].copy_from_slice(&self.bytes[sector * SECTOR_BYTES..][..bytes]);
                    self.put(sector, Some(&torn));
                }
                Fate::Garbage(seed) => {
                    let mut garbage = Chance::new(seed);
                    let bytes: Sector = std::array::from_fn(|_| garbage.next() as u8);
                    self.put(sector, Some(&bytes));
                }
            }
        }
        if !self.lens.is_empty() {
            if fate(chance) == Fate::Kept {
                let at = chance.index(self.lens.len() + 1);
                self.disk_len = self.lens.get(at).copied().unwrap_or(self.len);
            }
            self.lens.clear();
        }
        self.len = self.disk_len;
        self.bytes.truncate(self.len);
        self.bytes
            .resize(self.len.next_multiple_of(SECTOR_BYTES), 0);
    }

    /// Damage: flips one bit in both layers.
    pub(super) fn flip(&mut self, offset: usize, bit: u8) {
        if let Some(byte) = self.bytes[..self.len].get_mut(offset) {
            *byte ^= 1 << (bit & 7);
        }
    }

    fn put(&mut self, sector: usize, bytes: Option<&Sector>) {
        let place = &mut self.bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES];
        match bytes {
            Some(bytes) => place.copy_from_slice(bytes),
            None => place.fill(0),
        }
    }
}

fn kept(old: &[u8]) -> Option<Box<Sector>> {
    if old.iter().all(|&byte| byte == 0) {
        return None;
    }
    let mut sector = Box::new([0; SECTOR_BYTES]);
    sector.copy_from_slice(old);
    Some(sector)
}
