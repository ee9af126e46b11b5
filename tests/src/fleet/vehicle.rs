//! A vehicle that drives through a town: motion consistent enough for a map and for a judge.
//!
//! Invariants: the position moves by exactly speed times time along the heading; the odometer
//! grows by the same distance and never shrinks; a vehicle without ignition stands still.

use super::dice::Dice;

/// Metres per degree of latitude, good to half a percent everywhere.
const METRES_PER_DEGREE: f64 = 111_320.0;
/// Longest step of the integration: a light lasts ten times as long.
const STEP_S: f64 = 1.0;
const ACCELERATION_MPS2: f64 = 1.6;
const BRAKING_MPS2: f64 = 2.4;
/// A junction is driven through at this speed when the vehicle turns.
const TURN_MPS: f64 = 5.0;

/// Town centres, chosen so that every sign of latitude and longitude is on the road.
/// Latitude, longitude in degrees, ground level in metres.
const TOWNS: &[(f64, f64, f64)] = &[
    (54.6872, 25.2797, 112.0),
    (38.7369, -9.1427, 45.0),
    (-1.2864, 36.8172, 1_795.0),
    (-23.5505, -46.6333, 760.0),
    (-36.8485, 174.7633, 20.0),
    (40.4168, -3.7038, 657.0),
    (52.3676, 4.9041, -2.0),
    (19.4326, -99.1332, 2_240.0),
];

/// What the vehicle is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Doing {
    Driving,
    /// At a light, engine on.
    Waiting {
        left_s: f64,
    },
    /// Ignition off.
    Parked {
        left_s: f64,
    },
}

/// One vehicle and everything about it that a tracker can measure.
#[derive(Debug, Clone)]
pub(super) struct Vehicle {
    dice: Dice,
    latitude_deg: f64,
    longitude_deg: f64,
    ground_m: f64,
    heading_deg: f64,
    speed_mps: f64,
    limit_mps: f64,
    to_junction_m: f64,
    turn_deg: f64,
    doing: Doing,
    odometer_m: f64,
    trip_m: f64,
}

impl Vehicle {
    pub(super) fn new(seed: u64, device: u64) -> Vehicle {
        let mut dice = Dice::new(seed, device, 1);
        let town = dice.below(TOWNS.len() as u64) as usize;
        let (latitude, longitude, ground_m) = TOWNS[town];
        // Each town has its own grid of streets, turned by its own angle.
        let grid_deg = (town as f64) * 11.0;
        let mut vehicle = Vehicle {
            latitude_deg: latitude + dice.between(-0.03, 0.03),
            longitude_deg: longitude + dice.between(-0.03, 0.03),
            ground_m,
            heading_deg: (grid_deg + 90.0 * dice.below(4) as f64) % 360.0,
            speed_mps: 0.0,
            limit_mps: 0.0,
            to_junction_m: 0.0,
            turn_deg: 0.0,
            doing: Doing::Driving,
            odometer_m: dice.between(1_000_000.0, 250_000_000.0).floor(),
            trip_m: 0.0,
            dice,
        };
        vehicle.enter_street();
        if vehicle.dice.one_in(6) {
            vehicle.park();
        }
        vehicle
    }

    /// Moves on by `seconds`.
    pub(super) fn advance(&mut self, seconds: f64) {
        let mut left_s = seconds;
        while left_s > 0.0 {
            let step_s = left_s.min(STEP_S);
            self.step(step_s);
            left_s -= step_s;
        }
    }

    fn step(&mut self, step_s: f64) {
        match &mut self.doing {
            Doing::Waiting { left_s } | Doing::Parked { left_s } => {
                *left_s -= step_s;
                if *left_s <= 0.0 {
                    if matches!(self.doing, Doing::Parked { .. }) {
                        self.trip_m = 0.0;
                    }
                    self.doing = Doing::Driving;
                }
            }
            Doing::Driving => self.drive(step_s),
        }
    }

    fn drive(&mut self, step_s: f64) {
        // Fast enough for the street, slow enough to make the next turn.
        let turning_mps = if self.turn_deg == 0.0 {
            self.limit_mps
        } else {
            TURN_MPS
        };
        let reachable =
            (turning_mps * turning_mps + 2.0 * BRAKING_MPS2 * self.to_junction_m).sqrt();
        let target = self.limit_mps.min(reachable);
        self.speed_mps = target.clamp(
            (self.speed_mps - BRAKING_MPS2 * step_s).max(0.0),
            self.speed_mps + ACCELERATION_MPS2 * step_s,
        );
        let moved_m = self.speed_mps * step_s;
        let heading = self.heading_deg.to_radians();
        self.latitude_deg += moved_m * heading.cos() / METRES_PER_DEGREE;
        self.longitude_deg +=
            moved_m * heading.sin() / (METRES_PER_DEGREE * self.latitude_deg.to_radians().cos());
        self.odometer_m += moved_m;
        self.trip_m += moved_m;
        self.to_junction_m -= moved_m;
        if self.to_junction_m <= 0.0 {
            self.cross();
        }
    }

