//! The web app's API: the cloud binary, a real Redis, a real PostgreSQL, and what HTTP says.
#![allow(clippy::unwrap_used)]

#[path = "web/acts.rs"]
mod acts;
#[path = "web/contract.rs"]
mod contract;
#[path = "web/door.rs"]
mod door;
#[path = "web/lists.rs"]
mod lists;
#[path = "web/live.rs"]
mod live;
#[path = "web/stage.rs"]
mod stage;
#[path = "web/tracks.rs"]
mod tracks;
