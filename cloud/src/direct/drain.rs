//! From a spool that no gateway uses into the database, once, and then an end.
//!
//! Why: the box is dead and its card is here; or Redis is gone for good and the gateway with it. What
//! trackers were told is safe is in that directory.
//!
//! Invariants: a position is settled in the spool by the word of a COMMIT or of the tables, and by
//! nothing else; what is interrupted goes on at the next call where it was; doing it twice changes
//! nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::{Entry, GatewayId, Lane, keys};
use serde_json::{Value, json};
use spool::fs::RealFs;
use spool::{Chunk, Position, SpoolError, SpoolReader};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Direct, DirectError, read};
use crate::batch::{EntryId, StreamId};
use crate::metrics::{Metrics, now_ms};
use crate::operator::progress::Progress;
use crate::stream::floor::Board;
use crate::stream::{Delivery, Intake};

/// Bytes read from the spool at a time.
const READ_BYTES: usize = 1024 * 1024;

/// Between two looks at what is committed by now.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Between two writes of the cursor: what a kill in the middle costs is read once more.
const CURSOR_INTERVAL: Duration = Duration::from_secs(5);

/// What became of it.
#[derive(Debug)]
pub struct Drained {
    dir: String,
    gateway: GatewayId,
    /// Frames that waited when it was opened.
    frames: u64,
    /// Of them, those that still wait.
    left: u64,
    /// Entries that only a newer program reads.
    newer: u64,
    /// Positions that the spool had lost; each place is told to the database.
    lost: u64,
    stored: u64,
    duplicate: u64,
    quarantined: u64,
    dead: u64,
    took: Duration,
}

impl Drained {
    /// 0: the spool is empty; 1: something is left.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(self.left > 0)
    }

    /// The same for machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "spool": self.dir,
            "gateway": self.gateway.to_string(),
            "frames": self.frames,
            "left": self.left,
            "left_for_newer": self.newer,
            "lost": self.lost,
            "records_stored": self.stored,
            "records_duplicate": self.duplicate,
            "records_quarantined": self.quarantined,
            "records_dead": self.dead,
            "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// A few lines for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self {
            dir,
            gateway,
            frames,
            left,
            newer,
            lost,
            stored,
            duplicate,
            quarantined,
            dead,
            took,
        } = self;
        let mut text = format!(
            "drained {} of {frames} frames of gateway {gateway} from {dir} in {:.1} s\n\
             records  {stored} stored, {duplicate} were there, {quarantined} with an impossible time, {dead} unreadable\n",
            frames.saturating_sub(*left),
            took.as_secs_f64(),
        );
        if *lost > 0 {
            text.push_str(&format!(
                "lost     {lost} positions that the spool had lost before; the database knows which\n"
            ));
        }
        text.push_str(&match (left, newer) {
            (0, _) => "nothing is left in it\n".to_owned(),
            (left, 0) => format!("{left} frames are left: call it again\n"),
            (left, newer) => format!(
                "{left} frames are left, in {newer} entries that only a newer cloud reads: call that one\n"
            ),
        });
        text
    }
}

/// Reads a spool and waits for the database.
pub(super) struct Drain {
    pub(super) reader: SpoolReader<RealFs>,
    pub(super) gateway: GatewayId,
    pub(super) stream: Arc<str>,
    pub(super) intake: Intake,
    pub(super) board: Arc<Board>,
    pub(super) metrics: Arc<Metrics>,
    last: StreamId,
    frames: u64,
    lost: u64,
    began: Instant,
    cursor_at: Instant,
    progress: Progress,
}

impl Drain {
    pub(super) fn new(direct: &Direct, reader: SpoolReader<RealFs>, gateway: GatewayId) -> Self {
        let now = Instant::now();
        Self {
            frames: reader.usage().backlog(),
            lost: 0,
            reader,
            gateway,
            stream: direct.stream.clone(),
            intake: direct.intake.clone(),
            board: direct.board.clone(),
            metrics: direct.metrics.clone(),
            last: StreamId::at_ms(0),
            began: now,
            cursor_at: now,
            progress: Progress::new("frames"),
        }
    }

