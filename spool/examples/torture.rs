//! The proofs of the test run for as long as one likes: `./dev torture`.

use std::cell::Cell;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use spool::sim::{Outcome, Scope, Trouble, Violation, every_workload, run};

const KINDS: [Trouble; 9] = [
    Trouble::Crashes,
    Trouble::Crashes,
    Trouble::Crashes,
    Trouble::Crashes,
    Trouble::Syncs { per_mille: 100 },
    Trouble::Anything {
        sync_per_mille: 20,
        other_per_mille: 10,
    },
    Trouble::SmallDisk,
    Trouble::Offline {
        sync_per_mille: 20,
        other_per_mille: 50,
    },
    Trouble::Offline {
        sync_per_mille: 100,
        other_per_mille: 100,
    },
];

thread_local! {
    static RUNNING: Cell<Option<(u64, Trouble)>> = const { Cell::new(None) };
}

/// What we ship aborts when it panics, so nobody could say afterwards which seed it was.
fn name_the_seed_of_a_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        if let Some((seed, trouble)) = RUNNING.get() {
            say(&format!("BROKEN: seed {seed} with {trouble:?} panicked"));
            say(&format!("repeat it: ./dev torture --seed {seed}"));
        }
        std::process::exit(1);
    }));
}

fn main() -> ExitCode {
    name_the_seed_of_a_panic();
    let mut minutes = 10u64;
    let mut first: Option<u64> = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (name.as_str(), value) {
            ("--minutes", Some(value)) => minutes = value,
            ("--seed", Some(value)) => first = Some(value),
            _ => {
                say("usage: torture [--minutes N] [--seed SEED]");
                return ExitCode::from(2);
            }
        }
    }
    let once = first.is_some();
    let first = first.unwrap_or_else(fresh);
    let torture = Torture {
        next: AtomicU64::new(first),
        end: Instant::now() + Duration::from_secs(60 * minutes),
        once,
        broken: AtomicBool::new(false),
        sum: Mutex::new((Outcome::default(), 0)),
        worst: Mutex::new(None),
    };
    say(&format!("torture for {minutes} minutes from seed {first}"));
    torture.go()
}

fn fresh() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // A power of ten to start from reads better in a log.
    now.unwrap_or_default().as_secs() * 1_000_000
}

fn say(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

struct Torture {
    next: AtomicU64,
    end: Instant,
    /// One seed with every kind of trouble instead of many.
    once: bool,
    broken: AtomicBool,
    sum: Mutex<(Outcome, u64)>,
    worst: Mutex<Option<String>>,
}

impl Torture {
    fn go(&self) -> ExitCode {
        let begun = Instant::now();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..if self.once { 1 } else { cores } {
                scope.spawn(|| self.work());
            }
            if !self.once {
                scope.spawn(|| self.exhaust());
                scope.spawn(|| self.report(begun));
            }
        });
        let (sum, seeds) = *self.sum.lock().unwrap_or_else(|e| e.into_inner());
        let seconds = begun.elapsed().as_secs_f64();
        say(&format!(
            "{seeds} seeds, {} crashes, {} openings, {} acknowledged frames, {} failed calls in {seconds:.0} s",
            sum.crashes, sum.openings, sum.acked, sum.faults
        ));
        match &*self.worst.lock().unwrap_or_else(|e| e.into_inner()) {
            None => {
                say("every promise held");
                ExitCode::SUCCESS
            }
            Some(what) => {
                say(&format!("BROKEN: {what}"));
                ExitCode::FAILURE
            }
        }
    }

    fn over(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || Instant::now() >= self.end
    }

    fn work(&self) {
        while !self.over() {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let kinds = match self.once {
                true => &KINDS[3..],
                false => &KINDS[(seed % KINDS.len() as u64) as usize..][..1],
            };
            for &trouble in kinds {
                RUNNING.set(Some((seed, trouble)));
                match run(seed, trouble) {
                    Ok(outcome) => {
                        let mut sum = self.sum.lock().unwrap_or_else(|e| e.into_inner());
                        sum.0 += outcome;
                        sum.1 += 1;
                    }
                    Err(violation) => self.found(&violation),
                }
            }
            if self.once {
                return;
            }
        }
    }

    fn found(&self, violation: &Violation) {
        let seed = violation.seed;
        self.broke(format!(
            "{violation}\nrepeat it: ./dev torture --seed {seed}"
        ));
    }

    fn broke(&self, what: String) {
        self.broken.store(true, Ordering::Relaxed);
        let mut worst = self.worst.lock().unwrap_or_else(|e| e.into_inner());
        worst.get_or_insert(what);
    }

    /// The small scope with more samples, as far as the time goes.
    fn exhaust(&self) {
        RUNNING.set(None);
        for full in [false, true] {
            for part in 0..24 {
                let scope = Scope {
                    ops_max: 4,
                    unsynced_max: 8,
                    samples: 256,
                    full,
                    part: (part, 24),
                };
                if self.over() {
                    return;
                }
                match every_workload(scope) {
                    Ok(outcome) => {
                        let mut sum = self.sum.lock().unwrap_or_else(|e| e.into_inner());
                        sum.0 += outcome;
                    }
                    Err(what) => self.broke(what),
                }
            }
        }
    }

    fn report(&self, begun: Instant) {
        let mut next = Duration::from_secs(10);
        while !self.over() {
            std::thread::sleep(Duration::from_millis(200));
            if begun.elapsed() >= next {
                next += Duration::from_secs(10);
                let (sum, seeds) = *self.sum.lock().unwrap_or_else(|e| e.into_inner());
                let rate = sum.crashes as f64 / begun.elapsed().as_secs_f64();
                let left = self.end.saturating_duration_since(Instant::now()).as_secs();
                say(&format!(
                    "{seeds} seeds, {} crashes, {rate:.0} crashes/s, {left} s left",
                    sum.crashes
                ));
            }
        }
    }
}
