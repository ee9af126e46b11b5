//! The gateway's hold on its spool: one thread that writes, handles that wait for it.
//!
//! Why a thread: it spends its life in `fdatasync`, and everything that arrives during one joins
//! the next commit.
//!
//! Invariants: an append returns a [`Durable`] or an error, never neither; at most one opening of
//! a directory lives in a process; when the last handle is gone, it is closed.

mod filler;
mod thread;
pub(crate) mod written;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::GatewayId;
use spool::intents::IntentLog;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use written::{Shared, Tally};

use crate::board::Supply;
use crate::board::supply::GivenUp;
use crate::progress::Stage;

pub use spool::fs::RealFs;
pub use spool::intents::{Begun, Intent};
pub use spool::{
    Append, Chunk, Durable, FullPolicy, Geometry, LaneUsage, OpenReport, Options, Position,
    SpoolError, Stored, Usage,
};

/// What the uplink reads from.
pub type Reader = spool::SpoolReader<RealFs>;

/// The log of command intents.
pub type Intents = IntentLog<std::fs::File>;

/// What keeps segments as they are while the uplink has places in them.
pub type Reading = spool::Reading<RealFs>;

/// Appends waiting for the writer; more wait in their connection, which is the backpressure.
const QUEUE_MAX: usize = 1024;

/// Where the spool lives, how large it may grow and how it treats its storage.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// Directory; made when missing.
    pub dir: PathBuf,
    /// Who owns it; a directory never changes its owner.
    pub gateway: GatewayId,
    /// Cap in bytes.
    pub bytes_max: u64,
    /// What a full spool does.
    pub full: FullPolicy,
    /// Least time between two commits, to spare flash; a record of priority Panic does not wait.
    pub commit_interval_min: Duration,
}

/// Why a directory cannot be opened as the spool.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory itself.
    #[error(transparent)]
    Dir(#[from] spool::fs::OpenError),
    /// What is in it.
    #[error("spool {}", dir.display())]
    Spool {
        /// The directory.
        dir: PathBuf,
        /// What is wrong and what to do.
        #[source]
        source: SpoolError,
    },
    /// The system cannot start the writer's thread.
    #[error("the spool's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// Why a frame was not kept. In every case it must not be acknowledged.
#[derive(Debug, Error)]
pub enum KeepError {
    /// The spool refused it.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The gateway is stopping.
    #[error("spool is closed")]
    Closed,
    /// The gateway is stopping while the supply fails. The frame may be kept; the tracker sends it
    /// again, which changes nothing.
    #[error("the supply of the box fails")]
    PowerFails,
}

impl From<GivenUp> for KeepError {
    fn from(GivenUp: GivenUp) -> Self {
        Self::PowerFails
    }
}

/// How far the log reaches; changes with every commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Group commits so far.
    pub commits: u64,
    /// Groups that held a record of priority Panic.
    pub panics: u64,
}

type Receipt = Result<Durable, SpoolError>;

/// Frames and who waits for their receipts.
enum Waiting {
    One(Append, oneshot::Sender<Receipt>),
    /// For one commit.
    All(Vec<Append>, oneshot::Sender<Vec<Receipt>>),
}

/// A handle; clones share one writer thread.
#[derive(Clone)]
pub struct Spool {
    reader: Reader,
    queue: mpsc::Sender<Waiting>,
    tail: watch::Receiver<Tail>,
    failed: Arc<AtomicBool>,
    written: Shared,
    /// For the intents, which live in the same directory.
    fs: RealFs,
    stage: Stage,
    supply: Supply,
    /// Last, so that every sender is gone when the last clone waits for the thread.
    _thread: Arc<Joined>,
}

/// The writer's thread; dropping it waits for its end.
struct Joined(Option<std::thread::JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        // A thread that panicked has said so itself.
        let _ = self.0.take().map(std::thread::JoinHandle::join);
    }
}

