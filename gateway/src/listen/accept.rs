//! The part that all stream doors share: accept, find a place, hand over.
//!
//! Invariant: whoever finds no place is turned away without costing those who have one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::Transport;
use tokio::net::{TcpListener, TcpStream};

use super::hall::{Hall, Visitor};
use super::places::Place;
use crate::devices::transport_word;

/// Pause after the system refused a new connection (out of files, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A door where nobody knocks says so often that it still listens.
pub(super) const DOOR_TURN_INTERVAL: Duration = Duration::from_secs(1);

/// A door that has not said so for this long is stuck.
pub(super) const DOOR_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Accepts until the hall closes.
pub(crate) async fn accept_all(
    listener: TcpListener,
    hall: &Arc<Hall>,
    transport: Transport,
    mut enter: impl FnMut(TcpStream, Visitor, Place),
) {
    let kind = transport_word(transport);
    let name = listener
        .local_addr()
        .map_or_else(|_| kind.to_owned(), |addr| format!("{kind} {addr}"));
    let stage = hall.metrics.panel.progress.stage(name, DOOR_SILENCE_MAX);
    loop {
        stage.turn();
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tokio::time::sleep(DOOR_TURN_INTERVAL) => continue,
            () = hall.stop.cancelled() => return stage.finish(),
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some((visitor, place)) = welcome(hall, &stream, peer, transport) {
                    enter(stream, visitor, place);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed; trackers wait. Raise the limit of open files if it says so");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn welcome(
    hall: &Hall,
    stream: &TcpStream,
    peer: SocketAddr,
    transport: Transport,
) -> Option<(Visitor, Place)> {
    let place = match hall.places.take(peer.ip().to_canonical()) {
        Ok(place) => place,
        Err(reason) => {
            hall.shed(reason, peer.into(), None, "not taken");
            return None;
        }
    };
    // An answer of four bytes must not wait for company. Fails when the peer is gone already.
    stream.set_nodelay(true).ok()?;
    let visitor = Visitor {
        peer: peer.into(),
        transport,
        came_at: Instant::now(),
    };
    Some((visitor, place))
}
