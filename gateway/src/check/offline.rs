//! How long can the box be without a link?

use ::settings::Settings;

use super::Look;
use crate::explain::disk as pages;
use crate::spool::written::Written;

/// A fleet to speak of: a hundred devices, one record every ten seconds each.
const DEVICES: f64 = 100.0;
const RECORDS_PER_SECOND: f64 = DEVICES / 10.0;

const GIB: f64 = 1_073_741_824.0;
const DAY_S: f64 = 86_400.0;

/// Measured: lone commits of one Codec 8 Extended record with 16 IO values, compacted
/// (docs/spool.md, "What it costs").
pub const RECORDS_PER_GIBIBYTE: f64 = 27.5e6;

pub(super) fn look(settings: &Settings) -> Look {
    let mut look = Look::new("offline");
    let Ok(bytes_max) = settings.bytes("spool.bytes_max") else {
        look.skipped("not known: spool.bytes_max cannot be used");
        return look;
    };
    let days = bytes_max as f64 / GIB * RECORDS_PER_GIBIBYTE / RECORDS_PER_SECOND / DAY_S;
    let fleet = format!("{DEVICES} devices × 1 record/10 s");
    if days < 1.0 {
        look.bad(
            &pages::SHORT,
            format!("can be offline {:.0} hours at {fleet}", days * 24.0),
            format!(
                "spool.bytes_max, {}",
                settings.origin("spool.bytes_max").place()
            ),
            format!(
                "a record takes {:.0} bytes of the spool",
                GIB / RECORDS_PER_GIBIBYTE
            ),
            "raise spool.bytes_max, if the disk allows",
        );
    } else {
        look.good(format!("can be offline {days:.0} days at {fleet}"));
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
