//! A private PostgreSQL cluster, also when we are root.
//!
//! PostgreSQL refuses to run as root, so as root we start it as `nobody`, who must be able to read
//! both the cluster and the binaries; binaries in a place closed to others (a home directory of mode
//! 0700) are first linked or copied into the cluster's own directory.
//!
//! Invariants: `fsync` stays on, so that what a `kill9` test sees is what an operator would see;
//! there is no Unix socket, so the length of the temporary directory's path does not matter.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, getuid};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::installation::{open_to_others, readable_by_others, zoneinfo};
use super::{Binary, LOOK_AGAIN, PORT_TRIES_MAX, Port, READY_TIMEOUT, STOP_TIMEOUT};
use super::{find, mounted, secret};
use crate::child::{Child, Launch, RunAs};

/// The cluster's superuser. Its password is random.
const SUPERUSER: &str = "milepost";

/// What a test needs and nothing for speed that a real server would not have.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("shared_buffers", "32MB"),
    ("max_connections", "60"),
    ("jit", "off"),
    ("logging_collector", "off"),
];

/// A running cluster. Dropping it kills it and removes its directory.
#[derive(Debug)]
pub struct Postgres {
    // Fields drop in this order: first the process, then what it stands on.
    process: Child,
    port: Port,
    password: String,
    cluster: Cluster,
}

/// What stays the same over restarts.
#[derive(Debug)]
struct Cluster {
    binary: Binary,
    run_as: Option<RunAs>,
    dir: TempDir,
    /// Words before the server, each of which hands over to the next.
    before: Vec<OsString>,
}

impl Postgres {
    /// Makes a cluster in a fresh directory, starts it on a free port, waits until it answers.
    ///
    /// # Errors
    /// When no binaries are found (the text says what to do) or the server does not come up (the
    /// text carries the end of its log).
    pub async fn start() -> Result<Self> {
        Self::start_by(|_| Ok(Vec::new())).await
    }

    /// The same with a file system of `bytes` mounted for the server alone, and its path: room for
    /// a tablespace. `None` where this user may not mount.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn start_with_small_disk(bytes: usize) -> Result<Option<(Self, PathBuf)>> {
        let mut place = None;
        let started = Self::start_by(|dir| {
            let small = dir.join("small");
            let Some(mut words) = mounted(&small, &format!("size={bytes},mode=0700"))? else {
                bail!("not allowed to mount");
            };
            place = Some(small);
            // Whoever may mount is root in its name space, and PostgreSQL refuses to be that: one
            // more name space makes it nobody in particular.
            words.extend(["unshare", "--user"].map(OsString::from));
            Ok(words)
        });
        match (started.await, place) {
            (Ok(postgres), Some(place)) => Ok(Some((postgres, place))),
            (Err(_), None) => Ok(None),
            (started, _) => started.map(|_| None),
        }
    }

    async fn start_by(before: impl FnOnce(&Path) -> Result<Vec<OsString>>) -> Result<Self> {
        let run_as = run_as()?;
        let dir = temp_dir(run_as)?;
        let mut binary = find::postgres_bin()?;
        if run_as.is_some() {
            binary = readable_by_others(binary, dir.path())?;
        }
        let before = before(dir.path())?;
        let cluster = Cluster {
            binary,
            run_as,
            dir,
            before,
        };
        let password = secret()?;
        cluster.init(&password)?;
        for attempt in 1.. {
            let port = Port::free()?;
            let mut process = cluster.spawn(&port)?;
            match ready(&mut process, &url(&password, &port, "postgres")).await {
                Ok(()) => {
                    return Ok(Self {
                        process,
                        port,
                        password,
                        cluster,
                    });
                }
                Err(error) if attempt >= PORT_TRIES_MAX || !port_taken(&process) => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        unreachable!("the loop above has no end but its returns")
    }

    /// `postgres://user:password@127.0.0.1:port/<database>`. The database `postgres` exists.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        url(&self.password, &self.port, database)
    }

    /// Creates an empty database with a name of its own and returns its URL.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn create_database(&self) -> Result<String> {
        let name = format!("test_{}", secret()?);
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        // A name cannot be a bound parameter; ours is hexadecimal.
        let create = sqlx::AssertSqlSafe(format!("create database {name}"));
        sqlx::query(create).execute(&mut connection).await?;
        connection.close().await?;
        Ok(self.url(&name))
    }

    /// The port on 127.0.0.1. The same after [`Postgres::restart`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Process id of the postmaster.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `SIGKILL` to the postmaster. Its children notice within moments and leave by themselves.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()?;
        Ok(())
    }

    /// Fast shutdown (`SIGINT`): open transactions are rolled back.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(Signal::INT, STOP_TIMEOUT).await?;
        Ok(())
    }

    /// Starts the cluster again: same data, same port. Stops it first if it runs.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        let url = self.url("postgres");
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            self.process = self.cluster.spawn(&self.port)?;
            match ready(&mut self.process, &url).await {
                // After a kill the old backends hold the shared memory until they have noticed.
                Err(_) if in_use(&self.process) && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Keeps a copy of everything as it is now, for [`Postgres::go_back`]. Restarts the server.
    ///
    /// # Errors
    /// When it cannot be copied, or the server does not come up.
    pub async fn keep_copy(&mut self) -> Result<()> {
        self.stop().await?;
        let (data, copy) = (self.cluster.data(), self.cluster.copy());
        let copied = Command::new("cp").arg("-a").arg(data).arg(copy).status();
        ensure!(copied?.success(), "the cluster is not copied");
        self.restart().await
    }

    /// Everything is as it was at [`Postgres::keep_copy`], as after a standby that lagged was
    /// promoted, or a backup restored. Same port.
    ///
    /// # Errors
    /// When there is no copy, or the server does not come up.
    pub async fn go_back(&mut self) -> Result<()> {
        self.stop().await?;
        std::fs::remove_dir_all(self.cluster.data())?;
        std::fs::rename(self.cluster.copy(), self.cluster.data()).context("a copy was kept")?;
        self.restart().await
    }

    /// `SIGSTOP` to the postmaster: no new connections; open ones go on.
    ///
    /// # Errors
    /// When the server has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// `SIGCONT`: ends [`Postgres::pause`].
    ///
    /// # Errors
    /// When the server has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }
}

