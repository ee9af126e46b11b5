//! Every Redis key and group name, built in one place.
//!
//! Why: the names are the contract that other programs (a Directus Flow, redis-cli, a dashboard)
//! rely on. `<…>` in the comments is a placeholder; literal braces are written out.
//!
//! Invariant: no function here can produce a key that another one's pattern consumes;
//! in particular a dead-letter stream never matches `telemetry:*`.

use crate::envelope::Device;
use crate::id::GatewayId;
use crate::kind::Kind;

/// Stream that carries Teltonika data when nothing else is configured.
pub const STREAM_TELTONIKA: &str = "telemetry:teltonika";

/// Environment variable that renames the telemetry stream, read by both sides.
pub const ENV_TELEMETRY_STREAM: &str = "REDIS_TELEMETRY_STREAM";

/// Consumer group of the cloud processor on every telemetry stream. Created at `0`, never `$`.
pub const GROUP_PROCESSOR: &str = "processor";

/// Consumer group of a gateway on its own command stream.
pub const GROUP_GATEWAY: &str = "gateway";

/// Consumer group of the cloud on [`COMMAND_RESPONSES`].
pub const GROUP_COMMANDS: &str = "commands";

/// Hash with the versions the cloud reads and writes: see [`crate::version`].
pub const CONTRACT: &str = "contract";

/// Stream on which gateways report what became of an order.
pub const COMMAND_RESPONSES: &str = "commands:responses";

/// Hash IMEI → gateway id of the gateway the tracker is connected to.
pub const CONNECTIONS: &str = "connections:registry";

/// Hash IMEI → connection epoch. The literal braces put it into the same cluster slot as
/// [`CONNECTIONS`], so that both can be compared and deleted in one script.
pub const CONNECTION_EPOCHS: &str = "{connections:registry}:epoch";

/// Heartbeats expire after this many seconds; a gateway renews them every
/// [`REPUBLISH_INTERVAL_S`].
pub const HEARTBEAT_EXPIRY_S: u64 = 90;

/// Heartbeat, registry, floor and contract are written again this often, so that an emptied
/// Redis heals.
pub const REPUBLISH_INTERVAL_S: u64 = 30;

/// Stream of one vendor: `telemetry:<vendor>`.
#[must_use]
pub fn stream(vendor: &str) -> String {
    format!("telemetry:{vendor}")
}

/// Stream of one shard: the stream itself when there is one shard, else `<stream>:<n>`.
#[must_use]
pub fn shard_stream(stream: &str, shard: u32, shards: u32) -> String {
    if shards <= 1 {
        stream.to_owned()
    } else {
        format!("{stream}:{shard}")
    }
}

/// Is `key` a shard of `stream`: its name, a colon and a number?
#[must_use]
pub fn is_shard_of(key: &str, stream: &str) -> bool {
    let number = key
        .strip_prefix(stream)
        .and_then(|rest| rest.strip_prefix(':'));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The stream for entries of `kind`: `telemetry:<vendor>`. `configured` is that of Teltonika, whatever
/// its name, and of kinds that this build does not know: there somebody reads.
#[must_use]
pub fn stream_of(kind: &Kind, configured: &str) -> String {
    match kind {
        Kind::Teltonika | Kind::Other(_) => configured.to_owned(),
        known => stream(known.vendor()),
    }
}

/// The streams of all other vendors than Teltonika.
pub fn other_streams() -> impl Iterator<Item = String> {
    let others = Kind::known().filter(|kind| *kind != Kind::Teltonika);
    others.map(|kind| stream(kind.vendor()))
}

/// Which shard a device belongs to: xxh3-64 of its text form (IMEI: 15 digits) modulo `shards`.
/// Frozen: a change would move devices between streams.
#[must_use]
pub fn shard_of(device: &Device, shards: u32) -> u32 {
    if shards <= 1 {
        return 0;
    }
    let hash = twox_hash::XxHash3_64::oneshot(device.to_string().as_bytes());
    u32::try_from(hash % u64::from(shards)).expect("a remainder below a u32 fits a u32")
}

/// Hash of settled positions, field = spool id: `floor:<gateway id>`.
#[must_use]
pub fn floor(gateway: &GatewayId) -> String {
    format!("floor:{gateway}")
}

/// Orders for one gateway: `commands:outbound:<gateway id>`.
#[must_use]
pub fn commands_outbound(gateway: &GatewayId) -> String {
    format!("commands:outbound:{gateway}")
}

/// Sign of life of one gateway: `instance:heartbeat:<gateway id>`.
#[must_use]
pub fn heartbeat(gateway: &GatewayId) -> String {
    format!("instance:heartbeat:{gateway}")
}

/// Beginning of the names of dead-letter streams.
const DEAD_LETTER: &str = "dead-letter:";

/// May a pattern for telemetry streams take this key in? Never a stream with another purpose,
/// whatever the pattern: orders and responses, and what was put aside.
#[must_use]
pub fn may_carry_telemetry(key: &str) -> bool {
    !key.starts_with("commands:") && !key.starts_with(DEAD_LETTER)
}

/// Mirror of the dead-letter table for people with redis-cli: `dead-letter:<stream>`.
#[must_use]
pub fn dead_letter_stream(stream: &str) -> String {
    format!("{DEAD_LETTER}{stream}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_the_founding_ones() {
        let gw = GatewayId::new("depot-1").unwrap();
        assert_eq!(stream("teltonika"), STREAM_TELTONIKA);
        assert_eq!(floor(&gw), "floor:depot-1");
        assert_eq!(commands_outbound(&gw), "commands:outbound:depot-1");
        assert_eq!(heartbeat(&gw), "instance:heartbeat:depot-1");
        assert_eq!(shard_stream(STREAM_TELTONIKA, 0, 1), STREAM_TELTONIKA);
        assert_eq!(
            shard_stream(STREAM_TELTONIKA, 3, 4),
            "telemetry:teltonika:3"
        );
        assert!(!dead_letter_stream(STREAM_TELTONIKA).starts_with("telemetry:"));
    }

    #[test]
    fn a_pattern_takes_in_no_stream_of_another_purpose() {
        let gw = GatewayId::new("depot-1").unwrap();
        assert!(may_carry_telemetry(STREAM_TELTONIKA));
        assert!(may_carry_telemetry(&shard_stream(STREAM_TELTONIKA, 3, 4)));
        for other in [
            dead_letter_stream(STREAM_TELTONIKA),
            commands_outbound(&gw),
            COMMAND_RESPONSES.to_owned(),
        ] {
            assert!(!may_carry_telemetry(&other), "{other}");
        }
    }

    #[test]
    fn shards_are_known_by_their_number() {
        for shard in 0..3 {
            assert!(is_shard_of(&shard_stream("a:b", shard, 3), "a:b"));
        }
        for key in [
            "a:b", "a:b:", "a:b:x", "a:b:1x", "a:b:-1", "a:b:1:2", "a:c:1", "a:b1",
        ] {
            assert!(!is_shard_of(key, "a:b"), "{key}");
        }
    }

    #[test]
    fn shards_are_frozen() {
        // From xxHash for Python; the IMEIs are the protocol documents' own.
        let device = |digits: &str| Device::Imei(digits.parse().unwrap());
        let of = |digits: &str| shard_of(&device(digits), 1000);
        assert_eq!((of("356307042441013"), of("123456789012345")), (432, 184));
        assert_eq!(shard_of(&Device::Text("boat".into()), 1000), 206);
        assert_eq!(shard_of(&device("356307042441013"), 1), 0);
    }
}
