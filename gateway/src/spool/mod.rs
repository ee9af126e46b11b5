//! The durable log at the edge: what a power cut may not take away.
//!
//! Why: a tracker deletes a record once it was acknowledged, so the acknowledgement must follow
//! the disk, not the network. Everything the gateway accepts goes through [`Spool::append`],
//! which returns a [`Durable`] only after `fdatasync`; only a `Durable` can become an ACK.
//!
//! Invariants:
//! - A [`Durable`] exists only for data that was synced, and cannot be made elsewhere:
//!   ```compile_fail,E0451
//!   # use contract::{SpoolId, SpoolSeq};
//!   let (spool, seq) = (SpoolId::from_random(1), SpoolSeq::FIRST);
//!   let forged = gateway::spool::Durable { spool, seq, record_count: 1 };
//!   ```
//! - The spool id is new at every open, so (spool id, position) never names two payloads.
//! - Old segments are read, never written again; the torn end of one is simply not there.
//! - Only settled data is ever deleted, and only when its space is needed.
//!
//! This form grows segment files; the fixed pool of recycled segments takes its place behind the
//! same interface.

mod cursor;
mod index;
mod owner;
mod reader;
mod recover;
pub mod segment;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::envelope::DEVICE_TEXT_BYTES_MAX;
use contract::{Device, Gap, GatewayId, Lane, SettledRanges, SpoolId, SpoolSeq, Transport};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use index::Index;
pub use owner::owner;
pub use reader::{Chunk, Position, Stored};

/// A segment is closed when it holds this many bytes.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Smallest spool that works: one segment being written, one waiting, one spare.
pub const SPOOL_BYTES_MIN: u64 = 3 * SEGMENT_BYTES;

/// Appends waiting for the writer; more wait in their connection, which is the backpressure.
const QUEUE_MAX: usize = 1024;

/// Where the spool lives and how large it may grow.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// Directory; made when missing.
    pub dir: PathBuf,
    /// Who owns it; a directory never changes its owner.
    pub gateway: GatewayId,
    /// Cap in bytes, at least [`SPOOL_BYTES_MIN`].
    pub bytes_max: u64,
}

/// One frame to keep.
#[derive(Clone, Debug)]
pub struct Append {
    /// Who sent it.
    pub device: Device,
    /// How it came.
    pub transport: Transport,
    /// How urgent.
    pub lane: Lane,
    /// Gateway clock, milliseconds since 1970 UTC.
    pub received_at_ms: u64,
    /// AVL records the frame's first count claims.
    pub record_count: u32,
    /// Does it hold a record of priority Panic?
    pub panic: bool,
    /// The data field.
    pub bytes: Vec<u8>,
}

/// Receipt: this frame survives a power cut. Only the spool makes one.
#[derive(Debug)]
pub struct Durable {
    spool: SpoolId,
    seq: SpoolSeq,
    record_count: u32,
}

impl Durable {
    /// Where it is kept.
    #[must_use]
    pub fn position(&self) -> (SpoolId, SpoolSeq) {
        (self.spool, self.seq)
    }

    /// AVL records that may now be acknowledged.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.record_count
    }
}

/// What the spool cannot do, and what to do about it.
#[derive(Clone, Debug, Error)]
pub enum SpoolError {
    /// Do not acknowledge; trackers keep their records until space is settled.
    #[error("spool is full: {used_bytes} of {bytes_max} bytes hold unsettled records")]
    Full {
        /// Bytes in use.
        used_bytes: u64,
        /// The cap.
        bytes_max: u64,
    },
    /// Refuse the frame; it could never be kept.
    #[error("frame of {bytes} bytes (or its device's name) is larger than a commit may hold")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Storage failed twice in a row: stop acknowledging until restarted.
    #[error("spool storage failed at {}: restart once the disk is well", path.display())]
    Storage {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Nothing can be kept there: make it writable for this user, or change `spool.dir`.
    #[error("spool directory {} cannot be used: make it writable for this user, or change spool.dir", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another process has this spool open: stop it, or give this one its own directory.
    #[error("spool {} is in use by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// Another gateway's records are in there: set `gateway.id` to its owner, or use another
    /// directory.
    #[error(
        "spool {} belongs to gateway {owner}: set gateway.id = \"{owner}\", or give this gateway its own spool.dir",
        dir.display()
    )]
    Owned {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        owner: GatewayId,
    },
    /// A segment was written by a later version: start that version.
    #[error("spool file {} cannot be read by this version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it is.
        #[source]
        source: segment::SegmentError,
    },
    /// The cap leaves no room to work.
    #[error("spool.bytes_max is {bytes_max}; at least {SPOOL_BYTES_MIN} bytes are needed")]
    TooSmall {
        /// The cap as configured.
        bytes_max: u64,
    },
    /// The gateway is stopping.
    #[error("spool is closed")]
    Closed,
}

impl SpoolError {
    fn storage(path: &Path, source: io::Error) -> Self {
        Self::Storage {
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

/// What opening found.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// The id of this opening.
    pub spool: SpoolId,
    /// Segments of earlier openings.
    pub segments: usize,
    /// Envelopes that wait to be settled.
    pub backlog: u64,
    /// Positions lost to damage, per spool id.
    pub gaps: Vec<(SpoolId, Gap)>,
    /// Files that are no segments of ours; left untouched.
    pub strangers: Vec<PathBuf>,
}

/// How full the spool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk.
    pub used_bytes: u64,
    /// The cap.
    pub bytes_max: u64,
    /// Envelopes not settled yet.
    pub backlog: u64,
    /// AVL records made durable since the start.
    pub records_durable: u64,
    /// Group commits since the start.
    pub commits: u64,
}

/// A handle; clones share one writer thread.
#[derive(Clone, Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    queue: mpsc::Sender<writer::Waiting>,
    tail: watch::Receiver<Tail>,
}

