//! The Linux parts against a tree of files made by the test: what sysfs shows, at paths below a
//! root of our own.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hardware::{
    Board, BoardProfile, Claims, LedState, PartError, PreEol, Readings, StorageHealth,
    WatchdogDevice, claims, is_read_only,
};

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
}

fn profile(text: &str) -> BoardProfile {
    BoardProfile::parse("test", &format!("name = \"t\"\nsummary = \"t\"\n{text}")).unwrap()
}

fn led(name: &str, max: &str) -> [(String, String); 3] {
    let dir = format!("/sys/class/leds/{name}");
    [
        (format!("{dir}/trigger"), "none timer [mmc0]\n".to_owned()),
        (format!("{dir}/brightness"), "1\n".to_owned()),
        (format!("{dir}/max_brightness"), format!("{max}\n")),
    ]
}

fn tree_of_lamps() -> Tree {
    let tree = Tree::new(&[]);
    for (path, text) in led("ACT", "255").into_iter().chain(led("PWR", "1")) {
        tree.write(&path, &text);
    }
    tree
}

const LAMPS: &str = "status_led = { green = { led = \"ACT\" }, red = { led = \"PWR\" } }";

#[test]
fn a_light_takes_the_lamps_from_the_kernel_and_lights_them_fully() {
    let tree = tree_of_lamps();
    let (board, troubles) = Board::open(&profile(LAMPS), tree.root());
    assert!(troubles.is_empty(), "{troubles:?}");
    let lamps = || {
        (
            tree.read("/sys/class/leds/ACT/brightness"),
            tree.read("/sys/class/leds/PWR/brightness"),
        )
    };
    assert_eq!(tree.read("/sys/class/leds/ACT/trigger"), "none");
    assert_eq!(tree.read("/sys/class/leds/PWR/trigger"), "none");
    assert_eq!(lamps(), ("0".into(), "0".into()), "dark at first");
    let mut light = board.light.unwrap();
    for (state, ms, act, pwr) in [
        (LedState::Moving, 0, "255", "0"),
        (LedState::Moving, 2_900, "0", "0"),
        (LedState::Buffering, 0, "255", "1"),
        (LedState::Buffering, 1_500, "0", "0"),
        (LedState::AtRisk, 0, "0", "1"),
        (LedState::Off, 0, "0", "0"),
    ] {
        light.show(state, Duration::from_millis(ms)).unwrap();
        assert_eq!(lamps(), (act.to_owned(), pwr.to_owned()), "{state:?} {ms}");
    }
}

#[test]
fn a_board_with_one_lamp_says_everything_with_it() {
    let tree = tree_of_lamps();
    let (board, _) = Board::open(
        &profile("status_led = { green = { led = \"PWR\" } }"),
        tree.root(),
    );
    let mut light = board.light.unwrap();
    for state in [LedState::Moving, LedState::Buffering, LedState::AtRisk] {
        light.show(LedState::Off, Duration::ZERO).unwrap();
        assert_eq!(tree.read("/sys/class/leds/PWR/brightness"), "0");
        light.show(state, Duration::ZERO).unwrap();
        assert_eq!(
            tree.read("/sys/class/leds/PWR/brightness"),
            "1",
            "{state:?}"
        );
    }
    assert_eq!(
        tree.read("/sys/class/leds/ACT/brightness"),
        "1\n",
        "not ours"
    );
}

/// A lamp that vanished and came back shows the right thing again.
#[test]
fn a_lamp_that_fails_is_told_and_tried_again() {
    let tree = tree_of_lamps();
    let (board, _) = Board::open(&profile(LAMPS), tree.root());
    let mut light = board.light.unwrap();
    fs::remove_file(tree.path("/sys/class/leds/PWR/brightness")).unwrap();
    let error = light.show(LedState::AtRisk, Duration::ZERO).unwrap_err();
    assert!(error.place.ends_with("/sys/class/leds/PWR/brightness"));
    assert!(!tree.path("/sys/class/leds/PWR/brightness").exists());
    tree.write("/sys/class/leds/PWR/brightness", "0\n");
    light.show(LedState::AtRisk, Duration::ZERO).unwrap();
    assert_eq!(tree.read("/sys/class/leds/PWR/brightness"), "1");
}

