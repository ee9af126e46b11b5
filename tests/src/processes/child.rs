//! One child process that cannot outlive us.
//!
//! A shell stands between us and the program and listens on a pipe that we alone hold open.
//! When we are gone, however we went, the pipe ends, and the shell kills the program and
//! removes the directory it was told to. Both are in a process group of their own: Ctrl-C in
//! a terminal must reach us alone, the programs have to stay while we drain.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child as Shell, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Arguments: a directory to remove when we die (or nothing), then the program and its
/// arguments. The shell's standard error is the log. The watcher kills the shell before the
/// program, because the shell, seeing the program end, would kill the watcher; it removes the
/// directory twice, because a dying program may still write.
const SUPERVISOR: &str = r#"
doomed=$1; shift
exec 3<&0
"$@" </dev/null >&2 3<&- & program=$!
(
    read -r _ <&3
    kill -9 $$ "$program"
    if [ -n "$doomed" ]; then cd /; rm -rf "$doomed" || { sleep 1; rm -rf "$doomed"; }; fi
) >/dev/null 2>&1 & watcher=$!
echo "$program"
exec >&-
wait "$program"; status=$?
kill -9 "$watcher"
exit "$status"
"#;

/// Pause between two looks at a process that is about to end.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What to start.
pub(super) struct Launch<'a> {
    /// Program and arguments.
    pub(super) words: &'a [OsString],
    /// Where it runs.
    pub(super) dir: &'a Path,
    /// Removed if we die without saying goodbye.
    pub(super) doomed: Option<&'a Path>,
    /// Appended to.
    pub(super) log: &'a Path,
}

/// A started program. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Child {
    shell: Shell,
    /// Apart from `shell`, whose `wait` would close it and so kill the program.
    _alive: Option<ChildStdin>,
    program: Pid,
}

impl Child {
    pub(super) fn start(launch: &Launch<'_>) -> Result<Child> {
        let log = File::options().create(true).append(true).open(launch.log);
        let log = log.with_context(|| format!("log file {}", launch.log.display()))?;
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(launch.doomed.unwrap_or(Path::new("")))
            .args(launch.words)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .current_dir(launch.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("start /bin/sh")?;
        let alive = shell.stdin.take().context("the pipe we asked for")?;
        let mut pid = String::new();
        let stdout = shell.stdout.take().context("the pipe we asked for")?;
        BufReader::new(stdout).read_line(&mut pid)?;
        let program = pid.trim().parse().ok().and_then(Pid::from_raw);
        let program = program.with_context(|| format!("the shell said `{pid}` for a pid"))?;
        Ok(Child {
            shell,
            _alive: Some(alive),
            program,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.program.as_raw_nonzero().get().unsigned_abs()
    }

    /// `Some` once the program has ended.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.shell.try_wait()?)
    }

    /// Does nothing to a program that has ended: its pid may be somebody else's by now.
    pub(super) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended()?.is_none() {
            kill_process(self.program, signal).with_context(|| format!("signal {}", self.pid()))?;
        }
        Ok(())
    }

    pub(super) fn kill9(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        Ok(self.shell.wait()?)
    }

    /// SIGTERM, and SIGKILL for what is still there after `patience`.
    pub(super) async fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return self.kill9();
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The closing pipe kills it if this fails.
        let _ = self.kill9();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Place {
        dir: tempfile::TempDir,
        log: std::path::PathBuf,
    }

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            let log = dir.path().join("log");
            Place { dir, log }
        }

        fn start(&self, script: &str, doomed: Option<&Path>) -> Child {
            let words: Vec<OsString> = ["/bin/sh", "-c", script].map(OsString::from).into();
            let dir = self.dir.path();
            Child::start(&Launch {
                words: &words,
                dir,
                doomed,
                log: &self.log,
            })
            .unwrap()
        }

        fn log(&self) -> String {
            std::fs::read_to_string(&self.log).unwrap()
        }

        async fn until_logged(&self, text: &str) {
            until(|| self.log().contains(text)).await;
        }
    }

    async fn until(mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "waited too long");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn runs(pid: u32) -> bool {
        // A zombie that init has not fetched yet is as dead as can be.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    #[tokio::test]
    async fn runs_with_an_empty_environment_and_its_status_is_told() {
        let place = Place::new();
        let mut child = place.start("echo home=$HOME, here=$PWD; exit 7", None);
        until(|| child.ended().unwrap().is_some()).await;
        assert_eq!(child.ended().unwrap().unwrap().code(), Some(7));
        let dir = place.dir.path().canonicalize().unwrap();
        assert_eq!(place.log(), format!("home=, here={}\n", dir.display()));
        // Signalling what has ended does nothing, least of all to somebody else.
        child.signal(Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn asks_first_and_kills_what_does_not_listen() {
        let place = Place::new();
        let polite = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done";
        let deaf = "trap '' TERM; echo deaf; while :; do sleep 0.02; done";
        let mut child = place.start(polite, None);
        place.until_logged("ready").await;
        let status = child.terminate(Duration::from_secs(20)).await.unwrap();
        assert_eq!(status.code(), Some(0));

        let mut child = place.start(deaf, None);
        place.until_logged("deaf").await;
        let pid = child.pid();
        let status = child.terminate(Duration::from_millis(100)).await.unwrap();
        assert!(!status.success() && !runs(pid));
    }

    #[tokio::test]
    async fn dies_with_its_handle_and_with_us() {
        let place = Place::new();
        let doomed = tempfile::tempdir().unwrap().keep();
        std::fs::write(doomed.join("file"), "x").unwrap();
        let child = place.start("exec sleep 1000", Some(&doomed));
        let pid = child.pid();
        assert!(runs(pid));
        drop(child);
        assert!(!runs(pid));
        assert!(
            doomed.exists(),
            "a handle that is dropped has an owner who tidies up"
        );

        // What the kernel does when this process is killed: the pipe ends, and nothing else.
        let mut child = place.start("exec sleep 1000", Some(&doomed));
        let pid = child.pid();
        child._alive = None;
        until(|| !runs(pid) && !doomed.exists()).await;
    }
}
