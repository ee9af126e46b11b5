//! `gateway support`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use gateway::chain::chain;
use gateway::spool_cli::{self, Place};
use gateway::support::{machine, of_settings, shortened};
use gateway::{check, config};
use serde_json::{Value, json};
use settings::Settings;

use super::{Failure, ask, output, runtime};

pub(super) const EXAMPLES: &str = "\
Writes one file for whoever helps: version, settings with passwords masked, what `gateway check`
finds, what the running gateway says about itself, the state of the spool, and the machine. No key, no
list of IMEIs, no record of a tracker. It is a tar, compressed with zstd: look before you send it.

Examples:
  sudo -u milepost gateway support --config /etc/milepost/gateway.toml
  gateway support --out /tmp/depot-1.tar.zst
  tar --zstd -tvf milepost-support-depot-1.tar.zst      what is inside

Exit codes: 0 written, whatever is wrong with the gateway; 2 it cannot be written.";

#[derive(Args)]
pub(super) struct Support {
    /// Where to write; a file that is there is not replaced. Default: milepost-support-<gateway>.tar.zst
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Leave IMEIs whole instead of 35630…013, as far as log.imei shows them so.
    #[arg(long)]
    full_imei: bool,
    /// Print one JSON object: the file and what is in it.
    #[arg(long)]
    json: bool,
}

/// The parts of the file, in their order.
struct Parts(Vec<(&'static str, String)>);

impl Parts {
    fn put(&mut self, name: &'static str, text: impl Into<String>) {
        self.0.push((name, text.into()));
    }

    fn put_json(&mut self, name: &'static str, value: &Value) {
        self.put(name, format!("{value:#}\n"));
    }
}

pub(super) fn act(args: &Support, file: Option<&Path>) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let read = config::read(file);
    let id = match &read {
        Ok(settings) => settings.optional_text("gateway.id").ok().flatten(),
        Err(_) => None,
    };
    let name = format!("milepost-support-{}.tar.zst", id.unwrap_or("gateway"));
    let out = args.out.clone().unwrap_or_else(|| name.into());

    let parts = gather(read.as_ref(), file, now_ms)?;
    let parts: Vec<(&str, String)> = parts
        .0
        .into_iter()
        .map(|(name, text)| {
            let text = if args.full_imei {
                text
            } else {
                shortened(&text)
            };
            (name, text)
        })
        .collect();
    let files = parts.iter().map(|(name, text)| (*name, text.as_bytes()));
    let packed = contract::bundle::pack(files, now_ms, true);
    let written = packed.and_then(|bytes| {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&out)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        Ok(bytes.len())
    });
    let bytes = written.map_err(|error| {
        Failure::new(2, format!("{} cannot be written: {error}", out.display()))
    })?;
    if args.json {
        let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        output::line(&json!({ "file": out.display().to_string(), "bytes": bytes, "parts": names }));
    } else {
        output::print(&format!("{} is written, {bytes} bytes:\n", out.display()));
        for (name, text) in &parts {
            output::print(&format!("  {name:<16} {} bytes\n", text.len()));
        }
    }
    Ok(())
}

fn gather(
    read: Result<&Settings, &config::ConfigError>,
    file: Option<&Path>,
    now_ms: u64,
) -> Result<Parts, Failure> {
    let mut parts = Parts(Vec::new());
    parts.put_json(
        "version.json",
        &json!({
            "gateway": env!("CARGO_PKG_VERSION"),
            "entry_version": contract::version::ENTRY_VERSION_WRITTEN,
            "made_ms": now_ms,
        }),
    );
    let mut findings = String::new();
    let runtime = runtime()?;
    // A Redis that does not answer holds up each look at it.
    let looked = runtime.block_on(async {
        let look = check::run(file, |finding| findings += &format!("{}\n", finding.json()));
        tokio::time::timeout(CHECK_MAX, look).await
    });
    if looked.is_err() {
        findings += "{\"group\":\"support\",\"what\":\"the check took too long and was ended\"}\n";
    }
    parts.put("check.json", findings);
    let settings = match read {
        Ok(settings) => settings,
        Err(error) => {
            parts.put("settings.txt", format!("{}\n", chain(error)));
            parts.put_json("machine.json", &machine::facts(Path::new("/")));
            return Ok(parts);
        }
    };
    parts.put_json("settings.json", &of_settings(settings));
    let dir = settings.path("spool.dir").unwrap_or_else(|_| "/".into());
    parts.put_json("machine.json", &machine::facts(&dir));
    parts.put(
        "unit.txt",
        machine::unit().unwrap_or("systemctl knows no such unit\n".to_owned()),
    );
    let place = Place {
        dir,
        bytes_max: settings.bytes("spool.bytes_max").ok(),
    };
    match spool_cli::facts(&place) {
        Ok(facts) => parts.put("spool.json", facts),
        Err(error) => parts.put("spool.txt", format!("{}\n", chain(&error))),
    }
    let Ok(addr) = ask::addr(settings) else {
        parts.put(
            "running.txt",
            "http.listen is empty: a running gateway cannot be asked\n",
        );
        return Ok(parts);
    };
    match ask::get(addr, "/support") {
        Ok(Some(said)) => parts.put_json("running.json", &said),
        Ok(None) => parts.put("running.txt", "the running gateway has no page /support\n"),
        Err(error) => parts.put("running.txt", format!("{}\n", chain(&error))),
    }
    if let Ok(Some(metrics)) = ask::text(addr, "/metrics") {
        parts.put("metrics.txt", metrics);
    }
    Ok(parts)
}

/// Longest that `gateway check` may take.
const CHECK_MAX: Duration = Duration::from_secs(60);
