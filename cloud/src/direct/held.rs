//! Holds back what gateways give up until everything that was taken before it is committed.
//!
//! Why: positions that a gateway lost on its disk, or dropped because it was full, may have been
//! handed over before, and still be on their way to the database here. Settled as dropped, they would
//! be thrown away when they come. It is what [`crate::stream::gaps`] does for streams.
//!
//! Invariant: an entry with a gap goes to the processors when nothing taken before it is left but
//! other entries that are held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::batch::StreamId;
use crate::metrics::Metrics;
use crate::stream::{Delivery, Intake};

/// Between two looks while something is held.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Holds back what comes, until `stop`.
pub async fn run(
    intake: Intake,
    mut coming: UnboundedReceiver<Delivery>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let mut held: BTreeMap<StreamId, Delivery> = BTreeMap::new();
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(delivery) = coming.recv() => {
                held.insert(delivery.entry.id, delivery);
            }
            _ = look.tick(), if !held.is_empty() => {
                while let Some(delivery) = next(&intake, &mut held) {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        _ = intake.bring_again(delivery) => {}
                    }
                }
            }
        }
        metrics.gaps_held.set(held.len() as u64);
    }
}

/// The first that is held, when its time has come.
fn next(intake: &Intake, held: &mut BTreeMap<StreamId, Delivery>) -> Option<Delivery> {
    let (_, first) = held.first_key_value()?;
    let is_held = |entry: &crate::batch::EntryId| held.contains_key(&entry.id);
    if intake.is_any_before(&first.entry, is_held) {
        return None;
    }
    held.pop_first().map(|(_, delivery)| delivery)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::batch::EntryId;

    fn delivery(id: &str) -> Delivery {
        Delivery {
            entry: EntryId {
                stream: "s".into(),
                id: id.parse().unwrap(),
            },
            fields: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_is_given_up_waits_for_everything_before_it_and_for_nothing_else() {
        let (intake, _deliveries) = Intake::new();
        let mut held = BTreeMap::new();
        for id in ["1-0", "2-0", "3-0", "4-0"] {
            assert!(intake.bring(delivery(id)).await);
        }
        for id in ["2-0", "3-0"] {
            held.insert(id.parse().unwrap(), delivery(id));
        }
        assert!(next(&intake, &mut held).is_none(), "1-0 is on its way");
        intake.let_out([&delivery("1-0").entry]);
        let first = next(&intake, &mut held).unwrap();
        assert_eq!(first.entry, delivery("2-0").entry);
        assert!(next(&intake, &mut held).is_none(), "2-0 is being written");
        intake.let_out([&first.entry]);
        assert!(next(&intake, &mut held).is_some(), "4-0 came behind it");
    }
}
