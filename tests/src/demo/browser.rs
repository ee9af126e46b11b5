//! The map in the browser of whoever sits in front of this machine.
//!
//! Invariant: where nobody sits, or there is no browser, nothing happens and nothing is said: the address
//! stands on the screen.

use std::env::var_os;
use std::io::{IsTerminal as _, stderr};
use std::process::{Command, Stdio};

/// Who knows which browser people want: freedesktop.org, macOS.
const OPENERS: [&str; 2] = ["xdg-open", "open"];

/// Asks for it, and does not wait.
pub(super) fn open(url: &str) {
    let is_seen = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| var_os(name).is_some_and(|value| !value.is_empty()));
    if !stderr().is_terminal() || !(is_seen || cfg!(target_os = "macos")) {
        return;
    }
    for opener in OPENERS {
        let mut command = Command::new(opener);
        let quiet = command
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if quiet.spawn().is_ok() {
            return;
        }
    }
}
