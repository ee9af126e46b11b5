//! Records for the stream: frames of a simulated fleet, in entries as a gateway cuts them.
//!
//! Invariant: no two frames hold the same record, so every record becomes a row.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use redis::aio::MultiplexedConnection;
use tests::batches::{Sent, SpoolOf};

// One fleet for all benches: their numbers are about the same records.
#[allow(dead_code, unreachable_pub)]
#[path = "../../../spool/bench/src/fleet.rs"]
mod fleet;

/// A gateway closes a batch at so many bytes of frames, or so many frames.
const ENTRY_BYTES: usize = 64 * 1024;
const ENTRY_FRAMES: usize = 512;

/// Vehicles of the fleet; each lends its records to several trackers in turn.
const VEHICLES: usize = 100;
const TRACKERS_A_VEHICLE: u64 = 10;

/// Codec id and count in front of the records, the count again behind them.
const HEAD_BYTES: usize = 2;
const TAIL_BYTES: usize = 1;

/// Commands sent to Redis at once.
const PIPELINED: usize = 64;

/// The fields of one stream item.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// How long ago the first frame was received. The fleet's own clock stands still in the past, and what
/// is older than `frames.retention` would be deleted while the turns run.
const FIRST_RECEIVED: Duration = Duration::from_secs(3 * 24 * 3600);

/// From the fleet's clock to [`FIRST_RECEIVED`].
fn later_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let first = since_1970
        .unwrap_or_default()
        .saturating_sub(FIRST_RECEIVED);
    let first_ms = u64::try_from(first.as_millis()).unwrap_or(u64::MAX);
    first_ms.saturating_sub(fleet::Fleet::new().next_append().received_at_ms)
}

/// An endless row of frames of a thousand trackers.
pub struct Source {
    fleet: fleet::Fleet,
    first_imei: u64,
    records_a_frame: u8,
    rounds: u64,
    later_ms: u64,
    ready: Vec<Sent>,
}

impl Source {
    /// Frames of so many records each; IMEIs count from `first_imei`.
    pub fn new(first_imei: u64, records_a_frame: u8) -> Self {
        Self {
            fleet: fleet::Fleet::new(),
            first_imei,
            records_a_frame,
            rounds: 0,
            later_ms: later_ms(),
            ready: Vec::new(),
        }
    }

    /// From now on frames of so many records.
    pub fn set_records(&mut self, records_a_frame: u8) {
        self.records_a_frame = records_a_frame;
        self.ready.clear();
    }

    /// The next frame.
    pub fn frame(&mut self) -> Result<Sent> {
        if self.ready.is_empty() {
            self.make_ready();
        }
        self.ready.pop().context("frames were made ready")
    }

    /// One frame of every vehicle, for one of its trackers.
    fn make_ready(&mut self) {
        let count = usize::from(self.records_a_frame);
        let mut bodies = vec![Vec::new(); VEHICLES];
        let mut codec_id = 0;
        let mut received_at_ms = 0;
        for number in 0..count * VEHICLES {
            let one = self.fleet.next_append();
            codec_id = one.bytes[0];
            received_at_ms = one.received_at_ms + self.later_ms;
            let body: &mut Vec<u8> = &mut bodies[number % VEHICLES];
            body.extend_from_slice(&one.bytes[HEAD_BYTES..one.bytes.len() - TAIL_BYTES]);
        }
        let turn = self.rounds % TRACKERS_A_VEHICLE;
        self.rounds += 1;
        let frames = bodies
            .into_iter()
            .zip(0..)
            .map(|(body, vehicle): (_, u64)| {
                let mut data = vec![codec_id, self.records_a_frame];
                data.extend(body);
                data.push(self.records_a_frame);
                Sent {
                    imei: self.first_imei + vehicle * TRACKERS_A_VEHICLE + turn,
                    received_at_ms,
                    data,
                }
            });
        self.ready.extend(frames);
    }

    /// The frames of one entry, and their records.
    pub fn frames(&mut self) -> Result<(Vec<Sent>, u64)> {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        while frames.len() < ENTRY_FRAMES && bytes < ENTRY_BYTES {
            let frame = self.frame()?;
            bytes += frame.data.len();
            frames.push(frame);
        }
        let records = frames.len() as u64 * u64::from(self.records_a_frame);
        Ok((frames, records))
    }
}

/// Puts at least `records` records into a stream; says how many.
/// # Errors
/// When Redis does not take them.
pub async fn fill(
    redis: &mut MultiplexedConnection,
    stream: &str,
    source: &mut Source,
    spool: &mut SpoolOf,
    records: u64,
) -> Result<u64> {
    let (mut done, mut waiting) = (0, Vec::new());
    while done < records {
        let (frames, inside) = source.frames()?;
        done += inside;
        waiting.push(spool.entry(&frames)?);
        if waiting.len() >= PIPELINED || done >= records {
            add(redis, stream, &waiting).await?;
            waiting.clear();
        }
    }
    Ok(done)
}

/// Puts entries into a stream.
/// # Errors
/// When Redis does not take them.
pub async fn add(
    redis: &mut MultiplexedConnection,
    stream: &str,
    entries: &[Fields],
) -> Result<()> {
    for some in entries.chunks(PIPELINED) {
        let mut pipe = redis::pipe();
        for fields in some {
            let add = pipe.cmd("XADD").arg(stream).arg("*");
            for (name, value) in fields {
                add.arg(name.as_slice()).arg(value.as_slice());
            }
            add.ignore();
        }
        let () = pipe.query_async(redis).await.context("fill the stream")?;
    }
    Ok(())
}
