//! The kernel's watchdog device. Source: kernel documentation, `watchdog/watchdog-api.rst`, and
//! `Documentation/ABI/testing/sysfs-class-watchdog`.
//!
//! Invariant: looking at one with [`claims`] never opens it, because opening arms it.

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, access};

use super::{below, ioctl, word};
use crate::profile::WatchdogDevice;
use crate::watchdog::Watchdog;

/// Any byte but [`MAGIC`] feeds it.
const PET: &[u8] = b".";

/// Closed after this byte, it stops.
const MAGIC: &[u8] = b"V";

/// An open one.
pub(crate) struct LinuxWatchdog {
    device: File,
    timeout: Duration,
}

/// What became of the timeout that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// As asked.
    AsAsked,
    /// It waits for so long instead.
    Instead(Duration),
    /// It does not say how long it waits.
    Nothing,
}

impl LinuxWatchdog {
    /// Opens and thereby arms it.
    /// # Errors
    /// As the system says: `NotFound`, `PermissionDenied`, `ResourceBusy` when somebody holds it.
    pub(crate) fn open(root: &Path, wanted: &WatchdogDevice) -> io::Result<(Self, Told)> {
        let path = below(root, &wanted.device);
        let device = File::options().write(true).open(path)?;
        let asked = c_int::from(wanted.timeout_s);
        // One that refuses keeps the timeout it has.
        let set = ioctl::set_watchdog_timeout(&device, asked);
        let waits = ioctl::watchdog_timeout(&device).or(set);
        let waits = waits.ok().and_then(|seconds| u64::try_from(seconds).ok());
        let waits = waits
            .filter(|&seconds| seconds > 0)
            .map(Duration::from_secs);
        let asked = Duration::from_secs(wanted.timeout_s.into());
        let told = match waits {
            None => Told::Nothing,
            Some(waits) if waits == asked => Told::AsAsked,
            Some(waits) => Told::Instead(waits),
        };
        let timeout = waits.unwrap_or(asked);
        Ok((Self { device, timeout }, told))
    }
}

impl Watchdog for LinuxWatchdog {
    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn pet(&mut self) -> io::Result<()> {
        self.device.write_all(PET)
    }

    fn close(mut self: Box<Self>) -> io::Result<()> {
        self.device.write_all(MAGIC)
    }
}

/// What can be known of a watchdog without arming it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The device is there.
    pub exists: bool,
    /// This user may write it.
    pub is_ours: bool,
    /// Somebody holds it open: a running gateway, or another program.
    pub is_held: Option<bool>,
    /// It cannot be stopped once it was opened, not even by the magic close.
    pub no_way_out: Option<bool>,
    /// The most it can be asked for, in seconds.
    pub timeout_max_s: Option<u64>,
}

/// Looks at the device and at what `/sys/class/watchdog` says of it. What a kernel without
/// `CONFIG_WATCHDOG_SYSFS` does not say is `None`.
#[must_use]
pub fn claims(root: &Path, wanted: &WatchdogDevice) -> Claims {
    let path = below(root, &wanted.device);
    // `/dev/watchdog` is the first of them under its old name.
    let name = path.file_name().map(|name| name.to_string_lossy());
    let name = name.map_or_else(String::new, |name| match &*name {
        "watchdog" => "watchdog0".to_owned(),
        name => name.to_owned(),
    });
    let says = |file: &str| {
        let dir = below(root, "/sys/class/watchdog").join(&name);
        word(&dir.join(file)).ok()
    };
    Claims {
        exists: path.exists(),
        is_ours: access(&path, Access::WRITE_OK).is_ok(),
        is_held: says("state").map(|state| state == "active"),
        no_way_out: says("nowayout").map(|word| word == "1"),
        // 0 where the driver has none.
        timeout_max_s: says("max_timeout")
            .and_then(|word| word.parse().ok())
            .filter(|&seconds| seconds > 0),
    }
}
