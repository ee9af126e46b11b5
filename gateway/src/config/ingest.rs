//! The settings of the HTTP door.

use std::ops::RangeInclusive;

use settings::{Key, Settings};

use super::{ConfigError, bytes_within};
use crate::ingest::{IngestConfig, IngestError, read_tokens};
use crate::listen::TlsConfig;

pub(super) const HTTP: Key = Key::new(
    "listen.http",
    "Addresses for positions over HTTP: on this machine, or behind a proxy that speaks TLS.",
)
.default("");

pub(super) const HTTPS: Key = Key::new(
    "listen.https",
    "The same inside TLS, with listen.tls_cert and listen.tls_key.",
)
.default("");

pub(super) const TOKENS: Key = Key::new(
    "ingest.tokens",
    "File with who may post positions, a name and a token a line; read again when it changes.",
);

pub(super) const OPEN: Key = Key::new(
    "ingest.open",
    "true: without ingest.tokens everybody on this machine may post; only at loopback addresses.",
)
.default("false");

pub(super) const BODY: Key = Key::new(
    "ingest.body_bytes_max",
    "Largest body of a request, as it comes and unpacked.",
)
.default("4MiB");

pub(super) const MEMORY: Key = Key::new(
    "ingest.memory_bytes_max",
    "For all requests together; behind it they are told to come again.",
)
.default("32MiB");

pub(super) const CONNECTIONS: Key = Key::new(
    "ingest.connections_max",
    "HTTP connections at the same time; they count among listen.connections_max too.",
)
.default("256");

const BODY_BYTES: RangeInclusive<u64> = 16 << 10..=64 << 20;

/// Below it not even a small batch could be read.
const MEMORY_BYTES: RangeInclusive<u64> = 2 << 20..=1 << 31;

/// `None`: there is no such door.
/// # Errors
/// [`ConfigError::Settings`] with the key, [`ConfigError::Ingest`].
pub(super) fn read(settings: &Settings) -> Result<Option<IngestConfig>, ConfigError> {
    let Some(config) = values(settings)? else {
        return Ok(None);
    };
    if !config.https.is_empty() {
        let identity = config.identity.as_ref().ok_or(IngestError::NoIdentity)?;
        identity.load().map_err(IngestError::Identity)?;
    }
    if let Some(path) = &config.tokens {
        read_tokens(path).map_err(IngestError::Tokens)?;
    }
    config.check_open(settings.flag("ingest.open")?)?;
    Ok(Some(config))
}

/// The same without a look at files and at who is let in.
/// # Errors
/// [`ConfigError::Settings`] with the key.
pub(super) fn values(settings: &Settings) -> Result<Option<IngestConfig>, ConfigError> {
    let cert = settings.optional_path("listen.tls_cert")?;
    let key = settings.optional_path("listen.tls_key")?;
    let identity = cert.zip(key).map(|(cert, key)| TlsConfig {
        cert,
        key,
        client_ca: None,
    });
    let config = IngestConfig {
        http: settings.socket_list("listen.http")?,
        https: settings.socket_list("listen.https")?,
        identity,
        tokens: settings.optional_path("ingest.tokens")?,
        body_bytes_max: bytes_within(settings, "ingest.body_bytes_max", BODY_BYTES)?,
        memory_bytes_max: bytes_within(settings, "ingest.memory_bytes_max", MEMORY_BYTES)?,
        connections_max: settings.integer("ingest.connections_max", 1..=100_000)?,
    };
    settings.flag("ingest.open")?;
    let is_here = !config.http.is_empty() || !config.https.is_empty();
    Ok(is_here.then_some(config))
}
