//! A new system for a box that was flashed with an image: written beside the running one, tried
//! once, kept when it works.
//!
//! Why here and not in a tool of its own: the box carries one program, and whether a new system
//! works is something only the gateway knows.
//!
//! Invariants: nothing is written before the signature of the manifest holds; a slot can be started
//! only after every byte in it was read back and found to be what was signed; the running system's
//! slot is never written; a trial is used up on disk before its system is started.

pub mod apply;
pub mod health;
pub mod manifest;
pub mod place;
pub mod record;
pub mod slots;
