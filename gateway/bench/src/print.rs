//! What is printed: results on standard output, progress on standard error.
//!
//! Invariant: whatever has a target is a line `RATIO <area> <name> <value> <relation> <target>`,
//! the form of every bench here; a target that was missed is said again at the end.

use std::sync::{Mutex, PoisonError};

use crate::AREA;

static MISSED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Which way a value should lie from its target.
#[derive(Clone, Copy)]
pub enum Should {
    /// This or more.
    Reach,
    /// This or less.
    StayBelow,
}

/// One value that should be something.
pub fn ratio(name: &str, value: f64, should: Should, target: f64) {
    let (relation, is_met) = match should {
        Should::Reach => (">=", value >= target),
        Should::StayBelow => ("<=", value <= target),
    };
    let line = format!("RATIO {AREA} {name} {value:.3} {relation} {target}");
    println!("{line}");
    if !is_met {
        missed().push(line);
    }
}

/// One line of progress, with the time since the start.
pub fn progress(text: &str) {
    eprintln!("bench: {text}");
}

/// Says which targets were missed; `true` if none was.
pub fn say_missed() -> bool {
    let missed = missed();
    if missed.is_empty() {
        println!("\nevery target that was judged was met");
    } else {
        println!("\nmissed:");
    }
    for line in missed.iter() {
        println!("  {line}");
    }
    missed.is_empty()
}

fn missed() -> std::sync::MutexGuard<'static, Vec<String>> {
    MISSED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value in the middle; 0 for none.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

/// Bytes in MiB.
#[must_use]
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
