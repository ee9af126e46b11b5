//! The TLS door: a handshake, then the same hall.
//!
//! Invariant: the handshake and the login share one `listen.handshake_timeout`, so TLS gives a
//! stranger no more time than TCP does.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
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
                sessions.spawn(shake(hall, acceptor, stream, visitor, place));
            },
        )
        .await;
    }
}

type Conversation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A handshake, then a conversation. Not an `async fn`, and each of the two in a box of its own: the
/// first is gone once it is over, and what came out of it is not kept twice.
pub(super) fn shake(
    hall: Arc<Hall>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    visitor: Visitor,
    place: Place,
) -> impl Future<Output = ()> + Send {
    let handshake = Box::pin(handshake(hall, acceptor, stream, visitor, place));
    async move {
        let conversation = handshake.await;
        if let Some(conversation) = conversation {
            conversation.await;
        }
    }
}

/// `None`: it ended here, and that has been said.
async fn handshake(
    hall: Arc<Hall>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    visitor: Visitor,
    place: Place,
) -> Option<Conversation> {
    let until = visitor.came_at + hall.config.session.handshake_timeout;
    let shaken = tokio::select! {
        shaken = timeout_at(until.into(), acceptor.accept(stream)) => shaken,
        reason = place.given_up() => {
            hall.shed(reason, visitor.peer, None, "no TLS handshake yet");
            return None;
        }
        () = hall.stop.cancelled() => return None,
    };
    match shaken {
        Ok(Ok(stream)) => return Some(Box::pin(hall.receive(stream, visitor, place))),
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
    None
}
