//! Pure: no I/O, no clock.
//!
//! The newest record of a frame, and the newest one with a fix: all that the table keeps.
//!
//! Why by time and not by place: trackers send in any order. What does not read counts as a frame
//! without records; the cloud judges it.

use codec::{AvlData, Codec7Data, Codec7Record, CodecId};

/// Where a codec 7 record leaves its satellites out, the vendor's parser assumes so many.
const SATELLITES_ASSUMED: u8 = 3;

/// A place and when the device was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fix {
    pub(super) time_ms: u64,
    pub(super) latitude_e7: i32,
    pub(super) longitude_e7: i32,
    pub(super) speed_kmh: u16,
    pub(super) satellites: u8,
}

impl Fix {
    /// Is it one? Without satellites a device repeats its last place, or says 0, 0.
    fn holds(&self) -> bool {
        self.satellites > 0
            && (self.latitude_e7, self.longitude_e7) != (0, 0)
            && self.latitude_e7.unsigned_abs() <= 900_000_000
            && self.longitude_e7.unsigned_abs() <= 1_800_000_000
    }
}

/// What one frame says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) codec: u8,
    pub(super) records: u32,
    /// Device clock of the newest record, milliseconds since 1970.
    pub(super) time_ms: Option<u64>,
    pub(super) fix: Option<Fix>,
}

impl Newest {
    /// Reads codec id … second count.
    pub(super) fn read(data: &[u8]) -> Self {
        let mut newest = Self {
            codec: data.first().copied().unwrap_or_default(),
            ..Self::default()
        };
        match CodecId::from_byte(newest.codec) {
            CodecId::Codec7 => {
                let Ok(data) = Codec7Data::parse(data) else {
                    return newest;
                };
                for record in data.records() {
                    newest.take(record.timestamp_ms, fix_of_codec7(&record));
                }
            }
            id if id.is_avl() => {
                let Ok(data) = AvlData::parse(data) else {
                    return newest;
                };
                for record in data.records() {
                    let fix = Fix {
                        time_ms: record.timestamp_ms,
                        latitude_e7: record.latitude_e7,
                        longitude_e7: record.longitude_e7,
                        speed_kmh: record.speed_kmh,
                        satellites: record.satellites,
                    };
                    newest.take(record.timestamp_ms, Some(fix));
                }
            }
            _ => {}
        }
        newest
    }

    fn take(&mut self, time_ms: u64, fix: Option<Fix>) {
        self.records += 1;
        self.time_ms = self.time_ms.max(Some(time_ms));
        let before = self.fix.map(|fix| fix.time_ms);
        if let Some(fix) = fix.filter(Fix::holds)
            && Some(fix.time_ms) >= before
        {
            self.fix = Some(fix);
        }
    }
}

fn fix_of_codec7(record: &Codec7Record<'_>) -> Option<Fix> {
    let gps = record.gps?;
    let position = gps.position?;
    // Casting saturates and makes 0 of NaN; neither is a fix.
    let e7 = |degrees: f32| (f64::from(degrees) * 1e7).round() as i32;
    Some(Fix {
        time_ms: record.timestamp_ms,
        latitude_e7: e7(position.latitude_deg),
        longitude_e7: e7(position.longitude_deg),
        speed_kmh: gps.speed_kmh.map_or(0, u16::from),
        satellites: gps.satellites.unwrap_or(SATELLITES_ASSUMED),
    })
}
