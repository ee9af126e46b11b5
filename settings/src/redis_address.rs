//! Where Redis is, when it was said in the founding documents' parts: host, port, number, user,
//! password.
//!
//! Why parts at all: compose files and hosting panels set `REDIS_HOST` and its siblings one by one,
//! and a password put into a URL by hand is the classic way to a wrong one. Why here: both binaries
//! mean the same by them.
//!
//! Invariants: the address as a whole wins over all parts, wherever either was set; a password is
//! only ever percent-encoded into a URL here.

use crate::error::{Origin, SettingsError};
use crate::layers::Settings;

/// What `PROD` says the host is called: the name of the service in the founding compose file.
const HOST_PROD: &str = "redis";
const HOST: &str = "localhost";
const PORT: u16 = 6379;

/// What the keys are called in one binary.
#[derive(Clone, Copy, Debug)]
pub struct RedisNames {
    /// The address as a whole.
    pub url: &'static str,
    /// Host, while the address is not set.
    pub host: &'static str,
    /// Its port.
    pub port: &'static str,
    /// Number of the database in it.
    pub db: &'static str,
    /// User.
    pub username: &'static str,
    /// Password.
    pub password: &'static str,
    /// Whether the host is called `redis` or `localhost` when nobody says.
    pub prod: &'static str,
    /// Understood for the sake of old environment files, and without effect.
    pub max_connections: &'static str,
    /// Keys that make sense with TLS alone: one of them set makes the address `rediss://`.
    pub tls: [&'static str; 2],
}

/// The address, and the parts it was made of; none when it was said as a whole.
#[derive(Debug)]
pub struct RedisAddress {
    /// `rediss://user:password@host:port/0`.
    pub url: String,
    /// Names of the parts that were set and count.
    pub parts: Vec<&'static str>,
}

impl RedisNames {
    fn typed_parts(&self, settings: &Settings) -> Vec<&'static str> {
        let parts = [
            self.host,
            self.port,
            self.db,
            self.username,
            self.password,
            self.prod,
        ];
        let typed = parts.into_iter().filter(|part| is_typed(settings, part));
        typed.collect()
    }

    /// Settles the address: the whole, else the parts, else the built-in default of the whole.
    ///
    /// # Errors
    /// A part that does not fit, even where it does not count.
    pub fn address(&self, settings: &Settings) -> Result<RedisAddress, SettingsError> {
        let parts = self.typed_parts(settings);
        let is_prod = settings.optional_text(self.prod)?.is_some() && settings.flag(self.prod)?;
        let host = settings.optional_text(self.host)?;
        let host = host.unwrap_or(if is_prod { HOST_PROD } else { HOST });
        let port: u16 = match settings.optional_text(self.port)? {
            Some(_) => settings.integer(self.port, 1..=u16::MAX)?,
            None => PORT,
        };
        let db: u32 = match settings.optional_text(self.db)? {
            Some(_) => settings.integer(self.db, 0..=u32::from(u16::MAX))?,
            None => 0,
        };
        if is_typed(settings, self.url) || parts.is_empty() {
            let url = settings.text(self.url)?.to_owned();
            return Ok(RedisAddress {
                url,
                parts: Vec::new(),
            });
        }
        let username = settings.optional_text(self.username)?.unwrap_or_default();
        let login = match settings.optional_text(self.password)? {
            Some(password) => format!("{}:{}@", encoded(username), encoded(password)),
            None if username.is_empty() => String::new(),
            None => format!("{}@", encoded(username)),
        };
        let tls = self.tls.into_iter().any(|key| settings.is_set(key));
        let scheme = if tls { "rediss" } else { "redis" };
        let host = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let url = format!("{scheme}://{login}{host}:{port}/{db}");
        Ok(RedisAddress { url, parts })
    }

    /// What was typed and changes nothing: the setting, where it was set, and why.
    #[must_use]
    pub fn without_effect<'a>(
        &self,
        settings: &'a Settings,
    ) -> Vec<(&'static str, &'a Origin, String)> {
        let mut idle = Vec::new();
        if is_typed(settings, self.url) {
            let winner = settings.origin(self.url).place();
            for part in self.typed_parts(settings) {
                let why = format!("{} wins, set by {winner}", self.url);
                idle.push((part, settings.origin(part), why));
            }
        }
        if is_typed(settings, self.max_connections) {
            let why = "there is no pool of connections to Redis".to_owned();
            let origin = settings.origin(self.max_connections);
            idle.push((self.max_connections, origin, why));
        }
        idle
    }
}

fn is_typed(settings: &Settings, name: &str) -> bool {
    settings.is_set(name) && !matches!(settings.origin(name), Origin::Default)
}

/// Percent-encoding of everything but RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
