//! Positions over HTTP: the gateway binary, real sockets, a real Redis, and what becomes of them.
#![allow(clippy::unwrap_used)]

#[path = "ingest/documents.rs"]
mod documents;
#[path = "ingest/door.rs"]
mod door;
#[path = "ingest/forms.rs"]
mod forms;
#[path = "ingest/kept.rs"]
mod kept;
#[path = "ingest/memory.rs"]
mod memory;
#[path = "ingest/statuses.rs"]
mod statuses;
#[path = "ingest/tokens.rs"]
mod tokens;
