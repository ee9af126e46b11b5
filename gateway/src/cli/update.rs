//! `gateway update`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use gateway::explain::update as pages;
use gateway::update::apply::{self, Incoming, UpdateError};
use gateway::update::health::healthy;
use gateway::update::manifest::Manifest;
use gateway::update::place::Place;
use gateway::update::record;
use gateway::update::slots::Slot;
use serde_json::json;
use settings::Settings;

use super::{Failure, ask, output};

pub(super) const EXAMPLES: &str = "\
A flashed box has two slots for systems. An update goes to the one that does not run. The next start
tries it once; when its gateway has opened its doors, every stage moves and Redis was reached, it is
kept, and until then every restart goes back to the system before. The spool is on a partition of
its own and stays.

Examples:
  gateway update apply /mnt/milepost.update && reboot
  gateway update status

Exit codes: 0 ok, 1 not now or not healthy, 2 not for this box, not signed or damaged, 3 no gateway
answers, 4 the disk fails.";

const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Where nobody watches a bar.
const TELL_EVERY: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub(super) enum UpdateCommand {
    /// Check an update and write it to the slot that does not run, to be tried at the next start.
    #[command(after_help = "\
Examples:
  gateway update apply /mnt/milepost.update && reboot
  gateway update apply --dry-run milepost.update     is it signed, whole and for this box?
  ssh box gateway update apply - < milepost.update")]
    Apply(Apply),
    /// Which system runs, which is the good one, what is on trial, how the last trial ended.
    #[command(after_help = "\
Examples:
  gateway update status
  gateway update status --json | jq -r .running")]
    Status(Status),
    /// Keep the running system, if its gateway is healthy.
    #[command(after_help = "\
Examples:
  gateway update confirm --wait     as the box does by itself after a start on trial
  gateway update confirm --yes      whatever its gateway says")]
    Confirm(Confirm),
    /// Say which slot to start, and use up a trial: asked by the start of the box, before any slot
    /// is looked at.
    #[command(hide = true)]
    Start {
        /// The partition with the record of the slots.
        record: PathBuf,
    },
}

#[derive(Args)]
pub(super) struct Apply {
    /// The update file; `-` for standard input, which is written while it arrives.
    file: PathBuf,
    /// Check everything, write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    about: About,
}

#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    about: About,
}

#[derive(Args)]
pub(super) struct Confirm {
    /// Ask again until the gateway is healthy, for as long as a trial may take in this image.
    #[arg(long)]
    wait: bool,
    /// Keep it without asking whether the gateway is healthy.
    #[arg(long, conflicts_with = "wait")]
    yes: bool,
    #[command(flatten)]
    about: About,
}

