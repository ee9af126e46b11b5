//! A computer in QEMU: a disk, a network to this machine alone, a serial console to type at.
//!
//! Invariants: it cannot outlive us; what it said is kept, also across a restart; a command on the
//! console is told from its echo by a mark that the echo does not have.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::child::{Child, Environment, Launch};
use crate::servers::Port;

/// Where the machine's system finds ours.
pub const HOST: &str = "10.0.2.2";

/// Where its gateway lets trackers in.
const TRACKERS: u16 = 5027;

/// Emulated processors are slow, and two may share one of ours.
const PATIENCE: Duration = Duration::from_secs(180);

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The shell's, where consoles of ours begin.
const PROMPT: &str = "box # ";

/// A line that nobody echoed.
const TYPE_AGAIN: Duration = Duration::from_secs(3);

/// What it is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The emulator.
    pub qemu: PathBuf,
    /// Its words for the kind of machine: `-M virt …`.
    pub kind: Vec<String>,
    /// What it starts with.
    pub firmware: PathBuf,
    /// Its disk, written to.
    pub disk: PathBuf,
    /// A second disk, only read.
    pub stick: Option<PathBuf>,
}

/// A machine, running or cut off.
#[derive(Debug)]
pub struct Machine {
    child: Option<Child>,
    console: Option<UnixStream>,
    said: Arc<Mutex<String>>,
    parts: Parts,
    dir: tempfile::TempDir,
    trackers: Port,
    typed: u32,
}

/// What a command on the console printed and how it ended.
#[derive(Debug)]
pub struct Typed {
    /// Its exit code.
    pub code: i32,
    /// Everything between its echo and its end.
    pub out: String,
}

impl Typed {
    /// It ended with this code and these words.
    ///
    /// # Errors
    /// It did not.
    pub fn with(self, code: i32, words: &str) -> Result<Self> {
        ensure!(
            self.code == code && self.out.contains(words),
            "{code} with `{words}` expected: {self:?}"
        );
        Ok(self)
    }
}

impl Machine {
    /// Prepares; nothing runs yet.
    ///
    /// # Errors
    /// When there is no directory or port for it.
    pub fn new(parts: Parts) -> Result<Self> {
        Ok(Self {
            child: None,
            console: None,
            said: Arc::default(),
            parts,
            dir: tempfile::Builder::new()
                .prefix("milepost-qemu-")
                .tempdir()?,
            trackers: Port::free()?,
            typed: 0,
        })
    }

