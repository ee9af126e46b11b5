//! The gateway on its board: one thread that lights the lamp, feeds the watchdog and looks at the
//! supply, and one that reads the sensors.
//!
//! Why threads: both are to go on when everything else hangs, the runtime too. And two, because a
//! sensor on a bus may hang while the gateway is well.
//!
//! Invariants: the watchdog is fed only while [`Progress::look`](crate::progress::Progress::look)
//! finds nothing stuck, which is what the service manager's watchdog goes by; it is disarmed by
//! an end that was meant and by nothing else; a part that is missing costs that part alone.

mod judge;
mod keeper;
pub mod shown;
pub mod supply;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use codes::Page;
use hardware::fake::FakeBoard;
use hardware::{BoardProfile, PartError};

use crate::chain::chain;
use crate::explain::board as pages;
use crate::metrics::Metrics;

pub use judge::{Judge, Signs};
pub use shown::Shown;
pub use supply::Supply;

/// The built-in board of memory only.
const FAKE: &str = "fake";

/// Between two looks at the sensors.
const SENSORS_INTERVAL: Duration = Duration::from_secs(10);

/// Which board, and where its files are.
#[derive(Clone, Debug)]
pub struct BoardConfig {
    /// What it has.
    pub profile: BoardProfile,
    /// Every path of the profile lies below it; `/` but for trials.
    pub root: PathBuf,
}

/// The threads; dropping it ends them, darkens the light and disarms the watchdog. A panic on the
/// way leaves the watchdog armed.
pub struct Board {
    end: Arc<End>,
    threads: Vec<JoinHandle<()>>,
}

/// How the threads hear that it is over.
#[derive(Default)]
struct End {
    state: Mutex<Running>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Running {
    #[default]
    On,
    /// Told to end.
    Told,
    /// Whoever could tell panicked.
    Left,
}

impl End {
    fn say(&self, state: Running) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.notify_all();
    }

    /// Waits so long, or until it is over.
    fn wait(&self, wait: Duration) -> Running {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(state, wait, |state| *state == Running::On);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Board {
    /// Opens what the board has, arms the watchdog and begins to look. What is missing is logged.
    #[must_use]
    pub fn start(
        config: BoardConfig,
        spool_dir: PathBuf,
        supply: Supply,
        metrics: Arc<Metrics>,
    ) -> Self {
        let BoardConfig { profile, root } = config;
        let (board, troubles) = if profile.name == FAKE {
            (FakeBoard::default().open(), Vec::new())
        } else {
            hardware::Board::open(&profile, &root)
        };
        for trouble in &troubles {
            report(trouble);
        }
        let shown = &metrics.panel.board;
        shown.opened(&profile, &board);
        let mut sensors = board.sensors;
        let mut parts = Self {
            end: Arc::default(),
            threads: Vec::new(),
        };
        let of_sensors = Arc::clone(&metrics);
        parts.spawn("board-sensors", move |end| {
            loop {
                let readings = sensors.read();
                let is_read_only = hardware::is_read_only(&spool_dir);
                let shown = &of_sensors.panel.board;
                shown.read(readings, is_read_only == Some(true));
                if end.wait(SENSORS_INTERVAL) != Running::On {
                    return;
                }
            }
        });
        let keeper = keeper::Keeper::new(
            board.light,
            board.watchdog,
            board.power_fail.zip(profile.power_fail_input.as_ref()),
            supply,
            metrics,
        );
        if let Some(keeper) = keeper {
            parts.spawn("board", move |end| keeper.run(&end));
        }
        parts
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce(Arc<End>) + Send + 'static) {
        let end = Arc::clone(&self.end);
        let thread = thread::Builder::new().name(name.to_owned());
        match thread.spawn(move || run(end)) {
            Ok(thread) => self.threads.push(thread),
            Err(error) => {
                tracing::error!(%error, name, "this part of the board is left alone: no thread");
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.end.say(match thread::panicking() {
            true => Running::Left,
            false => Running::Told,
        });
        for thread in self.threads.drain(..) {
            // A panic there was said there.
            let _ = thread.join();
        }
    }
}

/// The page of what a board does not have as its profile says.
pub(crate) fn page_of(trouble: &PartError) -> &'static Page {
    match trouble {
        PartError::Light(_) => &pages::LIGHT,
        PartError::Watchdog { .. } => &pages::WATCHDOG,
        PartError::Timeout { .. } | PartError::NoTimeout { .. } => &pages::TIMEOUT,
        PartError::PowerFail(_) => &pages::POWER_INPUT,
    }
}

/// Logs what the board does not have as its profile says, with the code of its page.
fn report(trouble: &PartError) {
    let page = page_of(trouble);
    let (code, error) = (page.code, chain(trouble));
    if page.is_error() {
        tracing::error!(code, error, "board: {}", page.title);
    } else {
        tracing::warn!(code, error, "board: {}", page.title);
    }
}
