//! One server process that cannot outlive us.
//!
//! A test may be killed at any instruction, so dropping a handle is not enough: a small shell stands
//! between us and the server and reads a pipe that only we hold open. When we die, however we die,
//! the kernel closes the pipe, and a child of the shell kills the server and removes its directory.
//! (`PR_SET_PDEATHSIG` would need unsafe code here, and is lost when the server changes its user.)
//!
//! Invariants: the pipe stays open as long as the handle lives, also while we wait for the server.
//! Shell and server are in a process group of their own, so that Ctrl-C in a terminal
//! reaches our own process alone and servers are still there while it drains.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::find::Binary;
use super::{LOOK_AGAIN, STOP_TIMEOUT};

/// Standard input is our pipe, standard output tells us the pid, standard error is the log file.
/// When the pipe ends we are dead: the reader kills the shell first (or the shell would kill the
/// reader), then the server, then removes the directory, twice because a dying server's children may
/// still write. When the server ends first, the reader goes and the server's status becomes ours.
const SUPERVISOR: &str = r#"
exec 3<&0
home=$1; shift
"$@" </dev/null >&2 3<&- & server=$!
{
    read -r _ <&3
    kill -9 $$; kill -9 "$server"
    cd /; rm -rf "$home" || { sleep 1; rm -rf "$home"; }
} 2>/dev/null >&2 & reader=$!
echo "$server"
exec >&-
wait "$server"; status=$?
kill -9 "$reader"
exit "$status"
"#;

/// An unprivileged identity a server is started with when we are root.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunAs {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What to run. The server's output goes to `log`, appended. `home` is removed when we die.
pub(super) struct Launch<'a> {
    pub(super) binary: &'a Binary,
    pub(super) args: Vec<&'a OsStr>,
    pub(super) home: &'a Path,
    pub(super) log: PathBuf,
    pub(super) run_as: Option<RunAs>,
}

/// A running (or just ended) server with its supervisor.
#[derive(Debug)]
pub(super) struct Process {
    supervisor: Child,
    /// Kept out of `supervisor`, whose `wait` would close it.
    _alive: ChildStdin,
    server: Pid,
    log: PathBuf,
}

impl Process {
    pub(super) fn spawn(launch: Launch<'_>) -> Result<Self> {
        let path = &launch.binary.path;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&launch.log)?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SUPERVISOR, "supervisor"])
            .args([launch.home, path])
            .args(launch.args)
            .current_dir(launch.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        launch.binary.prepare(&mut command);
        if let Some(RunAs { uid, gid }) = launch.run_as {
            command.uid(uid).gid(gid);
        }
        let mut supervisor = command
            .spawn()
            .with_context(|| format!("start {}", path.display()))?;
        let mut line = String::new();
        let stdout = supervisor
            .stdout
            .take()
            .context("the pipe we just asked for")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let server = line.trim().parse().ok().and_then(Pid::from_raw);
        let server =
            server.with_context(|| format!("no pid from the supervisor of {}", path.display()))?;
        let alive = supervisor
            .stdin
            .take()
            .context("the pipe we just asked for")?;
        Ok(Self {
            supervisor,
            _alive: alive,
            server,
            log: launch.log,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.as_raw_nonzero().get().unsigned_abs()
    }

    /// `Some` when the server has ended.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.supervisor.try_wait()?)
    }

    /// Sends a signal, unless the server has ended: its pid may belong to someone else by then.
    pub(super) fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!(
                "the server has ended ({status}); its last words: {}",
                self.last_words()
            );
        }
        kill_process(self.server, signal).with_context(|| format!("signal pid {}", self.pid()))
    }

    /// Kills the server and waits until it is gone. Works on a stopped (paused) one too.
    pub(super) fn kill9(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.signal(Signal::KILL)?;
            self.supervisor.wait()?;
        }
        Ok(())
    }

    /// Asks the server to stop and waits; kills it when it takes longer than [`STOP_TIMEOUT`].
    pub(super) async fn stop(&mut self, polite: Signal) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        self.signal(polite)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.ended()?.is_none() {
            if Instant::now() > deadline {
                return self.kill9();
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// The end of the server's log: what to print when it did not come up.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the closed pipe kills the server anyway.
        let _ = self.kill9();
    }
}