#[test]
fn parts_that_are_not_there_are_told_one_by_one() {
    let tree = Tree::new(&[("/sys/class/thermal/thermal_zone0/temp", "48250\n")]);
    let text = format!(
        "{LAMPS}\n\
         watchdog = {{ device = \"/dev/watchdog0\", timeout_s = 15 }}\n\
         temperature = {{ file = \"/sys/class/thermal/thermal_zone0/temp\" }}\n\
         [power_fail_input]\n\
         input = {{ gpio = {{ chip = \"pinctrl-rp1\", line = 17 }} }}\n"
    );
    let (mut board, troubles) = Board::open(&profile(&text), tree.root());
    assert!(board.light.is_none() && board.watchdog.is_none() && board.power_fail.is_none());
    assert_eq!(board.sensors.read().temperature_c, Some(48.25));
    assert!(
        matches!(
            &troubles[..],
            [
                PartError::Light(_),
                PartError::PowerFail(_),
                PartError::Watchdog { .. }
            ]
        ),
        "{troubles:?}"
    );
    fs::create_dir(tree.path("/dev")).unwrap();
    // A file is no chip, and has no label.
    tree.write("/dev/gpiochip0", "");
    let (_, troubles) = Board::open(&profile(&text), tree.root());
    let PartError::PowerFail(error) = &troubles[1] else {
        panic!("{troubles:?}");
    };
    assert_eq!(error.place, "line 17 of pinctrl-rp1");
    assert!(error.source.to_string().contains("gpiodetect"), "{error:?}");
}

#[test]
fn the_watchdog_is_fed_closed_with_its_magic_byte_and_stays_armed_without() {
    let tree = Tree::new(&[("/dev/watchdog0", "")]);
    let profile = profile("watchdog = { device = \"/dev/watchdog0\", timeout_s = 15 }");
    let (board, troubles) = Board::open(&profile, tree.root());
    // A plain file has no timeout to be asked for.
    assert!(
        matches!(&troubles[..], [PartError::NoTimeout { device }] if device == "/dev/watchdog0"),
        "{troubles:?}"
    );
    let mut dog = board.watchdog.unwrap();
    assert_eq!(dog.timeout(), Duration::from_secs(15));
    dog.pet().unwrap();
    dog.pet().unwrap();
    assert_eq!(tree.read("/dev/watchdog0"), "..");
    dog.close().unwrap();
    assert_eq!(tree.read("/dev/watchdog0"), "..V");

    tree.write("/dev/watchdog0", "");
    let mut dog = Board::open(&profile, tree.root()).0.watchdog.unwrap();
    dog.pet().unwrap();
    drop(dog);
    assert_eq!(tree.read("/dev/watchdog0"), ".", "armed still");
}

#[test]
fn looking_at_a_watchdog_does_not_arm_it() {
    let tree = Tree::new(&[
        ("/dev/watchdog0", ""),
        ("/sys/class/watchdog/watchdog0/state", "active\n"),
        ("/sys/class/watchdog/watchdog0/nowayout", "0\n"),
        ("/sys/class/watchdog/watchdog0/max_timeout", "15\n"),
        ("/sys/class/watchdog/watchdog1/max_timeout", "0\n"),
    ]);
    let of = |device: &str| {
        let wanted = WatchdogDevice {
            device: device.to_owned(),
            timeout_s: 30,
        };
        claims(tree.root(), &wanted)
    };
    let known = Claims {
        exists: true,
        is_ours: true,
        is_held: Some(true),
        no_way_out: Some(false),
        timeout_max_s: Some(15),
    };
    assert_eq!(of("/dev/watchdog0"), known);
    // The first one under its old name, which is not there.
    let old = Claims {
        exists: false,
        is_ours: false,
        ..known
    };
    assert_eq!(of("/dev/watchdog"), old);
    assert_eq!(of("/dev/watchdog1"), Claims::default());
    assert_eq!(tree.read("/dev/watchdog0"), "");
}

#[test]
fn a_file_says_that_the_supply_fails() {
    let tree = Tree::new(&[("/sys/class/power_supply/ac/online", "1\n")]);
    let profile = profile(
        "[power_fail_input]\n\
         input = { file = { path = \"/sys/class/power_supply/ac/online\", yes = \"0\" } }\n",
    );
    let (board, troubles) = Board::open(&profile, tree.root());
    assert!(troubles.is_empty(), "{troubles:?}");
    let mut input = board.power_fail.unwrap();
    assert!(input.is_low().unwrap() && !input.is_high().unwrap());
    tree.write("/sys/class/power_supply/ac/online", "0\n");
    assert!(input.is_high().unwrap() && !input.is_low().unwrap());
    fs::remove_file(tree.path("/sys/class/power_supply/ac/online")).unwrap();
    assert!(input.is_high().unwrap_err().place.ends_with("online"));
}

