//! The cloud on a Redis Cluster whose slots move and whose masters die, on every protocol and every
//! server there is, and what others get who read the same streams.

#[path = "cloud_cluster/away.rs"]
mod away;
#[path = "cloud_cluster/engines.rs"]
mod engines;
#[path = "cloud_cluster/full.rs"]
mod full;
#[path = "cloud_cluster/moves.rs"]
mod moves;
#[path = "cloud_cluster/others.rs"]
mod others;
#[path = "cloud_cluster/stage.rs"]
mod stage;
