//! `./dev bench spool`: what a durable commit costs here, against the least it could cost and
//! against SQLite, all in one run on the same directory.
//!
//! Absolute times mean nothing on a shared machine; every claim is a `RATIO` line, and engines take
//! turns commit by commit so that a slow moment hits them alike.
//!
//! `MILEPOST_BENCH_DIR` chooses the directory (default: below `target`).

mod backlog;
mod commits;
mod device;
mod engines;
mod fleet;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// One line of the result: a measured value and what it should be.
fn ratio(name: &str, value: f64, relation: &str, target: f64) {
    println!("RATIO spool {name} {value:.3} {relation} {target}");
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    // The parts whose memory is measured run as processes of their own.
    if let Some("role") = arguments.next().as_deref() {
        let role = arguments.next().context("which role")?;
        let dir = PathBuf::from(arguments.next().context("which directory")?);
        return backlog::role(&role, &dir);
    }
    let base = std::env::var_os("MILEPOST_BENCH_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/bench"),
        PathBuf::from,
    );
    std::fs::create_dir_all(&base)?;
    let device = device::Device::new(&base)?;
    println!("on {device}");
    commits::run(device.path(), &device)?;
    backlog::run(device.path())?;
    Ok(())
}
