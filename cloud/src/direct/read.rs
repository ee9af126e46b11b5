//! Pure: no I/O, no clock.
//!
//! What was read from a spool, as the entries a gateway would have made of it.
//!
//! Why entries: what comes behind them (decoding, writing, settling) knows nothing else, and shall not
//! have to.
//!
//! Invariant: an entry holds neighbours of one opening and of one kind, at most as many as one may hold.

use contract::envelope::ENVELOPES_MAX;
use contract::{Coding, Entry, Gap, GatewayId, Kind, Payload, PayloadError, SpoolId, SpoolSeq};
use spool::Stored;

/// Bytes of frames in one entry, unless a single frame has more.
const ENTRY_BYTES: usize = 64 * 1024;

/// Cuts what was read wherever an entry must end.
#[must_use]
pub fn runs(stored: &[Stored]) -> Vec<&[Stored]> {
    let mut runs = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, one) in stored.iter().enumerate() {
        let follows = at > from && {
            let before = &stored[at - 1];
            before.spool == one.spool
                && before.kind == one.kind
                && before.seq.get() + 1 == one.seq.get()
                && at - from < ENVELOPES_MAX
                && bytes + one.bytes.len() <= ENTRY_BYTES
        };
        if at > from && !follows {
            runs.push(&stored[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += one.bytes.len();
    }
    if from < stored.len() {
        runs.push(&stored[from..]);
    }
    runs
}

/// The entry of one run. `low`: nothing below it waits in this opening.
/// # Errors
/// [`PayloadError`]: not for a run of [`runs`].
pub fn entry(gateway: &GatewayId, run: &[Stored], low: SpoolSeq) -> Result<Entry, PayloadError> {
    let first = run.first().ok_or(PayloadError::Empty)?;
    let envelopes: Vec<_> = run.iter().map(Stored::envelope).collect();
    let of = Entry::of_neighbours(gateway.clone(), first.spool, &envelopes, Coding::MsgPack);
    of.map(|entry| Entry {
        kind: first.kind.clone(),
        low: low.min(first.seq),
        ..entry
    })
}

/// The entry that says which positions are lost.
/// # Errors
/// [`PayloadError`]: not for one without envelopes.
pub fn gap(
    gateway: &GatewayId,
    spool: SpoolId,
    gap: &Gap,
    low: SpoolSeq,
) -> Result<Entry, PayloadError> {
    Ok(Entry {
        kind: Kind::Teltonika,
        gateway: gateway.clone(),
        spool,
        first: gap.first,
        last: gap.first,
        exact: None,
        low: low.min(gap.first),
        gaps: vec![gap.clone()],
        records: 0,
        coding: Coding::MsgPack,
        data: Payload::pack(&[], &Coding::MsgPack)?,
    })
}

/// The fields of an entry as they come out of a stream.
#[must_use]
pub fn fields(entry: &Entry) -> Vec<(Vec<u8>, Vec<u8>)> {
    let named = entry.to_fields().into_iter();
    named
        .map(|(name, value)| (name.as_bytes().to_vec(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use contract::{Device, Lane, Transport};
    use spool::Position;

    use super::*;

    fn stored(spool: u64, seq: u64, bytes: usize) -> Stored {
        Stored {
            spool: SpoolId::from_random(spool),
            seq: SpoolSeq::new(seq).unwrap(),
            at: Position::default(),
            received_at_ms: 1_790_000_000_000,
            kind: Kind::Teltonika,
            device: Device::Text("x".into()),
            transport: Transport::Tcp,
            lane: Lane::Normal,
            record_count: 1,
            panic: false,
            bytes: vec![0; bytes],
        }
    }

    fn shape(stored: &[Stored]) -> Vec<(u64, u64)> {
        let ends = |run: &&[Stored]| (run[0].seq.get(), run[run.len() - 1].seq.get());
        runs(stored).iter().map(ends).collect()
    }

    #[test]
    fn an_entry_ends_at_every_hole_and_every_limit() {
        assert!(shape(&[]).is_empty());
        let mut all: Vec<Stored> = [1, 2, 5, 6].map(|seq| stored(1, seq, 10)).into();
        all.push(stored(2, 7, 10)); // another opening
        all.push(stored(2, 8, ENTRY_BYTES + 1)); // too large for company
        all.push(stored(2, 9, 10));
        let kind = Kind::Position;
        all.push(Stored {
            kind,
            ..stored(2, 10, 10)
        });
        let ends = [(1, 2), (5, 6), (7, 7), (8, 8), (9, 9), (10, 10)];
        assert_eq!(shape(&all), ends);
        let many: Vec<Stored> = (1..=600).map(|seq| stored(1, seq, 1)).collect();
        assert_eq!(shape(&many), [(1, 512), (513, 600)]);
    }

    #[test]
    fn entries_and_gaps_are_read_as_those_of_a_gateway() {
        let gateway: GatewayId = "depot-1".parse().unwrap();
        let kind = Kind::Nmea;
        let run = [(3, 10), (4, 20)].map(|(seq, bytes)| Stored {
            kind: kind.clone(),
            ..stored(7, seq, bytes)
        });
        let low = SpoolSeq::new(9).unwrap();
        let whole = entry(&gateway, &run, low).unwrap();
        assert_eq!((whole.low, whole.records), (run[0].seq, 2));
        assert_eq!(whole.kind, kind);
        let lost: Gap = "5-800:3:corrupt".parse().unwrap();
        let gone = gap(&gateway, SpoolId::from_random(7), &lost, SpoolSeq::FIRST).unwrap();
        for made in [whole, gone] {
            let fields = fields(&made);
            let named =
                |(n, v): &(Vec<u8>, Vec<u8>)| (String::from_utf8(n.clone()).unwrap(), v.clone());
            let named: Vec<(String, Vec<u8>)> = fields.iter().map(named).collect();
            let read = Entry::from_fields(named.iter().map(|(n, v)| (n.as_str(), v.as_slice())));
            assert_eq!(read.unwrap(), made);
        }
    }
}
