//! What a silent tracker costs: the conversation is a future on the heap, one for each, and nothing
//! is held for bytes that have been answered.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::Transport;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCertUsingSni;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::ListenConfig;
use super::hall::{Hall, Visitor};
use super::places::Place;
use super::tls;
use crate::access::{Access, AccessConfig};
use crate::metrics::Metrics;
use crate::roster::Roster;
use crate::session::SessionLimits;
use crate::spool::{FullPolicy, Spool, SpoolConfig};

/// Wiki "Codec", Codec 8 example 1: one record.
const FRAME: &str = "000000000000003608010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E0000000000000000010000C7CF";

const LOGIN: &[u8] = b"\x00\x0F356307042441013";

/// The same with what rustls keeps inside the stream; its buffers are on the heap besides, and
/// empty while nothing is said.
const TLS_CONVERSATION_BYTES_MAX: usize = 2_560;

/// The task of a TLS connection points to its handshake, then to its conversation.
const TLS_TASK_BYTES_MAX: usize = 64;

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

/// A tracker's end of a connection, and what the hall needs of the other one.
async fn guest(hall: &Hall, transport: Transport) -> (TcpStream, TcpStream, Visitor, Place) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let tracker = TcpStream::connect(addr).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let visitor = Visitor {
        peer: peer.into(),
        transport,
        came_at: Instant::now(),
    };
    let place = hall.places.take(peer.ip()).unwrap();
    (tracker, stream, visitor, place)
}

#[tokio::test]
async fn the_future_of_a_conversation_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let hall = hall(dir.path());
    let (_tracker, stream, visitor, place) = guest(&hall, Transport::Tcp).await;
    let conversation = hall.receive(stream, visitor, place);
    let bytes = size_of_val(&conversation);
    assert!(
        bytes <= CONVERSATION_BYTES_MAX,
        "a conversation has {bytes} bytes"
    );
    eprintln!("a conversation over TCP has {bytes} bytes");
}

/// The size of what a function would return; it is not called.
fn returned_bytes<R>(
    _: impl FnOnce(Arc<Hall>, TlsStream<TcpStream>, Visitor, Place) -> R,
) -> usize {
    size_of::<R>()
}

#[tokio::test]
async fn a_silent_connection_over_tls_is_bounded_too() {
    let bytes = returned_bytes(Hall::receive);
    assert!(
        bytes <= TLS_CONVERSATION_BYTES_MAX,
        "a conversation over TLS has {bytes} bytes"
    );
    eprintln!("a conversation over TLS has {bytes} bytes");

    let dir = tempfile::tempdir().unwrap();
    let hall = hall(dir.path());
    let (_tracker, stream, visitor, place) = guest(&hall, Transport::Tls).await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let task = tls::shake(hall, acceptor, stream, visitor, place);
    let bytes = size_of_val(&task);
    assert!(
        bytes <= TLS_TASK_BYTES_MAX,
        "the task of a TLS connection has {bytes} bytes"
    );
    eprintln!("the task of a TLS connection has {bytes} bytes");
}

#[tokio::test]
async fn bytes_are_held_while_their_frame_is_incomplete_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let hall = hall(dir.path());
    let (mut tracker, stream, visitor, place) = guest(&hall, Transport::Tcp).await;
    tokio::spawn(Arc::clone(&hall).receive(stream, visitor, place));
    let held = async |bytes: usize| {
        let all = async {
            while hall.places.pending_bytes() != bytes {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), all).await;
        let now = hall.places.pending_bytes();
        assert!(waited.is_ok(), "{now} bytes are held, not {bytes}");
    };
    tracker.write_all(LOGIN).await.unwrap();
    assert_eq!(tracker.read_u8().await.unwrap(), 1);
    held(0).await;
    let frame = hex::decode(FRAME).unwrap();
    for _ in 0..3 {
        tracker.write_all(&frame[..40]).await.unwrap();
        held(40).await;
        // The rest, and a part of the next one.
        tracker
            .write_all(&[&frame[40..], &frame[..7]].concat())
            .await
            .unwrap();
        assert_eq!(tracker.read_u32().await.unwrap(), 1);
        held(7).await;
        tracker.write_all(&frame[7..]).await.unwrap();
        assert_eq!(tracker.read_u32().await.unwrap(), 1);
        held(0).await;
    }
}
