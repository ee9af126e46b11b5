//! What goes out to others: binaries for other machines, packages, the settings of `cross`.
//!
//! What is judged here was built by `./dev cross` and `./dev package`, which name it in variables of the
//! environment. Without them a test says SKIPPED and passes: building for other machines takes minutes.
#![allow(clippy::unwrap_used)]

#[path = "cross/docker.rs"]
mod docker;
#[path = "cross/emulated.rs"]
mod emulated;
#[path = "cross/package.rs"]
mod package;
#[path = "cross/root.rs"]
mod root;

use std::ffi::OsString;

/// The value of a variable that `./dev` sets; says so when it did not.
fn given(variable: &str, by: &str) -> Option<OsString> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty());
    if value.is_none() {
        eprintln!("SKIPPED: {variable} is not set; {by} sets it");
    }
    value
}
