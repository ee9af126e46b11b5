//! Where Redis is, under the names that these settings have in the gateway.
//!
//! Invariant: how parts become an address is [`RedisNames`]' business, the same as in the cloud.

use settings::{Origin, RedisAddress, RedisNames, Settings, SettingsError};

const NAMES: RedisNames = RedisNames {
    url: "uplink.url",
    host: "uplink.host",
    port: "uplink.port",
    db: "uplink.db",
    username: "uplink.username",
    password: "uplink.password",
    prod: "uplink.prod",
    max_connections: "uplink.max_connections",
    tls: ["uplink.cert", "uplink.ca"],
};

/// Settles the address: `uplink.url`, else the parts, else the built-in default.
/// # Errors
/// A part that does not fit.
pub fn address(settings: &Settings) -> Result<RedisAddress, SettingsError> {
    NAMES.address(settings)
}

/// What was typed and changes nothing: the setting, where it was set, and why.
#[must_use]
pub fn without_effect(settings: &Settings) -> Vec<(&'static str, &Origin, String)> {
    NAMES.without_effect(settings)
}
