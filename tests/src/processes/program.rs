//! The two binaries, under the names operators know, with the settings a test or a demo needs.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use super::service::{Service, Setting};
use crate::servers::{PROCESSOR, Port, RedisAccess};

/// Names the directory with `gateway` and `cloud`, wherever it is.
const DIR_VARIABLE: &str = "MILEPOST_BIN_DIR";

/// Where one of our programs is: in `MILEPOST_BIN_DIR`, or beside the running executable
/// (for a test, which runs in `deps/`, one directory up).
///
/// # Errors
/// When it is not there: the message names the command that builds it.
pub fn program_path(name: &str) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
        let path = Path::new(&dir).join(name);
        if path.is_file() {
            return Ok(path);
        }
        bail!("{DIR_VARIABLE} is set, and there is no {}", path.display());
    }
    let me = std::env::current_exe().context("where this program is")?;
    let found = me
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    found.with_context(|| {
        let dir = me.parent().unwrap_or(Path::new(".")).display();
        format!(
            "no `{name}` beside {dir}: build it with `cargo build -p gateway -p cloud` \
             (the same --profile as this program), or name its directory in {DIR_VARIABLE}"
        )
    })
}

macro_rules! as_process {
    ($what:ty) => {
        impl $what {
            /// Overrides a setting from the next [`Self::restart`] on.
            pub fn set(&mut self, setting: Setting) {
                self.service.set(setting);
            }

            /// Starts it again with the same settings, ports and directory; kills it first
            /// if it runs. Returns when it answers.
            ///
            /// # Errors
            /// When it does not come up: the message has the end of its log.
            pub async fn restart(&mut self) -> Result<()> {
                self.service.start().await
            }

            /// SIGKILL, and waits until it is gone. Nothing happens if it does not run.
            ///
            /// # Errors
            /// When it cannot be signalled.
            pub fn kill9(&mut self) -> Result<()> {
                self.service.kill9()
            }

            /// SIGTERM, and SIGKILL if that takes longer than 20 s. `None` if it did not run.
            ///
            /// # Errors
            /// When it cannot be signalled.
            pub async fn terminate(&mut self) -> Result<Option<ExitStatus>> {
                self.service.terminate().await
            }

            /// SIGSTOP: its connections stay open, nothing answers.
            ///
            /// # Errors
            /// When it does not run.
            pub fn pause(&mut self) -> Result<()> {
                self.service.signal(Signal::STOP)
            }

            /// SIGHUP: it reads anew what comes from files.
            ///
            /// # Errors
            /// When it does not run.
            pub fn hang_up(&mut self) -> Result<()> {
                self.service.signal(Signal::HUP)
            }

            /// SIGCONT: ends [`Self::pause`].
            ///
            /// # Errors
            /// When it does not run.
            pub fn resume(&mut self) -> Result<()> {
                self.service.signal(Signal::CONT)
            }

            /// `Some` if it has ended by itself: it should not.
            ///
            /// # Errors
            /// When the system does not tell.
            pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
                self.service.ended()
            }

            /// Process id, while it runs.
            #[must_use]
            pub fn pid(&self) -> Option<u32> {
                self.service.pid()
            }

            /// What `/status` says.
            ///
            /// # Errors
            /// When nobody answers, or something else than a JSON object.
            pub async fn status(&self) -> Result<Value> {
                self.service.status().await
            }

            /// Where `/health`, `/status` and `/metrics` are. The same after a restart.
            #[must_use]
            pub fn http_addr(&self) -> SocketAddr {
                self.service.http()
            }

            /// Where its output goes.
            #[must_use]
            pub fn log(&self) -> PathBuf {
                self.service.log()
            }

            /// The end of its output.
            #[must_use]
            pub fn last_words(&self) -> String {
                self.service.last_words()
            }
        }
    };
}

/// The `gateway` binary.
#[derive(Debug)]
pub struct Gateway {
    service: Service,
    tcp: Port,
}

as_process!(Gateway);

impl Gateway {
    /// Starts a gateway named `id` (also its Redis user) that listens on a free port, keeps
    /// its spool in `dir` and forwards to `redis`. `settings` win over these.
    ///
    /// `doomed` is removed if this process dies without saying goodbye.
    ///
    /// # Errors
    /// When the binary is missing or does not come up.
    pub async fn start(
        dir: &Path,
        doomed: Option<&Path>,
        id: &str,
        redis: &RedisAccess,
        settings: &[Setting],
    ) -> Result<Gateway> {
        Self::start_by(Vec::new(), dir, doomed, id, redis, settings).await
    }

