//! A simulated disk that does everything a real one may do when the power goes, and nothing it
//! may not.
//!
//! What it does: unsynced sectors of 512 bytes, lengths and names survive, vanish or tear each for
//! itself; a killed process leaves the cache, a power cut does not; what a failed sync was about
//! is clean and not durable (it may have reached the disk, may leave the cache, and no later sync
//! will write it); the kernel writes back early what it likes; any call may be the last one or
//! may fail. All of it follows from one seed.
//!
//! Invariant: it promises no more than the traits in [`crate::fs`] do.

mod chance;
mod fault;
mod inode;
mod world;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use chance::Chance;
pub use fault::{Call, Failure, Faults};
pub use inode::{Fate, SECTOR_BYTES};

use super::{Fs, FsFile};
use world::World;

/// One call in so many lets the kernel write something back.
const WRITE_BACK_ONE_IN: u64 = 16;

/// The simulated disk. A clone is the same disk; [`SimFs::copy`] is another one.
#[derive(Clone, Debug)]
pub struct SimFs {
    world: Arc<Mutex<World>>,
}

/// An open file on it.
#[derive(Debug)]
pub struct SimFile {
    world: Arc<Mutex<World>>,
    inode: usize,
    process: u32,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was killed: the cache stays.
    Kill,
    /// The power went: what was not synced survives, vanishes or tears by chance.
    PowerCut,
}

impl SimFs {
    /// An empty disk whose every whim follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(World::new(seed))
    }

    fn of(world: World) -> Self {
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// The same disk once more; what happens to one does not happen to the other.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::of(self.world().clone())
    }

    /// The power goes in the `calls`-th call from now.
    pub fn crash_in(&self, calls: u64) {
        let mut world = self.world();
        world.crash_at = Some(world.calls + calls.max(1));
    }

    /// Has the power gone?
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.world().down
    }

    /// Calls made since the disk was made.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.world().calls
    }

    /// Sets what fails from now on; answers what would have failed.
    pub fn set_faults(&self, faults: Faults) -> Faults {
        std::mem::replace(&mut self.world().faults, faults)
    }

    /// Calls that failed so far.
    #[must_use]
    pub fn faults_hit(&self) -> u64 {
        self.world().faults_hit
    }

    /// From now on nothing is written back before it is synced.
    pub fn write_back_never(&self) {
        self.world().eager = false;
    }

    /// Sets how many bytes all files together may take.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world().capacity_bytes = bytes;
    }

    /// Names and sizes of all files.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        let world = self.world();
        let files = world.files();
        files
            .map(|(name, bytes)| (name.to_owned(), bytes))
            .collect()
    }

    /// Damage: flips one bit of a file.
    pub fn flip(&self, name: &str, offset: usize, bit: u8) {
        let mut world = self.world();
        if let Ok(inode) = world.find(name) {
            world.change(inode, |inode, _| inode.flip(offset, bit));
        }
    }

    /// Ends the process; the next one starts on what is left.
    pub fn end(&self, end: End) {
        let mut world = self.world();
        match end {
            End::Kill => world.kill(),
            // Four in a hundred sectors tear; one in a thousand is garbage.
            End::PowerCut => {
                let mut garbage = 0;
                world.power_cut(&mut |chance| match chance.below(1000) {
                    0 => {
                        garbage += 1;
                        Fate::Garbage(chance.next())
                    }
                    1..41 => Fate::Torn(chance.index(SECTOR_BYTES)),
                    41..520 => Fate::Kept,
                    _ => Fate::Lost,
                });
                world.garbage += garbage;
            }
        }
    }

    /// Sectors that a power cut filled with garbage so far.
    #[must_use]
    pub fn garbage(&self) -> u64 {
        self.world().garbage
    }

    /// Things whose fate a power cut would decide now: unsynced sectors, lengths and names.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.world().unsynced()
    }

    /// Cuts the power with these fates, in the order of the names and then of the files; what
    /// comes after the last of them is lost.
    pub fn power_cut(&self, fates: &[Fate]) {
        let mut fates = fates.iter();
        let mut next = |_: &mut Chance| fates.next().copied().unwrap_or(Fate::Lost);
        self.world().power_cut(&mut next);
    }

    /// From now on keeps a copy of the disk before every call that changes it.
    pub fn start_trace(&self) {
        self.world().trace = Some(Vec::new());
    }

    /// The copies made since [`SimFs::start_trace`], which ends with this.
    #[must_use]
    pub fn take_trace(&self) -> Vec<SimFs> {
        let trace = self.world().trace.take().unwrap_or_default();
        trace.into_iter().map(Self::of).collect()
    }

    /// Begins a call that either does not happen, or (`late`) happens although it is refused.
    fn call(&self, call: Call, late: impl FnOnce(&mut World)) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.world();
        match world.begin(call) {
            Ok(None) => Ok(world),
            Ok(Some(failure)) => {
                if world.chance.one_in(4) {
                    late(&mut world);
                }
                Err(failure.error())
            }
            Err(now) => {
                if now && world.chance.one_in(2) {
                    late(&mut world);
                }
                Err(no_power())
            }
        }
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

