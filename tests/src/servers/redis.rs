//! A private Redis (or Valkey): TLS with client certificates only, ACL users, append-only file.
//!
//! Invariants: there is no plain port and no default user, as in production; what was acknowledged
//! survives `kill9` and `restart`, because the append-only file is written before the reply
//! (`appendfsync everysec`: only a power cut could lose it).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use ::redis::{Client, ClientTlsConfig, TlsCertificates};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use super::tls_front::TlsFront;
use super::{Binary, Identity, LOOK_AGAIN, PORT_TRIES_MAX, Pki, Port, READY_TIMEOUT, STOP_TIMEOUT};
use super::{find, install_tls_provider, secret};
use crate::child::{Child, Launch};

/// The user that may do everything. For tests, never for our programs.
pub const ADMIN: &str = "admin";

/// The user of the cloud side.
pub const PROCESSOR: &str = "processor";

/// The gateway that exists unless [`RedisOptions::gateways`] says otherwise: its id and its user.
pub const GATEWAY: &str = "gw-test";

/// Where a server built without TLS listens, in its directory.
const SOCKET: &str = "redis.sock";

/// What a test may want to be different.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Gateway ids. Each is also the name of its ACL user and of its client certificate.
    pub gateways: Vec<String>,
    /// `maxmemory` in bytes; 0 is no limit. The policy is always `noeviction`.
    pub memory_bytes_max: u64,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            gateways: vec![GATEWAY.to_owned()],
            memory_bytes_max: 0,
        }
    }
}

/// A running server. Dropping it kills it and removes its directory.
#[derive(Debug)]
pub struct Redis {
    // Fields drop in this order: first the process, then what it stands on.
    process: Child,
    _front: Option<TlsFront>,
    passwords: BTreeMap<String, String>,
    clients: BTreeMap<String, Identity>,
    pki: Pki,
    port: Port,
    binary: Binary,
    dir: TempDir,
}

/// The ACL lines of the users `admin`, `processor` and one per gateway, least privilege each.
///
/// A gateway can append to the telemetry streams but read none of them, and can read its own floor
/// but no other gateway's. `passwords` maps a user to its password; a missing one gives a user that
/// cannot log in. Key names: contract version 1.
#[must_use]
pub fn acl_lines(gateways: &[String], passwords: &BTreeMap<String, String>) -> Vec<String> {
    const CONNECT: &str =
        "-@all +ping +hello +auth +client|setname +client|id +info +wait +multi +exec";
    const SCRIPTS: &str = "+eval +evalsha +script|load";
    let login = |user: &str| {
        let password = passwords
            .get(user)
            .map(|password| format!(" >{password}"))
            .unwrap_or_default();
        format!("user {user} on{password} resetchannels")
    };
    let mut lines = vec![
        "user default off".to_owned(),
        format!("{} ~* &* +@all", login(ADMIN)),
    ];
    for gateway in gateways {
        lines.push(format!(
            "{} %W~telemetry:* %R~floor:{gateway} %R~contract ~commands:outbound:{gateway} \
             %W~commands:responses ~connections:registry ~{{connections:registry}}:epoch \
             ~instance:heartbeat:{gateway} {CONNECT} {SCRIPTS} +xadd +xreadgroup +xack +xautoclaim \
             +xgroup|create +set +get +hset +hget +hmget +hgetall +hdel \
             (%R~telemetry:* +xinfo|groups +xinfo|stream)",
            login(gateway)
        ));
    }
    lines.push(format!(
        "{} ~telemetry:* ~floor:* ~contract ~dead-letter:* ~commands:* ~connections:registry \
         ~{{connections:registry}}:epoch %R~instance:heartbeat:* {CONNECT} {SCRIPTS} +config|get \
         +xreadgroup +xack +xautoclaim +xclaim +xpending +xrange +xlen +xtrim +xadd +xdel +xinfo \
         +xgroup|create +xgroup|createconsumer +xgroup|delconsumer +scan +type +exists +get +hset \
         +hget +hmget +hgetall +hdel +hscan +del",
        login(PROCESSOR)
    ));
    lines
}

