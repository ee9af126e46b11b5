//! How long can the box be without a link?

use ::settings::Settings;

use super::Look;
use crate::explain::disk as pages;
use crate::spool::FullPolicy;
use crate::spool::written::Written;

/// A fleet to speak of: a hundred devices, one record every ten seconds each.
const DEVICES: f64 = 100.0;
const RECORDS_PER_SECOND: f64 = DEVICES / 10.0;

const GIB: f64 = 1_073_741_824.0;
const DAY_S: f64 = 86_400.0;

/// Measured: lone commits of one Codec 8 Extended record with 16 IO values, compacted
/// (docs/spool.md, "What it costs").
pub const RECORDS_PER_GIBIBYTE: f64 = 27.5e6;

/// Days that a spool of `bytes_max` takes that fleet's records without a link.
fn days(bytes_max: u64) -> f64 {
    bytes_max as f64 / GIB * RECORDS_PER_GIBIBYTE / RECORDS_PER_SECOND / DAY_S
}

/// `32 days at 100 devices × 1 record/10 s`, for a spool of `bytes_max` bytes.
#[must_use]
pub fn promise(bytes_max: u64) -> String {
    let days = days(bytes_max);
    let time = if days < 1.0 {
        format!("{:.0} hours", days * 24.0)
    } else {
        format!("{days:.0} days")
    };
    format!("{time} at {DEVICES} devices × 1 record/10 s")
}

/// What a full spool does, in words.
#[must_use]
pub fn when_full(full: FullPolicy) -> &'static str {
    match full {
        FullPolicy::Refuse => "no ACK: trackers keep their records (refuse)",
        FullPolicy::TrustRedis => "what Redis accepted is forgotten (trust-redis)",
        FullPolicy::DropOldest => "the oldest records are given up and reported (drop-oldest)",
    }
}

pub(super) fn look(settings: &Settings) -> Look {
    let mut look = Look::new("offline");
    let Ok(bytes_max) = settings.bytes("spool.bytes_max") else {
        look.skipped("not known: spool.bytes_max cannot be used");
        return look;
    };
    let promise = format!("can be offline {}", promise(bytes_max));
    if days(bytes_max) < 1.0 {
        let origin = settings.origin("spool.bytes_max").place();
        let bytes = GIB / RECORDS_PER_GIBIBYTE;
        look.bad(
            &pages::SHORT,
            promise,
            format!("spool.bytes_max, {origin}"),
            format!("a record takes {bytes:.0} bytes of the spool"),
            "raise spool.bytes_max, if the disk allows",
        );
    } else {
        look.good(promise);
    }
    let dir = settings.path("spool.dir");
    let of_box = dir
        .ok()
        .and_then(|dir| Written::read(&dir).days_left(bytes_max, None));
    if let Some(days) = of_box {
        look.good(format!(
            "an empty spool lasts {days:.1} days at this box's own rate of the last two days"
        ));
    }
    look
}
