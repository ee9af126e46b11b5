//! What is known of the board, for whoever asks: the pages, the terminal, Prometheus, the light.
//!
//! Invariant: what the board does not have or could not be read is `null` in JSON and left out of
//! the metrics, never a zero.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hardware::power::Power;
use hardware::{Board, BoardProfile, LedState, PreEol, Readings};
use serde_json::{Value, json};

use crate::metrics::Text;

/// How the watchdog is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DogState {
    /// Named by the profile, and could not be opened.
    Missing,
    /// Armed and fed.
    Fed,
    /// Armed and not fed: a stage stands still.
    Withheld,
    /// Armed, and it does not take what it is fed.
    Failed,
    /// Disarmed by the stop.
    Closed,
}

impl DogState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Fed => "fed",
            Self::Withheld => "withheld",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

#[derive(Debug)]
struct Dog {
    device: String,
    timeout_s: u64,
    state: DogState,
    pets: u64,
}

#[derive(Debug, Default)]
struct Inner {
    profile: String,
    light: LedState,
    has_light: bool,
    dog: Option<Dog>,
    power: Option<Power>,
    power_fails: u64,
    readings: Readings,
    is_read_only: bool,
}

/// One for the process.
#[derive(Debug, Default)]
pub struct Shown {
    inner: Mutex<Inner>,
}

impl Shown {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the light is to say.
    pub fn show(&self, state: LedState) {
        self.inner().light = state;
    }

    /// What it says.
    #[must_use]
    pub fn light(&self) -> LedState {
        self.inner().light
    }

    /// Is the spool's file system read-only?
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.inner().is_read_only
    }

    /// The board is open.
    pub(super) fn opened(&self, profile: &BoardProfile, board: &Board) {
        let mut inner = self.inner();
        inner.profile.clone_from(&profile.name);
        inner.has_light = board.light.is_some();
        inner.power = board.power_fail.as_ref().map(|_| Power::Good);
        inner.dog = profile.watchdog.as_ref().map(|wanted| Dog {
            device: wanted.device.clone(),
            timeout_s: match &board.watchdog {
                Some(watchdog) => watchdog.timeout().as_secs(),
                None => wanted.timeout_s.into(),
            },
            state: match board.watchdog {
                Some(_) => DogState::Fed,
                None => DogState::Missing,
            },
            pets: 0,
        });
    }

    /// The watchdog is so, and was fed so often; returns how it was.
    pub(super) fn dog(&self, state: DogState, pets: u64) -> Option<DogState> {
        let mut inner = self.inner();
        let dog = inner.dog.as_mut()?;
        dog.pets += pets;
        Some(std::mem::replace(&mut dog.state, state))
    }

    /// The supply changed.
    pub(super) fn power(&self, power: Power) {
        let mut inner = self.inner();
        inner.power = Some(power);
        inner.power_fails += u64::from(power == Power::Failing);
    }

    /// The sensors said this.
    pub(super) fn read(&self, readings: Readings, is_read_only: bool) {
        let mut inner = self.inner();
        inner.readings = readings;
        inner.is_read_only = is_read_only;
    }

    /// The object `board` of `/status`.
    #[must_use]
    pub fn status(&self) -> Value {
        let inner = self.inner();
        let readings = &inner.readings;
        let storage = readings.storage.iter().map(|health| {
            json!({
                "block": health.block,
                "life_used_percent": health.life_used_percent,
                "spare_blocks": health.spare_blocks.map(PreEol::as_str),
                "worn": health.is_worn(),
            })
        });
        let dog = inner.dog.as_ref().map(|dog| {
            json!({
                "device": dog.device,
                "timeout_s": dog.timeout_s,
                "state": dog.state.as_str(),
                "pets": dog.pets,
            })
        });
        json!({
            "profile": inner.profile,
            "light": inner.light.as_str(),
            "has_light": inner.has_light,
            "watchdog": dog,
            "power": inner.power.map(Power::as_str),
            "power_fails": inner.power_fails,
            "temperature_c": readings.temperature_c,
            "supply_v": readings.supply_v,
            "supply_low": readings.is_supply_low,
            "modem_signal": readings.modem_signal,
            "storage": storage.collect::<Vec<_>>(),
            "disk_read_only": inner.is_read_only,
        })
    }

    /// Rows of `/metrics`.
    #[must_use]
    pub(crate) fn to_prometheus(&self) -> String {
        let mut text = Text::default();
        let inner = self.inner();
        let readings = &inner.readings;
        text.head("board_light", "gauge", "1 for what the status light says.");
        for state in LedState::ALL {
            let label = format!("state=\"{}\"", state.as_str());
            text.sample("board_light", &label, u8::from(state == inner.light));
        }
        let is = |flag: bool| Some(f64::from(u8::from(flag)));
        let dog = inner.dog.as_ref();
        let rows = [
            (
                "board_watchdog_fed",
                "1 while the hardware watchdog is fed; 0 while it is missing, withheld or closed.",
                dog.and_then(|dog| is(dog.state == DogState::Fed)),
            ),
            (
                "board_power_failing",
                "1 while the supply fails, so that nothing is acknowledged.",
                inner.power.and_then(|power| is(power == Power::Failing)),
            ),
            (
                "board_temperature_celsius",
                "Temperature of the processor.",
                readings.temperature_c,
            ),
            (
                "board_supply_volts",
                "Voltage of the supply.",
                readings.supply_v,
            ),
            (
                "board_supply_low",
                "1 while the board finds its supply too low.",
                readings.is_supply_low.and_then(is),
            ),
            (
                "board_modem_signal",
                "Signal of the modem, in the unit of whoever writes it.",
                readings.modem_signal,
            ),
            (
                "board_disk_read_only",
                "1 while the file system of the spool is read-only.",
                is(inner.is_read_only),
            ),
        ];
        for (name, help, value) in rows {
            if let Some(value) = value {
                text.one(name, "gauge", help, value);
            }
        }
        if let Some(dog) = dog {
            let help = "How often the hardware watchdog was fed.";
            text.one("board_watchdog_pets_total", "counter", help, dog.pets);
        }
        if inner.power.is_some() {
            let help = "How often the supply failed.";
            text.one(
                "board_power_fails_total",
                "counter",
                help,
                inner.power_fails,
            );
        }
        let used = readings
            .storage
            .iter()
            .filter_map(|health| Some((&health.block, health.life_used_percent?)));
        let name = "board_storage_life_used_percent";
        for (at, (block, percent)) in used.enumerate() {
            if at == 0 {
                let help = "How much of its life an eMMC has used at most; 110 is more than all.";
                text.head(name, "gauge", help);
            }
            text.sample(name, &format!("block=\"{block}\""), percent);
        }
        text.into_string()
    }
}

