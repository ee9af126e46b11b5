//! Pure: no I/O, no clock.
//!
//! Which stream an envelope goes to.
//!
//! Why kind and shard are one thing: a stream entry has one kind, and each vendor has a stream of its
//! own, so both deal envelopes out in the same way, and both leave holes in the positions.
//!
//! Invariant: a device of one kind always takes the same route, so what it sends stays in order.

use contract::{Kind, keys};

use crate::spool::Stored;

/// A kind and a shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// What the entries hold.
    pub kind: Kind,
    /// Which of the streams of its vendor.
    pub shard: u32,
}

impl Route {
    /// Where losses are told: in the first stream of all.
    pub const GAPS: Self = Self {
        kind: Kind::Teltonika,
        shard: 0,
    };

    /// The route of an envelope.
    #[must_use]
    pub fn of(stored: &Stored, shards: u32) -> Self {
        Self {
            kind: stored.kind.clone(),
            shard: keys::shard_of(&stored.device, shards),
        }
    }

    /// The key of its stream. `configured`: the stream of Teltonika.
    #[must_use]
    pub fn stream(&self, configured: &str, shards: u32) -> String {
        keys::shard_stream(&keys::stream_of(&self.kind, configured), self.shard, shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vendor_has_streams_of_its_own_and_the_configured_one_is_teltonikas() {
        let stream = |kind, shard, shards| Route { kind, shard }.stream("fleet:north", shards);
        assert_eq!(stream(Kind::Teltonika, 0, 1), "fleet:north");
        assert_eq!(stream(Kind::Teltonika, 2, 4), "fleet:north:2");
        assert_eq!(stream(Kind::Position, 0, 1), "telemetry:http");
        assert_eq!(stream(Kind::Nmea, 3, 4), "telemetry:nmea:3");
        // Of a kind that only a later version knows, nobody would look for a stream.
        assert_eq!(stream(Kind::from_u8(200), 0, 1), "fleet:north");
    }
}
