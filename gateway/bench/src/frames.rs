//! Frames made before anything is measured: Codec 8 Extended, the simulated fleet of the spool's
//! bench, with login and checksum as they go over the wire.

use anyhow::{Context as _, Result};
use codec::{Imei, encode};

// One fleet for both benches: their numbers are about the same records.
#[allow(dead_code, unreachable_pub)]
#[path = "../../../spool/bench/src/fleet.rs"]
mod fleet;

/// Frames in a pool; more than one stream entry or one commit holds of them.
const POOL: usize = 1024;

/// Codec id and count in front of the records, the count again behind them.
const HEAD_BYTES: usize = 2;
const TAIL_BYTES: usize = 1;

/// Ready frames of one size.
pub struct Pool {
    frames: Vec<Vec<u8>>,
    records: u8,
}

impl Pool {
    /// Frames of `records` records each (1 to 255).
    /// # Errors
    /// When `records` is 0.
    pub fn new(records: u8) -> Result<Self> {
        let mut fleet = fleet::Fleet::new();
        let mut frames = Vec::with_capacity(POOL);
        for _ in 0..POOL {
            let (mut data, mut codec_id) = (Vec::new(), 0);
            for _ in 0..records {
                let one = fleet.next_append().bytes;
                codec_id = one[0];
                data.extend_from_slice(&one[HEAD_BYTES..one.len() - TAIL_BYTES]);
            }
            data.splice(0..0, [codec_id, records]);
            data.push(records);
            let mut frame = Vec::new();
            encode::frame(&data, &mut frame)?;
            frames.push(frame);
        }
        Ok(Self { frames, records })
    }

    /// The `number`th frame, over and over.
    #[must_use]
    pub fn frame(&self, number: usize) -> &[u8] {
        &self.frames[number % self.frames.len()]
    }

    /// Records in each frame.
    #[must_use]
    pub fn records(&self) -> u8 {
        self.records
    }
}

/// What the tracker with this IMEI says first.
/// # Errors
/// When `imei` has not fifteen digits.
pub fn login(imei: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let imei = Imei::from_u64(imei).context("fifteen digits")?;
    encode::login(imei, &mut bytes)?;
    Ok(bytes)
}