/// How far the log reaches; changes with every commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Group commits so far.
    pub commits: u64,
    /// Commits that held a record of priority Panic.
    pub panics: u64,
}

#[derive(Debug)]
struct Shared {
    config: SpoolConfig,
    spool: SpoolId,
    index: Mutex<Index>,
    /// Storage failed for good; nothing is acknowledged any more.
    failed: AtomicBool,
    /// Held for the life of the process; the lock goes with the file.
    _lock: std::fs::File,
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        // The index is only changed by whole assignments, so a panicked holder left it sound.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool {
    /// Opens or makes the spool, recovers what earlier openings left and starts the writer thread,
    /// which ends when the last handle is dropped.
    ///
    /// `random` is 64 random bits for the new spool id.
    /// # Errors
    /// [`SpoolError::TooSmall`], [`SpoolError::Directory`], [`SpoolError::InUse`], [`SpoolError::Owned`],
    /// [`SpoolError::Newer`], [`SpoolError::Storage`].
    pub fn open(config: SpoolConfig, random: u64) -> Result<(Self, OpenReport), SpoolError> {
        if config.bytes_max < SPOOL_BYTES_MIN {
            return Err(SpoolError::TooSmall {
                bytes_max: config.bytes_max,
            });
        }
        let lock = recover::lock(&config.dir)?;
        owner::claim(&config.dir, &config.gateway)?;
        let recovered = recover::scan(&config.dir)?;
        recover::drop_empty(&recovered.empty);
        let settled = cursor::read(&config.dir);
        let spool = SpoolId::from_random(random);
        let index = Index::new(recovered.segments, settled);
        let report = OpenReport {
            spool,
            segments: index.segment_count(),
            backlog: index.backlog(),
            gaps: recovered.gaps,
            strangers: recovered.strangers,
        };
        let shared = Arc::new(Shared {
            config,
            spool,
            index: Mutex::new(index),
            failed: AtomicBool::new(false),
            _lock: lock,
        });
        let (tail_out, tail) = watch::channel(Tail::default());
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let writer = writer::Writer::new(Arc::clone(&shared), tail_out)?;
        std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(|source| SpoolError::storage(&shared.config.dir, source))?;
        let spool = Self {
            shared,
            queue,
            tail,
        };
        Ok((spool, report))
    }

    /// Keeps one frame: returns after `fdatasync`, together with whatever else was waiting.
    /// # Errors
    /// [`SpoolError::Full`], [`SpoolError::TooLarge`], [`SpoolError::Storage`],
    /// [`SpoolError::Closed`]. In every case the frame must not be acknowledged.
    pub async fn append(&self, append: Append) -> Result<Durable, SpoolError> {
        let bytes = segment::envelope_bytes(&append);
        let name_fits = match &append.device {
            Device::Imei(_) => true,
            Device::Text(text) => text.len() <= DEVICE_TEXT_BYTES_MAX,
        };
        if bytes > segment::BODY_BYTES_MAX - segment::GROUP_BYTES_MAX || !name_fits {
            return Err(SpoolError::TooLarge { bytes });
        }
        let (reply, receipt) = oneshot::channel();
        let waiting = writer::Waiting { append, reply };
        self.queue
            .send(waiting)
            .await
            .map_err(|_| SpoolError::Closed)?;
        receipt.await.map_err(|_| SpoolError::Closed)?
    }

    /// The id of this opening.
    #[must_use]
    pub fn id(&self) -> SpoolId {
        self.shared.spool
    }

    /// Follows the end of the log.
    #[must_use]
    pub fn tail(&self) -> watch::Receiver<Tail> {
        self.tail.clone()
    }

    /// Reads committed, unsettled envelopes from `from` on, at least one commit and then up to
    /// about `bytes_max` bytes. Blocks on the disk: call it where blocking is allowed.
    /// # Errors
    /// [`SpoolError::Storage`] when a segment cannot be read.
    pub fn read(&self, from: Position, bytes_max: usize) -> Result<Chunk, SpoolError> {
        reader::read(&self.shared, from, bytes_max)
    }

    /// Notes positions as stored in the database. Survives a restart once
    /// [`Spool::sync_settled`] has run; losing it only costs sending again.
    pub fn settle(&self, spool: SpoolId, ranges: &SettledRanges) {
        self.shared.index().settle(spool, ranges);
    }

    /// Writes the settled positions down. Blocks on the disk.
    /// # Errors
    /// [`SpoolError::Storage`].
    pub fn sync_settled(&self) -> Result<(), SpoolError> {
        let settled = self.shared.index().settled_changed();
        match settled {
            Some(settled) => cursor::write(&self.shared.config.dir, &settled),
            None => Ok(()),
        }
    }

    /// Is this position settled?
    #[must_use]
    pub fn is_settled(&self, spool: SpoolId, first: SpoolSeq, last: SpoolSeq) -> bool {
        self.shared.index().is_settled(spool, first, last)
    }

    /// Nothing below this position of `spool` will be sent (again).
    #[must_use]
    pub fn low(&self, spool: SpoolId) -> SpoolSeq {
        self.shared.index().low(spool)
    }

    /// The openings whose data is here.
    #[must_use]
    pub fn spools(&self) -> Vec<SpoolId> {
        self.shared.index().spools()
    }

    /// Did storage fail for good? Then nothing is acknowledged until a restart.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// How full it is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.shared.index().usage(self.shared.config.bytes_max)
    }
}
