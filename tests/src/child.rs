//! One child process that cannot outlive us: a server, or a program of our own.
//!
//! We may be killed at any instruction, so dropping a handle is not enough: a shell stands between
//! us and the program and listens on a pipe that we alone hold open. When we are gone, however we
//! went, the kernel ends the pipe, and the shell's watcher kills the program and removes the
//! directory it was told to. (`PR_SET_PDEATHSIG` would need unsafe code here, and is lost when a
//! server changes its user.)
//!
//! Invariants: the pipe stays open as long as the handle lives, also while we wait for the program;
//! shell and program are in a process group of their own, so that Ctrl-C in a terminal reaches us
//! alone and they are still there while we drain; a program that has ended gets no signal, because
//! its pid may be somebody else's by then.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Shell, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

/// Arguments: a directory to remove when we die (or nothing), then the program and its
/// arguments. The shell's standard error is the log. The watcher kills the shell before the
/// program, because the shell, seeing the program end, would kill the watcher; it removes the
/// directory twice, because a dying program's children may still write. When the program ends
/// first, the watcher goes and the program's status becomes the shell's.
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

/// How much of a log is worth showing when its program did not come up.
const LAST_LINES: usize = 12;

/// An unprivileged identity for a program that refuses to be root's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunAs {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What a program sees of our environment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Environment<'a> {
    /// Nothing but a `PATH`: a stray setting of ours changes nothing.
    Empty,
    /// All of it, and this `LD_LIBRARY_PATH` if there is one.
    Ours(Option<&'a OsStr>),
}

/// What to start.
pub(crate) struct Launch<'a> {
    /// Program and arguments.
    pub(crate) words: Vec<&'a OsStr>,
    pub(crate) environment: Environment<'a>,
    /// Where it runs.
    pub(crate) dir: &'a Path,
    /// Removed if we die without saying goodbye.
    pub(crate) doomed: Option<&'a Path>,
    /// Takes its output, appended. Opened by us, so `run_as` need not be able to.
    pub(crate) log: PathBuf,
    pub(crate) run_as: Option<RunAs>,
}

/// A started program, running or just ended. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Child {
    shell: Shell,
    /// Apart from `shell`, whose `wait` would close it and so kill the program.
    _alive: Option<ChildStdin>,
    program: Pid,
    log: PathBuf,
}

impl Child {
    pub(crate) fn start(launch: Launch<'_>) -> Result<Child> {
        let name = launch.words.first().context("no program to start")?;
        let name = Path::new(name);
        let log = File::options().create(true).append(true).open(&launch.log);
        let log = log.with_context(|| format!("log file {}", launch.log.display()))?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(launch.doomed.unwrap_or(Path::new("")))
            .args(&launch.words)
            .current_dir(launch.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        match launch.environment {
            Environment::Empty => {
                command
                    .env_clear()
                    .env("PATH", "/usr/local/bin:/usr/bin:/bin");
            }
            Environment::Ours(Some(path)) => {
                command.env("LD_LIBRARY_PATH", path);
            }
            Environment::Ours(None) => {}
        }
        if let Some(RunAs { uid, gid }) = launch.run_as {
            command.uid(uid).gid(gid);
        }
        let mut shell = command
            .spawn()
            .with_context(|| format!("start /bin/sh for {}", name.display()))?;
        let alive = shell.stdin.take().context("the pipe we asked for")?;
        let mut pid = String::new();
        let stdout = shell.stdout.take().context("the pipe we asked for")?;
        BufReader::new(stdout).read_line(&mut pid)?;
        let program = pid.trim().parse().ok().and_then(Pid::from_raw);
        let program = program
            .with_context(|| format!("the shell of {} said `{pid}` for a pid", name.display()))?;
        Ok(Child {
            shell,
            _alive: Some(alive),
            program,
            log: launch.log,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.as_raw_nonzero().get().unsigned_abs()
    }

    /// `Some` once the program has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.shell.try_wait()?)
    }

    /// # Errors
    /// When the program has ended: the message has its last words.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!(
                "has ended ({status}); its last words: {}",
                self.last_words()
            );
        }
        match kill_process(self.program, signal) {
            // It ended a moment ago and the shell is about to say so.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signal {}", self.pid())),
        }
    }

    /// Kills the program and waits until it is gone. Works on a paused one and an ended one too.
    pub(crate) fn kill9(&mut self) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            self.signal(Signal::KILL)?;
        }
        Ok(self.shell.wait()?)
    }

    /// Asks the program to stop, and kills it if it is still there after `patience`.
    pub(crate) async fn stop(&mut self, polite: Signal, patience: Duration) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            self.signal(polite)?;
        }
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

    /// The end of its output.
    pub(crate) fn last_words(&self) -> String {
        last_words(&self.log)
    }
}

/// The end of a log; nothing if there is none.
pub(crate) fn last_words(log: &Path) -> String {
    let log = std::fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the closing pipe kills it anyway.
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
            let words = ["/bin/sh", "-c", script].map(OsStr::new).into();
            let dir = self.dir.path();
            Child::start(Launch {
                words,
                environment: Environment::Empty,
                dir,
                doomed,
                log: self.log.clone(),
                run_as: None,
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
        // What has ended is not signalled: it might be somebody else by now.
        assert!(child.signal(Signal::KILL).is_err());
        assert_eq!(child.kill9().unwrap().code(), Some(7));
    }

    #[tokio::test]
    async fn asks_first_and_kills_what_does_not_listen() {
        let place = Place::new();
        let polite = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done";
        let deaf = "trap '' TERM; echo deaf; while :; do sleep 0.02; done";
        let mut child = place.start(polite, None);
        place.until_logged("ready").await;
        let status = child
            .stop(Signal::TERM, Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(status.code(), Some(0));

        let mut child = place.start(deaf, None);
        place.until_logged("deaf").await;
        let pid = child.pid();
        let status = child
            .stop(Signal::TERM, Duration::from_millis(100))
            .await
            .unwrap();
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
