//! Private servers for tests and the demo: Redis over TLS, PostgreSQL, TimescaleDB.
//!
//! Why real ones: the promise is about what survives a `kill -9`, and no stand-in dies the way a
//! server does. Invariants:
//!
//! * Every server lives in a temporary directory of its own, listens on 127.0.0.1 only, on a port
//!   nobody else had, and never touches a server that was already there.
//! * When the handle is dropped the server is gone and so is its directory. When our own process
//!   dies without dropping anything, the server dies too (`crate::child`; containers: `compose`).
//! * Ready means answered: `start` and `restart` return after the server answered a real request.

mod cluster;
mod compose;
mod find;
mod installation;
mod mounted;
mod pki;
mod port;
mod postgres;
mod redis;
mod redis_access;
mod timescale;
mod tls_front;

pub use cluster::RedisCluster;
pub use compose::Compose;
pub use find::{
    Binary, Missing, node, postgres_bin, python, redis_server, redis_servers, schemathesis,
};
pub use mounted::mounted;
pub use pki::{Identity, Pki};
pub use port::Port;
pub use postgres::Postgres;
pub use redis::{Redis, RedisOptions};
pub use redis_access::{ADMIN, GATEWAY, PROCESSOR, RedisAccess, acl_lines};
pub use timescale::{Timescale, skipped};

use std::time::Duration;

/// How long a server may take to answer its first request. A start takes well under a second; the
/// rest is for a loaded two-core machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a server may take to stop when asked politely, before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Pause between two looks at a condition we wait for.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How often a start is tried on another port when somebody took ours in between.
const PORT_TRIES_MAX: usize = 5;

/// 128 random bits in hexadecimal: passwords of servers that live for one test.
fn secret() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Makes ring the process-wide TLS provider. Calling it again changes nothing.
fn install_tls_provider() {
    // An error means that one is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
