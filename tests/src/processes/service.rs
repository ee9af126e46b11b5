//! What gateway and cloud have in common as processes: a settings file, a log, a status page.
//!
//! Invariant: a restart changes nothing but the process: same file, same ports, same
//! directory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::http;
use super::program::program_path;
use crate::child::{Child, Environment, Launch, last_words};
use crate::servers::Port;

/// Start to first answer: well under a second, the rest is for a loaded machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A polite stop hands over what is on the way.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A key and its value: `("spool.bytes_max", "64MiB".into())`.
pub type Setting = (&'static str, Value);

/// One of our programs with everything it needs to run, running or not.
#[derive(Debug)]
pub(super) struct Service {
    name: &'static str,
    child: Option<Child>,
    settings: BTreeMap<&'static str, Value>,
    http: Port,
    dir: PathBuf,
    doomed: Option<PathBuf>,
    /// Words before the program, each of which hands over to the next: `env`, `unshare`.
    before: Vec<OsString>,
}

impl Service {
    /// Prepares; nothing runs yet. `settings` later in the list win.
    pub(super) fn new(
        name: &'static str,
        dir: &Path,
        doomed: Option<&Path>,
        settings: impl IntoIterator<Item = Setting>,
    ) -> Result<Service> {
        let http = Port::free()?;
        let mut all = BTreeMap::from([
            (
                "http.listen",
                Value::from(format!("127.0.0.1:{}", http.number())),
            ),
            ("log.format", "json".into()),
        ]);
        all.extend(settings);
        let dir = dir.to_owned();
        let doomed = doomed.map(Path::to_owned);
        Ok(Service {
            name,
            child: None,
            settings: all,
            http,
            dir,
            doomed,
            before: Vec::new(),
        })
    }

    /// From the next start on, `run` is started by these words.
    pub(super) fn start_by(&mut self, before: Vec<OsString>) {
        self.before = before;
    }

    /// Overrides a setting from the next start on.
    pub(super) fn set(&mut self, (key, value): Setting) {
        self.settings.insert(key, value);
    }

    /// Starts and waits for the first answer. What still runs is killed first.
    pub(super) async fn start(&mut self) -> Result<()> {
        self.kill9()?;
        self.write_settings()?;
        let words = self.words(&["run"])?;
        let words = self.before.iter().chain(&words);
        self.child = Some(Child::start(Launch {
            words: words.map(AsRef::as_ref).collect(),
            environment: Environment::Empty,
            dir: &self.dir,
            doomed: self.doomed.as_deref(),
            log: self.log(),
            run_as: None,
        })?);
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(status) = self.ended()? {
                bail!(
                    "{} ended at once ({status}):\n{}",
                    self.name,
                    self.last_words()
                );
            }
            // Only then: on its port somebody else may answer while it ends for want of it. The
            // gateway's pages open before its doors do.
            let page = match self.name {
                "gateway" => "/ready",
                _ => "/health",
            };
            if let Ok((200, _)) = http::get(self.http(), page).await {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} does not answer:\n{}", self.name, self.last_words());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Runs the program with other words than `run` and returns what it printed.
    pub(super) async fn call(&self, words: &[&str]) -> Result<String> {
        self.write_settings()?;
        let words = self.words(words)?;
        let output = tokio::process::Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .current_dir(&self.dir)
            .output()
            .await
            .with_context(|| format!("run {}", self.name))?;
        ensure!(
            output.status.success(),
            "{} {}: {}\n{}{}",
            self.name,
            words[1..].join(&OsString::from(" ")).to_string_lossy(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(super) fn kill9(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill9()?;
        }
        Ok(())
    }

    /// SIGTERM; SIGKILL when that takes too long. `None` if it did not run.
    pub(super) async fn terminate(&mut self) -> Result<Option<ExitStatus>> {
        match self.child.take() {
            Some(mut child) => Ok(Some(child.stop(Signal::TERM, STOP_TIMEOUT).await?)),
            None => Ok(None),
        }
    }

    pub(super) fn signal(&mut self, signal: Signal) -> Result<()> {
        let child = self
            .child
            .as_mut()
            .with_context(|| format!("{} does not run", self.name))?;
        child.signal(signal).context(self.name)
    }

    /// `Some` if it was started and has ended by itself.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), Child::ended)
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::pid)
    }

    pub(super) async fn status(&self) -> Result<Value> {
        let (code, body) = http::get(self.http(), "/status").await?;
        ensure!(code == 200, "{} /status: {code} {body}", self.name);
        serde_json::from_str(&body).with_context(|| format!("{} /status: {body}", self.name))
    }

    pub(super) fn http(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.http.number()).into()
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    /// The end of the log.
    pub(super) fn last_words(&self) -> String {
        last_words(&self.log())
    }

    fn settings_file(&self) -> PathBuf {
        self.dir.join(format!("{}.toml", self.name))
    }

    fn words(&self, words: &[&str]) -> Result<Vec<OsString>> {
        let mut all = vec![program_path(self.name)?.into_os_string()];
        all.extend(words.iter().map(OsString::from));
        all.extend(["--config".into(), self.settings_file().into_os_string()]);
        Ok(all)
    }

    /// Mode 0600: URLs hold passwords.
    fn write_settings(&self) -> Result<()> {
        let path = self.settings_file();
        let mut options = std::fs::File::options();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        let written = file.and_then(|mut file| file.write_all(toml(&self.settings)?.as_bytes()));
        written.with_context(|| format!("write {}", path.display()))
    }
}

/// Keys in sections. JSON writes strings, numbers, booleans and arrays the way TOML reads
/// them, except for escapes that no setting of ours contains.
fn toml(settings: &BTreeMap<&'static str, Value>) -> std::io::Result<String> {
    let mut text = String::new();
    let mut open = "";
    for (name, value) in settings {
        let (section, key) = name.split_once('.').unwrap_or(("", name));
        if section != open {
            let _ = writeln!(text, "[{section}]");
            open = section;
        }
        let _ = writeln!(text, "{key} = {}", serde_json::to_string(value)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_become_toml_by_section() {
        let settings = BTreeMap::from([
            ("uplink.flush", Value::from("250ms")),
            ("listen.tcp", serde_json::json!(["127.0.0.1:1"])),
            ("uplink.compress", true.into()),
        ]);
        let expected =
            "[listen]\ntcp = [\"127.0.0.1:1\"]\n[uplink]\ncompress = true\nflush = \"250ms\"\n";
        assert_eq!(toml(&settings).unwrap(), expected);
    }
}
