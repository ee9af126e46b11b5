//! Frames of a simulated fleet: Codec 8 Extended, one record of sixteen IO values, a hundred
//! vehicles that move a little each time.

use codec::encode::{self, IoSpec, IoValue, RecordSpec};
use codec::{AvlCodec, Imei, Priority};
use contract::{Device, Lane, Transport};
use spool::Append;

const VEHICLES: u64 = 100;
const INTERVAL_MS: u64 = 10_000;
const START_MS: u64 = 1_760_000_000_000;

/// A small generator of our own, so that every run sees the same fleet.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

struct Vehicle {
    longitude_e7: i32,
    latitude_e7: i32,
    heading_deg: u16,
    odometer_m: u32,
    trip_m: u32,
    battery_mv: u16,
}

/// An endless row of frames, one record each, the vehicles taking turns.
pub struct Fleet {
    dice: Dice,
    vehicles: Vec<Vehicle>,
    sent: u64,
}

impl Fleet {
    pub fn new() -> Self {
        let mut dice = Dice(42);
        let vehicles = (0..VEHICLES)
            .map(|_| Vehicle {
                longitude_e7: 252_500_000 + dice.below(900_000) as i32,
                latitude_e7: 546_600_000 + dice.below(900_000) as i32,
                heading_deg: dice.below(360) as u16,
                odometer_m: dice.below(200_000_000) as u32,
                trip_m: dice.below(50_000) as u32,
                battery_mv: 3_900 + dice.below(200) as u16,
            })
            .collect();
        Self {
            dice,
            vehicles,
            sent: 0,
        }
    }

    pub fn next_append(&mut self) -> Append {
        let number = self.sent % VEHICLES;
        let at_ms = START_MS + self.sent / VEHICLES * INTERVAL_MS + number * 100;
        self.sent += 1;
        let bytes = self.frame(number as usize, at_ms);
        let imei = Imei::from_u64(350_000_000_000_000 + number).expect("fifteen digits");
        Append {
            kind: contract::Kind::Teltonika,
            device: Device::Imei(imei),
            transport: Transport::Tcp,
            lane: Lane::Normal,
            received_at_ms: at_ms + 1_200 + self.dice.below(900),
            record_count: 1,
            panic: false,
            bytes,
        }
    }

    fn frame(&mut self, number: usize, at_ms: u64) -> Vec<u8> {
        let dice = &mut self.dice;
        let vehicle = &mut self.vehicles[number];
        let speed_kmh = 30 + dice.below(60) as u16;
        let metres = u32::from(speed_kmh) * 10_000 / 3_600;
        vehicle.heading_deg = (vehicle.heading_deg + 350 + dice.below(20) as u16) % 360;
        let radians = f64::from(vehicle.heading_deg).to_radians();
        vehicle.longitude_e7 += (radians.sin() * f64::from(metres) * 155.0) as i32;
        vehicle.latitude_e7 += (radians.cos() * f64::from(metres) * 90.0) as i32;
        vehicle.odometer_m += metres;
        vehicle.trip_m += metres;
        let small = [(239, 1), (240, 1), (200, 0), (69, 1), (1, 1), (80, 0)];
        let mut io: Vec<IoSpec<'_>> = small
            .iter()
            .map(|&(id, value)| IoSpec {
                id,
                value: IoValue::U8(value),
            })
            .collect();
        let mut put = |id, value| io.push(IoSpec { id, value });
        put(21, IoValue::U8(2 + dice.below(4) as u8));
        put(181, IoValue::U16(10 + dice.below(12) as u16));
        put(182, IoValue::U16(6 + dice.below(8) as u16));
        put(66, IoValue::U16(13_720 + dice.below(360) as u16));
        put(67, IoValue::U16(vehicle.battery_mv));
        put(24, IoValue::U16(speed_kmh));
        put(241, IoValue::U32(24_602));
        put(199, IoValue::U32(vehicle.trip_m));
        put(16, IoValue::U32(vehicle.odometer_m));
        put(
            11,
            IoValue::U64(8_937_000_000_000_000_000 + number as u64 * 7_919),
        );
        let spec = RecordSpec {
            timestamp_ms: at_ms,
            priority: Priority::Low,
            longitude_e7: vehicle.longitude_e7,
            latitude_e7: vehicle.latitude_e7,
            altitude_m: 100 + dice.below(30) as i16,
            angle_deg: vehicle.heading_deg,
            satellites: 9 + dice.below(6) as u8,
            speed_kmh,
            event_io_id: 0,
            io: &io,
            ..RecordSpec::default()
        };
        let mut data = Vec::new();
        encode::avl_data(AvlCodec::Codec8E, &[spec], &mut data)
            .expect("sixteen elements fit a record");
        data
    }
}

/// A frame of exactly `bytes` bytes; its content does not matter to anybody.
pub fn blob(number: u64, bytes: usize) -> Append {
    let imei = Imei::from_u64(350_000_000_000_000 + number % VEHICLES).expect("fifteen digits");
    let mut content = vec![0; bytes];
    let mut dice = Dice(number);
    content.iter_mut().for_each(|b| *b = dice.below(256) as u8);
    Append {
        kind: contract::Kind::Teltonika,
        device: Device::Imei(imei),
        transport: Transport::Tcp,
        lane: Lane::Normal,
        received_at_ms: START_MS + number,
        record_count: 1,
        panic: false,
        bytes: content,
    }
}
