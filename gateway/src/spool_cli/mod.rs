//! `gateway spool`: looking into a spool, stopped or running, without touching it; putting frames
//! into a stopped one.
//!
//! Invariant: everything here but `import` reads; a spool that is being written is none the worse
//! for it.

mod export;
mod import;
mod lines;
mod ls;
mod stat;
mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ::spool::SpoolError;
use ::spool::fs::{OpenError, RealFs};
use ::spool::inspect::View;
use clap::Subcommand;
use contract::Lane;
use settings::Settings;
use thiserror::Error;

use crate::config;
use export::Export;
use import::Import;

/// What to do.
#[derive(Subcommand)]
pub enum SpoolCommand {
    /// What waits in each lane, how many days the room lasts, what was written today
    ///
    /// "days left" is how long the free room takes what comes in now when nothing leaves: the
    /// frames of the last two days, by what the gateway notes in the file `written` every five
    /// minutes, against spool.bytes_max. With 16 MiB or more waiting the room that those take is
    /// measured, else a byte of frames counts as a byte of room; compaction leaves less.
    #[command(
        after_help = "Examples:\n  gateway spool stat\n  gateway spool stat --json | jq .days_left"
    )]
    Stat,
    /// One line for every segment that holds something
    #[command(
        after_help = "Examples:\n  gateway spool ls\n  gateway spool ls --json | jq 'select(.damaged)'"
    )]
    Ls,
    /// Read every commit and every frame, and name what is damaged
    ///
    /// Prints for each damage what it is, where, what is lost by it and what to do. A spool that is
    /// being written moves under the reader, so what looks damaged is looked at three times.
    /// Exit code 1 when something is damaged or acknowledged records are lost.
    #[command(
        after_help = "Examples:\n  gateway spool verify\n  gateway spool verify --dir /mnt/old-card/spool"
    )]
    Verify,
    /// Print what waits as hexadecimal lines: a login, then the frames of that device
    ///
    /// The lines are what `decode` (cargo run -p codec --example decode --features std) explains,
    /// what the fleet simulator replays (fleet --replay FILE) and what `import` reads. With --notes
    /// nothing is lost on the way back: use that for a copy. Exit code 1 when a frame that should
    /// be there cannot be read.
    #[command(
        after_help = "Examples:\n  gateway spool export --notes > spool.hex\n  gateway spool export --lane high | less"
    )]
    Export {
        /// Also what is stored already and still there
        #[arg(long)]
        all: bool,
        /// This lane alone: high, normal or bulk
        #[arg(long, value_parser = lane)]
        lane: Option<Lane>,
        /// Before each frame a comment with what the frame does not know: when it came, its lane,
        /// its way, its place. The simulator and `import` understand it, `decode` does not
        #[arg(long)]
        notes: bool,
    },
    /// Put hexadecimal lines, as `export` prints them, into the spool of a stopped gateway
    ///
    /// Each frame is written and synced as if its tracker had just sent it; the gateway forwards
    /// it at its next start. A line that is no whole frame with a good checksum is refused, named
    /// with its number and costs itself alone (exit code 1). Frames without a note count as
    /// received now. Importing a file twice sends it twice and stores it once: rows stay single.
    #[command(
        after_help = "Examples:\n  gateway spool import --dry-run spool.hex\n  gateway spool export --notes --dir /mnt/old-card/spool | gateway spool import"
    )]
    Import {
        /// The file; - for standard input
        #[arg(default_value = "-", value_name = "FILE|-")]
        file: PathBuf,
        /// Read and judge every line, write nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Where the spool is, and its cap where that is known.
pub struct Place {
    /// Its directory.
    pub dir: PathBuf,
    /// Settings, or what was typed.
    pub bytes_max: Option<u64>,
}

/// Why it failed. Exit code 1 for what was found in the spool or the lines, 2 for a directory or
/// file that cannot be used, else 4.
#[derive(Debug, Error)]
pub enum SpoolCliError {
    /// Name another directory with --dir, or run as a user who may read it.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// Name another one.
    #[error("{} holds no spool but other files: name the spool's directory with --dir", dir.display())]
    NoSpool {
        /// The directory.
        dir: PathBuf,
    },
    /// Start the gateway there once, or name another one.
    #[error("no gateway has used {} yet: start one with it once, or name another directory with --dir", dir.display())]
    NoOwner {
        /// The directory.
        dir: PathBuf,
    },
    /// Stop it, import, start it.
    #[error("a gateway runs on {}: stop it, import, start it again", dir.display())]
    Running {
        /// The directory.
        dir: PathBuf,
    },
    /// The spool's own files cannot be read or written.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Follow what was printed for each.
    #[error("{damaged} places are damaged, {lost} acknowledged frames are lost")]
    Damaged {
        /// Places.
        damaged: usize,
        /// Frames in gaps or missing in segments.
        lost: u64,
    },
    /// Look at it with `gateway spool verify`.
    #[error(
        "{frames} frames that wait could not be read: `gateway spool verify` says where and why"
    )]
    Incomplete {
        /// How many.
        frames: u64,
    },
    /// Name another file.
    #[error("{} cannot be read", file.display())]
    Input {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Correct them and import them again.
    #[error(
        "{lines} lines were refused: correct them and import those lines, or the whole file again; rows stay single"
    )]
    Refused {
        /// How many.
        lines: u64,
    },
    /// Import the file again once the reason is gone.
    #[error(
        "stopped at line {line}: import the file again once there is room and the disk is well; rows stay single"
    )]
    Stopped {
        /// The first line that was not kept.
        line: u64,
        /// Why.
        #[source]
        source: SpoolError,
    },
    /// No random bits for the spool id.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