impl Spool {
    /// Opens or makes the spool, recovers what earlier openings left and starts the writer thread,
    /// which ends when the last handle is dropped; that drop waits for it.
    ///
    /// `random` is 64 random bits for each lane's new spool id.
    /// # Errors
    /// [`OpenError`] with the directory or file and what to do about it.
    pub fn open(config: SpoolConfig, random: [u64; 3]) -> Result<(Self, OpenReport), OpenError> {
        let fs = RealFs::locked(&config.dir)?;
        let options = Options {
            gateway: config.gateway,
            bytes_max: config.bytes_max,
            full: config.full,
            geometry: Geometry::for_spool(config.bytes_max),
        };
        let opened = spool::SpoolWriter::open(fs.clone(), options, random);
        let (writer, report) = opened.map_err(|source| OpenError::Spool {
            dir: config.dir.clone(),
            source,
        })?;
        let reader = writer.reader();
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let (tail_out, tail) = watch::channel(Tail::default());
        let failed = Arc::new(AtomicBool::new(false));
        let tally = Tally::new(&config.dir);
        let written = tally.shared();
        let stage = Stage::default();
        let supply = Supply::default();
        let thread = thread::Thread {
            writer,
            stage: stage.clone(),
            supply: supply.clone(),
            tally,
            filler: filler::Filler::start().map_err(OpenError::Thread)?,
            interval_min: config.commit_interval_min,
            tail: tail_out,
            failed: Arc::clone(&failed),
        };
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(OpenError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || clock.block_on(thread.run(waiting)))
            .map_err(OpenError::Thread)?;
        let spool = Self {
            reader,
            queue,
            tail,
            failed,
            written,
            fs,
            stage,
            supply,
            _thread: Arc::new(Joined(Some(thread))),
        };
        Ok((spool, report))
    }

    /// Keeps one frame: returns after `fdatasync`, together with whatever else was waiting. While the
    /// supply of the box fails it does not return: a disk that loses its supply may say yes to what
    /// it loses.
    /// # Errors
    /// [`KeepError`]: the frame must not be acknowledged.
    pub async fn append(&self, append: Append) -> Result<Durable, KeepError> {
        let (reply, receipt) = oneshot::channel();
        let receipt = self.commit(Waiting::One(append, reply), receipt).await?;
        Ok(receipt?)
    }

    /// Keeps all of them with one commit, or as few as their size allows: as [`Spool::append`], with
    /// an answer for each, in their order.
    /// # Errors
    /// [`KeepError`]: none of them may be acknowledged.
    pub async fn append_all(
        &self,
        appends: Vec<Append>,
    ) -> Result<Vec<Result<Durable, SpoolError>>, KeepError> {
        let (reply, receipts) = oneshot::channel();
        self.commit(Waiting::All(appends, reply), receipts).await
    }

    async fn commit<R>(
        &self,
        waiting: Waiting,
        receipt: oneshot::Receiver<R>,
    ) -> Result<R, KeepError> {
        self.supply.holds().await?;
        let place = self.queue.reserve().await;
        place.map_err(|_| KeepError::Closed)?.send(waiting);
        let receipt = receipt.await.map_err(|_| KeepError::Closed)?;
        self.supply.holds().await?;
        Ok(receipt)
    }

    /// What the uplink reads from and settles.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Opens the log of command intents beside the segments, with what an earlier process left in
    /// it. For one owner, who keeps a handle of the spool, which holds the lock of the directory.
    /// # Errors
    /// [`SpoolError::Open`], [`SpoolError::NoSpace`].
    pub fn intents(&self) -> Result<(Intents, Vec<Intent>), SpoolError> {
        IntentLog::open(&self.fs)
    }

    /// Follows the end of the log.
    #[must_use]
    pub fn tail(&self) -> watch::Receiver<Tail> {
        self.tail.clone()
    }

    /// Did storage fail for good? Then nothing is acknowledged until a restart.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Turns of the writer's thread, for the watchdog: one at least every few seconds, unless the
    /// disk does not answer.
    #[must_use]
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Days until it is full without a link, at the rate of the last two days; `None` while that
    /// is not known.
    #[must_use]
    pub fn days_left(&self, usage: &Usage) -> Option<f64> {
        let free_bytes = usage.bytes_max.saturating_sub(usage.used_bytes);
        written::lock(&self.written).days_left(free_bytes, None)
    }

    /// The word about the supply of the box: while it fails, nobody gets a receipt.
    #[must_use]
    pub fn supply(&self) -> &Supply {
        &self.supply
    }

    /// How full it is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.reader.usage()
    }
}
