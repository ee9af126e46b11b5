//! TimescaleDB for tests: PGlite with the extension inside Node.js, spoken to over the wire.
//!
//! Limits (measured, see `tests/pglite-timescale/README.md`): one session is shared by all clients, so two
//! transactions open at once in one task wait for each other; every database name is the same
//! database, so one server per test; background jobs do not run by themselves; no password. What it
//! proves is that our SQL and migrations hold on TimescaleDB. Speed and concurrency it cannot show.
//!
//! Invariant: never skipped in silence. Without Node.js or the package, one loud line says so, and
//! with `MILEPOST_REQUIRE_TIMESCALE=1` it is an error.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{LOOK_AGAIN, READY_TIMEOUT, find};
use crate::child::{Child, Launch};

/// Directory with `serve.mjs` and its `node_modules`; `./dev setup` makes one.
const DIR_VARIABLE: &str = "MILEPOST_PGLITE_DIR";

/// A running server. Dropping it kills it; its data was in memory.
#[derive(Debug)]
pub struct Timescale {
    process: Child,
    port: u16,
    _dir: TempDir,
}

impl Timescale {
    /// Starts a server on a free port (two to three seconds, about half a gigabyte of memory).
    /// `None`, after a loud line, when Node.js or the package is not there.
    ///
    /// # Errors
    /// When it is there and does not come up, or `MILEPOST_REQUIRE_TIMESCALE` forbids skipping.
    pub async fn start() -> Result<Option<Self>> {
        let (node, script) = match find::node()
            .context("Node.js")
            .and_then(|node| Ok((node, script()?)))
        {
            Ok(found) => found,
            Err(why)
                if std::env::var_os("MILEPOST_REQUIRE_TIMESCALE").is_some_and(|v| v == "1") =>
            {
                return Err(why).context("MILEPOST_REQUIRE_TIMESCALE=1 forbids skipping");
            }
            Err(why) => {
                skipped(&format!("TimescaleDB tests: no test server: {why:#}"))?;
                return Ok(None);
            }
        };
        let dir = tempfile::Builder::new()
            .prefix("milepost-timescale-")
            .tempdir()?;
        let mut process = Child::start(Launch {
            words: vec![node.path.as_os_str(), script.as_os_str(), OsStr::new("0")],
            environment: node.environment(),
            dir: dir.path(),
            doomed: Some(dir.path()),
            log: dir.path().join("timescale.log"),
            run_as: None,
        })?;
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let ready = process.last_words();
            let port = ready
                .lines()
                .find_map(|line| line.strip_prefix("ready ")?.parse().ok());
            if let Some(port) = port {
                return Ok(Some(Self {
                    process,
                    port,
                    _dir: dir,
                }));
            }
            if let Some(status) = process.ended()? {
                bail!("the TimescaleDB test server ended ({status}): {ready}");
            }
            if Instant::now() > deadline {
                bail!("the TimescaleDB test server did not get ready: {ready}");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// URL of the one database. One connection at a time makes progress.
    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "postgres://postgres:postgres@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        )
    }

    /// Process id of the server.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Says it here, and in the file that `./dev test` prints at its end: test runners hide the output of
/// a test that passes.
///
/// # Errors
/// When that file cannot be written.
pub fn skipped(what: &str) -> Result<()> {
    eprintln!("! SKIP {what}");
    if let Some(path) = std::env::var_os("MILEPOST_SKIPS") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path);
        let written = file.and_then(|mut file| writeln!(file, "SKIP {what}"));
        written.with_context(|| format!("write {}", Path::new(&path).display()))?;
    }
    Ok(())
}

/// The script where its package is installed: the directory named by the variable, or its source.
fn script() -> Result<PathBuf> {
    let dir = match std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("pglite-timescale"),
    };
    if dir.join("node_modules").is_dir() {
        return Ok(dir.join("serve.mjs"));
    }
    bail!("no node_modules in {}; run ./dev setup", dir.display())
}