    /// Until everything is committed, or `stop`.
    pub(super) async fn run(
        mut self,
        dir: &Path,
        stop: CancellationToken,
    ) -> Result<Drained, DirectError> {
        let reading = self.reader.begin_reading();
        let done = tokio::select! {
            done = self.empty() => done,
            () = stop.cancelled() => Ok(()),
        };
        self.progress.clear();
        // What was committed by then counts, however it ended.
        self.settle(true).await?;
        drop(reading);
        done?;
        let metrics = &self.metrics;
        Ok(Drained {
            dir: dir.display().to_string(),
            frames: self.frames,
            left: self.reader.usage().backlog(),
            newer: metrics.left_for_newer.get(),
            lost: self.lost,
            stored: metrics.records_stored.get(),
            duplicate: metrics.records_duplicate.get(),
            quarantined: metrics.records_quarantined.get(),
            dead: metrics.records_dead.get(),
            took: self.began.elapsed(),
            gateway: self.gateway,
        })
    }

    async fn empty(&mut self) -> Result<(), DirectError> {
        // What went through Redis before is in the tables, and need not be read again.
        while !self.board.is_sure() {
            self.pause().await?;
        }
        self.settle(true).await?;
        info!(frames = self.reader.usage().backlog(), "draining the spool");
        for lane in Lane::ALL {
            let mut at = Position::default();
            loop {
                let chunk = self.read(lane, at).await?;
                for run in read::runs(&chunk.stored) {
                    let low = self.reader.low(run[0].spool);
                    let entry = read::entry(&self.gateway, run, low)?;
                    self.bring(&entry, false).await?;
                }
                self.tell();
                if chunk.at_end || chunk.next == at {
                    break;
                }
                at = chunk.next;
            }
        }
        self.until_committed().await?;
        // Last, when nothing of what may have been lost elsewhere is on its way any more.
        for (spool, gap) in self.reader.gaps() {
            self.lost += gap.last.get() - gap.first.get() + 1;
            warn!(%spool, %gap, "these positions are lost; the database is told");
            let entry = read::gap(&self.gateway, spool, &gap, self.reader.low(spool))?;
            self.bring(&entry, true).await?;
        }
        self.until_committed().await
    }

    async fn read(&self, lane: Lane, at: Position) -> Result<Chunk, SpoolError> {
        let reader = self.reader.clone();
        tokio::task::spawn_blocking(move || reader.read(lane, at, None, READ_BYTES))
            .await
            .expect("reading the spool does not panic")
    }

    /// Hands an entry to the processors, as soon as they have room.
    async fn bring(&mut self, entry: &Entry, is_gap: bool) -> Result<(), DirectError> {
        self.last = StreamId::at_ms(now_ms()).max(self.last.next());
        let id = EntryId {
            stream: keys::stream_of(&entry.kind, &self.stream).into(),
            id: self.last,
        };
        let fields = read::fields(entry);
        let delivery = Delivery {
            entry: id.clone(),
            fields,
        };
        self.metrics.entries_delivered.add(1);
        let intake = self.intake.clone();
        let bringing = async {
            if is_gap {
                // Everything before it is committed, which is what others wait for.
                intake.leave(id);
                intake.bring_again(delivery).await
            } else {
                intake.bring(delivery).await
            }
        };
        tokio::pin!(bringing);
        loop {
            tokio::select! {
                _ = &mut bringing => return Ok(()),
                paused = self.pause() => paused?,
            }
        }
    }

    /// Waits until nothing is on its way, and the tables may be believed.
    async fn until_committed(&mut self) -> Result<(), DirectError> {
        while self.intake.inside() > 0 || !self.board.is_sure() {
            self.pause().await?;
        }
        self.settle(true).await
    }

    async fn pause(&mut self) -> Result<(), DirectError> {
        tokio::time::sleep(LOOK_INTERVAL).await;
        self.settle(false).await?;
        self.tell();
        Ok(())
    }

    /// Notes in the spool what the database has by now.
    async fn settle(&mut self, at_once: bool) -> Result<(), DirectError> {
        for spool in self.reader.spools() {
            if let Some(ranges) = self.board.told(&self.gateway, spool) {
                self.reader.settle(spool, &ranges);
            }
        }
        if at_once || self.cursor_at.elapsed() >= CURSOR_INTERVAL {
            let reader = self.reader.clone();
            let written = tokio::task::spawn_blocking(move || reader.write_cursor()).await;
            written.expect("writing the cursor does not panic")?;
            self.cursor_at = Instant::now();
        }
        Ok(())
    }

    fn tell(&mut self) {
        let left = self.reader.usage().backlog();
        let done = self.frames.saturating_sub(left);
        let share = (done * 1_000).checked_div(self.frames);
        let is_up = self
            .metrics
            .database_connected
            .load(std::sync::atomic::Ordering::Relaxed);
        let at = if is_up {
            ""
        } else {
            "waiting for the database"
        };
        self.progress.tell(done, share, at);
    }
}
