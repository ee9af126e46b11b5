//! Numbers that the kernel shows as files. Sources: kernel documentation, `hwmon/sysfs-interface.rst`,
//! `driver-api/thermal/sysfs-api.rst` and `driver-api/mmc/mmc-dev-attrs.rst`.

use std::path::{Path, PathBuf};

use super::{below, word};
use crate::profile::{BoardProfile, Gauge, SupplyVoltage};
use crate::sensors::{PreEol, Readings, Sensors, StorageHealth};
use crate::table::decimal;

/// Reads what a profile names.
pub(crate) struct SysfsSensors {
    root: PathBuf,
    temperature: Option<Gauge>,
    supply_voltage: Option<SupplyVoltage>,
    supply_low: Option<Gauge>,
    modem_signal: Option<Gauge>,
    blocks: Vec<String>,
}

impl SysfsSensors {
    /// Opens nothing: sensors come and go, and each look begins anew.
    pub(crate) fn new(profile: &BoardProfile, root: &Path) -> Self {
        let storage = profile.storage.as_ref();
        Self {
            root: root.to_owned(),
            temperature: profile.temperature.clone(),
            supply_voltage: profile.supply_voltage.clone(),
            supply_low: profile.supply_low.clone(),
            modem_signal: profile.modem.as_ref().map(|modem| modem.signal.clone()),
            blocks: storage.map_or_else(Vec::new, |storage| storage.blocks.clone()),
        }
    }

    fn number(&self, gauge: &Gauge) -> Option<f64> {
        let path = match gauge {
            Gauge::File(path) => below(&self.root, path),
            Gauge::Hwmon { chip, input } => self.hwmon(chip)?.join(input),
        };
        decimal(&word(&path).ok()?)
    }

    fn hwmon(&self, chip: &str) -> Option<PathBuf> {
        let chips = std::fs::read_dir(below(&self.root, "/sys/class/hwmon")).ok()?;
        let mut dirs = chips.flatten().map(|entry| entry.path());
        dirs.find(|dir| word(&dir.join("name")).is_ok_and(|name| name == chip))
    }

    fn health(&self, block: &str) -> Option<StorageHealth> {
        let device = below(&self.root, "/sys/block").join(block).join("device");
        let life_used = word(&device.join("life_time")).ok().and_then(|text| {
            let kinds = text.split_ascii_whitespace().filter_map(byte);
            // 0: not defined.
            kinds.filter(|tenths| (1..=11).contains(tenths)).max()
        });
        let spare = word(&device.join("pre_eol_info")).ok();
        let spare = spare.as_deref().and_then(byte);
        let health = StorageHealth {
            block: block.to_owned(),
            life_used_percent: life_used.map(|tenths| tenths * 10),
            spare_blocks: match spare {
                Some(1) => Some(PreEol::Normal),
                Some(2) => Some(PreEol::Warning),
                Some(3) => Some(PreEol::Urgent),
                _ => None,
            },
        };
        let tells = health.life_used_percent.is_some() || health.spare_blocks.is_some();
        tells.then_some(health)
    }
}

/// `0x0b`.
fn byte(word: &str) -> Option<u8> {
    u8::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

impl Sensors for SysfsSensors {
    fn read(&mut self) -> Readings {
        let number = |gauge: &Option<Gauge>| gauge.as_ref().and_then(|gauge| self.number(gauge));
        let supply = self.supply_voltage.as_ref();
        Readings {
            temperature_c: number(&self.temperature).map(|thousandths| thousandths / 1_000.0),
            supply_v: supply.and_then(|supply| {
                let units = self.number(&supply.read)?;
                Some(units * supply.millivolts_per_unit / 1_000.0)
            }),
            is_supply_low: number(&self.supply_low).map(|alarm| alarm != 0.0),
            modem_signal: number(&self.modem_signal),
            storage: self
                .blocks
                .iter()
                .filter_map(|block| self.health(block))
                .collect(),
        }
    }
}
