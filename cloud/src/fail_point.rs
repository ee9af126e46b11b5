//! Places at which a test lets this process die, as suddenly as `kill -9`.
//!
//! Why no cargo feature: tests run the binary that `cargo build` makes, and a feature would have
//! everything built twice. Builds with debug assertions have these places, others do not: there the
//! macro is nothing at all.
//!
//! Invariant: every place is in `tests/fail_points.txt` and is run by a test; a build without debug
//! assertions reads no variable and holds none of the names.

#[cfg(debug_assertions)]
use std::sync::OnceLock;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};

/// A place where the process may be told to die. Written where a death would hurt most.
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::fail_point::reached($name);
    };
}
pub(crate) use fail_point;

/// `<name>`, or `<name>:<n>` to live on until it is reached for the n-th time.
#[cfg(debug_assertions)]
const VARIABLE: &str = "MILEPOST_FAIL_POINT";

#[cfg(debug_assertions)]
struct Wanted {
    name: String,
    left: AtomicU64,
}

/// Aborts when this is the place that was asked for: no destructor runs, nothing is flushed.
#[cfg(debug_assertions)]
pub(crate) fn reached(name: &str) {
    static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| wanted(&std::env::var(VARIABLE).ok()?));
    let Some(wanted) = wanted.as_ref().filter(|wanted| wanted.name == name) else {
        return;
    };
    if wanted.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        eprintln!("fail point {name} reached: this process ends here");
        std::process::abort();
    }
}

#[cfg(debug_assertions)]
fn wanted(text: &str) -> Option<Wanted> {
    let (name, times) = text.split_once(':').unwrap_or((text, "1"));
    Some(Wanted {
        name: name.to_owned(),
        left: AtomicU64::new(times.parse().ok()?),
    })
}
