//! Where a Redis is and how to get in: its port, its authority, a login and a certificate per user.
//!
//! Apart from the server, because somebody else may have started that one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::redis::{Client, ClientTlsConfig, TlsCertificates};
use anyhow::{Context, Result};
use contract::{GatewayId, access};

use super::{Identity, Pki, install_tls_provider, secret};

/// The user that may do everything. For tests, never for our programs.
pub const ADMIN: &str = access::ADMIN;

/// The user of the cloud side.
pub const PROCESSOR: &str = access::PROCESSOR;

/// The gateway that exists unless [`super::RedisOptions::gateways`] says otherwise: its id and its user.
pub const GATEWAY: &str = "gw-test";

/// What the file with [`RedisAccess::acl`] is called where a server of ours reads it.
pub(super) const ACL_FILE: &str = "users.acl";

/// The ACL lines of the users `admin`, `processor` and one per gateway: what `cloud acl print` prints.
///
/// `passwords` maps a user to its password; a missing one gives a user that cannot log in.
///
/// # Panics
/// When a name is none for a gateway: a mistake in the test.
#[must_use]
pub fn acl_lines(gateways: &[String], passwords: &BTreeMap<String, String>) -> Vec<String> {
    let streams = access::Streams::default();
    let line = |user: &str, words: &[String]| {
        let password = passwords.get(user).map(|password| format!(">{password}"));
        access::file_line(user, password.as_slice(), words)
    };
    let mut lines = vec![
        "user default off".to_owned(),
        line(ADMIN, &access::ADMIN_WORDS.map(str::to_owned)),
    ];
    for gateway in gateways {
        let id = GatewayId::new(gateway).expect("the name of a gateway");
        lines.push(line(gateway, &access::gateway(&id, &streams, false)));
    }
    let cloud = access::cloud(&streams, None, false).expect("no name of its own");
    lines.push(line(PROCESSOR, &cloud));
    lines
}

/// A server on 127.0.0.1, and the means to log in as any of its users.
#[derive(Clone, Debug)]
pub struct RedisAccess {
    pub(super) port: u16,
    ca: PathBuf,
    gateways: Vec<String>,
    logins: BTreeMap<String, Login>,
}

#[derive(Clone, Debug)]
struct Login {
    password: String,
    identity: Identity,
}

impl RedisAccess {
    /// Passwords and client certificates for `admin`, `processor` and `gateways`, for a server that
    /// takes its users from [`Self::acl`] and gets its `port` later.
    pub(super) fn new(pki: &Pki, gateways: &[String]) -> Result<Self> {
        let mut logins = BTreeMap::new();
        for user in [ADMIN, PROCESSOR]
            .into_iter()
            .chain(gateways.iter().map(String::as_str))
        {
            let login = Login {
                password: secret()?,
                identity: pki.client(user)?,
            };
            logins.insert(user.to_owned(), login);
        }
        Ok(Self {
            port: 0,
            ca: pki.ca().to_owned(),
            gateways: gateways.to_owned(),
            logins,
        })
    }

    /// The server's ACL file: [`acl_lines`] with these passwords.
    #[must_use]
    pub fn acl(&self) -> String {
        let passwords = self.logins.iter();
        let passwords = passwords.map(|(user, login)| (user.clone(), login.password.clone()));
        acl_lines(&self.gateways, &passwords.collect()).join("\n") + "\n"
    }

    /// Whether there is such a user.
    #[must_use]
    pub fn knows(&self, user: &str) -> bool {
        self.logins.contains_key(user)
    }

    /// `rediss://user:password@127.0.0.1:port/` for `admin`, `processor` or a gateway id.
    ///
    /// # Panics
    /// When there is no such user: a mistake in the test.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        let password = &self.login(user).password;
        format!("rediss://{user}:{password}@127.0.0.1:{}/", self.port)
    }

    pub(super) fn password(&self, user: &str) -> &str {
        &self.login(user).password
    }

    /// The certificate of the authority that signed the server's certificate, PEM.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// The client certificate and key of a user.
    ///
    /// # Panics
    /// When there is no such user: a mistake in the test.
    #[must_use]
    pub fn identity(&self, user: &str) -> &Identity {
        &self.login(user).identity
    }

    /// A client logged in as `user` with its own certificate.
    ///
    /// # Errors
    /// When the certificate files cannot be read. Connecting comes later.
    pub fn client(&self, user: &str) -> Result<Client> {
        install_tls_provider();
        let identity = self.identity(user);
        let tls = TlsCertificates {
            client_tls: Some(ClientTlsConfig {
                client_cert: read(&identity.cert)?,
                client_key: read(&identity.key)?,
            }),
            root_cert: Some(read(self.ca())?),
        };
        Ok(Client::build_with_tls(self.url(user), tls)?)
    }

    /// The port on 127.0.0.1. The same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// # Errors
    /// When the server does not answer PONG: it may be down, or still loading its file.
    pub async fn ping(&self) -> Result<()> {
        let mut admin = self
            .client(ADMIN)?
            .get_multiplexed_async_connection()
            .await?;
        let _: String = ::redis::cmd("PING").query_async(&mut admin).await?;
        Ok(())
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

    /// Commands of the user `admin`, as one types them; `\ ` is a blank inside a word, a blank at the
    /// end an empty word.
    ///
    /// # Errors
    /// When the server does not answer, or refuses one: the text names it.
    pub async fn admin_does(&self, lines: &[&str]) -> Result<()> {
        let client = self.client(ADMIN)?;
        let mut admin = client.get_multiplexed_async_connection().await?;
        for line in lines {
            let hidden = line.replace("\\ ", "\0");
            let mut command = ::redis::Cmd::new();
            for word in hidden.split(' ') {
                command.arg(word.replace('\0', " "));
            }
            let done = command.query_async::<::redis::Value>(&mut admin).await;
            done.with_context(|| (*line).to_owned())?;
        }
        Ok(())
    }

    fn login(&self, user: &str) -> &Login {
        self.logins.get(user).expect("a user this server was given")
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}
