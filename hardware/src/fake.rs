//! A board of memory only: it works, and remembers what it was told.
//!
//! Invariant: every handle of one [`FakeBoard`] writes to one memory, so a test can hand the light
//! and the watchdog away and still read what became of them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{BoardProfile, LedState, StatusLed, Watchdog};

/// What a [`FakeBoard`] was told so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Every change of the light, oldest first; the same state twice is one change.
    pub led: Vec<LedState>,
    /// How often the watchdog was petted.
    pub pets: u64,
    /// Watchdogs opened and not yet closed. Above 0 at the end, a real board would reset.
    pub watchdogs_armed: u32,
}

/// A board with one of everything. Clones share one memory.
#[derive(Debug, Clone, Default)]
pub struct FakeBoard {
    told: Arc<Mutex<Told>>,
}

impl FakeBoard {
    /// The profile `boards/fake.toml`.
    #[must_use]
    pub fn profile() -> BoardProfile {
        BoardProfile::built_in("fake").expect("a unit test reads every built-in profile")
    }

    /// A handle to the light.
    #[must_use]
    pub fn status_led(&self) -> Box<dyn StatusLed + Send> {
        Box::new(self.clone())
    }

    /// Arms the watchdog and hands it out.
    #[must_use]
    pub fn watchdog(&self) -> Box<dyn Watchdog + Send> {
        self.change(|told| told.watchdogs_armed += 1);
        Box::new(FakeWatchdog(self.clone()))
    }

    /// What it was told until now.
    #[must_use]
    pub fn told(&self) -> Told {
        self.change(|told| told.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        // Each change is one step, so what a panicking holder left behind is whole.
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl StatusLed for FakeBoard {
    fn show(&mut self, state: LedState) -> io::Result<()> {
        self.change(|told| {
            if told.led.last() != Some(&state) {
                told.led.push(state);
            }
        });
        Ok(())
    }
}

struct FakeWatchdog(FakeBoard);

impl Watchdog for FakeWatchdog {
    fn timeout(&self) -> Duration {
        let watchdog = FakeBoard::profile().watchdog;
        let watchdog = watchdog.expect("a unit test reads the fake profile's watchdog");
        Duration::from_secs(watchdog.timeout_s.into())
    }

    fn pet(&mut self) -> io::Result<()> {
        self.0.change(|told| told.pets += 1);
        Ok(())
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.0.change(|told| told.watchdogs_armed -= 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_light_remembers_changes_in_order() {
        use LedState::{AtRisk, Buffering, Moving, Off};
        let board = FakeBoard::default();
        let mut led = board.status_led();
        for state in [Moving, Moving, Buffering, AtRisk, Moving, Off, Off] {
            led.show(state).unwrap();
        }
        assert_eq!(board.told().led, [Moving, Buffering, AtRisk, Moving, Off]);
    }

    #[test]
    fn a_closed_watchdog_is_disarmed_and_a_dropped_one_is_not() {
        let board = FakeBoard::default();
        let mut dog = board.watchdog();
        assert_eq!(dog.timeout(), Duration::from_secs(15));
        dog.pet().unwrap();
        dog.pet().unwrap();
        assert_eq!((board.told().pets, board.told().watchdogs_armed), (2, 1));
        dog.close().unwrap();
        assert_eq!(board.told().watchdogs_armed, 0);
        drop(board.watchdog());
        assert_eq!(board.told().watchdogs_armed, 1);
    }
}