    fn cross(&mut self) {
        self.heading_deg = (self.heading_deg + self.turn_deg).rem_euclid(360.0);
        self.enter_street();
        if self.dice.one_in(40) {
            self.park();
        } else if self.dice.one_in(5) {
            self.speed_mps = 0.0;
            let left_s = self.dice.between(8.0, 45.0);
            self.doing = Doing::Waiting { left_s };
        }
    }

    fn enter_street(&mut self) {
        let kmh = [30.0, 50.0, 50.0, 70.0][self.dice.below(4) as usize];
        self.limit_mps = kmh / 3.6;
        self.to_junction_m = self.dice.between(80.0, 420.0);
        self.turn_deg = [0.0, 0.0, 90.0, -90.0][self.dice.below(4) as usize];
    }

    fn park(&mut self) {
        self.speed_mps = 0.0;
        let left_s = self.dice.between(60.0, 600.0);
        self.doing = Doing::Parked { left_s };
    }

    pub(super) fn ignition(&self) -> bool {
        !matches!(self.doing, Doing::Parked { .. })
    }

    pub(super) fn moving(&self) -> bool {
        self.speed_mps > 0.0
    }

    pub(super) fn latitude_e7(&self) -> i32 {
        (self.latitude_deg * 1e7).round() as i32
    }

    pub(super) fn longitude_e7(&self) -> i32 {
        (self.longitude_deg * 1e7).round() as i32
    }

    /// Hills of some tens of metres, the same for everybody who comes by.
    pub(super) fn altitude_m(&self) -> i16 {
        let hills =
            9.0 * (self.latitude_deg * 700.0).sin() + 14.0 * (self.longitude_deg * 310.0).cos();
        (self.ground_m + hills).round() as i16
    }

    pub(super) fn heading_deg(&self) -> u16 {
        (self.heading_deg.round() as u16) % 360
    }

    pub(super) fn speed_kmh(&self) -> u16 {
        (self.speed_mps * 3.6).round() as u16
    }

    pub(super) fn odometer_m(&self) -> u32 {
        self.odometer_m as u32
    }

    pub(super) fn trip_m(&self) -> u32 {
        self.trip_m as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metres(from: &Vehicle, to: &Vehicle) -> f64 {
        let north = (to.latitude_deg - from.latitude_deg) * METRES_PER_DEGREE;
        let east = (to.longitude_deg - from.longitude_deg)
            * METRES_PER_DEGREE
            * to.latitude_deg.to_radians().cos();
        north.hypot(east)
    }

    #[test]
    fn moves_by_speed_times_time_and_counts_the_same_distance() {
        for device in 0..40 {
            let mut vehicle = Vehicle::new(7, device);
            for _ in 0..2_000 {
                let before = vehicle.clone();
                vehicle.advance(1.0);
                let moved = metres(&before, &vehicle);
                let counted = vehicle.odometer_m - before.odometer_m;
                assert!(counted >= 0.0);
                assert!(
                    (moved - counted).abs() < 0.05,
                    "{moved} m against {counted} m"
                );
                assert!(vehicle.speed_mps <= 70.0 / 3.6 + 0.01);
                if !vehicle.ignition() {
                    assert_eq!(vehicle.speed_kmh(), 0);
                }
            }
        }
    }

    #[test]
    fn a_fleet_drives_waits_parks_and_turns() {
        let (mut driving, mut standing, mut parked, mut turns) = (0, 0, 0, 0);
        for device in 0..60 {
            let mut vehicle = Vehicle::new(3, device);
            for _ in 0..600 {
                let heading = vehicle.heading_deg();
                vehicle.advance(1.0);
                turns += usize::from(heading != vehicle.heading_deg());
                match vehicle.doing {
                    Doing::Driving => driving += 1,
                    Doing::Waiting { .. } => standing += 1,
                    Doing::Parked { .. } => parked += 1,
                }
            }
        }
        assert!(
            driving > standing && standing > 1_000 && parked > 1_000,
            "{driving} {standing} {parked}"
        );
        assert!(turns > 300, "{turns}");
    }

    #[test]
    fn both_hemispheres_have_traffic() {
        let fleet: Vec<Vehicle> = (0..50).map(|device| Vehicle::new(42, device)).collect();
        assert!(
            fleet
                .iter()
                .any(|v| v.latitude_e7() < 0 && v.longitude_e7() < 0)
        );
        assert!(
            fleet
                .iter()
                .any(|v| v.latitude_e7() > 0 && v.longitude_e7() > 0)
        );
        assert!(
            fleet
                .iter()
                .any(|v| v.latitude_e7() > 0 && v.longitude_e7() < 0)
        );
    }
}