impl Fs for SimFs {
    type File = SimFile;

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.call(Call::MakeDir, |world| world.make_dir(dir))?
            .make_dir(dir);
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.call(Call::List, |_| ())?.list(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut world = self.world();
        match world.begin(Call::SyncDir) {
            Ok(None) => world.sync_dir(dir),
            Ok(Some(failure)) => {
                world.sync_dir_failed(dir);
                Err(failure.error())
            }
            Err(_) => Err(no_power()),
        }
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut world = self.call(Call::Create, |world| {
            // A name that was made although the call failed.
            let _ = world.create(name);
        })?;
        Ok(SimFile {
            inode: world.create(name)?,
            process: world.process,
            world: Arc::clone(&self.world),
        })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let world = self.call(Call::Open, |_| ())?;
        Ok(SimFile {
            inode: world.find(name)?,
            process: world.process,
            world: Arc::clone(&self.world),
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.call(Call::Remove, |world| {
            let _ = world.remove(name);
        })?;
        world.remove(name)
    }
}

impl SimFile {
    /// The machine, unless this file was opened by a process that is no more.
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = lock(&self.world);
        if world.process == self.process {
            Ok(world)
        } else {
            Err(io::Error::other("the process that opened it is dead"))
        }
    }

    fn write(&self, world: &mut World, bytes: &[u8], offset: usize) {
        world.change(self.inode, |inode, _| inode.write(bytes, offset));
    }
}

impl FsFile for SimFile {
    fn len_bytes(&self) -> io::Result<u64> {
        let mut world = self.world()?;
        match world.begin(Call::Len) {
            Ok(None) => Ok(world.inode(self.inode).len() as u64),
            Ok(Some(failure)) => Err(failure.error()),
            Err(_) => Err(no_power()),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world()?;
        let (bytes, at) = (buffer.len(), offset as usize);
        match world.begin(Call::Read) {
            Ok(None) => {}
            Ok(Some(failure)) => return Err(failure.error()),
            Err(_) => return Err(no_power()),
        }
        if world.inode(self.inode).has_clean() {
            world.change(self.inode, |inode, chance| inode.evict(at, bytes, chance));
        }
        Ok(world.inode(self.inode).read(buffer, at))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world()?;
        let at = offset as usize;
        match world.begin(Call::Write) {
            Ok(None) => {}
            Ok(Some(Failure::Short)) => {
                let part = &bytes[..bytes.len().div_ceil(2)];
                self.write(&mut world, part, at);
                return Ok(part.len());
            }
            Ok(Some(failure)) => {
                if failure != Failure::Eintr && !bytes.is_empty() {
                    let part = world.chance.index(bytes.len() + 1);
                    self.write(&mut world, &bytes[..part], at);
                }
                return Err(failure.error());
            }
            Err(now) => {
                if now && !bytes.is_empty() {
                    let part = world.chance.index(bytes.len() + 1);
                    self.write(&mut world, &bytes[..part], at);
                }
                return Err(no_power());
            }
        }
        let room = world.room(self.inode, at, bytes.len());
        if room == 0 && !bytes.is_empty() {
            return Err(Failure::Enospc.error());
        }
        self.write(&mut world, &bytes[..room], at);
        if world.eager && world.chance.one_in(WRITE_BACK_ONE_IN) {
            world.write_back();
        }
        Ok(room)
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world()?;
        match world.begin(Call::Sync) {
            Ok(None) => {
                world.change(self.inode, |inode, _| inode.sync());
                Ok(())
            }
            Ok(Some(failure)) => {
                world.change(self.inode, |inode, chance| inode.sync_failed(chance));
                Err(failure.error())
            }
            Err(_) => Err(no_power()),
        }
    }
}
