//! Some threads of a process made to stand still while the others go on, the way a debugger does.
//!
//! Why Python: `ptrace` is no safe call, and its `ctypes` is on every machine that runs these tests.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// Seizes and stops each thread it is given, says so, and lets go when its input ends.
const DEBUGGER: &str = "
import ctypes, sys
SEIZE, INTERRUPT = 0x4206, 0x4207  # linux/ptrace.h
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
for thread in map(int, sys.argv[1:]):
    for request in SEIZE, INTERRUPT:
        if libc.ptrace(request, thread, None, None) == -1:
            sys.exit('errno %d' % ctypes.get_errno())
print('held', flush=True)
sys.stdin.read()
";

/// Dropped, the threads go on.
pub(super) struct Frozen(Child);

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Holds every thread of `pid` whose name begins so. `None` where nobody may.
pub(super) fn freeze(pid: u32, name: &str) -> Result<Option<Frozen>> {
    let mut threads = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        if std::fs::read_to_string(task.path().join("comm"))?.starts_with(name) {
            threads.push(task.file_name());
        }
    }
    ensure!(!threads.is_empty(), "{pid} has no thread {name}");
    let debugger = Command::new("python3")
        .args(["-c", DEBUGGER])
        .args(threads)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut debugger = match debugger {
        Ok(child) => Frozen(child),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => bail!("python3: {error}"),
    };
    let mut said = String::new();
    let out = debugger.0.stdout.take().context("it is piped")?;
    BufReader::new(out).read_line(&mut said)?;
    // It says why itself, on standard error.
    Ok((said == "held\n").then_some(debugger))
}