impl SpoolCliError {
    /// See the header of `main.rs`.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::Damaged { .. }
            | Self::Incomplete { .. }
            | Self::Refused { .. }
            | Self::Random(_) => 1,
            Self::Directory(_)
            | Self::NoSpool { .. }
            | Self::NoOwner { .. }
            | Self::Running { .. }
            | Self::Input { .. }
            | Self::Spool(
                SpoolError::OwnerUnreadable
                | SpoolError::Newer { .. }
                | SpoolError::TooSmall { .. }
                | SpoolError::Owned { .. },
            ) => 2,
            Self::Spool(_) | Self::Stopped { .. } => 4,
        }
    }
}

fn lane(word: &str) -> Result<Lane, String> {
    lines::lane(word).ok_or_else(|| "give high, normal or bulk".to_owned())
}

/// A size as the settings take it.
/// # Errors
/// What is expected.
pub fn bytes(text: &str) -> Result<u64, String> {
    let typed = format!("{}__SPOOL__BYTES_MAX", config::ENV_PREFIX);
    let settings = Settings::read(
        config::KEYS,
        config::ENV_PREFIX,
        None,
        [(typed, text.to_owned())],
    );
    let bytes = settings.and_then(|settings| settings.bytes("spool.bytes_max"));
    bytes.map_err(|_| "give a size like 4GiB or 4294967296".to_owned())
}

/// Does it; results go to standard output.
/// # Errors
/// [`SpoolCliError`].
pub fn act(command: &SpoolCommand, place: &Place, as_json: bool) -> Result<(), SpoolCliError> {
    let dir = &place.dir;
    match command {
        SpoolCommand::Stat => {
            let report = stat::Report::new(dir, &look(dir)?, place.bytes_max);
            print(&if as_json {
                report.json()
            } else {
                report.text()
            });
            Ok(())
        }
        SpoolCommand::Ls => {
            for segment in look(dir)?.segments() {
                print(&if as_json {
                    ls::json(&segment)
                } else {
                    ls::text(&segment)
                });
            }
            Ok(())
        }
        SpoolCommand::Verify => verify::verify(dir, as_json),
        SpoolCommand::Export { all, lane, notes } => {
            let export = Export {
                all: *all,
                lane: *lane,
                notes: *notes,
                as_json,
            };
            export.print(dir)
        }
        SpoolCommand::Import { file, dry_run } => {
            let import = Import {
                file: file.clone(),
                dry_run: *dry_run,
                bytes_max: place.bytes_max,
            };
            import.run(dir, as_json)
        }
    }
}

/// What `stat` and `ls` print as JSON, for whoever helps from afar.
/// # Errors
/// As they.
pub fn facts(place: &Place) -> Result<String, SpoolCliError> {
    let view = look(&place.dir)?;
    let mut text = stat::Report::new(&place.dir, &view, place.bytes_max).json();
    for segment in view.segments() {
        text += &ls::json(&segment);
    }
    Ok(text)
}

/// Looks at a directory; an empty one is an empty spool, one with other files in it is none.
fn look(dir: &Path) -> Result<View<RealFs>, SpoolCliError> {
    let view = View::open(RealFs::read_only(dir)?)?;
    if view.owner().is_none() && view.geometry().is_none() {
        let mut files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let is_foreign = files.any(|file| {
            let is_file = file.file_type().is_ok_and(|kind| kind.is_file());
            is_file && !OURS.iter().any(|name| file.file_name() == **name)
        });
        if is_foreign {
            let dir = dir.to_owned();
            return Err(SpoolCliError::NoSpool { dir });
        }
    }
    Ok(view)
}

/// What a spool whose first start was cut short may hold.
const OURS: [&str; 4] = ["lock", "gateway", "cursor", "written"];

fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