/// The line of `gateway status`; `None` for a gateway that does not know its board.
#[must_use]
pub fn line(board: &Value) -> Option<String> {
    let mut words = vec![board["profile"].as_str()?.to_owned()];
    if board["has_light"] == true {
        words.push(format!("light {}", board["light"].as_str()?));
    }
    let dog = &board["watchdog"];
    if let (Some(state), Some(timeout_s)) = (dog["state"].as_str(), dog["timeout_s"].as_u64()) {
        words.push(format!("watchdog {state} ({timeout_s} s)"));
    }
    if let Some(power) = board["power"].as_str() {
        words.push(format!("supply {power}"));
    }
    for (name, unit) in [("temperature_c", "°C"), ("supply_v", "V")] {
        if let Some(number) = board[name].as_f64() {
            words.push(format!("{number:.1} {unit}"));
        }
    }
    if board["supply_low"] == true {
        words.push("SUPPLY TOO LOW".to_owned());
    }
    if board["disk_read_only"] == true {
        words.push("DISK READ-ONLY".to_owned());
    }
    for health in board["storage"].as_array().into_iter().flatten() {
        let block = health["block"].as_str().unwrap_or("–");
        if let Some(percent) = health["life_used_percent"].as_u64() {
            words.push(format!("{block} {percent} % used"));
        }
        if health["worn"] == true {
            words.push(format!("{block} WORN"));
        }
    }
    Some(words.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hardware::StorageHealth;
    use hardware::fake::FakeBoard;

    fn shown() -> Shown {
        let shown = Shown::default();
        shown.opened(&FakeBoard::profile(), &FakeBoard::default().open());
        shown
    }

    #[test]
    fn what_is_not_known_is_null_and_no_metric() {
        let shown = Shown::default();
        assert_eq!(shown.light(), LedState::Off);
        let status = shown.status();
        for name in [
            "watchdog",
            "power",
            "temperature_c",
            "supply_v",
            "supply_low",
        ] {
            assert_eq!(status[name], Value::Null, "{name}");
        }
        let text = shown.to_prometheus();
        assert!(text.contains("board_light{state=\"off\"} 1"), "{text}");
        for name in [
            "watchdog",
            "power",
            "temperature",
            "supply",
            "storage",
            "modem",
        ] {
            assert!(!text.contains(&format!("board_{name}")), "{name}: {text}");
        }
    }

    #[test]
    fn everything_that_is_known_is_shown() {
        let shown = shown();
        shown.show(LedState::Buffering);
        shown.power(Power::Failing);
        assert_eq!(shown.dog(DogState::Fed, 3), Some(DogState::Fed));
        let health = StorageHealth {
            block: "mmcblk0".to_owned(),
            life_used_percent: Some(100),
            spare_blocks: Some(PreEol::Normal),
        };
        let readings = Readings {
            temperature_c: Some(48.25),
            supply_v: Some(12.1),
            is_supply_low: Some(true),
            modem_signal: Some(67.0),
            storage: vec![health],
        };
        shown.read(readings, true);
        assert!(shown.is_read_only());
        let text = shown.to_prometheus();
        for row in [
            "board_light{state=\"buffering\"} 1",
            "board_light{state=\"moving\"} 0",
            "board_watchdog_fed 1",
            "board_watchdog_pets_total 3",
            "board_power_failing 1",
            "board_power_fails_total 1",
            "board_temperature_celsius 48.25",
            "board_supply_volts 12.1",
            "board_supply_low 1",
            "board_modem_signal 67",
            "board_disk_read_only 1",
            "board_storage_life_used_percent{block=\"mmcblk0\"} 100",
        ] {
            let row = format!("\nmilepost_gateway_{row}\n");
            assert!(text.contains(&row), "{row}: {text}");
        }
        assert_eq!(
            line(&shown.status()).unwrap(),
            "fake, light buffering, watchdog fed (15 s), supply failing, 48.2 °C, 12.1 V, \
             SUPPLY TOO LOW, DISK READ-ONLY, mmcblk0 100 % used, mmcblk0 WORN"
        );
        assert_eq!(line(&Value::Null), None);
    }
}
