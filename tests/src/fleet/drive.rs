//! Records from simulated driving: what a tracker of a given profile says about its vehicle.
//!
//! Invariant: the frames of a device are a pure function of seed, device, profile, rate and
//! start; the moment of sending, outages and ACKs change nothing in them. Frames end by rules
//! about their records alone.

use codec::encode::{self, IoSpec, IoValue, RecordSpec};
use codec::{AvlCodec, Priority};

use super::config::Profile;
use super::dice::Dice;
use super::frame::Frame;
use super::vehicle::Vehicle;

/// Longest frame of the devices played here, all bytes counted (wiki "Codec", packet size).
const FRAME_BYTES_MAX: usize = 1280;
/// Codec id, two counts, preamble, length, checksum.
const FRAME_FIXED_BYTES: usize = 3 + codec::frame::OVERHEAD_BYTES;

/// Harsh braking and the like, once in so many records of a moving vehicle.
const HARSH_ONE_IN: u64 = 300;
const CRASH_ONE_IN: u64 = 5_000;
/// Fix lost between houses or in a tunnel.
const TUNNEL_ONE_IN: u64 = 250;
const BEACONS_ONE_IN: u64 = 8;

// IO ids; names and sizes from the FMB and FMC parameter lists.
const IGNITION: u16 = 239;
const GREEN_DRIVING: u16 = 253;
const CRASH: u16 = 247;
const VIN: u16 = 256;
const BEACONS: u16 = 385;

/// A device's tape of frames.
#[derive(Debug)]
pub(super) struct Drive {
    vehicle: Vehicle,
    dice: Dice,
    profile: Profile,
    vin: [u8; 17],
    iccid: u64,
    interval_ms: u64,
    records_per_frame: usize,
    start_ms: u64,
    due_ms: u64,
    produced: u64,
    had_ignition: bool,
    tunnel_records: u64,
    battery_mv: f64,
    /// Records of the frame that is being filled.
    open: Vec<u8>,
    open_count: u8,
}

/// What of a [`FleetConfig`](super::FleetConfig) concerns one device.
#[derive(Debug, Clone, Copy)]
pub(super) struct DriveSettings {
    pub(super) seed: u64,
    pub(super) device: u64,
    pub(super) profile: Profile,
    pub(super) interval_ms: u64,
    pub(super) records_per_frame: u8,
    pub(super) start_ms: u64,
}

impl Drive {
    pub(super) fn new(settings: DriveSettings) -> Drive {
        let DriveSettings {
            seed,
            device,
            profile,
            interval_ms,
            records_per_frame,
            start_ms,
        } = settings;
        let mut dice = Dice::new(seed, device, 2);
        let mut vin = *b"MLP00000000000000";
        for digit in &mut vin[3..] {
            *digit = b"0123456789ABCDEFGHJKLMNPRSTUVWXYZ"[dice.below(33) as usize];
        }
        let vehicle = Vehicle::new(seed, device);
        Drive {
            profile,
            vin,
            iccid: 8_937_000_000_000_000_000 + dice.below(1_000_000_000),
            interval_ms,
            records_per_frame: usize::from(records_per_frame.max(1)),
            start_ms,
            due_ms: dice.below(interval_ms),
            produced: 0,
            had_ignition: vehicle.ignition(),
            tunnel_records: 0,
            battery_mv: dice.between(3_800.0, 4_100.0),
            open: Vec::new(),
            open_count: 0,
            vehicle,
            dice,
        }
    }

    /// When the next record comes into being, on the fleet's clock.
    pub(super) fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Lives through the time until `now_ms`, at most up to the next full frame.
    pub(super) fn take(&mut self, now_ms: u64) -> Option<Frame> {
        while self.due_ms <= now_ms {
            if let Some(frame) = self.record() {
                return Some(frame);
            }
        }
        None
    }

    /// The records that wait for their frame to fill.
    pub(super) fn finish(&mut self) -> Option<Frame> {
        if self.open_count == 0 {
            return None;
        }
        let mut data = vec![codec_of(self.profile).as_byte(), self.open_count];
        data.append(&mut self.open);
        data.push(self.open_count);
        self.open_count = 0;
        Some(Frame::new(&data))
    }

    fn record(&mut self) -> Option<Frame> {
        self.vehicle.advance(self.interval_ms as f64 / 1_000.0);
        let (priority, event_io_id) = self.event();
        let raw = self.encode(self.start_ms + self.due_ms, priority, event_io_id);
        self.due_ms += self.interval_ms;
        self.produced += 1;
        let full = FRAME_FIXED_BYTES + self.open.len() + raw.len() > FRAME_BYTES_MAX;
        let before = if full { self.finish() } else { None };
        self.open.extend_from_slice(&raw);
        self.open_count += 1;
        // After a frame that was closed for its length this one holds a single record; it
        // waits for company even if it is urgent.
        let enough = usize::from(self.open_count) >= self.records_per_frame;
        before.or_else(|| (enough || priority != Priority::Low).then(|| self.finish())?)
    }