#[test]
fn every_sensor_is_read_in_its_unit() {
    let tree = Tree::new(&[
        ("/sys/class/thermal/thermal_zone0/temp", "48250\n"),
        ("/sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
        ("/sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
        ("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n"),
        ("/sys/class/hwmon/hwmon1/in0_input", "1100\n"),
        ("/run/milepost/modem-signal", "67\n"),
        ("/sys/block/mmcblk0/device/life_time", "0x02 0x04\n"),
        ("/sys/block/mmcblk0/device/pre_eol_info", "0x01\n"),
        ("/sys/block/mmcblk1/device/type", "SD\n"),
    ]);
    let text = "\
        temperature = { file = \"/sys/class/thermal/thermal_zone0/temp\" }\n\
        supply_low = { hwmon = { chip = \"rpi_volt\", input = \"in0_lcrit_alarm\" } }\n\
        modem = { signal = { file = \"/run/milepost/modem-signal\" } }\n\
        storage = { blocks = [\"mmcblk0\", \"mmcblk1\", \"mmcblk2\"] }\n\
        [supply_voltage]\n\
        read = { hwmon = { chip = \"rpi_volt\", input = \"in0_input\" } }\n\
        millivolts_per_unit = 11.0\n";
    let mut sensors = Board::sensors(&profile(text), tree.root());
    let health = |life_used_percent, spare_blocks| StorageHealth {
        block: "mmcblk0".to_owned(),
        life_used_percent,
        spare_blocks,
    };
    let readings = Readings {
        temperature_c: Some(48.25),
        supply_v: Some(12.1),
        is_supply_low: Some(true),
        modem_signal: Some(67.0),
        storage: vec![health(Some(40), Some(PreEol::Normal))],
    };
    assert_eq!(sensors.read(), readings);
    assert!(!readings.storage[0].is_worn());
    // JESD84-B51: 0x0A is the last tenth, 0x0B more than all; 0 is not defined.
    for (life, spare, expected, is_worn) in [
        (
            "0x09 0x01",
            "0x01",
            health(Some(90), Some(PreEol::Normal)),
            false,
        ),
        (
            "0x01 0x0a",
            "0x01",
            health(Some(100), Some(PreEol::Normal)),
            true,
        ),
        (
            "0x0b 0x0B",
            "0x03",
            health(Some(110), Some(PreEol::Urgent)),
            true,
        ),
        (
            "0x01 0x01",
            "0x02",
            health(Some(10), Some(PreEol::Warning)),
            true,
        ),
        (
            "0x00 0x00",
            "0x01",
            health(None, Some(PreEol::Normal)),
            false,
        ),
        ("0xff 12 x", "0x07", health(None, None), false),
    ] {
        tree.write("/sys/block/mmcblk0/device/life_time", life);
        tree.write("/sys/block/mmcblk0/device/pre_eol_info", spare);
        let storage = sensors.read().storage;
        if expected.life_used_percent.is_none() && expected.spare_blocks.is_none() {
            assert!(storage.is_empty(), "{life}: tells nothing");
        } else {
            assert_eq!(storage, [expected], "{life} {spare}");
            assert_eq!(storage[0].is_worn(), is_worn, "{life} {spare}");
        }
    }
    for garbage in ["", "hot", "nan", "inf"] {
        tree.write("/sys/class/thermal/thermal_zone0/temp", garbage);
        assert_eq!(sensors.read().temperature_c, None, "{garbage}");
    }
}

#[test]
fn a_board_that_names_no_sensor_tells_nothing() {
    let tree = Tree::new(&[]);
    let mut sensors = Board::sensors(&profile(""), tree.root());
    assert_eq!(sensors.read(), Readings::default());
}

#[test]
fn a_file_system_says_whether_it_can_be_written() {
    let tree = Tree::new(&[]);
    assert_eq!(is_read_only(tree.root()), Some(false));
    assert_eq!(is_read_only(&tree.path("/nowhere")), None);
}

#[test]
fn examining_a_board_drives_nothing_and_finds_what_is_missing() {
    let tree = tree_of_lamps();
    tree.write("/dev/watchdog0", "");
    tree.write("/sys/class/watchdog/watchdog0/max_timeout", "15\n");
    tree.write("/sys/class/power_supply/ac/online", "1\n");
    let text = format!(
        "{LAMPS}\n\
         watchdog = {{ device = \"/dev/watchdog0\", timeout_s = 15 }}\n\
         [power_fail_input]\n\
         input = {{ file = {{ path = \"/sys/class/power_supply/ac/online\", yes = \"0\" }} }}\n"
    );
    let profile = profile(&text);
    let found = |is_running| {
        let troubles = Board::examine(&profile, tree.root(), is_running);
        troubles.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(found(false), [""; 0]);
    assert_eq!(tree.read("/sys/class/leds/ACT/brightness"), "1\n");
    assert_eq!(
        tree.read("/sys/class/leds/ACT/trigger"),
        "none timer [mmc0]\n"
    );
    assert_eq!(tree.read("/dev/watchdog0"), "");
    tree.write("/sys/class/watchdog/watchdog0/state", "active\n");
    assert_eq!(found(true), [""; 0], "our own gateway holds it");
    assert_eq!(found(false), ["watchdog /dev/watchdog0"]);
    tree.write("/sys/class/watchdog/watchdog0/state", "inactive\n");
    tree.write("/sys/class/watchdog/watchdog0/max_timeout", "10\n");
    let waits = "watchdog /dev/watchdog0 waits 10 s, 15 s were asked for";
    assert_eq!(found(false), [waits]);
    fs::remove_dir_all(tree.path("/sys")).unwrap();
    fs::remove_dir_all(tree.path("/dev")).unwrap();
    let all = [
        "status light",
        "power-fail input",
        "watchdog /dev/watchdog0",
    ];
    assert_eq!(found(false), all);
}
