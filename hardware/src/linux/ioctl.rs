//! The one place that speaks to the kernel by number: how long a watchdog waits.
//!
//! Source: Linux, include/uapi/linux/watchdog.h; kernel documentation, `watchdog/watchdog-api.rst`.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::File;

use rustix::io;
use rustix::ioctl::{Getter, Updater, ioctl, opcode};

const SET_TIMEOUT: u32 = opcode::read_write::<c_int>(b'W', 6);
const GET_TIMEOUT: u32 = opcode::read::<c_int>(b'W', 7);

/// Asks for so many seconds; returns what the driver made of it.
pub(super) fn set_watchdog_timeout(device: &File, seconds: c_int) -> io::Result<c_int> {
    let mut seconds = seconds;
    // SAFETY: the driver reads and writes one int behind WDIOC_SETTIMEOUT, and so says its number.
    // Of a file that is no watchdog the kernel returns ENOTTY.
    unsafe {
        let update = Updater::<SET_TIMEOUT, c_int>::new(&mut seconds);
        ioctl(device, update)?;
    }
    Ok(seconds)
}

/// How many seconds it waits.
pub(super) fn watchdog_timeout(device: &File) -> io::Result<c_int> {
    // SAFETY: the driver writes one int behind WDIOC_GETTIMEOUT, and so says its number.
    unsafe { ioctl(device, Getter::<GET_TIMEOUT, c_int>::new()) }
}
