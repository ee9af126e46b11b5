//! The TLS door: a handshake, then the same hall.
//!
//! Invariant: the handshake and the login share one `listen.handshake_timeout`, so TLS gives a
//! stranger no more time than TCP does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use contract::Transport;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout_at;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::accept::accept_all;
use super::hall::Visitor;
use super::identity::Identity;
use super::places::Place;
use super::{Hall, ListenError, bind};
use crate::metrics::Shed;

/// One listening socket with TLS behind it.
pub struct TlsDoor {
    listener: TcpListener,
    identity: Arc<Identity>,
    hall: Arc<Hall>,
}

impl TlsDoor {
    /// Binds the address.
    /// # Errors
    /// [`ListenError::Bind`].
    pub async fn open(
        addr: SocketAddr,
        identity: Arc<Identity>,
        hall: Arc<Hall>,
    ) -> Result<Self, ListenError> {
        let listener = bind(addr, "listen.tls").await?;
        Ok(Self {
            listener,
            identity,
            hall,
        })
    }

    /// Where it listens.
    /// # Errors
    /// What the system says about its own socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until told to stop; connections run on `sessions`.
    pub async fn run(self, sessions: TaskTracker) {
        let (hall, identity) = (&self.hall, &self.identity);
        accept_all(
            self.listener,
            hall,
            Transport::Tls,
            |stream, visitor, place| {
                let acceptor = TlsAcceptor::from(identity.current());
                let hall = Arc::clone(hall);
                sessions.spawn(async move { shake(hall, acceptor, stream, visitor, place).await });
            },
        )
        .await;
    }
}

async fn shake(
    hall: Arc<Hall>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    visitor: Visitor,
    place: Place,
) {
    let until = visitor.came_at + hall.config.session.handshake_timeout;
    // Boxed: large, and gone long before the connection is.
    let handshake = Box::pin(timeout_at(until.into(), acceptor.accept(stream)));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        reason = place.given_up() => {
            hall.shed(reason, visitor.peer, None, "no TLS handshake yet");
            return;
        }
        () = hall.stop.cancelled() => return,
    };
    match shaken {
        // Boxed: only what is needed now is kept.
        Ok(Ok(stream)) => Box::pin(hall.receive(stream, visitor, place)).await,
        Ok(Err(error)) => hall.shed(
            Shed::TlsHandshake,
            visitor.peer,
            None,
            &format!("TLS handshake failed: {error}"),
        ),
        Err(_) => hall.shed(
            Shed::HandshakeTimeout,
            visitor.peer,
            None,
            "TLS handshake not finished in time",
        ),
    }
}
