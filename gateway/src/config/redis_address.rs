//! Where Redis is, when it was said in the founding documents' parts: host, port, number, user,
//! password.
//!
//! Why parts at all: compose files and hosting panels set `REDIS_HOST` and its siblings one by one,
//! and a password put into a URL by hand is the classic way to a wrong one.
//!
//! Invariants: `uplink.url` wins over all parts, wherever either was set; a password is only ever
//! percent-encoded into a URL here.

use settings::{Origin, Settings, SettingsError};

/// The settings that make up an address when `uplink.url` is not set.
pub const PARTS: [&str; 6] = [
    "uplink.host",
    "uplink.port",
    "uplink.db",
    "uplink.username",
    "uplink.password",
    "uplink.prod",
];

/// Understood for the sake of old environment files; the gateway keeps a handful of connections.
const WITHOUT_EFFECT: &str = "uplink.max_connections";

/// What `PROD` says the host is called: the name of the service in the founding compose file.
const HOST_PROD: &str = "redis";
const HOST: &str = "localhost";
const PORT: u16 = 6379;

/// The address, and the parts it was made of; none when `uplink.url` says it.
pub struct Address {
    /// `rediss://user:password@host:port/0`.
    pub url: String,
    /// Names of [`PARTS`] that were set and count.
    pub parts: Vec<&'static str>,
}

fn is_typed(settings: &Settings, name: &str) -> bool {
    settings.is_set(name) && !matches!(settings.origin(name), Origin::Default)
}

/// Settles the address: `uplink.url`, else the parts, else the built-in default.
/// # Errors
/// A part that does not fit.
pub fn address(settings: &Settings) -> Result<Address, SettingsError> {
    let parts = PARTS.into_iter().filter(|part| is_typed(settings, part));
    let parts: Vec<&'static str> = parts.collect();
    // Every part is read, so that a wrong one is named even where it does not count.
    let is_prod =
        settings.optional_text("uplink.prod")?.is_some() && settings.flag("uplink.prod")?;
    let host = settings.optional_text("uplink.host")?;
    let host = host.unwrap_or(if is_prod { HOST_PROD } else { HOST });
    let port: u16 = match settings.optional_text("uplink.port")? {
        Some(_) => settings.integer("uplink.port", 1..=u16::MAX)?,
        None => PORT,
    };
    let db: u32 = match settings.optional_text("uplink.db")? {
        Some(_) => settings.integer("uplink.db", 0..=u32::from(u16::MAX))?,
        None => 0,
    };
    if is_typed(settings, "uplink.url") || parts.is_empty() {
        let url = settings.text("uplink.url")?.to_owned();
        return Ok(Address {
            url,
            parts: Vec::new(),
        });
    }
    let username = settings
        .optional_text("uplink.username")?
        .unwrap_or_default();
    let login = match settings.optional_text("uplink.password")? {
        Some(password) => format!("{}:{}@", encoded(username), encoded(password)),
        None if username.is_empty() => String::new(),
        None => format!("{}@", encoded(username)),
    };
    let tls = ["uplink.cert", "uplink.ca"]
        .into_iter()
        .any(|key| settings.is_set(key));
    let scheme = if tls { "rediss" } else { "redis" };
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let url = format!("{scheme}://{login}{host}:{port}/{db}");
    Ok(Address { url, parts })
}

/// What was typed and changes nothing: the setting, where it was set, and why.
#[must_use]
pub fn without_effect(settings: &Settings) -> Vec<(&'static str, &Origin, String)> {
    let mut idle = Vec::new();
    if is_typed(settings, "uplink.url") {
        let winner = settings.origin("uplink.url").place();
        for part in PARTS.into_iter().filter(|part| is_typed(settings, part)) {
            let why = format!("uplink.url wins, set by {winner}");
            idle.push((part, settings.origin(part), why));
        }
    }
    if is_typed(settings, WITHOUT_EFFECT) {
        let why = "the gateway has no pool of connections".to_owned();
        idle.push((WITHOUT_EFFECT, settings.origin(WITHOUT_EFFECT), why));
    }
    idle
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
