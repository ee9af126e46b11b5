//! What a silent tracker costs: the conversation is a future on the heap, one for each.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::Transport;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::ListenConfig;
use super::hall::{Hall, Visitor};
use crate::access::{Access, AccessConfig};
use crate::metrics::Metrics;
use crate::roster::Roster;
use crate::session::SessionLimits;
use crate::spool::{FullPolicy, Spool, SpoolConfig};

/// Of the 2 KiB that a silent tracker may cost, with the task's own head, the socket's
/// registration and the places in the lists on top.
const CONVERSATION_BYTES_MAX: usize = 1_024;

fn hall(dir: &std::path::Path) -> Arc<Hall> {
    let config = SpoolConfig {
        dir: dir.to_owned(),
        gateway: contract::GatewayId::new("test").unwrap(),
        bytes_max: 64 << 20,
        full: FullPolicy::Refuse,
        commit_interval_min: Duration::ZERO,
    };
    let listen = ListenConfig {
        connections_max: 10,
        connections_per_ip_max: 10,
        memory_bytes_max: 1 << 20,
        session: SessionLimits {
            handshake_timeout: Duration::from_secs(30),
            frame_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(600),
            codec: codec::Limits::default(),
        },
    };
    Arc::new(Hall::new(
        listen,
        Access::open(AccessConfig::open()).unwrap(),
        Spool::open(config, [1, 2, 3]).unwrap().0,
        Arc::new(Metrics::default()),
        Roster::new(1),
        CancellationToken::new(),
    ))
}

#[tokio::test]
async fn the_future_of_a_conversation_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let hall = hall(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    let place = hall.places.take(addr.ip()).unwrap();
    let visitor = Visitor {
        peer: addr,
        transport: Transport::Tcp,
        came_at: Instant::now(),
    };
    let conversation = hall.receive(stream, visitor, place);
    let bytes = size_of_val(&conversation);
    assert!(
        bytes <= CONVERSATION_BYTES_MAX,
        "a conversation has {bytes} bytes"
    );
    eprintln!("a conversation over TCP has {bytes} bytes");
}
