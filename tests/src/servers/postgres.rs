//! A private PostgreSQL cluster, also when we are root.
//!
//! PostgreSQL refuses to run as root, so as root we start it as `nobody`, who must be able to read
//! both the cluster and the binaries; binaries in a place closed to others (a home directory of mode
//! 0700) are first linked or copied into the cluster's own directory.
//!
//! Invariants: `fsync` stays on, so that what a `kill9` test sees is what an operator would see;
//! there is no Unix socket, so the length of the temporary directory's path does not matter.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, getuid};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::process::{Launch, Process, RunAs};
use super::{Binary, LOOK_AGAIN, PORT_TRIES_MAX, Port, READY_TIMEOUT, find, secret};

/// The cluster's superuser. Its password is random.
const SUPERUSER: &str = "milepost";

/// What a test needs and nothing for speed that a real server would not have.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "shared_buffers=32MB",
    "max_connections=60",
    "jit=off",
    "logging_collector=off",
];

/// A running cluster. Dropping it kills it and removes its directory.
#[derive(Debug)]
pub struct Postgres {
    // Fields drop in this order: first the process, then what it stands on.
    process: Process,
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
}

impl Postgres {
    /// Makes a cluster in a fresh directory, starts it on a free port, waits until it answers.
    ///
    /// # Errors
    /// When no binaries are found (the text says what to do) or the server does not come up (the
    /// text carries the end of its log).
    pub async fn start() -> Result<Self> {
        let run_as = run_as()?;
        let dir = temp_dir(run_as)?;
        let binary = readable(find::postgres_bin()?, run_as, dir.path())?;
        let cluster = Cluster {
            binary,
            run_as,
            dir,
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
        self.process.kill9()
    }

    /// Fast shutdown (`SIGINT`): open transactions are rolled back.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(Signal::INT).await
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
        // `./dev setup` made an unpacked postgres look for time zones here (its Debian build would
        // look in /usr/share alone, which a bare system has not got).
        if let Some(zoneinfo) = zoneinfo(&self.binary) {
            std::os::unix::fs::symlink(zoneinfo, self.data().join("milepost-zoneinfo"))?;
        }
        Ok(())
    }

    fn spawn(&self, port: &Port) -> Result<Process> {
        let data = self.data();
        let number = port.number().to_string();
        let mut args = vec![
            OsStr::new("-D"),
            data.as_os_str(),
            OsStr::new("-p"),
            OsStr::new(&number),
        ];
        for setting in SETTINGS {
            args.extend([OsStr::new("-c"), OsStr::new(setting)]);
        }
        Process::spawn(Launch {
            binary: &self.binary,
            args,
            home: self.dir.path(),
            log: self.dir.path().join("postgres.log"),
            run_as: self.run_as,
        })
    }
}

/// Waits until a query is answered: a server in recovery accepts connections only to refuse them.
async fn ready(process: &mut Process, url: &str) -> Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let failure = match PgConnection::connect(url).await {
            Ok(mut connection) => match sqlx::query("select 1").execute(&mut connection).await {
                Ok(_) => return Ok(connection.close().await?),
                Err(error) => error,
            },
            Err(error) => error,
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

fn port_taken(process: &Process) -> bool {
    process.last_words().contains("Address already in use")
}

fn in_use(process: &Process) -> bool {
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

/// Can a user without rights reach `path`? Every directory on the way needs `x` for others.
fn open_to_others(path: &Path) -> bool {
    path.ancestors().all(|dir| {
        dir.metadata()
            .is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    })
}

/// The time zones that came with an unpacked PostgreSQL of Debian's layout, `<top>/usr/share/zoneinfo`.
fn zoneinfo(binary: &Binary) -> Option<PathBuf> {
    let usr = binary
        .path
        .ancestors()
        .nth(5)
        .filter(|_| binary.library_path.is_some())?;
    Some(usr.join("share/zoneinfo")).filter(|path| path.is_dir())
}

/// The binary itself, or a copy of its installation where the unprivileged user can read it.
fn readable(binary: Binary, run_as: Option<RunAs>, dir: &Path) -> Result<Binary> {
    let libraries: Vec<PathBuf> = binary
        .library_path
        .iter()
        .flat_map(|path| std::env::split_paths(path).collect::<Vec<_>>())
        .collect();
    let open = open_to_others(&binary.path) && libraries.iter().all(|path| open_to_others(path));
    if run_as.is_none() || open {
        return Ok(binary);
    }
    // PostgreSQL finds its files relative to the binary: <usr>/lib/postgresql/15/bin in Debian's
    // layout, <usr>/bin elsewhere. Keep what lies below as it is.
    let bin = binary
        .path
        .parent()
        .context("a binary lies in a directory")?;
    let debian = bin
        .ancestors()
        .nth(2)
        .is_some_and(|dir| dir.ends_with("lib/postgresql"));
    let above = if debian { 4 } else { 1 };
    let usr = bin
        .ancestors()
        .nth(above)
        .context("an installation lies in a directory")?;
    let parts: &[&str] = if debian {
        &["lib/postgresql", "share/postgresql", "share/zoneinfo"]
    } else {
        &["bin", "lib", "share"]
    };
    let copy = dir.join("installation");
    for part in parts.iter().filter(|part| usr.join(part).is_dir()) {
        link_tree(&usr.join(part), &copy.join(part))?;
    }
    let mut library_path = Vec::new();
    for (index, library) in libraries.iter().enumerate() {
        let place = copy.join(format!("libraries-{index}"));
        link_tree(library, &place)?;
        library_path.push(place);
    }
    Ok(Binary {
        path: copy.join(binary.path.strip_prefix(usr)?),
        library_path: binary
            .library_path
            .map(|_| std::env::join_paths(library_path))
            .transpose()?,
    })
}

/// Hard links where the file system allows, copies where not. Relative links stay links; absolute
/// ones lead out of the tree, so what they lead to is taken instead.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    let entries = std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let (mut source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            link_tree(&source, &target)?;
            continue;
        }
        if kind.is_symlink() {
            let leads_to = std::fs::read_link(&source)?;
            if leads_to.is_relative() {
                std::os::unix::fs::symlink(leads_to, &target)?;
                continue;
            }
            match source.canonicalize() {
                Ok(file) if file.is_file() => source = file,
                _ => continue,
            }
        }
        if std::fs::hard_link(&source, &target).is_err() {
            std::fs::copy(&source, &target)
                .with_context(|| format!("copy {}", source.display()))?;
        }
    }
    Ok(())
}