    fn event(&mut self) -> (Priority, u16) {
        let ignition = self.vehicle.ignition();
        if ignition != self.had_ignition {
            self.had_ignition = ignition;
            return (Priority::High, IGNITION);
        }
        if !self.vehicle.moving() {
            return (Priority::Low, 0);
        }
        if self.dice.one_in(CRASH_ONE_IN) {
            return (Priority::Panic, CRASH);
        }
        if self.dice.one_in(HARSH_ONE_IN) {
            return (Priority::High, GREEN_DRIVING);
        }
        (Priority::Low, 0)
    }

    fn encode(&mut self, timestamp_ms: u64, priority: Priority, event_io_id: u16) -> Vec<u8> {
        let vehicle = &self.vehicle;
        let moving = vehicle.moving();
        if self.tunnel_records > 0 {
            self.tunnel_records -= 1;
        } else if moving && self.dice.one_in(TUNNEL_ONE_IN) {
            self.tunnel_records = 3;
        }
        // Without a fix the device repeats its last place and says 0 for the rest.
        let fix = self.tunnel_records == 0;
        let satellites = if fix {
            6 + self.dice.below(11) as u8
        } else {
            0
        };
        let (angle_deg, speed_kmh) = if fix {
            (vehicle.heading_deg(), vehicle.speed_kmh())
        } else {
            (0, 0)
        };
        let ignition = vehicle.ignition();
        let volts_mv = if ignition { 13_900.0 } else { 12_480.0 };
        let external_mv = (volts_mv + self.dice.between(-180.0, 180.0)) as u16;
        let charge = if ignition { 0.2 } else { -0.05 };
        self.battery_mv = (self.battery_mv + charge).clamp(3_600.0, 4_150.0);

        let mut io = vec![
            IoSpec {
                id: IGNITION,
                value: IoValue::U8(ignition.into()),
            },
            IoSpec {
                id: 240,
                value: IoValue::U8(moving.into()),
            },
            IoSpec {
                id: 21,
                value: IoValue::U8(2 + self.dice.below(4) as u8),
            },
            IoSpec {
                id: 200,
                value: IoValue::U8(0),
            },
            IoSpec {
                id: 69,
                value: IoValue::U8(if fix { 1 } else { 2 }),
            },
            IoSpec {
                id: 181,
                value: IoValue::U16(10 + self.dice.below(12) as u16),
            },
            IoSpec {
                id: 182,
                value: IoValue::U16(6 + self.dice.below(8) as u16),
            },
            IoSpec {
                id: 66,
                value: IoValue::U16(external_mv),
            },
            IoSpec {
                id: 67,
                value: IoValue::U16(self.battery_mv as u16),
            },
            IoSpec {
                id: 24,
                value: IoValue::U16(speed_kmh),
            },
            IoSpec {
                id: 241,
                value: IoValue::U32(24_602),
            },
            IoSpec {
                id: 199,
                value: IoValue::U32(vehicle.trip_m()),
            },
            IoSpec {
                id: 16,
                value: IoValue::U32(vehicle.odometer_m()),
            },
            IoSpec {
                id: 11,
                value: IoValue::U64(self.iccid),
            },
        ];
        match event_io_id {
            GREEN_DRIVING => {
                let kind = 1 + self.dice.below(3) as u8;
                io.push(IoSpec {
                    id: GREEN_DRIVING,
                    value: IoValue::U8(kind),
                });
            }
            CRASH => io.push(IoSpec {
                id: CRASH,
                value: IoValue::U8(1),
            }),
            _ => {}
        }
        let beacons = beacon_list(&mut self.dice);
        if self.profile == Profile::Fmc130 {
            if self.produced == 0 {
                io.push(IoSpec {
                    id: VIN,
                    value: IoValue::Bytes(&self.vin),
                });
            }
            if let Some(list) = &beacons {
                io.push(IoSpec {
                    id: BEACONS,
                    value: IoValue::Bytes(list),
                });
            }
        }
        let spec = RecordSpec {
            timestamp_ms,
            priority,
            longitude_e7: vehicle.longitude_e7(),
            latitude_e7: vehicle.latitude_e7(),
            altitude_m: vehicle.altitude_m(),
            angle_deg,
            satellites,
            speed_kmh,
            event_io_id,
            io: &io,
            ..RecordSpec::default()
        };
        let mut data = Vec::new();
        encode::avl_data(codec_of(self.profile), &[spec], &mut data)
            .expect("a dozen elements with ids of the profile's codec");
        data.pop();
        data.drain(..2);
        data
    }
}

