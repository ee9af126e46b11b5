//! A private Redis (or Valkey): TLS with client certificates only, ACL users, append-only file.
//!
//! Invariants: there is no plain port and no default user, as in production; what was acknowledged
//! survives `kill9` and `restart`, because the append-only file is written before the reply
//! (`appendfsync everysec`: only a power cut could lose it).

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use super::redis_access::{ACL_FILE, GATEWAY, RedisAccess};
use super::tls_front::TlsFront;
use super::{Binary, LOOK_AGAIN, PORT_TRIES_MAX, Pki, Port, READY_TIMEOUT, STOP_TIMEOUT};
use super::{find, install_tls_provider};
use crate::child::{Child, Launch};

/// Where a server built without TLS listens, in its directory.
const SOCKET: &str = "redis.sock";

/// What a test may want to be different.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Gateway ids. Each is also the name of its ACL user and of its client certificate.
    pub gateways: Vec<String>,
    /// `maxmemory` in bytes; 0 is no limit. The policy is always `noeviction`.
    pub memory_bytes_max: u64,
    /// More lines for its configuration file.
    pub config: Vec<String>,
    /// A configuration file to start with instead of ours; only addresses, files and what starts it
    /// are set on top.
    pub base: Option<PathBuf>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            gateways: vec![GATEWAY.to_owned()],
            memory_bytes_max: 0,
            config: Vec::new(),
            base: None,
        }
    }
}

/// A running server and the way into it. Dropping it kills it and removes its directory.
#[derive(Debug)]
pub struct Redis {
    // Fields drop in this order: first the process, then what it stands on.
    process: Child,
    _front: Option<TlsFront>,
    access: RedisAccess,
    pki: Pki,
    /// Kept, so that nobody takes it while the server is down.
    _port: Port,
    binary: Binary,
    dir: TempDir,
}

/// Whoever may talk to a server may talk to one of ours.
impl Deref for Redis {
    type Target = RedisAccess;

    fn deref(&self) -> &RedisAccess {
        &self.access
    }
}

impl Redis {
    /// Starts a server in a fresh directory on a free port and waits until it answers.
    ///
    /// # Errors
    /// When no server binary is found (the text says what to do) or the server does not come up
    /// (the text carries the end of its log).
    pub async fn start(options: RedisOptions) -> Result<Self> {
        Self::start_as(find::redis_server()?, options).await
    }

    /// The same with this program.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_as(binary: Binary, options: RedisOptions) -> Result<Self> {
        install_tls_provider();
        let dir = tempfile::Builder::new()
            .prefix("milepost-redis-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        let pki = Pki::new(dir.path())?;
        let server = pki.server("redis")?;
        let mut access = RedisAccess::new(&pki, &options.gateways)?;
        write_private(&dir.path().join(ACL_FILE), &access.acl())?;

        let mut own_tls = true;
        for attempt in 1.. {
            let port = Port::free()?;
            let front = if own_tls {
                None
            } else {
                let socket = dir.path().join(SOCKET);
                Some(TlsFront::listen(port.number(), pki.ca(), &server, socket).await?)
            };
            let mut config = config(own_tls.then_some(port.number()), &options)?;
            for line in &options.config {
                config.push_str(line);
                config.push('\n');
            }
            write_private(&dir.path().join("redis.conf"), &config)?;
            let mut process = spawn(&binary, dir.path())?;
            access.port = port.number();
            match ready(&mut process, &access).await {
                Ok(()) => {
                    let _front = front;
                    return Ok(Self {
                        process,
                        _front,
                        access,
                        pki,
                        _port: port,
                        binary,
                        dir,
                    });
                }
                Err(_) if own_tls && built_without_tls(&process) => own_tls = false,
                Err(_) if attempt < PORT_TRIES_MAX && port_taken(&process) => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop above has no end but its returns")
    }

    /// The authority, to make other certificates (expired, foreign) with.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Where it lives: its data, `redis.crt` and `redis.key`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Process id of the running server.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `SIGKILL`, and waits until the process is gone.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()?;
        Ok(())
    }

    /// `SIGTERM`: the server writes its file and leaves.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(Signal::TERM, STOP_TIMEOUT).await?;
        Ok(())
    }

    /// Starts the server again: same directory, same port, same data. Stops it first if it runs.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            self.process = spawn(&self.binary, self.dir.path())?;
            match ready(&mut self.process, &self.access).await {
                Err(_) if port_taken(&self.process) && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// `SIGSTOP`: connections stay open, nothing answers.
    ///
    /// # Errors
    /// When the server has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// `SIGCONT`: ends [`Redis::pause`].
    ///
    /// # Errors
    /// When the server has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }
}

/// With its own TLS the server listens on `tls_port`; without, on [`SOCKET`] behind a [`TlsFront`].
fn config(tls_port: Option<u16>, options: &RedisOptions) -> Result<String> {
    let listen = tls_port.map_or_else(
        || format!("unixsocket {SOCKET}\nunixsocketperm 700\n"),
        |port| {
            format!(
                "bind 127.0.0.1\ntls-port {port}\ntls-cert-file redis.crt\n\
                 tls-key-file redis.key\ntls-ca-cert-file ca.crt\ntls-auth-clients yes\n"
            )
        },
    );
    if let Some(base) = &options.base {
        let text = std::fs::read_to_string(base);
        let text = text.with_context(|| format!("read {}", base.display()))?;
        // The server goes there the moment it reads the line, and everything else is here.
        let lines = text.lines().filter(|line| !line.starts_with("dir "));
        let base: String = lines.flat_map(|line| [line, "\n"]).collect();
        return Ok(format!("{base}{listen}aclfile {ACL_FILE}\ndaemonize no\n"));
    }
    Ok(format!(
        "port 0\n{listen}aclfile {ACL_FILE}\nappendonly yes\nappendfsync everysec\nsave \"\"\n\
         maxmemory {}\nmaxmemory-policy noeviction\ndaemonize no\n",
        options.memory_bytes_max
    ))
}

/// Relative paths in the configuration are relative to the directory the server starts in.
fn spawn(binary: &Binary, dir: &Path) -> Result<Child> {
    Child::start(Launch {
        words: vec![binary.path.as_os_str(), OsStr::new("redis.conf")],
        environment: binary.environment(),
        dir,
        doomed: Some(dir),
        log: dir.join("redis.log"),
        run_as: None,
    })
}

/// Waits for the first PONG. While it loads its file the server answers with an error.
async fn ready(process: &mut Child, access: &RedisAccess) -> Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let Err(failure) = access.ping().await else {
            return Ok(());
        };
        if let Some(status) = process.ended()? {
            bail!("redis-server ended ({status}): {}", process.last_words());
        }
        if Instant::now() > deadline {
            let context = format!("redis-server did not answer: {}", process.last_words());
            return Err(failure).context(context);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Redis before 7.2 does not know the option, later ones and Valkey say what they miss.
fn built_without_tls(process: &Child) -> bool {
    let words = process.last_words();
    words.contains("'tls-port") || words.contains("Failed finding TLS support")
}

fn port_taken(process: &Child) -> bool {
    process.last_words().contains("Address already in use")
}

/// Mode 0600: the directory is private already, the passwords in here are worth a second lock.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("write {}", path.display()))
}