#[derive(Args)]
struct About {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Where the box's files are, for tests.
    #[arg(long, hide = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

impl About {
    fn place(&self) -> Result<Place, Failure> {
        Place::read(&self.root).map_err(|error| refused(error.into()))
    }
}

fn refused(error: UpdateError) -> Failure {
    let page = error.page();
    let words = gateway::chain::chain(&error);
    Failure::new(page.exit, format!("{}  {words}", page.code))
}

pub(super) fn act(
    command: &UpdateCommand,
    settings: impl FnOnce() -> Result<Settings, Failure>,
) -> Result<(), Failure> {
    match command {
        UpdateCommand::Apply(apply) => write(apply),
        UpdateCommand::Status(status) => tell(status),
        UpdateCommand::Confirm(confirm) => keep(confirm, settings),
        UpdateCommand::Start { record } => {
            output::print(&format!("{}\n", start(record)));
            Ok(())
        }
    }
}

fn write(args: &Apply) -> Result<(), Failure> {
    let place = args.about.place()?;
    if args.file == Path::new("-") {
        return written(args, &place, io::stdin().lock());
    }
    let unreadable = |error: io::Error| {
        let error = io::Error::new(error.kind(), format!("{}: {error}", args.file.display()));
        refused(UpdateError::Source(error))
    };
    let mut file = File::open(&args.file).map_err(unreadable)?;
    if !args.dry_run && file.metadata().is_ok_and(|file| file.is_file()) {
        // A damaged file is found before the slot to go back to is gone.
        let whole = Incoming::new(&file, &place).and_then(Incoming::verify);
        whole.map_err(refused)?;
        file.rewind().map_err(unreadable)?;
    }
    written(args, &place, file)
}

fn written(args: &Apply, place: &Place, source: impl Read) -> Result<(), Failure> {
    let incoming = Incoming::new(source, place).map_err(refused)?;
    let slot = place.running.other();
    let manifest = if args.dry_run {
        incoming.verify()
    } else {
        incoming.apply(place, progress())
    };
    let Manifest { version, bytes, .. } = manifest.map_err(refused)?;
    if args.about.json {
        output::line(&json!({
            "version": version, "board": place.board, "bytes": bytes, "slot": slot.word(),
            "offered": !args.dry_run, "dry_run": args.dry_run
        }));
    } else if args.dry_run {
        output::print(&format!(
            "version {version} is signed, whole and for this box; it would go to slot {slot}\n"
        ));
    } else {
        let minutes = place.trial.as_secs().div_ceil(60);
        output::print(&format!(
            "version {version} is in slot {slot}, read back as it was signed\n\
             next: reboot. It is tried once and kept when it is healthy within {minutes} min; \
             otherwise the box goes back to {}\n",
            place.version
        ));
    }
    Ok(())
}

/// A bar on a terminal, otherwise a line now and then; on standard error.
fn progress() -> impl FnMut(u64, u64) {
    let watched = io::stderr().is_terminal();
    let every = if watched {
        Duration::from_millis(200)
    } else {
        TELL_EVERY
    };
    let mut told = Instant::now();
    move |done, all| {
        if told.elapsed() < every && (done < all || !watched) {
            return;
        }
        told = Instant::now();
        let percent = done * 100 / all.max(1);
        let what = if done * 2 <= all {
            "writing"
        } else {
            "reading back"
        };
        match watched {
            true if done < all => eprint!("\r{percent:>3} % {what}      "),
            true => eprint!("\r{:24}\r", ""),
            false => eprintln!("{percent} % {what}"),
        }
    }
}

fn tell(args: &Status) -> Result<(), Failure> {
    let place = args.about.place()?;
    let record = apply::read(&place).map_err(refused)?;
    let running = place.running;
    let on_trial = record.on_trial(running);
    let offered = record.trial.as_ref().filter(|trial| !trial.begun);
    let last = record.last.as_ref();
    if args.about.json {
        output::line(&json!({
            "board": place.board,
            "version": place.version,
            "running": running.word(),
            "good": record.good.word(),
            "on_trial": on_trial,
            "offered": offered.map(|trial| &trial.version),
            "last": last.map(|last| json!({ "version": last.version, "ending": last.ending.word() })),
        }));
        return Ok(());
    }
    let state = match (on_trial, running == record.good) {
        (true, _) => "on trial",
        (false, true) => "good",
        (false, false) => "started by hand: the record says otherwise",
    };
    let mut text = format!(
        "running   slot {running}, version {}, {state}\nboard     {}\n",
        place.version, place.board
    );
    if let Some(trial) = offered {
        let slot = record.good.other();
        let version = &trial.version;
        text.push_str(&format!(
            "next      slot {slot}, version {version}, is tried at the next start\n"
        ));
    }
    if let Some(last) = last {
        let ending = last.ending.word().replace('-', " ");
        text.push_str(&format!(
            "last      version {} was {ending}\n",
            last.version
        ));
    }
    output::print(&text);
    Ok(())
}

fn keep(
    args: &Confirm,
    settings: impl FnOnce() -> Result<Settings, Failure>,
) -> Result<(), Failure> {
    let place = args.about.place()?;
    let on_trial = apply::read(&place)
        .map_err(refused)?
        .on_trial(place.running);
    if on_trial && !args.yes {
        let until = args.wait.then(|| Instant::now() + place.trial);
        wait(&settings()?, until)?;
    }
    let kept = apply::confirm(&place).map_err(refused)?.is_some();
    let (running, version) = (place.running, &place.version);
    if args.about.json {
        output::line(&json!({ "slot": running.word(), "version": version, "was_on_trial": kept }));
    } else if kept {
        output::print(&format!("version {version} in slot {running} is kept\n"));
    } else {
        output::print(&format!(
            "version {version} in slot {running} is the good one already\n"
        ));
    }
    Ok(())
}

/// Until the gateway is healthy; one look without `until`.
fn wait(settings: &Settings, until: Option<Instant>) -> Result<(), Failure> {
    let addr = ask::addr(settings)?;
    let mut told = None;
    loop {
        let failure = match ask::get(addr, "/status") {
            Ok(status) => match healthy(&status.unwrap_or_default()) {
                Ok(()) => return Ok(()),
                Err(why) => Failure::new(pages::SICK.exit, format!("{}  {why}", pages::SICK.code)),
            },
            Err(error) => error.into(),
        };
        let Some(until) = until.filter(|until| Instant::now() < *until) else {
            return Err(failure);
        };
        let words = failure.words();
        if told.as_ref() != Some(&words) {
            let left = until.duration_since(Instant::now()).as_secs();
            eprintln!("not healthy yet, {left} s left: {words}");
            told = Some(words);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Never fails: a box must start something.
fn start(path: &Path) -> Slot {
    let record = match record::read(path) {
        Ok(record) => record,
        Err(error) => {
            eprintln!("{}: {error}; slot a is started", path.display());
            return Slot::A;
        }
    };
    let start = record.start();
    if let Some(first) = &start.first
        && let Err(error) = record::write(path, first)
    {
        let slot = start.otherwise;
        eprintln!("{}: {error}; slot {slot} is started", path.display());
        return slot;
    }
    start.slot
}
