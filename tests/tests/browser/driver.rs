//! One scenario in a headless Chromium, with which a test takes turns.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests::processes::Road;
use tests::servers::{node, skipped};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Longer than the browser's own patience, so that its words are heard.
const PATIENCE: Duration = Duration::from_secs(150);

/// What `./dev` found: a Chromium, and a directory with the npm packages of `cloud/web`.
pub(crate) struct Places {
    pub(crate) chromium: PathBuf,
    pub(crate) web: PathBuf,
    pub(crate) node: PathBuf,
}

fn given(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// Where the sources of the app are.
pub(crate) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cloud/web")
}

/// Node.js and the packages. `None`, after a loud line, when they are not there.
pub(crate) fn packages() -> Result<Option<(PathBuf, PathBuf)>> {
    let found = given("MILEPOST_WEB_DIR").map(|web| (node(), PathBuf::from(web)));
    match found {
        Some((Ok(node), web)) => {
            let there = web.join("node_modules/playwright-core").is_dir();
            ensure!(
                there,
                "MILEPOST_WEB_DIR has no packages: npm ci in {}",
                web.display()
            );
            Ok(Some((node.path, web)))
        }
        Some((Err(why), _)) => {
            skipped(&format!(
                "the web app's tests: Node.js 20 is missing: {why}"
            ))?;
            Ok(None)
        }
        None => {
            skipped("the web app's tests: ./dev test --all fetches a browser and the packages")?;
            Ok(None)
        }
    }
}

/// `None`, after a loud line, when something is not there.
pub(crate) fn places() -> Result<Option<Places>> {
    let Some((node, web)) = packages()? else {
        return Ok(None);
    };
    let Some(chromium) = given("MILEPOST_CHROMIUM").map(PathBuf::from) else {
        skipped("browser tests: there is no Chromium (MILEPOST_CHROMIUM)")?;
        return Ok(None);
    };
    Ok(Some(Places {
        chromium,
        web,
        node,
    }))
}

/// A running scenario. Dropping it ends the browser.
pub(crate) struct Driver {
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
    answers: ChildStdin,
    scenario: &'static str,
}

impl Driver {
    pub(crate) fn start(places: &Places, road: &Road, scenario: &'static str) -> Result<Self> {
        let mut process = Command::new(&places.node)
            .arg(sources().join("e2e/run.mjs"))
            .arg(scenario)
            .env("MILEPOST_WEB_DIR", &places.web)
            .env("MILEPOST_CHROMIUM", &places.chromium)
            .env("MILEPOST_URL", format!("http://{}", road.cloud.http_addr()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Chromium goes when the pipe to it is closed.
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", places.node.display()))?;
        let said = process.stdout.take().context("the pipe we asked for")?;
        let answers = process.stdin.take().context("the pipe we asked for")?;
        Ok(Self {
            process,
            said: BufReader::new(said).lines(),
            answers,
            scenario,
        })
    }

    /// Waits until the scenario is at `step`, and gives all it says there.
    pub(crate) async fn until(&mut self, step: &str) -> Result<Value> {
        let line = tokio::time::timeout(PATIENCE, self.said.next_line()).await;
        let line = line.with_context(|| format!("{}: silent before {step}", self.scenario))??;
        let Some(line) = line else {
            let why = self.complaint().await;
            bail!("{} ended before {step}: {why}", self.scenario);
        };
        let said: Value = serde_json::from_str(&line).context(line)?;
        ensure!(
            said["step"] == step,
            "{}: {said}, expected {step}",
            self.scenario
        );
        Ok(said)
    }

    /// Our part is done: the scenario goes on, knowing this.
    pub(crate) async fn go(&mut self, answer: &str) -> Result<()> {
        let line = format!("{answer}\n");
        Ok(self.answers.write_all(line.as_bytes()).await?)
    }

    /// Waits for its end and gives its last words.
    pub(crate) async fn done(mut self) -> Result<Value> {
        let said = self.until("done").await?;
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await??;
        let why = self.complaint().await;
        ensure!(status.success(), "{}: {status}: {why}", self.scenario);
        eprintln!("{}: {said}", self.scenario);
        Ok(said)
    }

    async fn complaint(&mut self) -> String {
        let mut words = String::new();
        if let Some(stderr) = &mut self.process.stderr {
            // What cannot be read is not worth another complaint.
            let _ = tokio::time::timeout(PATIENCE, stderr.read_to_string(&mut words)).await;
        }
        words
    }
}