/// The simple list of id 385: empty, or one iBeacon with its signal strength.
fn beacon_list(dice: &mut Dice) -> Option<Vec<u8>> {
    if !dice.one_in(BEACONS_ONE_IN) {
        return None;
    }
    let mut list = vec![0x11];
    if !dice.one_in(3) {
        list.push(0x21);
        for _ in 0..20 {
            list.push(dice.below(256) as u8);
        }
        list.push(196);
    }
    Some(list)
}

fn codec_of(profile: Profile) -> AvlCodec {
    match profile {
        Profile::Fmb920 => AvlCodec::Codec8,
        Profile::Fmc130 => AvlCodec::Codec8E,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use codec::{AvlData, Cut, Expect, Limits, cut};

    fn settings(device: u64, profile: Profile, records_per_frame: u8) -> DriveSettings {
        DriveSettings {
            seed: 42,
            device,
            profile,
            interval_ms: 1_000,
            records_per_frame,
            start_ms: 1_750_000_000_000,
        }
    }

    fn frames(settings: DriveSettings, until_ms: u64) -> Vec<Frame> {
        let mut drive = Drive::new(settings);
        let mut frames = Vec::new();
        while let Some(frame) = drive.take(until_ms) {
            frames.push(frame);
        }
        frames.extend(drive.finish());
        frames
    }

    fn data(frame: &Frame) -> AvlData<'_> {
        match cut(&frame.bytes, Expect::Frame, Limits::default()) {
            Cut::Frame(cut) => AvlData::parse(cut.data()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn same_seed_same_bytes_however_often_one_asks() {
        for profile in [Profile::Fmb920, Profile::Fmc130] {
            let at_once = frames(settings(3, profile, 4), 900_000);
            let mut drive = Drive::new(settings(3, profile, 4));
            let mut bit_by_bit = Vec::new();
            for now_ms in (0..=900_000).step_by(370) {
                while let Some(frame) = drive.take(now_ms) {
                    bit_by_bit.push(frame);
                }
            }
            while let Some(frame) = drive.take(900_000) {
                bit_by_bit.push(frame);
            }
            bit_by_bit.extend(drive.finish());
            assert_eq!(at_once, bit_by_bit);
            assert_ne!(at_once, frames(settings(4, profile, 4), 900_000));
        }
    }

    #[test]
    fn every_frame_reads_back_within_the_devices_limits() {
        for (profile, codec) in [
            (Profile::Fmb920, AvlCodec::Codec8),
            (Profile::Fmc130, AvlCodec::Codec8E),
        ] {
            for frame in frames(settings(1, profile, 255), 3_600_000) {
                let data = data(&frame);
                assert_eq!(data.codec(), codec);
                assert!(frame.bytes.len() <= FRAME_BYTES_MAX);
                assert_eq!(usize::from(data.count()), frame.keys.len());
                assert_eq!(frame.ack, Some(data.count()));
            }
        }
    }

    #[test]
    fn an_hour_of_a_hundred_vehicles_has_everything_a_receiver_must_cope_with() {
        let (mut panics, mut highs, mut no_fix, mut variable, mut records) = (0, 0, 0, 0, 0);
        for device in 0..100 {
            let mut odometer = 0;
            let mut last_ms = 0;
            for frame in frames(settings(device, Profile::Fmc130, 10), 3_600_000) {
                for record in data(&frame).records() {
                    records += 1;
                    assert!(record.timestamp_ms > last_ms);
                    last_ms = record.timestamp_ms;
                    panics += usize::from(record.priority == Priority::Panic);
                    highs += usize::from(record.priority == Priority::High);
                    no_fix += usize::from(record.satellites == 0);
                    variable += record.io().filter(|io| io.width.bytes().is_none()).count();
                    let found = record
                        .io()
                        .find(|io| io.id == 16)
                        .unwrap()
                        .as_u64()
                        .unwrap();
                    assert!(found >= odometer);
                    odometer = found;
                    if record.satellites == 0 {
                        assert_eq!((record.speed_kmh, record.angle_deg), (0, 0));
                    }
                }
            }
        }
        assert!((360_000..=360_100).contains(&records), "{records}");
        assert!(
            panics > 5 && highs > 200 && no_fix > 500 && variable > 20_000,
            "{panics} {highs} {no_fix} {variable}"
        );
    }

    #[test]
    fn urgent_records_do_not_wait_for_the_frame_to_fill() {
        let mut early = 0;
        for device in 0..30 {
            let all = frames(settings(device, Profile::Fmb920, 8), 1_800_000);
            let (_last, full) = all.split_last().unwrap();
            for frame in full {
                let priorities: Vec<Priority> = data(frame).records().map(|r| r.priority).collect();
                let (last, before) = priorities.split_last().unwrap();
                assert!(before.iter().all(|priority| *priority == Priority::Low));
                assert!(priorities.len() == 8 || *last != Priority::Low);
                early += usize::from(priorities.len() < 8);
            }
        }
        assert!(early > 10, "{early}");
    }
}
