//! What is known of each tracker from the frames it sent: when, how, where, and how its clock runs.
//!
//! Why here, when the cloud knows more: whoever stands beside the box with a phone asks "does this
//! one arrive?", and the backhaul may be down.
//!
//! Pure but for the lock around it; the time is an argument. Invariants: at most [`DEVICES_MAX`]
//! devices of at most 128 bytes each, the longest silent forgotten first; noting a frame allocates
//! nothing for a device that is known; nothing here decides whether a frame is kept.

mod newest;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use codec::{CodecId, Imei};
use contract::Transport;
use serde_json::{Value, json};

use crate::logbook::ImeiStyle;
use newest::Newest;

/// Devices remembered.
pub const DEVICES_MAX: usize = 20_000;

/// Refused devices remembered.
pub const REFUSALS_MAX: usize = 1_000;

/// Forgotten at once when there are too many, so that a flood of new IMEIs pays for its search.
const FORGET_PART: usize = 16;

/// A device clock this far ahead of ours is wrong: GPS time and NTP agree to seconds.
pub const AHEAD_MS_MAX: u64 = 60_000;

/// Earlier than any record of these trackers (2007-01-01 UTC): the device's clock was reset.
pub const EARLIEST_MS: u64 = 1_167_609_600_000;

/// What one device last said. Times are milliseconds since 1970 UTC, 0 for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Our clock, when its last frame was durable.
    pub last_seen_ms: u64,
    /// Device clock, newest record of its last frame that had records.
    pub device_time_ms: u64,
    /// Device clock, when the position was taken.
    pub fix_time_ms: u64,
    /// Frames kept since the start.
    pub frames: u64,
    /// AVL records kept since the start.
    pub records: u64,
    /// Degrees north × 10^7.
    pub latitude_e7: i32,
    /// Degrees east × 10^7.
    pub longitude_e7: i32,
    /// Counts the devices since the start; the place in a listing.
    pub id: u32,
    /// At the position.
    pub speed_kmh: u16,
    /// In use at the position.
    pub satellites: u8,
    /// Codec id of the last frame with records, or of the last one while there was none.
    pub codec: u8,
    /// How the last frame came.
    pub transport: Transport,
}

/// How a device's clock stands to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// No record seen, or our own clock is not set.
    Unknown,
    /// Its records are from the past, as they should be.
    Good,
    /// Its newest record is from the future, by so many milliseconds.
    Ahead(u64),
    /// Its newest record is older than these trackers are: the clock was reset.
    Reset,
}

impl Device {
    /// From the newest record to its arrival; `None` when the clocks do not allow to say.
    #[must_use]
    pub fn delay_ms(&self) -> Option<u64> {
        let is_good = self.clock() == Clock::Good;
        is_good.then(|| self.last_seen_ms.saturating_sub(self.device_time_ms))
    }

    /// How its clock stands to ours.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let ahead_ms = self.device_time_ms.saturating_sub(self.last_seen_ms);
        match self.device_time_ms {
            _ if self.last_seen_ms < EARLIEST_MS => Clock::Unknown,
            0 if self.records == 0 => Clock::Unknown,
            time if time < EARLIEST_MS => Clock::Reset,
            _ if ahead_ms > AHEAD_MS_MAX => Clock::Ahead(ahead_ms),
            _ => Clock::Good,
        }
    }
}

/// Why and how often a device was sent away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Last time, our clock.
    pub at_ms: u64,
    /// In words.
    pub why: String,
    /// Since it was first refused.
    pub times: u64,
}

/// The table.
#[derive(Debug, Default)]
struct Table {
    devices: HashMap<Imei, Device>,
    refused: HashMap<Imei, Refused>,
    ids: u32,
}

impl Table {
    fn heard(&mut self, imei: Imei, newest: &Newest, received_at_ms: u64, transport: Transport) {
        if !self.devices.contains_key(&imei) && self.devices.len() >= DEVICES_MAX {
            forget(&mut self.devices, DEVICES_MAX / FORGET_PART, |device| {
                device.last_seen_ms
            });
        }
        let ids = &mut self.ids;
        let device = self.devices.entry(imei).or_insert_with(|| {
            *ids = ids.wrapping_add(1);
            Device {
                last_seen_ms: 0,
                device_time_ms: 0,
                fix_time_ms: 0,
                frames: 0,
                records: 0,
                latitude_e7: 0,
                longitude_e7: 0,
                id: *ids,
                speed_kmh: 0,
                satellites: 0,
                codec: 0,
                transport,
            }
        });
        device.last_seen_ms = received_at_ms;
        device.transport = transport;
        // An answer to a command says nothing about how it tells its records.
        if newest.records > 0 || device.records == 0 {
            device.codec = newest.codec;
        }
        device.frames += 1;
        device.records += u64::from(newest.records);
        if let Some(time_ms) = newest.time_ms {
            device.device_time_ms = time_ms;
        }
        // A tracker that catches up sends old places after new ones; a clock that ran ahead must
        // not hold the place for ever.
        let was_ahead = device.fix_time_ms > received_at_ms.saturating_add(AHEAD_MS_MAX);
        if let Some(fix) = newest.fix
            && (fix.time_ms >= device.fix_time_ms || was_ahead)
        {
            device.fix_time_ms = fix.time_ms;
            device.latitude_e7 = fix.latitude_e7;
            device.longitude_e7 = fix.longitude_e7;
            device.speed_kmh = fix.speed_kmh;
            device.satellites = fix.satellites;
        }
    }