    /// Where trackers reach its gateway.
    #[must_use]
    pub fn tcp_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.trackers.number()).into()
    }

    /// Switches it on.
    ///
    /// # Errors
    /// When the emulator does not start.
    pub fn start(&mut self) -> Result<()> {
        let socket = self.dir.path().join("console");
        let _ = std::fs::remove_file(&socket);
        let words = self.words(&socket);
        let mut child = Child::start(Launch {
            words: words.iter().map(OsString::as_os_str).collect(),
            environment: Environment::Ours(None),
            dir: self.dir.path(),
            doomed: Some(self.dir.path()),
            log: self.dir.path().join("qemu.log"),
            run_as: None,
        })?;
        let deadline = Instant::now() + PATIENCE;
        let console = loop {
            if let Ok(console) = UnixStream::connect(&socket) {
                break console;
            }
            if child.ended()?.is_some() || Instant::now() > deadline {
                bail!("QEMU does not start: {}", child.last_words());
            }
            std::thread::sleep(LOOK_AGAIN);
        };
        let (mut reader, said) = (console.try_clone()?, Arc::clone(&self.said));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                said.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&text);
            }
        });
        self.console = Some(console);
        self.child = Some(child);
        Ok(())
    }

    fn words(&self, socket: &Path) -> Vec<OsString> {
        let drive = |id: &str, path: &Path, more: &str| {
            format!("if=none,id={id},format=raw,file={}{more}", path.display())
        };
        let mut words = vec![
            self.parts.qemu.clone().into_os_string(),
            "-bios".into(),
            self.parts.firmware.clone().into_os_string(),
        ];
        let mut add = |text: &str| words.extend(text.split(' ').map(OsString::from));
        add("-smp 2 -m 256 -nodefaults -display none -action watchdog=reset");
        self.parts.kind.iter().for_each(|word| add(word));
        add("-drive");
        add(&drive("disk", &self.parts.disk, ""));
        add("-device virtio-blk-pci,drive=disk");
        if let Some(stick) = &self.parts.stick {
            add("-drive");
            add(&drive("stick", stick, ",readonly=on"));
            add("-device virtio-blk-pci,drive=stick");
        }
        let port = self.trackers.number();
        add("-device virtio-net-pci,netdev=net,romfile= -netdev");
        add(&format!(
            "user,id=net,hostfwd=tcp:127.0.0.1:{port}-:{TRACKERS}"
        ));
        // Waits for us, so that nothing it says is lost.
        add("-serial chardev:console -chardev");
        let socket = socket.display();
        add(&format!(
            "socket,id=console,path={socket},server=on,wait=on"
        ));
        words
    }

    /// Pulls the plug: SIGKILL.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn cut(&mut self) -> Result<()> {
        self.console = None;
        if let Some(mut child) = self.child.take() {
            child.kill9()?;
        }
        Ok(())
    }

    /// Everything it said on its console so far.
    #[must_use]
    pub fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    /// The last of it.
    #[must_use]
    pub fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Waits until it has said `words` so often, since it was made.
    ///
    /// # Errors
    /// When it does not in time, or ends.
    pub async fn says(&mut self, words: &str, times: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.said().matches(words).count() < times {
            self.runs(deadline)
                .with_context(|| format!("`{words}` for the {times}th time"))?;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Waits for the `times`th start since it was made, then for a shell on the console; `""` for any
    /// slot.
    ///
    /// # Errors
    /// When it does not in time, or ends.
    pub async fn started(&mut self, slot: &str, times: usize) -> Result<()> {
        let mark = "milepost: slot ";
        self.says(mark, times).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.said();
            let (_, after) = said.rsplit_once(mark).context("it was there")?;
            if after.contains(PROMPT) {
                ensure!(after.starts_with(slot), "slot {slot} expected: {after}");
                return Ok(());
            }
            self.runs(deadline)?;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn runs(&mut self, deadline: Instant) -> Result<()> {
        let child = self.child.as_mut().context("it is switched off")?;
        let ended = child.ended()?;
        if ended.is_some() || Instant::now() > deadline {
            let qemu = child.last_words();
            bail!("not in time ({ended:?}): {qemu}\n{}", self.last_words());
        }
        Ok(())
    }

    /// Types a command and waits for its end. Typed again while the shell is not there yet, so it must
    /// do no harm twice.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn run(&mut self, command: &str) -> Result<Typed> {
        self.typed += 1;
        let from = self.said().len();
        let (echo, mark) = (
            format!("E''ND-{}-$?", self.typed),
            format!("END-{}-", self.typed),
        );
        let deadline = Instant::now() + PATIENCE;
        let mut typed: Option<Instant> = None;
        loop {
            let said = self.said().split_off(from);
            if let Some((out, rest)) = said.split_once(&mark)
                && let Some((code, _)) = rest.split_once(['\r', '\n'])
            {
                let out = out.split_once(&echo).map_or(out, |(_, out)| out);
                let code = code
                    .parse()
                    .with_context(|| format!("exit code `{code}`"))?;
                let out = out.replace('\r', "");
                return Ok(Typed { code, out });
            }
            // Once it is echoed, the shell has it.
            let heard = said.contains(&echo);
            if !heard && typed.is_none_or(|at| at.elapsed() > TYPE_AGAIN) {
                typed = Some(Instant::now());
                let console = self.console.as_mut().context("it is switched off")?;
                console.write_all(format!("{command}; echo {echo}\n").as_bytes())?;
            }
            self.runs(deadline).with_context(|| command.to_owned())?;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
