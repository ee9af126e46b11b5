//! What operators do to data: dead letters, replay, backfill, ledger, queues and trackers, typed as
//! they type it, on a real Redis and a real PostgreSQL.

#[path = "operator/backfill.rs"]
mod backfill;
#[path = "operator/device.rs"]
mod device;
#[path = "operator/dlq.rs"]
mod dlq;
#[path = "operator/kinds.rs"]
mod kinds;
#[path = "operator/ledger.rs"]
mod ledger;
#[path = "operator/queue.rs"]
mod queue;
#[path = "operator/replay.rs"]
mod replay;
#[path = "operator/stage.rs"]
mod stage;
