//! What goes into a bundle: an address with a login, settings that name their files, and the
//! authorities a box has to believe.

use std::path::Path;

use contract::bundle::{AUTHORITY, Bundle, CERTIFICATE, FORMAT, KEY, Manifest};
use contract::{GatewayId, keys};
use sha2::{Digest as _, Sha256};

use super::SiteError;
use super::authority::{Issued, random_hex};

/// Random bytes of a password.
const PASSWORD_BYTES: usize = 32;

/// A password that was never anywhere. `Debug` is not derived: it would show it.
pub struct Password(String);

impl Password {
    /// # Errors
    /// [`SiteError::Random`].
    pub fn new() -> Result<Self, SiteError> {
        random_hex::<PASSWORD_BYTES>().map(Self)
    }

    /// Its SHA-256 in hexadecimal, as Redis keeps it.
    #[must_use]
    pub fn hash(&self) -> String {
        hash(&self.0)
    }
}

/// SHA-256 of a password in hexadecimal, as Redis keeps it.
#[must_use]
pub fn hash(password: &str) -> String {
    hex::encode(Sha256::digest(password))
}

/// `host:port/database` of the Redis that gateways reach, without a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// As somebody gave it: without a login.
    /// # Errors
    /// [`SiteError::Url`].
    pub fn given(url: &str) -> Result<Self, SiteError> {
        if url.contains('@') {
            return Err(refused(
                url,
                "it has a login, and each gateway gets one of its own",
            ));
        }
        Self::read(url)
    }

    /// Where we reach Redis ourselves, without our login.
    /// # Errors
    /// [`SiteError::Url`].
    pub fn of_ours(url: &str) -> Result<Self, SiteError> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        Self::read(&format!("{scheme}://{place}"))
    }

    fn read(url: &str) -> Result<Self, SiteError> {
        let Some(place) = url.strip_prefix("rediss://") else {
            return Err(refused(url, "certificates need TLS: rediss://"));
        };
        let place = place.trim_end_matches('/');
        let host = place.split(['/', '?', '#']).next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | ',');
        if host.is_empty() || host.starts_with(':') || !place.chars().all(plain) {
            return Err(refused(url, "it names no host, or several"));
        }
        Ok(Self(place.to_owned()))
    }

    /// Only this machine gets there.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        ["127.", "localhost", "[::1]"]
            .iter()
            .any(|start| self.0.starts_with(start))
    }

    /// Without a login.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("rediss://{}/", self.0)
    }

    fn with_login(&self, user: &GatewayId, password: &Password) -> String {
        // Neither has a character that a URL gives a meaning to.
        format!("rediss://{user}:{}@{}/", password.0, self.0)
    }
}

fn refused(url: &str, why: &'static str) -> SiteError {
    SiteError::Url {
        given: settings::without_password(url),
        why,
    }
}

/// What a bundle is made of.
pub struct Parts<'a> {
    /// The site, its gateway and its user.
    pub name: &'a GatewayId,
    /// Where Redis is.
    pub address: &'a Address,
    /// The login's.
    pub password: &'a Password,
    /// Where it is imported to on the box.
    pub dir: &'a Path,
    /// The telemetry stream.
    pub stream: &'a str,
    /// Its certificate.
    pub issued: &'a Issued,
    /// Whom the box is to believe, PEM.
    pub authorities: String,
    /// Milliseconds since 1970 UTC.
    pub now_ms: u64,
}

impl Parts<'_> {
    /// The bundle.
    /// # Errors
    /// [`SiteError::Dir`].
    pub fn bundle(self) -> Result<Bundle, SiteError> {
        Ok(Bundle {
            manifest: Manifest {
                format: FORMAT,
                site: self.name.to_string(),
                gateway: self.name.to_string(),
                created_ms: self.now_ms,
                expires_ms: self.issued.ends_ms,
            },
            settings: self.settings()?,
            certificate: self.issued.certificate.clone().into_bytes(),
            key: self.issued.key.clone().into_bytes(),
            authority: self.authorities.into_bytes(),
        })
    }

    fn settings(&self) -> Result<String, SiteError> {
        let path = |name: &str| {
            let path = self.dir.join(name);
            let text = path
                .to_str()
                .filter(|text| !text.chars().any(char::is_control));
            match text.filter(|_| self.dir.is_absolute()) {
                Some(text) => Ok(quoted(text)),
                None => Err(SiteError::Dir {
                    given: self.dir.display().to_string(),
                }),
            }
        };
        let mut text = format!(
            "# Settings of the gateway {0}, made by `cloud site add {0}`. The login below is its own:\n\
             # keep this file for root and the gateway's user.\n\
             [gateway]\nid = {1}\n\n[uplink]\nurl = {2}\ncert = {3}\nkey = {4}\nca = {5}\n",
            self.name,
            quoted(self.name.as_str()),
            quoted(&self.address.with_login(self.name, self.password)),
            path(CERTIFICATE)?,
            path(KEY)?,
            path(AUTHORITY)?,
        );
        if self.stream != keys::STREAM_TELTONIKA {
            text.push_str(&format!("stream = {}\n", quoted(self.stream)));
        }
        Ok(text)
    }
}

/// A TOML string. JSON escapes what TOML does, except for DEL, which nothing here contains.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_one_host_and_no_login() {
        let shown = |url| Address::given(url).map(|address| address.shown());
        assert_eq!(
            shown("rediss://r.example:6380").unwrap(),
            "rediss://r.example:6380/"
        );
        assert_eq!(
            shown("rediss://r.example:6380/2/").unwrap(),
            "rediss://r.example:6380/2/"
        );
        for bad in [
            "redis://r.example",
            "rediss://",
            "rediss://:6380",
            "rediss:///0",
            "rediss://a,rediss://b",
            "rediss://a b",
            "r.example:6380",
            "rediss://u:secret@r.example",
        ] {
            let error = shown(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let ours = Address::of_ours("rediss://processor:p@ss@10.0.0.1:6379/1").unwrap();
        assert_eq!(ours.shown(), "rediss://10.0.0.1:6379/1/");
        assert!(!ours.is_loopback());
        assert!(
            Address::given("rediss://127.0.0.1:1")
                .unwrap()
                .is_loopback()
        );
    }

    #[test]
    fn passwords_are_new_each_time_and_known_by_their_hash() {
        let (a, b) = (Password::new().unwrap(), Password::new().unwrap());
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.0.len(), 64);
        // FIPS 180-4, the example of SHA-256.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash("abc"), abc);
    }
}