    fn refused(&mut self, imei: Imei, why: String, at_ms: u64) {
        if !self.refused.contains_key(&imei) && self.refused.len() >= REFUSALS_MAX {
            forget(&mut self.refused, REFUSALS_MAX / FORGET_PART, |r| r.at_ms);
        }
        let times = self.refused.get(&imei).map_or(0, |refused| refused.times) + 1;
        self.refused.insert(imei, Refused { at_ms, why, times });
    }
}

/// Drops the `count` with the smallest age stamp.
fn forget<T>(map: &mut HashMap<Imei, T>, count: usize, stamp: impl Fn(&T) -> u64) {
    let mut stamps: Vec<(u64, Imei)> = map.iter().map(|(imei, of)| (stamp(of), *imei)).collect();
    let count = count.clamp(1, stamps.len());
    stamps.select_nth_unstable(count - 1);
    for (_, imei) in &stamps[..count] {
        map.remove(imei);
    }
}

/// The table as every shell holds it.
#[derive(Debug, Default)]
pub struct Devices(Mutex<Table>);

impl Devices {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame of `imei` is durable. `data` is codec id … second count; it was walked before, and
    /// is walked once more here.
    pub fn heard(&self, imei: Imei, data: &[u8], received_at_ms: u64, transport: Transport) {
        let newest = Newest::read(data);
        self.table().heard(imei, &newest, received_at_ms, transport);
    }

    /// `imei` was sent away.
    pub fn refused(&self, imei: Imei, why: String, at_ms: u64) {
        self.table().refused(imei, why, at_ms);
    }

    /// What is known of one device.
    #[must_use]
    pub fn get(&self, imei: Imei) -> Option<Device> {
        self.table().devices.get(&imei).copied()
    }

    /// How many devices are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table().devices.len()
    }

    /// `limit` devices that follow the number `after`, as `/devices` shows them; with `after` 0 the
    /// refused ones too, the latest first.
    #[must_use]
    pub fn page(&self, after: u32, limit: usize, style: ImeiStyle) -> Value {
        // Copied out first: trackers wait for the lock, and must not wait for words.
        let (mut rows, refused, known) = {
            let table = self.table();
            let after = table.devices.iter().filter(|(_, device)| device.id > after);
            let rows: Vec<(Imei, Device)> = after.map(|(imei, device)| (*imei, *device)).collect();
            (rows, table.refused.clone(), table.devices.len())
        };
        rows.sort_unstable_by_key(|(_, device)| device.id);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(_, device)| device.id);
        let rows = rows
            .iter()
            .map(|(imei, device)| row(*imei, device, refused.get(imei), style));
        let mut latest: Vec<(&Imei, &Refused)> = refused.iter().collect();
        latest.sort_unstable_by_key(|(_, refused)| std::cmp::Reverse(refused.at_ms));
        latest.truncate(if after == 0 { limit } else { 0 });
        let latest = latest.into_iter().map(|(imei, refused)| {
            json!({
                "imei": style.show(*imei).to_string(),
                "at_ms": refused.at_ms,
                "why": refused.why,
                "times": refused.times,
            })
        });
        json!({
            "known": known,
            "devices": rows.collect::<Vec<_>>(),
            "next": next,
            "refused": latest.collect::<Vec<_>>(),
        })
    }
}

fn row(imei: Imei, device: &Device, refused: Option<&Refused>, style: ImeiStyle) -> Value {
    let (clock, ahead_ms) = match device.clock() {
        Clock::Unknown => (None, None),
        Clock::Good => (Some("ok"), None),
        Clock::Ahead(ms) => (Some("ahead"), Some(ms)),
        Clock::Reset => (Some("reset"), None),
    };
    let has_fix = device.fix_time_ms > 0;
    let known = |ms: u64| (ms > 0).then_some(ms);
    json!({
        "device": device.id,
        "imei": style.show(imei).to_string(),
        "last_seen_ms": device.last_seen_ms,
        "transport": transport_word(device.transport),
        "codec": codec_word(device.codec),
        "frames": device.frames,
        "records": device.records,
        "device_time_ms": known(device.device_time_ms),
        "delay_ms": device.delay_ms(),
        "clock": clock,
        "clock_ahead_ms": ahead_ms,
        "fix_time_ms": known(device.fix_time_ms),
        "latitude_e7": has_fix.then_some(device.latitude_e7),
        "longitude_e7": has_fix.then_some(device.longitude_e7),
        "speed_kmh": has_fix.then_some(device.speed_kmh),
        "satellites": has_fix.then_some(device.satellites),
        "last_refusal": refused.map(|refused| json!({ "at_ms": refused.at_ms, "why": refused.why })),
    })
}

/// How a frame came, in a word.
#[must_use]
pub fn transport_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
        Transport::Tls => "tls",
        Transport::Http => "http",
        Transport::Serial => "serial",
        Transport::Other(_) => "other",
    }
}

/// A codec id as people write it: `8`, `8E`, `12`; a number in hex when it is none of ours.
#[must_use]
pub fn codec_word(byte: u8) -> String {
    match CodecId::from_byte(byte) {
        CodecId::Codec8E => "8E".to_owned(),
        CodecId::Other(byte) => format!("{byte:#04x}"),
        _ => byte.to_string(),
    }
}

#[cfg(test)]
mod tests;
