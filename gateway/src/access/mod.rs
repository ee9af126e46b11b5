//! Who may log in, from files that change while the gateway runs.
//!
//! Why beside the session: the decision is pure ([`crate::session::decide`]); the files, the
//! learn window's clock and the memory of who was sent away are here.
//!
//! Invariants:
//! - A list that cannot be read or parsed changes nothing: the last good one stays in force.
//! - A tracker is told that it was learned only after its IMEI is on disk.

mod list_file;
mod refused;
mod window;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use codec::Imei;
use serde::Serialize;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

pub use list_file::{ListFileError, allow, deny, list, read, read_or_empty};
pub use refused::RefusedDevice;

use crate::chain::chain;
use crate::clock;
use crate::observe::in_words;
use crate::peer::Peer;
use crate::session::{ImeiList, Mode, Refusal, Verdict, decide};
use refused::Refused;
use window::{Window, whole_seconds};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// The three policies by their names in the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessMode {
    /// Everybody who is not denied.
    Open,
    /// Who is listed.
    List,
    /// Everybody for a while, then who was known by then.
    Learn,
}

/// Who may log in, as set.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// The policy.
    pub mode: AccessMode,
    /// The operator's list; read in every mode when it is set.
    pub list: Option<PathBuf>,
    /// Where learned IMEIs are remembered; the window's file is beside it.
    pub learned: PathBuf,
    /// Running time during which new trackers are learned.
    pub learn_for: Duration,
}

impl AccessMode {
    /// As in the settings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::List => "list",
            Self::Learn => "learn",
        }
    }
}

impl AccessConfig {
    /// Everybody; no file is touched.
    #[must_use]
    pub fn open() -> Self {
        Self {
            mode: AccessMode::Open,
            list: None,
            learned: PathBuf::new(),
            learn_for: Duration::ZERO,
        }
    }

    /// The file that `gateway device allow` and `deny` edit; `None` when there is none to edit.
    #[must_use]
    pub fn edited_file(&self) -> Option<&Path> {
        match (self.mode, &self.list) {
            (AccessMode::Learn, None) => Some(&self.learned),
            (_, list) => list.as_deref(),
        }
    }

    /// The file that counts the learn window; remove it to open the window again.
    #[must_use]
    pub fn window_file(&self) -> PathBuf {
        self.learned.with_extension("window")
    }

    /// Reads the lists as a start would, and forgets them.
    /// # Errors
    /// [`ListFileError`] with file and line.
    pub fn check(&self) -> Result<(), ListFileError> {
        self.read_lists().map(drop)
    }

    fn read_lists(&self) -> Result<ImeiList, ListFileError> {
        let list = match &self.list {
            Some(path) => list_file::read(path)?,
            None => ImeiList::default(),
        };
        Ok(match self.mode {
            AccessMode::Learn => list.joined(&list_file::read_or_empty(&self.learned)?),
            AccessMode::Open | AccessMode::List => list,
        })
    }

    fn stamps(&self) -> [Stamp; 2] {
        let learned = (self.mode == AccessMode::Learn).then_some(&self.learned);
        [self.list.as_ref(), learned].map(|path| stamp(path?))
    }
}

/// When and how long a file is; `None` while it is not there.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}

