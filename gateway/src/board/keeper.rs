//! The thread that keeps light, watchdog and supply: it asks the rules and does what they say.
//!
//! Invariant: nothing here waits for the rest of the gateway, so that it goes on when that hangs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hardware::blink::TICK_MAX;
use hardware::pet::PetRule;
use hardware::power::{Power, PowerRule};
use hardware::{Input, LedState, Light, PowerFailInput, Watchdog};

use super::shown::DogState;
use super::{End, Running, Supply};
use crate::chain::chain;
use crate::events::Kind;
use crate::explain::board as pages;
use crate::metrics::Metrics;

/// Between two looks at the power-fail input: a supply that goes leaves tens of milliseconds.
const POWER_INTERVAL: Duration = Duration::from_millis(10);

/// Between two looks at whether every stage moves.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

struct Dog {
    device: Box<dyn Watchdog + Send>,
    rule: PetRule,
}

pub(super) struct Keeper {
    light: Option<Light>,
    dog: Option<Dog>,
    power: Option<(Input, PowerRule)>,
    supply: Supply,
    metrics: Arc<Metrics>,
    began: Instant,
    looked_at: Option<Instant>,
    is_stuck: bool,
    /// Each trouble is told once until it is over.
    light_failed: bool,
    input_failed: bool,
}

impl Keeper {
    /// `None`: the board has nothing to keep.
    pub(super) fn new(
        light: Option<Light>,
        watchdog: Option<Box<dyn Watchdog + Send>>,
        power_fail: Option<(Input, &PowerFailInput)>,
        supply: Supply,
        metrics: Arc<Metrics>,
    ) -> Option<Self> {
        let is_bare = light.is_none() && watchdog.is_none() && power_fail.is_none();
        (!is_bare).then(|| Self {
            light,
            dog: watchdog.map(|device| Dog {
                rule: PetRule::new(device.timeout()),
                device,
            }),
            power: power_fail.map(|(input, wanted)| {
                let rule = PowerRule::new(wanted.fail_after(), wanted.good_after());
                (input, rule)
            }),
            supply,
            metrics,
            began: Instant::now(),
            looked_at: None,
            is_stuck: false,
            light_failed: false,
            input_failed: false,
        })
    }

    /// Until it is told to end; then the light is dark and the watchdog disarmed. When whoever
    /// could tell panicked, the watchdog stays armed.
    pub(super) fn run(mut self, end: &End) {
        let tick = self.tick();
        let was_told = loop {
            self.turn(Instant::now());
            match end.wait(tick) {
                Running::On => {}
                Running::Left => break false,
                Running::Told => break true,
            }
        };
        if let Some(light) = &mut self.light {
            // It is the last word; nobody is left to tell about it.
            let _ = light.show(LedState::Off, Duration::ZERO);
        }
        if let Some(dog) = self.dog.take().filter(|_| was_told) {
            let state = match dog.device.close() {
                Ok(()) => DogState::Closed,
                Err(error) => {
                    tracing::error!(%error, "the watchdog does not let itself be closed: the board resets");
                    DogState::Failed
                }
            };
            self.metrics.panel.board.dog(state, 0);
        }
    }

    fn tick(&self) -> Duration {
        let of_light = self.light.as_ref().map(|_| TICK_MAX);
        let of_power = self.power.as_ref().map(|_| POWER_INTERVAL);
        let of_dog = self.dog.as_ref().map(|dog| dog.rule.tick_max());
        let all = [of_light, of_power, of_dog, Some(LOOK_INTERVAL)];
        all.into_iter().flatten().min().unwrap_or(LOOK_INTERVAL)
    }

    fn turn(&mut self, now: Instant) {
        self.look_at_supply(now);
        if self.looked_at.is_none_or(|at| now >= at + LOOK_INTERVAL) {
            self.looked_at = Some(now);
            self.is_stuck = self.metrics.panel.progress.look(now).is_some();
        }
        self.feed(now);
        self.light(now);
    }

    fn look_at_supply(&mut self, now: Instant) {
        let Some((input, rule)) = &mut self.power else {
            return;
        };
        let says = match input.is_high() {
            Ok(true) => Power::Failing,
            Ok(false) => Power::Good,
            Err(error) => {
                if !self.input_failed {
                    self.input_failed = true;
                    let (code, error) = (pages::POWER_INPUT.code, chain(&error));
                    tracing::error!(code, error, "power-fail input cannot be read any more");
                }
                return;
            }
        };
        self.input_failed = false;
        let Some(power) = rule.sample(says, now) else {
            return;
        };
        // First what matters, then the words.
        self.supply.set(power);
        let panel = &self.metrics.panel;
        panel.board.power(power);
        match power {
            Power::Failing => {
                let text = "the supply is failing: nothing is acknowledged until it is back; what was acknowledged is on disk";
                tracing::error!("{text}");
                panel.events.note(Kind::PowerFailing, None, text);
            }
            Power::Good => {
                let text = "the supply is back: acknowledging again";
                tracing::warn!("{text}");
                panel.events.note(Kind::PowerBack, None, text);
            }
        }
    }

