//! A board made of files, and how a person reads its lamps.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hardware::LedState;
use hardware::blink::STILL_MAX;
use tests::tables::eventually;

pub(super) const WATCHDOG: &str = "/dev/watchdog0";
pub(super) const ONLINE: &str = "/sys/class/power_supply/ac/online";

/// What the profile asks of the watchdog: fed once a second then.
pub(super) const TIMEOUT_S: u32 = 4;

/// Between two looks at the lamps: shorter than anything they do.
const LOOK_AGAIN: Duration = Duration::from_millis(15);

pub(super) struct Tree(tempfile::TempDir);

impl Tree {
    /// Everything there, nothing wrong.
    pub(super) fn new() -> Result<Self> {
        let tree = Self(
            tempfile::Builder::new()
                .prefix("milepost-board-")
                .tempdir()?,
        );
        let profile = format!(
            "name = \"bench\"\n\
             summary = \"a board made of files\"\n\
             temperature = {{ file = \"/sys/class/thermal/thermal_zone0/temp\" }}\n\
             supply_low = {{ hwmon = {{ chip = \"volts\", input = \"in0_lcrit_alarm\" }} }}\n\
             status_led = {{ green = {{ led = \"green\" }}, red = {{ led = \"red\" }} }}\n\
             watchdog = {{ device = \"{WATCHDOG}\", timeout_s = {TIMEOUT_S} }}\n\
             storage = {{ blocks = [\"mmcblk1\"] }}\n\
             [power_fail_input]\n\
             input = {{ file = {{ path = \"{ONLINE}\", yes = \"0\" }} }}\n\
             good_after_ms = 100\n"
        );
        tree.write("/profile.toml", &profile)?;
        for lamp in ["green", "red"] {
            let dir = format!("/sys/class/leds/{lamp}");
            tree.write(&format!("{dir}/trigger"), "[none] timer\n")?;
            tree.write(&format!("{dir}/brightness"), "0\n")?;
            tree.write(&format!("{dir}/max_brightness"), "1\n")?;
        }
        for (path, text) in [
            (WATCHDOG, ""),
            (ONLINE, "1\n"),
            ("/sys/class/thermal/thermal_zone0/temp", "41500\n"),
            ("/sys/class/hwmon/hwmon3/name", "volts\n"),
            ("/sys/class/hwmon/hwmon3/in0_lcrit_alarm", "0\n"),
            ("/sys/block/mmcblk1/device/life_time", "0x01 0x02\n"),
            ("/sys/block/mmcblk1/device/pre_eol_info", "0x01\n"),
        ] {
            tree.write(path, text)?;
        }
        Ok(tree)
    }

    /// Where a gateway keeps its own files.
    pub(super) fn dir(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn root(&self) -> &str {
        self.0
            .path()
            .to_str()
            .expect("a temporary directory is UTF-8")
    }

    pub(super) fn profile(&self) -> Result<String> {
        let path = self.path("/profile.toml");
        Ok(path.to_str().context("UTF-8")?.to_owned())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    /// At one stroke, as the kernel shows a word.
    pub(super) fn write(&self, path: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(path);
        fs::create_dir_all(path.parent().context("below the root")?)?;
        let new = path.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, &path)?;
        Ok(path)
    }

    pub(super) fn read(&self, path: &str) -> Result<String> {
        Ok(fs::read_to_string(self.path(path))?)
    }

    pub(super) fn remove(&self, path: &str) -> Result<()> {
        Ok(fs::remove_dir_all(self.path(path))?)
    }

    /// Green and red; `None` while one of them is being written.
    pub(super) fn lamps(&self) -> Result<Option<(bool, bool)>> {
        let lamp = |name: &str| -> Result<Option<bool>> {
            let text = self.read(&format!("/sys/class/leds/{name}/brightness"))?;
            Ok(match text.trim() {
                "" => None,
                "0" => Some(false),
                _ => Some(true),
            })
        };
        Ok(lamp("green")?.zip(lamp("red")?))
    }

    /// Watches the lamps for as long as none may stand still. `None`: they did.
    pub(super) async fn light(&self) -> Result<Option<LedState>> {
        let until = Instant::now() + STILL_MAX + LOOK_AGAIN * 4;
        let mut seen = Vec::new();
        while Instant::now() < until {
            let lamps = self.lamps()?;
            if lamps.is_some() && seen.last() != Some(&lamps) {
                seen.push(lamps);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let saw = |lamps| seen.contains(&Some(lamps));
        // Both lamps are not written at one stroke, so amber comes first.
        Ok(if seen.len() < 2 {
            None
        } else if saw((true, true)) {
            Some(LedState::Buffering)
        } else if saw((false, true)) {
            Some(LedState::AtRisk)
        } else {
            Some(LedState::Moving)
        })
    }

    fn meals(&self) -> Result<usize> {
        Ok(self.read(WATCHDOG)?.len())
    }

    pub(super) async fn until_fed_again(&self) -> Result<()> {
        let before = self.meals()?;
        eventually("the watchdog is fed", async || {
            Ok(self.meals()? >= before + 2)
        })
        .await
    }

    /// Is it fed once more within so long?
    pub(super) async fn is_fed_within(&self, wait: Duration) -> Result<bool> {
        let (before, until) = (self.meals()?, Instant::now() + wait);
        while Instant::now() < until {
            if self.meals()? > before {
                return Ok(true);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(false)
    }
}
