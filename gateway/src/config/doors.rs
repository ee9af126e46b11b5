//! The settings of the device side: where to listen, how much of everything, who may talk.

use std::ops::RangeInclusive;

use hardware::{NoSerialLine, SerialLine};
use settings::Settings;

use super::{ConfigError, bytes_within};
use crate::access::{AccessConfig, AccessMode};
use crate::listen::{DoorsConfig, ListenConfig, TlsConfig};
use crate::session::SessionLimits;

/// Below it the spool cannot make its segments; the text of `spool.bytes_max` promises it.
const SPOOL_BYTES_MIN: u64 = 8 << 20;

/// Of `listen.connections_max` and of its share for one address.
const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;

/// Room for at least some of the largest frames.
const MEMORY_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 31;

pub(super) fn doors(settings: &Settings) -> Result<DoorsConfig, ConfigError> {
    let doors = addresses(settings)?;
    if let (false, Some(identity)) = (doors.tls.is_empty(), &doors.identity) {
        identity.load().map_err(ConfigError::Tls)?;
    }
    Ok(doors)
}

/// Where the doors are, without a look at the certificate.
pub(super) fn addresses(settings: &Settings) -> Result<DoorsConfig, ConfigError> {
    let tls = settings.socket_list("listen.tls")?;
    let cert = settings.optional_path("listen.tls_cert")?;
    let key = settings.optional_path("listen.tls_key")?;
    let client_ca = settings.optional_path("listen.tls_client_ca")?;
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsConfig {
            cert,
            key,
            client_ca,
        }),
        (None, None) if tls.is_empty() => None,
        _ => return Err(ConfigError::HalfTls),
    };
    Ok(DoorsConfig {
        tcp: settings.socket_list("listen.tcp")?,
        udp: settings.socket_list("listen.udp")?,
        nmea: settings.socket_list("listen.nmea")?,
        tls,
        identity,
        serial: serial_lines(settings)?,
    })
}

/// The serial lines; none is looked for.
/// # Errors
/// [`ConfigError::Settings`] with the key.
pub fn serial_lines(settings: &Settings) -> Result<Vec<SerialLine>, ConfigError> {
    let invalid = |expected: String| settings.invalid("listen.serial", expected, None);
    let mut lines: Vec<SerialLine> = Vec::new();
    for item in settings.list("listen.serial")? {
        let line: SerialLine = item
            .parse()
            .map_err(|error: NoSerialLine| invalid(error.to_string()))?;
        if lines.iter().any(|other| other.path == line.path) {
            return Err(invalid("each device once".to_owned()).into());
        }
        lines.push(line);
    }
    Ok(lines)
}

pub(super) fn listen(settings: &Settings) -> Result<ListenConfig, ConfigError> {
    let codec = codec::Limits {
        frame_bytes_max: bytes_within(settings, "listen.frame_bytes_max", 1_280..=65_535)?,
        ..codec::Limits::default()
    };
    let connections_max: usize = settings.integer("listen.connections_max", CONNECTIONS)?;
    let connections_per_ip_max = match settings.is_set("listen.connections_per_ip_max") {
        true => settings.integer("listen.connections_per_ip_max", CONNECTIONS)?,
        false => connections_max.div_ceil(2),
    };
    Ok(ListenConfig {
        connections_max,
        connections_per_ip_max,
        memory_bytes_max: bytes_within(settings, "listen.memory_bytes_max", MEMORY_BYTES)?,
        session: SessionLimits {
            handshake_timeout: settings.duration("listen.handshake_timeout")?,
            frame_timeout: settings.duration("listen.frame_timeout")?,
            idle_timeout: settings.duration("listen.idle_timeout")?,
            codec,
        },
    })
}

/// Who may log in; no file is looked at.
/// # Errors
/// [`ConfigError::Settings`] with the key.
pub fn access(settings: &Settings) -> Result<AccessConfig, ConfigError> {
    let mode = match settings.choice("access.mode", &["learn", "list", "open"])? {
        "list" => AccessMode::List,
        "open" => AccessMode::Open,
        _ => AccessMode::Learn,
    };
    let list = match mode {
        AccessMode::List => Some(settings.path("access.list")?),
        AccessMode::Open | AccessMode::Learn => settings.optional_path("access.list")?,
    };
    let learned = match settings.optional_path("access.learned")? {
        Some(path) => path,
        None => settings.path("spool.dir")?.with_file_name("learned.txt"),
    };
    Ok(AccessConfig {
        mode,
        list,
        learned,
        learn_for: settings.duration("access.learn_for")?,
    })
}

pub(super) fn spool_bytes_max(settings: &Settings) -> Result<u64, ConfigError> {
    let bytes: u64 = settings.bytes("spool.bytes_max")?;
    if bytes < SPOOL_BYTES_MIN {
        let invalid = settings.invalid("spool.bytes_max", "8MiB or more", None);
        return Err(invalid.into());
    }
    Ok(bytes)
}