    fn feed(&mut self, now: Instant) {
        let Some(dog) = &mut self.dog else {
            return;
        };
        let shown = &self.metrics.panel.board;
        if self.is_stuck {
            shown.dog(DogState::Withheld, 0);
        }
        if dog.rule.is_due(!self.is_stuck, now) {
            match dog.device.pet() {
                Ok(()) => drop(shown.dog(DogState::Fed, 1)),
                Err(error) => {
                    if shown.dog(DogState::Failed, 0) != Some(DogState::Failed) {
                        tracing::error!(%error, "the watchdog cannot be fed: the board resets soon");
                    }
                }
            }
        }
    }

    fn light(&mut self, now: Instant) {
        let Some(light) = &mut self.light else {
            return;
        };
        let is_bad = self.is_stuck || self.supply.power() == Power::Failing;
        let state = match is_bad {
            // The attendant, who judges the rest, may be what is stuck.
            true => LedState::AtRisk,
            false => self.metrics.panel.board.light(),
        };
        match light.show(state, now.duration_since(self.began)) {
            Ok(()) => self.light_failed = false,
            Err(error) if !self.light_failed => {
                self.light_failed = true;
                let (code, error) = (pages::LIGHT.code, chain(&error));
                tracing::warn!(code, error, "status light cannot be written any more");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hardware::BoardProfile;
    use hardware::blink::Lit;
    use hardware::fake::FakeBoard;

    struct Play {
        board: FakeBoard,
        keeper: Keeper,
        start: Instant,
    }

    impl Play {
        fn new() -> Self {
            let board = FakeBoard::default();
            let profile = BoardProfile::built_in("fake").unwrap();
            let open = board.open();
            let metrics = Arc::<Metrics>::default();
            metrics.panel.board.opened(&profile, &open);
            let keeper = Keeper::new(
                open.light,
                open.watchdog,
                open.power_fail.zip(profile.power_fail_input.as_ref()),
                Supply::default(),
                metrics,
            );
            Self {
                board,
                keeper: keeper.unwrap(),
                start: Instant::now(),
            }
        }

        /// Every tick up to this moment.
        fn until(&mut self, from_ms: u64, to_ms: u64) {
            let mut at_ms = from_ms;
            while at_ms < to_ms {
                self.keeper.turn(self.start + Duration::from_millis(at_ms));
                at_ms += u64::try_from(self.keeper.tick().as_millis()).unwrap();
            }
        }
    }

    #[test]
    fn a_board_without_anything_to_keep_has_no_keeper() {
        let keeper = Keeper::new(None, None, None, Supply::default(), Arc::default());
        assert!(keeper.is_none());
    }

    #[test]
    fn the_watchdog_is_fed_while_every_stage_moves_and_hungers_when_one_does_not() {
        let mut play = Play::new();
        let metrics = Arc::clone(&play.keeper.metrics);
        let stage = metrics.panel.progress.stage("door", Duration::from_secs(5));
        play.until(0, 4_000);
        // At once, and after a quarter of fifteen seconds.
        assert_eq!(play.board.told().pets, 2);
        play.until(4_000, 60_000);
        let hungry = play.board.told().pets;
        assert_eq!(hungry, 2, "stuck from 5 s on, before the third was due");
        assert!(!play.board.told().lamps.last().unwrap().green);
        let status = metrics.panel.board.status();
        assert_eq!(status["watchdog"]["state"], "withheld");
        stage.turn();
        play.until(60_000, 61_000);
        assert_eq!(play.board.told().pets, hungry + 1);
        assert_eq!(metrics.panel.board.status()["watchdog"]["state"], "fed");
    }

    #[test]
    fn a_failing_supply_is_told_lit_and_noted_and_so_is_its_return() {
        let mut play = Play::new();
        let metrics = Arc::clone(&play.keeper.metrics);
        metrics.panel.board.show(LedState::Moving);
        let supply = play.keeper.supply.clone();
        play.until(0, 500);
        assert_eq!(supply.power(), Power::Good);
        play.board.set_power_failing(true);
        play.until(500, 515);
        assert_eq!(supply.power(), Power::Good, "a spike may be over by now");
        play.until(515, 600);
        assert_eq!(supply.power(), Power::Failing);
        assert_eq!(metrics.panel.board.status()["power"], "failing");
        play.until(600, 1_400);
        let red = Lit {
            green: false,
            red: true,
        };
        assert!(play.board.told().lamps.contains(&red));
        play.board.set_power_failing(false);
        play.until(1_400, 3_300);
        assert_eq!(supply.power(), Power::Failing);
        play.until(3_300, 3_600);
        assert_eq!(supply.power(), Power::Good);
        let events = metrics
            .panel
            .events
            .latest(9, crate::logbook::ImeiStyle::Short);
        let codes: Vec<_> = events["events"].as_array().unwrap().iter().collect();
        let codes: Vec<_> = codes
            .iter()
            .map(|event| event["code"].as_str().unwrap())
            .collect();
        assert_eq!(codes, ["power-back", "power-failing"]);
        assert_eq!(metrics.panel.board.status()["power_fails"], 1);
    }

    #[test]
    fn an_end_that_was_meant_disarms_and_any_other_does_not() {
        for (state, armed) in [(Running::Told, 0), (Running::Left, 1)] {
            let play = Play::new();
            play.keeper.metrics.panel.board.show(LedState::Moving);
            let end = End::default();
            end.say(state);
            play.keeper.run(&end);
            let told = play.board.told();
            assert_eq!(told.watchdogs_armed, armed);
            assert_eq!(told.lamps.last(), Some(&Lit::default()), "dark");
        }
    }
}
