//! A cloud that takes entries without a Redis in between, at a Unix socket on the same machine.
//!
//! Why in the words of Redis: batches, answers, floors and sending again stay those of the uplink,
//! and an entry has one form. What this page adds is what two programs must know to notice that
//! the other side is no Redis, or no cloud.
//!
//! Invariant: a greeting never gets another meaning; a later way of talking has another one.

/// What the address of such a cloud begins with: `unix:/run/milepost-cloud/uplink.sock`.
pub const SCHEME: &str = "unix:";

/// The first thing that is said, as the password of `AUTH`. A Redis behind the socket refuses it, and
/// a client that takes the cloud for a Redis does not know it.
pub const GREETING: &str = "milepost-direct-1";

/// Field of the hash `contract`: who holds in memory what was sent. Another one than before has
/// nothing of it, so all that is not settled must be sent again, at once. Redis has no such field.
pub const FIELD_HOLDER: &str = "holder";