impl Cluster {
    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn copy(&self) -> PathBuf {
        self.dir.path().join("kept")
    }

    fn init(&self, password: &str) -> Result<()> {
        let password_file = self.dir.path().join("password");
        let mut options = std::fs::OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&password_file)?
            .write_all(password.as_bytes())?;
        own(&password_file, self.run_as)?;
        let initdb = self.binary.sibling("initdb");
        let mut command = Command::new(&initdb.path);
        command
            .args([
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--no-instructions",
            ])
            .args(["--username", SUPERUSER, "--pwfile"])
            .args([password_file.as_path(), Path::new("--pgdata"), &self.data()])
            .current_dir(self.dir.path());
        initdb.prepare(&mut command);
        if let Some(RunAs { uid, gid }) = self.run_as {
            command.uid(uid).gid(gid);
        }
        let output = command
            .output()
            .with_context(|| format!("run {}", initdb.path.display()))?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{} failed ({}): {words}",
            initdb.path.display(),
            output.status
        );
        // Not as arguments of the server: those would stand above ALTER SYSTEM.
        let mut settings = std::fs::OpenOptions::new()
            .append(true)
            .open(self.data().join("postgresql.conf"))?;
        for (name, value) in SETTINGS {
            writeln!(settings, "{name} = '{value}'")?;
        }
        // `./dev setup` made an unpacked postgres look for time zones here (its Debian build would
        // look in /usr/share alone, which a bare system has not got).
        if let Some(zoneinfo) = zoneinfo(&self.binary) {
            std::os::unix::fs::symlink(zoneinfo, self.data().join("milepost-zoneinfo"))?;
        }
        Ok(())
    }

    fn spawn(&self, port: &Port) -> Result<Child> {
        let data = self.data();
        let number = port.number().to_string();
        let mut words: Vec<&OsStr> = self.before.iter().map(AsRef::as_ref).collect();
        words.extend([
            self.binary.path.as_os_str(),
            OsStr::new("-D"),
            data.as_os_str(),
            OsStr::new("-p"),
            OsStr::new(&number),
        ]);
        Child::start(Launch {
            words,
            environment: self.binary.environment(),
            dir: self.dir.path(),
            doomed: Some(self.dir.path()),
            log: self.dir.path().join("postgres.log"),
            run_as: self.run_as,
        })
    }
}

/// Waits until a query is answered: a server in recovery accepts connections only to refuse them.
async fn ready(process: &mut Child, url: &str) -> Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let Err(failure) = answers(url).await else {
            return Ok(());
        };
        if let Some(status) = process.ended()? {
            bail!("postgres ended ({status}): {}", process.last_words());
        }
        if Instant::now() > deadline {
            let context = format!("postgres did not answer: {}", process.last_words());
            return Err(failure).context(context);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// One try.
pub(super) async fn answers(url: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query("select 1").execute(&mut connection).await?;
    Ok(connection.close().await?)
}

fn port_taken(process: &Child) -> bool {
    process.last_words().contains("Address already in use")
}

fn in_use(process: &Child) -> bool {
    let words = process.last_words();
    [
        "pre-existing shared memory",
        "Address already in use",
        "lock file",
    ]
    .iter()
    .any(|w| words.contains(w))
}

fn url(password: &str, port: &Port, database: &str) -> String {
    format!(
        "postgres://{SUPERUSER}:{password}@127.0.0.1:{}/{database}",
        port.number()
    )
}

/// `nobody` when we are root: `initdb` looks the user's name up, so the id must exist.
fn run_as() -> Result<Option<RunAs>> {
    if !getuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let id = |user: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(user))?;
        let mut fields = line.split(':').skip(2);
        Some(RunAs {
            uid: fields.next()?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    };
    let found = id("nobody")
        .or_else(|| id("daemon"))
        .filter(|found| found.uid != 0);
    found
        .map(Some)
        .context("PostgreSQL does not run as root and there is no user nobody to run it as")
}

/// A temporary directory that belongs to the server's user, with every parent open to it.
fn temp_dir(run_as: Option<RunAs>) -> Result<TempDir> {
    let mut base = std::env::temp_dir();
    if run_as.is_some() && !open_to_others(&base) {
        base = PathBuf::from("/tmp");
    }
    let dir = tempfile::Builder::new()
        .prefix("milepost-postgres-")
        .tempdir_in(base)?;
    own(dir.path(), run_as)?;
    Ok(dir)
}

fn own(path: &Path, run_as: Option<RunAs>) -> Result<()> {
    if let Some(RunAs { uid, gid }) = run_as {
        chown(path, Some(uid), Some(gid)).with_context(|| format!("chown {}", path.display()))?;
    }
    Ok(())
}
