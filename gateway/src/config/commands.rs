//! The settings of the downlink.

use std::time::Duration;

use contract::GatewayId;
use settings::Settings;

use super::ConfigError;
use crate::downlink::DownlinkConfig;
use crate::uplink::UplinkConfig;

/// Shorter, and no tracker answers in time; longer, and the next order waits for minutes.
const REPLY_TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(600);

/// How long one read for an order waits. As long as the uplink gathers: who pays by the byte sets both.
/// The longest keeps a dead silent link from being taken for a quiet one for more than a minute.
const ORDER_WAIT: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(30);

/// `None`: commands are switched off, or there is no Redis to bring them.
pub(super) fn read(
    settings: &Settings,
    gateway: &GatewayId,
    uplink: &UplinkConfig,
) -> Result<Option<DownlinkConfig>, ConfigError> {
    let reply_timeout: Duration = settings.duration("commands.reply_timeout")?;
    if !REPLY_TIMEOUT.contains(&reply_timeout) {
        let invalid = settings.invalid("commands.reply_timeout", "1s to 600s", None);
        return Err(invalid.into());
    }
    let is_enabled = settings.flag("commands.enabled")? && !uplink.redis.is_direct();
    Ok(is_enabled.then(|| DownlinkConfig {
        gateway: gateway.clone(),
        redis: uplink.redis.clone(),
        order_wait: uplink.flush.clamp(*ORDER_WAIT.start(), *ORDER_WAIT.end()),
        reply_timeout,
        retry_max: uplink.retry_max,
    }))
}