/// Why access cannot be set up.
#[derive(Debug, Error)]
pub enum AccessError {
    /// A list.
    #[error("access")]
    List(#[from] ListFileError),
    /// Let the gateway's user write the directory of `access.learned`.
    #[error("access.learned: {} cannot be read or written", path.display())]
    Window {
        /// The window's file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why the learn window was not opened.
#[derive(Debug, Error)]
pub enum ReopenError {
    /// Set `access.mode` to `learn`, or allow trackers one by one.
    #[error("access.mode is {}: there is no learn window to open", .0.word())]
    Mode(AccessMode),
    /// Let the gateway's user write the directory of `access.learned`.
    #[error("{} cannot be written, so the window is as it was", path.display())]
    Write {
        /// The window's file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What `/status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct AccessStatus {
    /// The policy.
    pub mode: AccessMode,
    /// IMEIs allowed by name.
    pub listed: usize,
    /// What is left of the learn window, in seconds; `None` in other modes.
    pub window_left_s: Option<u64>,
    /// Why the newest list is not in force.
    pub trouble: Option<String>,
}

/// The doorkeeper; clones share it.
#[derive(Clone, Debug)]
pub struct Access {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: AccessConfig,
    state: Mutex<State>,
    /// Held while learned IMEIs are written; the others gather meanwhile.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    list: Arc<ImeiList>,
    stamps: [Stamp; 2],
    window: Option<Window>,
    /// New IMEIs that wait for the next write.
    waiting: HashSet<Imei>,
    refused: Refused,
    trouble: Option<String>,
}

impl Access {
    /// Reads the files.
    /// # Errors
    /// [`AccessError`] with the file, and the line where it is about one.
    pub fn open(config: AccessConfig) -> Result<Self, AccessError> {
        let stamps = config.stamps();
        let list = config.read_lists()?;
        let window = match config.mode {
            AccessMode::Learn => {
                let path = config.window_file();
                let opened = Window::open(&path, config.learn_for, Instant::now());
                let leased = opened.and_then(|mut window| {
                    window.lease(Instant::now())?;
                    Ok(window)
                });
                Some(leased.map_err(|source| AccessError::Window { path, source })?)
            }
            AccessMode::Open | AccessMode::List => None,
        };
        let state = State {
            list: Arc::new(list),
            stamps,
            window,
            waiting: HashSet::new(),
            refused: Refused::default(),
            trouble: None,
        };
        let shared = Shared {
            config,
            state: Mutex::new(state),
            writing: tokio::sync::Mutex::new(()),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// May `imei` talk? Returns after the IMEI is on disk when it had to be learned.
    /// # Errors
    /// [`Refusal`]; the device is then on the list of [`Access::refused`].
    pub async fn ask(&self, imei: Imei, peer: Peer) -> Result<(), Refusal> {
        let answer = match self.decide(imei) {
            Verdict::Accept => Ok(()),
            // Rare, and large: not part of what every silent connection carries.
            Verdict::Learn => Box::pin(self.learn(imei)).await,
            Verdict::Refuse(refusal) => Err(refusal),
        };
        let mut state = self.state();
        match &answer {
            Ok(()) => state.refused.forget(imei),
            Err(refusal) => {
                state
                    .refused
                    .note(imei, refusal, peer.place(), clock::now_ms());
            }
        }
        answer
    }

    fn decide(&self, imei: Imei) -> Verdict {
        let state = self.state();
        let mode = match &state.window {
            Some(window) => Mode::Learn {
                is_open: !window.left(Instant::now()).is_zero(),
            },
            None if self.shared.config.mode == AccessMode::Open => Mode::Open,
            None => Mode::List,
        };
        decide(mode, &state.list, imei)
    }

    async fn learn(&self, imei: Imei) -> Result<(), Refusal> {
        self.state().waiting.insert(imei);
        let _turn = self.shared.writing.lock().await;
        let new: Vec<Imei> = {
            let mut state = self.state();
            if state.list.allows(imei) {
                return Ok(()); // went with the write of another one
            }
            state.waiting.insert(imei);
            state.waiting.drain().collect()
        };
        let path = self.shared.config.learned.clone();
        let count = new.len();
        let written = tokio::task::spawn_blocking(move || list_file::learn(&path, &new)).await;
        match written {
            Ok(Ok(learned)) => {
                let mut state = self.state();
                let list = ImeiList::clone(&state.list).joined(&learned);
                state.list = Arc::new(list);
                tracing::info!(count, known = state.list.len(), "new trackers learned");
                if state.list.denies(imei) {
                    return Err(Refusal::Denied);
                }
                Ok(())
            }
            Ok(Err(error)) => {
                tracing::error!(
                    error = chain(&error),
                    "new trackers are sent away: what is learned cannot be kept"
                );
                Err(Refusal::NotRemembered)
            }
            Err(error) => {
                tracing::error!(%error, "new trackers are sent away: the write was given up");
                Err(Refusal::NotRemembered)
            }
        }
    }

    /// Must it stay out, whatever the mode is?
    #[must_use]
    pub fn denies(&self, imei: Imei) -> bool {
        self.state().list.denies(imei)
    }

    /// Reads the files again, whether they seem changed or not. `Ok(true)` when who may talk is
    /// not what it was.
    /// # Errors
    /// [`ListFileError`] with file and line; the last good list stays in force.
    pub fn reload(&self) -> Result<bool, ListFileError> {
        let stamps = self.shared.config.stamps();
        let read = self.shared.config.read_lists();
        let mut state = self.state();
        state.stamps = stamps;
        match read {
            Ok(list) => {
                let changed = *state.list != list;
                state.trouble = None;
                if changed {
                    state.list = Arc::new(list);
                    tracing::info!(listed = state.list.len(), "list of IMEIs read again");
                }
                Ok(changed)
            }
            Err(error) => {
                state.trouble = Some(chain(&error));
                tracing::error!(
                    error = chain(&error),
                    listed = state.list.len(),
                    "new list of IMEIs not taken; the one before stays in force"
                );
                Err(error)
            }
        }
    }

    /// Reads the files again if they look different, and writes the learn window down. The shell
    /// calls it every few seconds.
    pub fn look(&self) {
        let is_new = {
            let mut state = self.state();
            if let Some(window) = &mut state.window
                && let Err(error) = window.lease(Instant::now())
            {
                tracing::warn!(%error, "what is left of the learn window cannot be written down; a restart may give it back");
            }
            state.stamps != self.shared.config.stamps()
        };
        if is_new {
            // The error is logged and kept for the status pages.
            let _ = self.reload();
        }
    }

    /// Looks at the files until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = stop.cancelled() => return,
            }
            let access = self.clone();
            // A file on a slow card is no reason to keep trackers waiting.
            let _ = tokio::task::spawn_blocking(move || access.look()).await;
        }
    }

    /// Opens the learn window for `span` from now on, `access.learn_for` if `None`; zero closes it.
    /// Returns what is left then, after it is on disk.
    /// # Errors
    /// [`ReopenError`]; then the window is as it was.
    pub fn reopen(&self, span: Option<Duration>) -> Result<Duration, ReopenError> {
        let config = &self.shared.config;
        let mut state = self.state();
        let window = state.window.as_mut();
        let window = window.ok_or(ReopenError::Mode(config.mode))?;
        let now = Instant::now();
        let reopened = window.reopen(span.unwrap_or(config.learn_for), now);
        reopened.map_err(|source| ReopenError::Write {
            path: config.window_file(),
            source,
        })?;
        Ok(window.left(now))
    }

    /// Who was sent away and did not get in since; the last one first.
    #[must_use]
    pub fn refused(&self) -> Vec<RefusedDevice> {
        self.state().refused.list()
    }

    /// What is left of the learn window; `None` in other modes.
    #[must_use]
    pub fn window_left(&self) -> Option<Duration> {
        let state = self.state();
        let window = state.window.as_ref()?;
        Some(window.left(Instant::now()))
    }

    /// For status pages and the line at the start.
    #[must_use]
    pub fn status(&self) -> AccessStatus {
        // Rounded up: nothing is called closed that is open.
        let window_left_s = self.window_left().map(|left| whole_seconds(left).as_secs());
        let state = self.state();
        AccessStatus {
            mode: self.shared.config.mode,
            listed: state.list.len(),
            window_left_s,
            trouble: state.trouble.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessStatus {
    /// Who gets in, in words.
    #[must_use]
    pub fn to_words(&self) -> String {
        let listed = self.listed;
        match (self.mode, self.window_left_s) {
            (AccessMode::Open, _) => "every well-formed IMEI that is not denied".to_owned(),
            (AccessMode::Learn, Some(left_s)) if left_s > 0 => {
                let left = in_words(Duration::from_secs(left_s));
                let until = clock::utc(clock::now_ms().saturating_add(left_s * 1_000));
                format!(
                    "every IMEI for {left} of running time more (until {until} UTC if it runs on), then those known by then; {listed} are known"
                )
            }
            (AccessMode::Learn, _) => format!("{listed} known IMEIs; the learn window is closed"),
            (AccessMode::List, _) => format!("{listed} listed IMEIs"),
        }
    }
}
