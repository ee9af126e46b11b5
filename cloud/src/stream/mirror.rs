//! Dead letters once more, as items of a stream, for people with redis-cli.
//!
//! Why only a copy: the table has every one of them with its bytes, in the transaction that put the
//! records aside. What Redis does not take here is counted and missing here alone.
//!
//! Invariants: nothing is copied before COMMIT; the stream is capped by age; nothing we read can be
//! this stream.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, cmd};
use tracing::warn;

use super::consumer::chained;
use super::link::Link;
use crate::batch::{Batch, DeadLetter, Place};
use crate::fail_point::fail_point;
use crate::metrics::{Metrics, now_ms};
use crate::store::Committed;

/// Bytes shown as text; all of them stand in field `d`.
pub(crate) const SHOWN_BYTES: usize = 64;

/// Writes copies.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// How to reach Redis.
    pub link: Link,
    /// Key of the stream.
    pub stream: Arc<str>,
    /// Older copies go.
    pub keep: Duration,
    /// Who we are in the group.
    pub consumer: Arc<str>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Mirror {
    /// Copies what a batch put aside.
    pub async fn copy(&self, batch: &Batch, committed: &Committed) {
        for (place, letter) in committed.letters() {
            let failed_at_ms = now_ms();
            let told = fields(batch, place.as_ref(), letter, failed_at_ms);
            self.put(failed_at_ms, told, &letter.bytes).await;
        }
    }

    /// Copies one dead letter, once its COMMIT is there.
    pub(crate) async fn put(
        &self,
        failed_at_ms: u64,
        told: Vec<(&'static str, String)>,
        bytes: &[u8],
    ) {
        let add = self.add(failed_at_ms, told, bytes);
        if let Err(failure) = self.link.ask::<String>("XADD", &add).await {
            self.metrics.mirror_missed.add(1);
            let (stream, error) = (&self.stream, chained(&failure));
            warn!(%stream, error, "cannot copy a dead letter; the table has it");
        }
        fail_point!("letter-copied");
    }

    fn add(&self, failed_at_ms: u64, told: Vec<(&'static str, String)>, bytes: &[u8]) -> Cmd {
        let keep_ms = u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX);
        let mut add = cmd("XADD");
        add.arg(&*self.stream).arg("MINID").arg("~");
        add.arg(failed_at_ms.saturating_sub(keep_ms)).arg("*");
        for (name, value) in told {
            add.arg(name).arg(value);
        }
        add.arg("consumer").arg(&*self.consumer);
        add.arg("d").arg(bytes);
        add
    }
}

/// The founding names first, then ours. What is not known is empty.
fn fields(
    batch: &Batch,
    place: Option<&Place>,
    letter: &DeadLetter,
    failed_at_ms: u64,
) -> Vec<(&'static str, String)> {
    let origin = letter.entry.clone().or_else(|| batch.origin(place?));
    let shown = &letter.bytes[..letter.bytes.len().min(SHOWN_BYTES)];
    let hexadecimal: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = |value: Option<&dyn ToString>| value.map(ToString::to_string).unwrap_or_default();
    vec![
        (
            "original_stream",
            text(origin.as_ref().map(|o| &o.stream as _)),
        ),
        ("original_id", text(origin.as_ref().map(|o| &o.id as _))),
        ("device_id", text(letter.device.as_ref().map(|d| d as _))),
        ("sensor_type", letter.kind.as_str().to_owned()),
        ("value", hexadecimal),
        ("error", letter.reason.clone()),
        ("failed_at", (failed_at_ms / 1_000).to_string()),
        ("error_class", letter.error_class.to_owned()),
        ("sqlstate", letter.sqlstate.clone().unwrap_or_default()),
        ("records", letter.records.to_string()),
        ("gw", text(place.map(|place| &place.gateway as _))),
        ("sp", text(place.map(|place| &place.spool as _))),
        ("seq", text(place.map(|place| &place.first as _))),
        ("record", text(letter.record_index.as_ref().map(|i| i as _))),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use super::*;
    use crate::batch::EntryId;
    use crate::decode;

    #[test]
    fn the_founding_names_say_where_it_came_from() {
        let entry = |id: &str| EntryId {
            stream: "telemetry:teltonika:2".into(),
            id: id.parse().unwrap(),
        };
        let mut batch = Batch::default();
        let spoilt = |seq: u64| {
            let fields = [
                ("v", "1".to_owned()),
                ("k", "teltonika".to_owned()),
                ("gw", "depot-1".to_owned()),
                ("sp", "0000000000000abc".to_owned()),
                ("a", seq.to_string()),
                ("z", seq.to_string()),
                ("low", "1".to_owned()),
                ("n", "3".to_owned()),
                ("c", "mp".to_owned()),
                ("d", "?!".to_owned()),
            ];
            let bytes = |(name, value): (&str, String)| (name.into(), value.into_bytes());
            fields.map(bytes).to_vec()
        };
        for seq in 5..8 {
            let id = entry(&format!("170000000000{seq}-1"));
            let decoded = decode::entry(&id, &spoilt(seq)).unwrap();
            batch.add(id, decoded, 0);
        }
        let unit = &batch.units[1];
        let letter = &unit.dead_letters[0];
        let told: HashMap<_, _> = fields(&batch, unit.place.as_ref(), letter, 1_700_000_123_456)
            .into_iter()
            .collect();
        let expected = [
            ("original_stream", "telemetry:teltonika:2"),
            ("original_id", "1700000000006-1"),
            ("failed_at", "1700000123"),
            ("value", "3f21"),
            ("records", "3"),
            ("gw", "depot-1"),
            ("sp", "0000000000000abc"),
            ("seq", "6"),
            ("device_id", ""),
        ];
        for (name, value) in expected {
            assert_eq!(told[name], value, "{name}");
        }
        assert!(!told["error"].is_empty());
    }
}
