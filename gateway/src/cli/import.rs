//! `gateway config import`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use contract::bundle::BUNDLE_BYTES_MAX;
use gateway::check::{Level, Look};
use gateway::config::bundle::{self, Change, Owner, Target};
use gateway::explain::{Page, bundle as pages};
use serde_json::json;

use super::{Failure, output};

pub(super) const EXAMPLES: &str = "\
Looks at the whole bundle first: names, sizes, settings, whether key, certificate and authority
belong together and are valid. Then it writes, each file at once or not at all, and keeps what was
there before as .bak. The same bundle again changes nothing.

Examples:
  sudo gateway config import depot-vilnius-1.bundle
  gateway config import --dry-run depot-vilnius-1.bundle
  sudo gateway config import --yes renewed.bundle        replace the files of an older one

Exit codes: 0 in place, 1 something has expired, 2 the bundle or the directory cannot be used.";

#[derive(Args)]
pub(super) struct ImportArgs {
    /// The bundle, as the cloud made it for this gateway.
    bundle: PathBuf,
    /// Where it goes.
    #[arg(long, value_name = "DIR", default_value = "/etc/milepost")]
    dir: PathBuf,
    /// The user that the gateway runs as, who gets the key; asked for only when root imports.
    #[arg(long, value_name = "USER", default_value = "milepost")]
    owner: String,
    /// Look at everything, say what would be written, write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Replace files that have other contents; they are kept as .bak.
    #[arg(long)]
    yes: bool,
    /// Print JSON: an object for each finding, then one for each file.
    #[arg(long)]
    json: bool,
}

pub(super) fn act(args: &ImportArgs, no_color: bool) -> Result<(), Failure> {
    let colour = output::colour(no_color);
    let tell = |looks: &[Look]| {
        let mut worst = 0;
        for finding in looks.iter().flat_map(|look| &look.findings) {
            if finding.level == Level::Error {
                worst = finding.exit().max(worst);
            }
            if args.json {
                output::line(&finding.json());
            } else {
                output::print(&finding.text(colour));
            }
        }
        match worst {
            0 => Ok(()),
            worst => Err(Failure::told(worst)),
        }
    };
    let bytes = read(&args.bundle).map_err(|error| {
        failure(
            &pages::UNREADABLE,
            &format!("{}: {error}", args.bundle.display()),
        )
    })?;
    let read = match bundle::read(&bytes, &args.bundle) {
        Ok(read) => read,
        Err(look) => return tell(&[look]),
    };
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now_ms.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    tell(&bundle::judge(&read, &args.bundle, &args.dir, now_ms))?;

    let targets = bundle::plan(&read, &args.dir);
    for target in &targets {
        show(args, target);
    }
    if args.dry_run {
        return Ok(());
    }
    if bundle::replaces(&targets) && !args.yes {
        let what =
            "files with other contents are in place; --yes replaces them and keeps them as .bak";
        return Err(failure(&pages::IN_PLACE, what));
    }
    let owner = match rustix::process::geteuid().is_root() {
        true => Owner::named(&args.owner),
        false => None,
    };
    if owner.is_none() {
        eprintln!(
            "the files belong to whoever runs this: see that the gateway's user can read {}",
            args.dir.display()
        );
    }
    bundle::apply(&targets, &args.dir, owner)
        .map_err(|(path, error)| failure(&pages::WRITE, &format!("{}: {error}", path.display())))?;
    if !args.json {
        output::print(&next(&targets, &args.dir));
    }
    Ok(())
}

fn failure(page: &'static Page, what: &str) -> Failure {
    Failure::new(page.exit, format!("{}  {what}", page.code))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    // One more than any bundle has: then it is refused for its size.
    file.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn show(args: &ImportArgs, target: &Target) {
    let path = target.path.display();
    let (change, mode) = (target.change, target.mode);
    if args.json {
        let word = change.word();
        output::line(&json!({
            "file": path.to_string(), "change": word, "mode": format!("{mode:04o}"), "dry_run": args.dry_run
        }));
        return;
    }
    let says = match (change, args.dry_run) {
        (Change::Same, _) => "is there already",
        (Change::New, true) => "would be new",
        (Change::New, false) => "is new",
        (Change::Replaced, true) => "would be replaced, the old one kept as .bak",
        (Change::Replaced, false) => "is replaced, the old one kept as .bak",
    };
    output::print(&format!("{:<13}{path} {says}\n", "files"));
}

/// What a running gateway reads again by itself, and what it does not.
fn next(targets: &[Target], dir: &Path) -> String {
    let changed = |name: &str| {
        let mut named = targets.iter().filter(|target| target.path.ends_with(name));
        named.find(|target| target.change != Change::Same)
    };
    let settings = dir.join("gateway.toml");
    let check = format!("gateway check --config {}", settings.display());
    match changed("gateway.toml").map(|target| target.change) {
        Some(Change::New) => {
            format!("next: {check}; then systemctl enable --now milepost-gateway\n")
        }
        Some(_) => format!(
            "next: {check}; then systemctl restart milepost-gateway (settings are read at its start)\n"
        ),
        None if targets.iter().all(|target| target.change == Change::Same) => {
            "nothing to do: everything is in place\n".to_owned()
        }
        None => "next: systemctl reload milepost-gateway\n".to_owned(),
    }
}
