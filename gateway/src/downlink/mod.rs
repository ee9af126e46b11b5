//! Orders from the cloud to trackers, and what became of them.
//!
//! Why apart from the uplink: neither waits for the other. What goes up must not stand behind a
//! blocking read, and a backlog must not delay a command.
//!
//! Invariant: the shells here decide nothing about an order; [`queue`] does.

pub mod queue;
mod report;