    /// The same behind other words that hand over to the program, such as `unshare` or `env`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_by(
        before: Vec<OsString>,
        dir: &Path,
        doomed: Option<&Path>,
        id: &str,
        redis: &RedisAccess,
        settings: &[Setting],
    ) -> Result<Gateway> {
        let uplink = through_redis(redis, id)?;
        Self::start_with(before, dir, doomed, id, uplink, settings).await
    }

    /// The same with an uplink of one's own: [`through_redis`] or [`through_socket`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(
        before: Vec<OsString>,
        dir: &Path,
        doomed: Option<&Path>,
        id: &str,
        uplink: [Setting; 4],
        settings: &[Setting],
    ) -> Result<Gateway> {
        let tcp = Port::free()?;
        let ours: [Setting; 6] = [
            ("gateway.id", id.into()),
            (
                "listen.tcp",
                vec![format!("127.0.0.1:{}", tcp.number())].into(),
            ),
            ("access.mode", "open".into()),
            ("spool.dir", text(&dir.join("spool"))?),
            ("spool.bytes_max", "256MiB".into()),
            ("uplink.flush", "250ms".into()),
        ];
        let ours = ours.into_iter().chain(uplink);
        let all = ours.chain(settings.iter().cloned());
        let mut service = Service::new("gateway", dir, doomed, all)?;
        service.start_by(before);
        service.start().await?;
        Ok(Gateway { service, tcp })
    }

    /// Where trackers connect. The same after a restart.
    #[must_use]
    pub fn tcp_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.tcp.number()).into()
    }
}

/// The `cloud` binary.
#[derive(Debug)]
pub struct Cloud {
    service: Service,
}

as_process!(Cloud);

impl Cloud {
    /// Creates the tables, then starts a processor that reads from `redis` and writes to
    /// `database_url`. `settings` win over these.
    ///
    /// `doomed` is removed if this process dies without saying goodbye.
    ///
    /// # Errors
    /// When the binary is missing, the tables cannot be made, or it does not come up.
    pub async fn start(
        dir: &Path,
        doomed: Option<&Path>,
        redis: &RedisAccess,
        database_url: &str,
        settings: &[Setting],
    ) -> Result<Cloud> {
        let identity = redis.identity(PROCESSOR);
        let ours: [Setting; 5] = [
            ("redis.url", redis.url(PROCESSOR).into()),
            ("redis.cert", text(&identity.cert)?),
            ("redis.key", text(&identity.key)?),
            ("redis.ca", text(redis.ca())?),
            ("database.url", database_url.into()),
        ];
        Self::start_with(dir, doomed, ours.to_vec(), settings).await
    }

    /// The same without a Redis: gateways deliver at `socket`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_direct(
        dir: &Path,
        doomed: Option<&Path>,
        socket: &Path,
        database_url: &str,
        settings: &[Setting],
    ) -> Result<Cloud> {
        let ours = vec![
            ("spool.socket", text(socket)?),
            ("database.url", database_url.into()),
        ];
        Self::start_with(dir, doomed, ours, settings).await
    }

    async fn start_with(
        dir: &Path,
        doomed: Option<&Path>,
        ours: Vec<Setting>,
        settings: &[Setting],
    ) -> Result<Cloud> {
        // What tests hand in is of any year, and old frames are deleted whenever it gets to it.
        let kept: Setting = ("frames.retention", "off".into());
        let all = [kept].into_iter().chain(ours);
        let all = all.chain(settings.iter().cloned());
        let mut service = Service::new("cloud", dir, doomed, all)?;
        service.call(&["migrate", "up"]).await?;
        service.start().await?;
        Ok(Cloud { service })
    }

    /// From the next [`Self::restart`] on, these words start it and hand over to it: `env` with a
    /// variable. None: it is started as it is.
    pub fn start_by(&mut self, words: &[&str]) {
        self.service
            .start_by(words.iter().map(OsString::from).collect());
    }

    /// Runs another verb of the binary with the same settings: `["migrate", "status"]`.
    /// Returns what it printed.
    ///
    /// # Errors
    /// When it exits with anything but 0: the message has its output.
    pub async fn call(&self, words: &[&str]) -> Result<String> {
        self.service.call(words).await
    }
}

/// The uplink of gateway `id` to a Redis.
///
/// # Errors
/// When a path is no UTF-8.
pub fn through_redis(redis: &RedisAccess, id: &str) -> Result<[Setting; 4]> {
    let identity = redis.identity(id);
    Ok([
        ("uplink.url", redis.url(id).into()),
        ("uplink.cert", text(&identity.cert)?),
        ("uplink.key", text(&identity.key)?),
        ("uplink.ca", text(redis.ca())?),
    ])
}

/// The uplink to a cloud that serves `socket`.
#[must_use]
pub fn through_socket(socket: &Path) -> [Setting; 4] {
    [
        ("uplink.url", format!("unix:{}", socket.display()).into()),
        ("uplink.cert", "".into()),
        ("uplink.key", "".into()),
        ("uplink.ca", "".into()),
    ]
}

fn text(path: &Path) -> Result<Value> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is no UTF-8", path.display()))?;
    Ok(text.into())
}
