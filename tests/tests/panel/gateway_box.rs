//! A gateway binary with an environment of the test's choosing and no Redis.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
pub(super) use tests::processes::Ran;
use tests::processes::{get, program_path};
use tests::servers::Port;
use tests::tables::eventually;
use tokio::sync::mpsc;

/// A child that ends with its handle.
pub(super) struct Killed(pub(super) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Killed {
    /// What it prints from now on, line by line.
    pub(super) fn lines(&mut self) -> Result<mpsc::Receiver<String>> {
        let lines = BufReader::new(self.0.stdout.take().context("its output")?).lines();
        let (put, shown) = mpsc::channel(64);
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .all(|line| put.blocking_send(line).is_ok())
        });
        Ok(shown)
    }
}

/// The program, in an empty environment.
pub(super) fn program() -> Result<Command> {
    let mut command = Command::new(program_path("gateway")?);
    command.env_clear();
    Ok(command)
}

/// A running gateway.
pub(super) struct GatewayBox {
    child: Killed,
    http: Port,
    tcp: Port,
    dir: tempfile::TempDir,
}

impl GatewayBox {
    /// Starts one and waits until trackers are let in.
    pub(super) async fn start(settings: &str, environment: &[(&str, &str)]) -> Result<Self> {
        Self::start_on("127.0.0.1", settings, environment).await
    }

    /// The same, with pages on another address.
    pub(super) async fn start_on(
        http: &str,
        settings: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let mut gateway = Self::spawn_on(http, settings, environment)?;
        eventually("the gateway is ready", async || {
            if let Some(status) = gateway.child.0.try_wait()? {
                bail!("gateway ended at once ({status}): {}", gateway.log()?);
            }
            let answer = get(gateway.http(), "/ready").await;
            Ok(answer.is_ok_and(|(code, _)| code == 200))
        })
        .await?;
        Ok(gateway)
    }

    /// Starts one and waits for nothing.
    pub(super) fn spawn(settings: &str, environment: &[(&str, &str)]) -> Result<Self> {
        Self::spawn_on("127.0.0.1", settings, environment)
    }

    fn spawn_on(http_on: &str, settings: &str, environment: &[(&str, &str)]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (http, tcp) = (Port::free()?, Port::free()?);
        let spool = dir.path().join("spool");
        // Sections may stand once only: what a test adds to [spool] and [log] comes with it.
        let section = |name: &str, ours: &str| {
            let theirs = settings.split(&format!("[{name}]\n")).nth(1).unwrap_or("");
            format!(
                "[{name}]\n{ours}\n{}\n",
                theirs.split("\n[").next().unwrap_or("")
            )
        };
        let text = [
            section("gateway", "id = \"panel-test\""),
            section(
                "listen",
                &format!(
                    "tcp = [\"127.0.0.1:{0}\"]\nudp = [\"127.0.0.1:{0}\"]",
                    tcp.number()
                ),
            ),
            section("http", &format!("listen = \"{http_on}:{}\"", http.number())),
            section(
                "spool",
                &format!("dir = \"{}\"\nbytes_max = \"64MiB\"", spool.display()),
            ),
            section("access", ""),
            section("log", "format = \"json\""),
            // Nobody listens there.
            match settings.contains("[uplink]") {
                true => section("uplink", ""),
                false => section("uplink", "url = \"redis://127.0.0.1:1/\""),
            },
        ];
        let file = dir.path().join("gateway.toml");
        std::fs::write(&file, text.concat())?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let child = program()?
            .args(["run", "--config"])
            .arg(&file)
            .envs(environment.iter().copied())
            .current_dir(dir.path())
            .stderr(log)
            .spawn()?;
        Ok(Self {
            child: Killed(child),
            http,
            tcp,
            dir,
        })
    }

    pub(super) fn http(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.http.number()).into()
    }

    pub(super) fn tcp(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.tcp.number()).into()
    }

    pub(super) fn udp(&self) -> SocketAddr {
        // The same number: the protocols do not share ports.
        self.tcp()
    }

    pub(super) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// A command of the program with the settings of this gateway.
    pub(super) fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = program()?;
        command.args(words).arg("--config");
        command.arg(self.dir.path().join("gateway.toml"));
        command.current_dir(self.dir.path());
        Ok(command)
    }

    /// The same, to its end.
    pub(super) async fn call(&self, words: &[&str]) -> Result<Ran> {
        let mut command = self.command(words)?;
        Ran::of(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    /// Ends it and starts it again with the same settings and directory.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.wait().await?;
        let mut command = self.command(&["run"])?;
        let log = std::fs::File::options()
            .append(true)
            .open(self.dir.path().join("log"))?;
        self.child = Killed(command.stderr(log).spawn()?);
        eventually("the gateway is ready again", async || {
            Ok(get(self.http(), "/ready")
                .await
                .is_ok_and(|(code, _)| code == 200))
        })
        .await
    }

    /// Its output so far.
    pub(super) fn log(&self) -> Result<String> {
        let path: PathBuf = self.dir.path().join("log");
        Ok(std::fs::read_to_string(path)?)
    }

    pub(super) async fn json(&self, path: &str) -> Result<Value> {
        let (code, body) = get(self.http(), path).await?;
        if code != 200 {
            bail!("{path}: {code} {body}");
        }
        serde_json::from_str(&body).with_context(|| body)
    }

    /// The codes of the events, latest first.
    pub(super) async fn codes(&self) -> Result<Vec<String>> {
        let events = self.json("/events").await?;
        let events = events["events"].as_array().context("no list")?;
        let codes = events.iter().filter_map(|event| event["code"].as_str());
        Ok(codes.map(str::to_owned).collect())
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.0.id())?;
        Ok(kill_process(Pid::from_raw(pid).context("a pid")?, signal)?)
    }

    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        eventually("the gateway ends", async || {
            status = self.child.0.try_wait()?;
            Ok(status.is_some())
        })
        .await?;
        status.context("it ended")
    }
}
