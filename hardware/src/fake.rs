//! A board of memory only: it works, and remembers what it was told.
//!
//! Invariant: every handle of one [`FakeBoard`] writes to one memory, so a test can hand the light
//! and the watchdog away and still read what became of them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use embedded_hal::digital::{ErrorType, InputPin, OutputPin};

use crate::blink::Lit;
use crate::pin::PinError;
use crate::sensors::{Readings, Sensors};
use crate::{Board, BoardProfile, Light, Watchdog};

/// What a [`FakeBoard`] was told so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// What the lamps showed, each time one of them changed, oldest first.
    pub lamps: Vec<Lit>,
    /// How often the watchdog was petted.
    pub pets: u64,
    /// Watchdogs opened and not yet closed. Above 0 at the end, a real board would reset.
    pub watchdogs_armed: u32,
}

#[derive(Debug, Default)]
struct Memory {
    told: Told,
    lit: Lit,
    fails: bool,
    readings: Readings,
}

/// A board with one of everything. Clones share one memory.
#[derive(Debug, Clone, Default)]
pub struct FakeBoard(Arc<Mutex<Memory>>);

impl FakeBoard {
    /// The profile `boards/fake.toml`.
    #[must_use]
    pub fn profile() -> BoardProfile {
        BoardProfile::built_in("fake").expect("a unit test reads every built-in profile")
    }

    /// Everything a board offers; arms the watchdog.
    #[must_use]
    pub fn open(&self) -> Board {
        self.change(|memory| memory.told.watchdogs_armed += 1);
        let lamp = |is_red| Lamp(self.clone(), is_red);
        Board {
            light: Some(Light::new(
                Box::new(lamp(false)),
                Some(Box::new(lamp(true))),
            )),
            watchdog: Some(Box::new(Dog(self.clone()))),
            power_fail: Some(Box::new(Supply(self.clone()))),
            sensors: Box::new(self.clone()),
        }
    }

    /// What it was told until now.
    #[must_use]
    pub fn told(&self) -> Told {
        self.change(|memory| memory.told.clone())
    }

    /// From now on the supply fails, or does not.
    pub fn set_power_failing(&self, fails: bool) {
        self.change(|memory| memory.fails = fails);
    }

    /// From now on the sensors say this.
    pub fn set_readings(&self, readings: Readings) {
        self.change(|memory| memory.readings = readings);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> T {
        // Each change is one step, so what a panicking holder left behind is whole.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sensors for FakeBoard {
    fn read(&mut self) -> Readings {
        self.change(|memory| memory.readings.clone())
    }
}

/// The green half, or the red one.
struct Lamp(FakeBoard, bool);

impl Lamp {
    fn set(&self, lit: bool) {
        self.0.change(|memory| {
            let before = memory.lit;
            let lamp = match self.1 {
                true => &mut memory.lit.red,
                false => &mut memory.lit.green,
            };
            *lamp = lit;
            if memory.lit != before {
                memory.told.lamps.push(memory.lit);
            }
        });
    }
}

impl ErrorType for Lamp {
    type Error = PinError;
}

impl OutputPin for Lamp {
    fn set_low(&mut self) -> Result<(), PinError> {
        self.set(false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), PinError> {
        self.set(true);
        Ok(())
    }
}

struct Supply(FakeBoard);

impl ErrorType for Supply {
    type Error = PinError;
}

impl InputPin for Supply {
    fn is_high(&mut self) -> Result<bool, PinError> {
        Ok(self.0.change(|memory| memory.fails))
    }

    fn is_low(&mut self) -> Result<bool, PinError> {
        self.is_high().map(|high| !high)
    }
}

struct Dog(FakeBoard);

impl Watchdog for Dog {
    fn timeout(&self) -> Duration {
        let watchdog = FakeBoard::profile().watchdog;
        let watchdog = watchdog.expect("a unit test reads the fake profile's watchdog");
        Duration::from_secs(watchdog.timeout_s.into())
    }

    fn pet(&mut self) -> io::Result<()> {
        self.0.change(|memory| memory.told.pets += 1);
        Ok(())
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.0.change(|memory| memory.told.watchdogs_armed -= 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::LedState;

    #[test]
    fn the_light_remembers_changes_in_order() {
        let board = FakeBoard::default();
        let mut light = board.open().light.unwrap();
        for state in [
            LedState::Moving,
            LedState::Moving,
            LedState::Buffering,
            LedState::AtRisk,
            LedState::Off,
            LedState::Off,
        ] {
            light.show(state, Duration::ZERO).unwrap();
        }
        let lit = |green, red| Lit { green, red };
        assert_eq!(
            board.told().lamps,
            [
                lit(true, false),
                lit(true, true),
                lit(false, true),
                lit(false, false)
            ]
        );
    }

    #[test]
    fn a_closed_watchdog_is_disarmed_and_a_dropped_one_is_not() {
        let board = FakeBoard::default();
        let mut dog = board.open().watchdog.unwrap();
        assert_eq!(dog.timeout(), Duration::from_secs(15));
        dog.pet().unwrap();
        dog.pet().unwrap();
        assert_eq!((board.told().pets, board.told().watchdogs_armed), (2, 1));
        dog.close().unwrap();
        assert_eq!(board.told().watchdogs_armed, 0);
        drop(board.open().watchdog);
        assert_eq!(board.told().watchdogs_armed, 1);
    }

    #[test]
    fn the_supply_and_the_sensors_say_what_they_are_told_to() {
        let board = FakeBoard::default();
        let mut open = board.open();
        let mut input = open.power_fail.unwrap();
        assert!(!input.is_high().unwrap());
        board.set_power_failing(true);
        assert!(input.is_high().unwrap());
        let readings = Readings {
            temperature_c: Some(41.5),
            ..Readings::default()
        };
        board.set_readings(readings.clone());
        assert_eq!(open.sensors.read(), readings);
    }
}
