//! The simulated machine: names and files, each in two layers, and the moment the power goes.
//!
//! Why names are kept like sectors: a name that was made or removed since the last good
//! `sync_dir` is there or not after a power cut, whatever happened to the file itself.
//!
//! Invariant: after [`World::power_cut`] both layers are equal and every open file is dead.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::chance::Chance;
use super::fault::{Call, Failure, Faults};
use super::inode::{Fate, Inode};

/// A name: what the cache says, and everything the disk may say.
#[derive(Clone, Debug, Default)]
struct Name {
    now: Option<usize>,
    disk: Option<usize>,
    /// Every state since the last sync of the directory.
    since: Vec<Option<usize>>,
}

impl Name {
    fn set(&mut self, inode: Option<usize>) {
        self.now = inode;
        self.since.push(inode);
    }

    fn sync(&mut self) {
        if !self.since.is_empty() {
            self.disk = self.now;
            self.since.clear();
        }
    }

    fn choose(&mut self, chance: &mut Chance) {
        let at = chance.index(self.since.len() + 1);
        self.disk = self.since.get(at).copied().unwrap_or(self.disk);
        self.since.clear();
    }
}

/// The machine.
#[derive(Clone, Debug)]
pub(super) struct World {
    names: BTreeMap<String, Name>,
    inodes: Vec<Arc<Inode>>,
    /// Directories below the root, as names of no file.
    dirs: BTreeMap<String, Name>,
    pub(super) chance: Chance,
    pub(super) calls: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) down: bool,
    /// Counts processes: a file opened by an earlier one is dead.
    pub(super) process: u32,
    pub(super) faults: Faults,
    pub(super) faults_hit: u64,
    pub(super) garbage: u64,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) trace: Option<Vec<World>>,
    /// Does the kernel write back early?
    pub(super) eager: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            names: BTreeMap::new(),
            inodes: Vec::new(),
            dirs: BTreeMap::new(),
            chance: Chance::new(seed),
            calls: 0,
            crash_at: None,
            down: false,
            process: 0,
            faults: Faults::None,
            faults_hit: 0,
            garbage: 0,
            capacity_bytes: None,
            trace: None,
            eager: true,
        }
    }

    /// Begins a call: `Ok(None)` to do it, `Ok(Some)` to fail it that way, `Err` with no power.
    /// `Err(true)` when the power goes in this very call.
    pub(super) fn begin(&mut self, call: Call) -> Result<Option<Failure>, bool> {
        if self.down {
            return Err(false);
        }
        if call.changes()
            && let Some(mut trace) = self.trace.take()
        {
            trace.push(self.clone());
            self.trace = Some(trace);
        }
        self.calls += 1;
        if self.crash_at == Some(self.calls) {
            self.down = true;
            return Err(true);
        }
        let failure = self.faults.strike(self.calls, call, &mut self.chance);
        self.faults_hit += u64::from(failure.is_some());
        Ok(failure)
    }

    // --- names --------------------------------------------------------------------------------

    pub(super) fn make_dir(&mut self, dir: &str) {
        let name = self.dirs.entry(dir.to_owned()).or_default();
        if name.now.is_none() {
            name.set(Some(0));
        }
    }

    fn has_dir(&self, dir: &str) -> bool {
        dir.is_empty() || self.dirs.get(dir).is_some_and(|name| name.now.is_some())
    }

    pub(super) fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        if !self.has_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let here = self.names.iter().filter(|(_, name)| name.now.is_some());
        let here = here.filter_map(|(path, _)| within(path, dir));
        Ok(here.map(str::to_owned).collect())
    }

    pub(super) fn create(&mut self, path: &str) -> io::Result<usize> {
        if !self.has_dir(parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name = self.names.entry(path.to_owned()).or_default();
        if name.now.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.inodes.push(Arc::default());
        name.set(Some(self.inodes.len() - 1));
        Ok(self.inodes.len() - 1)
    }

    pub(super) fn find(&self, path: &str) -> io::Result<usize> {
        let found = self.names.get(path).and_then(|name| name.now);
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        self.find(path)?;
        if let Some(name) = self.names.get_mut(path) {
            name.set(None);
        }
        Ok(())
    }

    /// The names `sync_dir` is about.
    fn names_in(&mut self, dir: &str) -> impl Iterator<Item = &mut Name> {
        let names = self.names.iter_mut();
        let names = names.filter(move |(path, _)| within(path, dir).is_some());
        let dirs = self.dirs.values_mut().filter(move |_| dir.is_empty());
        names.map(|(_, name)| name).chain(dirs)
    }

    pub(super) fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        if !self.has_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.names_in(dir).for_each(Name::sync);
        Ok(())
    }

    pub(super) fn sync_dir_failed(&mut self, dir: &str) {
        let mut chance = self.chance.fork();
        self.names_in(dir)
            .filter(|name| !name.since.is_empty())
            .for_each(|name| name.choose(&mut chance));
    }

    // --- files --------------------------------------------------------------------------------

    pub(super) fn inode(&self, inode: usize) -> &Inode {
        &self.inodes[inode]
    }

    pub(super) fn change<T>(
        &mut self,
        inode: usize,
        change: impl FnOnce(&mut Inode, &mut Chance) -> T,
    ) -> T {
        change(Arc::make_mut(&mut self.inodes[inode]), &mut self.chance)
    }

    /// Bytes that may be added to `inode` at `offset` before the disk is full.
    pub(super) fn room(&self, inode: usize, offset: usize, bytes: usize) -> usize {
        let Some(capacity) = self.capacity_bytes else {
            return bytes;
        };
        let len = self.inodes[inode].len();
        let grows = (offset + bytes).saturating_sub(len) as u64;
        let free = capacity.saturating_sub(self.bytes());
        bytes - grows.saturating_sub(free) as usize
    }

    /// Bytes of all files that have a name.
    pub(super) fn bytes(&self) -> u64 {
        let named = self.names.values().filter_map(|name| name.now);
        named.map(|inode| self.inodes[inode].len() as u64).sum()
    }

    /// Names and sizes of all files.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        let named = self.names.iter();
        named.filter_map(|(path, name)| Some((path.as_str(), self.inodes[name.now?].len() as u64)))
    }

    /// The kernel writes something back without being asked.
    pub(super) fn write_back(&mut self) {
        let mut chance = self.chance.fork();
        for name in self.names.values_mut().chain(self.dirs.values_mut()) {
            if !name.since.is_empty() && chance.one_in(4) {
                name.sync();
            }
        }
        for inode in &mut self.inodes {
            if inode.unsynced() > 0 && chance.one_in(2) {
                Arc::make_mut(inode).write_back(&mut chance);
            }
        }
    }

    // --- the end ------------------------------------------------------------------------------

    /// The process dies; the cache stays.
    pub(super) fn kill(&mut self) {
        self.reset();
        let mut chance = self.chance.fork();
        for inode in self.inodes.iter_mut().filter(|inode| inode.has_clean()) {
            Arc::make_mut(inode).evict(0, usize::MAX, &mut chance);
        }
    }

    /// Things whose fate a power cut would decide now.
    pub(super) fn unsynced(&self) -> usize {
        let names = self.names.values().chain(self.dirs.values());
        let names = names.filter(|name| !name.since.is_empty()).count();
        names + self.inodes.iter().map(|i| i.unsynced()).sum::<usize>()
    }

    /// The power goes; `fate` decides for each unsynced thing.
    pub(super) fn power_cut(&mut self, fate: &mut dyn FnMut(&mut Chance) -> Fate) {
        self.reset();
        let mut chance = self.chance.fork();
        for name in self.names.values_mut().chain(self.dirs.values_mut()) {
            if !name.since.is_empty() {
                match fate(&mut chance) {
                    Fate::Kept => name.disk = name.now,
                    Fate::Lost => {}
                    Fate::Torn(_) | Fate::Garbage(_) => name.choose(&mut chance),
                }
                name.since.clear();
            }
            name.now = name.disk;
        }
        self.dirs.retain(|_, name| name.now.is_some());
        let dirs = &self.dirs;
        self.names
            .retain(|path, name| name.now.is_some() && has(dirs, parent(path)));
        let mut inodes = Vec::new();
        for name in self.names.values_mut() {
            let Some(old) = name.now else { continue };
            let mut inode = self.inodes[old].clone();
            Arc::make_mut(&mut inode).cut(&mut chance, fate);
            inodes.push(inode);
            name.now = Some(inodes.len() - 1);
            name.disk = name.now;
        }
        self.inodes = inodes;
    }

    fn reset(&mut self) {
        self.process += 1;
        self.down = false;
        self.crash_at = None;
        self.trace = None;
    }
}

fn has(dirs: &BTreeMap<String, Name>, dir: &str) -> bool {
    dir.is_empty() || dirs.contains_key(dir)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The plain name of `path` when it stands in `dir`.
fn within<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    match path.rsplit_once('/') {
        Some((parent, name)) => (parent == dir).then_some(name),
        None => dir.is_empty().then_some(path),
    }
}