impl Redis {
    /// Starts a server in a fresh directory on a free port and waits until it answers.
    ///
    /// # Errors
    /// When no server binary is found (the text says what to do) or the server does not come up
    /// (the text carries the end of its log).
    pub async fn start(options: RedisOptions) -> Result<Self> {
        install_tls_provider();
        let binary = find::redis_server()?;
        let dir = tempfile::Builder::new()
            .prefix("milepost-redis-")
            .tempdir()?;
        let pki = Pki::new(dir.path())?;
        let server = pki.server("redis")?;
        let mut users = options.gateways.clone();
        users.extend([ADMIN.to_owned(), PROCESSOR.to_owned()]);
        let mut passwords = BTreeMap::new();
        let mut clients = BTreeMap::new();
        for user in users {
            clients.insert(user.clone(), pki.client(&user)?);
            passwords.insert(user, secret()?);
        }
        let acl = acl_lines(&options.gateways, &passwords).join("\n");
        write_private(&dir.path().join("users.acl"), &format!("{acl}\n"))?;

        let mut own_tls = true;
        for attempt in 1.. {
            let port = Port::free()?;
            let front = if own_tls {
                None
            } else {
                let socket = dir.path().join(SOCKET);
                Some(TlsFront::listen(port.number(), pki.ca(), &server, socket).await?)
            };
            let config = config(own_tls.then_some(port.number()), options.memory_bytes_max);
            write_private(&dir.path().join("redis.conf"), &config)?;
            let mut process = spawn(&binary, dir.path())?;
            let admin = url(ADMIN, &passwords, &port).context("admin has a password")?;
            let admin = client(&admin, pki.ca(), &clients[ADMIN])?;
            match ready(&mut process, &admin).await {
                Ok(()) => {
                    let _front = front;
                    return Ok(Self {
                        process,
                        _front,
                        passwords,
                        clients,
                        pki,
                        port,
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

    /// `rediss://user:password@127.0.0.1:port/` for `admin`, `processor` or a gateway id.
    ///
    /// # Panics
    /// When there is no such user: a mistake in the test.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        url(user, &self.passwords, &self.port).expect("a user named in RedisOptions")
    }

    /// The certificate of the authority that signed the server's certificate, PEM.
    #[must_use]
    pub fn ca(&self) -> &Path {
        self.pki.ca()
    }

    /// The client certificate and key of a user.
    ///
    /// # Panics
    /// When there is no such user: a mistake in the test.
    #[must_use]
    pub fn identity(&self, user: &str) -> &Identity {
        self.clients
            .get(user)
            .expect("a user named in RedisOptions")
    }

    /// The authority, to make other certificates (expired, foreign) with.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// A client logged in as `user` with its own certificate.
    ///
    /// # Errors
    /// When the certificate files cannot be read. Connecting comes later.
    pub fn client(&self, user: &str) -> Result<Client> {
        client(&self.url(user), self.ca(), self.identity(user))
    }

    /// The port on 127.0.0.1. The same after [`Redis::restart`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
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
        let admin = self.client(ADMIN)?;
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            self.process = spawn(&self.binary, self.dir.path())?;
            match ready(&mut self.process, &admin).await {
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

    /// Empties the server: every stream, group and key is gone.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn flushall(&self) -> Result<()> {
        let mut admin = self
            .client(ADMIN)?
            .get_multiplexed_async_connection()
            .await?;
        let () = ::redis::cmd("FLUSHALL").query_async(&mut admin).await?;
        Ok(())
    }
}

/// With its own TLS the server listens on `tls_port`; without, on [`SOCKET`] behind a [`TlsFront`].
fn config(tls_port: Option<u16>, memory_bytes_max: u64) -> String {
    let listen = tls_port.map_or_else(
        || format!("unixsocket {SOCKET}\nunixsocketperm 700\n"),
        |port| {
            format!(
                "bind 127.0.0.1\ntls-port {port}\ntls-cert-file redis.crt\n\
                 tls-key-file redis.key\ntls-ca-cert-file ca.crt\ntls-auth-clients yes\n"
            )
        },
    );
    format!(
        "port 0\n{listen}aclfile users.acl\nappendonly yes\nappendfsync everysec\nsave \"\"\n\
         maxmemory {memory_bytes_max}\nmaxmemory-policy noeviction\ndaemonize no\n"
    )
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
async fn ready(process: &mut Child, admin: &Client) -> Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let failure = match admin.get_multiplexed_async_connection().await {
            Ok(mut connection) => match ::redis::cmd("PING")
                .query_async::<String>(&mut connection)
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) => error,
            },
            Err(error) => error,
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

fn url(user: &str, passwords: &BTreeMap<String, String>, port: &Port) -> Option<String> {
    let password = passwords.get(user)?;
    Some(format!(
        "rediss://{user}:{password}@127.0.0.1:{}/",
        port.number()
    ))
}

fn client(url: &str, ca: &Path, identity: &Identity) -> Result<Client> {
    let tls = TlsCertificates {
        client_tls: Some(ClientTlsConfig {
            client_cert: read(&identity.cert)?,
            client_key: read(&identity.key)?,
        }),
        root_cert: Some(read(ca)?),
    };
    Ok(Client::build_with_tls(url, tls)?)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
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
