//! The uplink's settings.

use std::time::Duration;

use contract::GatewayId;
use settings::Settings;

use super::{ConfigError, bytes_within, redis_address};
use crate::uplink::{RedisConfig, Reload, UplinkConfig};

/// Shorter pauses would only heat the processor while Redis is away.
const RETRY_MAX_MIN: Duration = Duration::from_millis(100);

/// Below, a busy Redis looks dead; above, a dead one looks busy.
const RESPONSE_TIMEOUT_S: std::ops::RangeInclusive<u64> = 1..=600;

/// Each shard needs a batch of its own in memory.
pub(crate) const SHARDS_MAX: u32 = 64;

/// How often the certificate files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Where Redis is and who we are to it.
/// # Errors
/// [`ConfigError::Settings`], [`ConfigError::Redis`].
pub fn redis(settings: &Settings) -> Result<RedisConfig, ConfigError> {
    let response_timeout: Duration = settings.duration("uplink.response_timeout")?;
    if !RESPONSE_TIMEOUT_S.contains(&response_timeout.as_secs()) {
        return Err(settings
            .invalid("uplink.response_timeout", "1s to 10m", None)
            .into());
    }
    let redis = RedisConfig {
        url: redis_address::address(settings)?.url,
        cluster: settings.flag("uplink.cluster")?,
        cert: settings.optional_path("uplink.cert")?,
        key: settings.optional_path("uplink.key")?,
        ca: settings.optional_path("uplink.ca")?,
        response_timeout,
    };
    redis.check().map_err(ConfigError::Redis)?;
    Ok(redis)
}

pub(super) fn read(settings: &Settings, gateway: GatewayId) -> Result<UplinkConfig, ConfigError> {
    let retry_max: Duration = settings.duration("uplink.retry_max")?;
    if retry_max < RETRY_MAX_MIN {
        return Err(settings
            .invalid("uplink.retry_max", "100ms or more", None)
            .into());
    }
    Ok(UplinkConfig {
        gateway,
        redis: redis(settings)?,
        stream: settings.text("uplink.stream")?.to_owned(),
        shards: settings.integer("uplink.shards", 1..=SHARDS_MAX)?,
        flush: settings.duration("uplink.flush")?,
        compress: settings.flag("uplink.compress")?,
        in_flight_bytes_max: bytes_within(
            settings,
            "uplink.in_flight_bytes_max",
            1 << 20..=1 << 31,
        )?,
        resend_after: settings.duration("uplink.resend_after")?,
        retry_max,
        drain: settings.duration("uplink.drain")?,
        look_every: LOOK_EVERY,
        reload: Reload::default(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{ENV_PREFIX, KEYS};
    use super::*;

    fn uplink(lines: &str) -> Result<UplinkConfig, ConfigError> {
        let text = format!("[uplink]\n{lines}");
        let none: [(String, String); 0] = [];
        let settings = Settings::read(KEYS, ENV_PREFIX, Some(("gateway.toml", &text)), none)?;
        read(&settings, GatewayId::new("edge").unwrap())
    }

    #[test]
    fn what_is_typed_is_meant() {
        let plain = uplink("").unwrap();
        assert_eq!((plain.shards, plain.redis.is_cluster()), (1, false));
        assert_eq!(plain.redis.response_timeout, Duration::from_secs(20));
        let set = uplink("shards = 4\ncluster = true\nresponse_timeout = \"90s\"").unwrap();
        assert_eq!((set.shards, set.redis.is_cluster()), (4, true));
        assert_eq!(set.redis.response_timeout, Duration::from_secs(90));
    }

    #[test]
    fn the_address_may_stand_in_a_file_of_its_own() {
        let variable = ("GATEWAY__UPLINK__URL_FILE", "/run/secrets/redis");
        let variable = (variable.0.to_owned(), variable.1.to_owned());
        let mut settings = Settings::read(KEYS, ENV_PREFIX, None, [variable]).unwrap();
        let waiting: Vec<_> = settings.secret_files().map(|(name, _)| name).collect();
        assert_eq!(waiting, ["uplink.url"]);
        settings.resolve_secret("uplink.url", "rediss://box:secret@redis.example:6380/\n");
        let uplink = read(&settings, GatewayId::new("edge").unwrap()).unwrap();
        assert_eq!(uplink.redis.url, "rediss://box:secret@redis.example:6380/");
        assert!(!uplink.redis.shown().contains("secret"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (line, name) in [
            ("shards = 0", "uplink.shards"),
            ("shards = 65", "uplink.shards"),
            ("response_timeout = \"0s\"", "uplink.response_timeout"),
            ("response_timeout = \"11m\"", "uplink.response_timeout"),
            ("cluster = \"perhaps\"", "uplink.cluster"),
            ("retry_max = \"1ms\"", "uplink.retry_max"),
        ] {
            let error = uplink(line).map(drop).unwrap_err();
            assert!(error.to_string().contains(name), "{line}: {error}");
        }
    }
}
