//! A bare box in the field: what `gateway config import` puts in place, and a gateway that runs on it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::processes::{get, program_path};
use tests::servers::Port;
use tests::tables::eventually;

use super::program::Ran;

/// A box. Its gateway ends with it.
pub(super) struct FieldBox {
    child: Option<Child>,
    dir: tempfile::TempDir,
    tcp: Port,
    http: Port,
}

impl Drop for FieldBox {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl FieldBox {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            child: None,
            dir: tempfile::tempdir()?,
            tcp: Port::free()?,
            http: Port::free()?,
        })
    }

    /// What would be `/etc/milepost`.
    pub(super) fn etc(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    /// `gateway config import`.
    pub(super) fn import(&self, bundle: &Path, words: &[&str]) -> Result<Ran> {
        let mut command = Command::new(program_path("gateway")?);
        command.env_clear().args(["config", "import"]).arg(bundle);
        command.arg("--dir").arg(self.etc()).args(words);
        Ran::of(command.output()?)
    }

    /// Starts the gateway with the settings of the bundle and waits until it lets trackers in. What a
    /// test needs otherwise (ports, a place for its spool) comes by its environment.
    pub(super) async fn start(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))?;
        let mut command = Command::new(program_path("gateway")?);
        command
            .args(["run", "--config"])
            .arg(self.etc().join("gateway.toml"))
            .env_clear()
            .env("GATEWAY__LISTEN__TCP", self.tcp_addr().to_string())
            .env("GATEWAY__LISTEN__UDP", "")
            .env("GATEWAY__HTTP__LISTEN", self.http().to_string())
            .env("GATEWAY__ACCESS__MODE", "open")
            .env("GATEWAY__SPOOL__DIR", self.dir.path().join("spool"))
            .env("GATEWAY__SPOOL__BYTES_MAX", "64MiB")
            .env("GATEWAY__UPLINK__RETRY_MAX", "500ms")
            .current_dir(self.dir.path())
            .stderr(log);
        self.child = Some(command.spawn()?);
        eventually("the gateway is ready", async || {
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().ok()?) {
                bail!("gateway ended at once ({status}): {}", self.log()?);
            }
            let answer = get(self.http(), "/ready").await;
            Ok(answer.is_ok_and(|(code, _)| code == 200))
        })
        .await
    }

    /// SIGTERM, and waits until it is gone.
    pub(super) fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            if let Some(pid) = Pid::from_raw(i32::try_from(child.id())?) {
                kill_process(pid, Signal::TERM)?;
            }
            child.wait()?;
        }
        Ok(())
    }

    pub(super) fn tcp_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.tcp.number()).into()
    }

    fn http(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.http.number()).into()
    }

    /// What `/status` says.
    pub(super) async fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&get(self.http(), "/status").await?.1)?)
    }

    pub(super) fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join("log"))?)
    }
}
