//! Pure: no I/O, no clock.
//!
//! From a batch or a gap to the stream entry that carries it.
//!
//! Invariant: `low` never lies above the first position inside, whatever was settled meanwhile.

use contract::{Coding, Effort, Entry, Envelope, Gap, GatewayId, Kind, Payload, SpoolId, SpoolSeq};

use super::batch::Batch;
use crate::spool::Stored;

/// The entry of a batch. `low`: nothing below it will be sent (again).
pub(super) fn of_batch(
    batch: &Batch,
    gateway: &GatewayId,
    low: SpoolSeq,
    coding: &Coding,
) -> Entry {
    let envelopes: Vec<_> = batch.stored().iter().map(Stored::envelope).collect();
    Entry {
        records: batch.records(),
        kind: batch.route().kind.clone(),
        last: batch.last(),
        exact: batch.has_holes().then(|| batch.inside().ranges()),
        ..empty(
            batch.spool(),
            batch.first(),
            gateway,
            low,
            (coding, batch.effort()),
            &envelopes,
        )
    }
}

/// An entry without envelopes that says which positions are lost.
pub(super) fn of_gap(
    spool: SpoolId,
    gap: &Gap,
    gateway: &GatewayId,
    low: SpoolSeq,
    coding: &Coding,
) -> Entry {
    Entry {
        gaps: vec![gap.clone()],
        ..empty(spool, gap.first, gateway, low, (coding, Effort::Quick), &[])
    }
}

fn empty(
    spool: SpoolId,
    first: SpoolSeq,
    gateway: &GatewayId,
    low: SpoolSeq,
    (coding, effort): (&Coding, Effort),
    envelopes: &[Envelope<'_>],
) -> Entry {
    Entry {
        kind: Kind::Teltonika,
        gateway: gateway.clone(),
        spool,
        first,
        last: first,
        exact: None,
        low: low.min(first),
        gaps: Vec::new(),
        records: 0,
        coding: coding.clone(),
        data: Payload::pack_with(envelopes, coding, effort)
            .expect("a batch stays far below the limits of a payload"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::batch::tests::batch;
    use super::*;

    fn seq(number: u64) -> SpoolSeq {
        SpoolSeq::new(number).unwrap()
    }

    #[test]
    fn a_batch_and_a_gap_say_what_they_cover() {
        let gateway = GatewayId::new("edge").unwrap();
        let entry = of_batch(&batch(7, [3, 4, 9]), &gateway, seq(2), &Coding::MsgPack);
        assert_eq!(
            (entry.first, entry.last, entry.low, entry.records),
            (seq(3), seq(9), seq(2), 3)
        );
        assert_eq!(entry.positions().to_string(), "3-4,9-9");
        let whole = of_batch(&batch(7, 3..=9), &gateway, seq(2), &Coding::MsgPack);
        assert_eq!(whole.exact, None);
        let payload = Payload::open(&entry.coding, &entry.data).unwrap();
        assert_eq!(payload.envelopes().unwrap().len(), 3);

        let gap: Gap = "5-800:0:corrupt".parse().unwrap();
        let entry = of_gap(
            SpoolId::from_random(7),
            &gap,
            &gateway,
            seq(900),
            &Coding::MsgPackZstd,
        );
        assert_eq!(
            (entry.first, entry.last, entry.low),
            (seq(5), seq(5), seq(5))
        );
        assert_eq!((entry.gaps.as_slice(), entry.records), (&[gap][..], 0));
        // Both can be read back, whatever their coding.
        let fields = entry.to_fields();
        let read = Entry::from_fields(fields.iter().map(|(n, v)| (*n, v.as_slice()))).unwrap();
        assert!(
            Payload::open(&read.coding, &read.data)
                .unwrap()
                .envelopes()
                .unwrap()
                .is_empty()
        );
    }
}
