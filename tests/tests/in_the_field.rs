//! The gateway binary on a box with troubles of its own: a disk that is full before the cap is
//! reached, a clock that jumps, files that change under it, a link that delivers twice.
//!
//! Trackers are sockets that speak the protocol; Redis, the file system and the C library's clock
//! are real.
#![allow(clippy::unwrap_used)]

#[path = "in_the_field/clock.rs"]
mod clock;
#[path = "in_the_field/disk.rs"]
mod disk;
#[path = "in_the_field/nmea.rs"]
mod nmea;
#[path = "in_the_field/reload.rs"]
mod reload;
#[path = "in_the_field/twice.rs"]
mod twice;

use anyhow::{Result, ensure};
use tests::fleet::Tracker;
use tests::processes::Gateway;

/// The manufacturer's documentation uses it.
const IMEI: u64 = 356_307_042_441_013;

/// Wiki "Codec", Codec 8 example 1: the data field of one record.
const RECORD: &str = "08010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E000000000000000001";

async fn tracker(gateway: &Gateway, imei: u64) -> Result<Tracker> {
    let mut tracker = Tracker::connect(gateway.tcp_addr(), imei).await?;
    ensure!(tracker.login().await?, "the login is accepted");
    Ok(tracker)
}
