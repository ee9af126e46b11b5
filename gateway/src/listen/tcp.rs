//! The TCP door: accepts, and leads every tracker into the hall.
//!
//! Invariant: whoever finds no place is turned away without costing those who have one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::Transport;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::ListenError;
use super::hall::{Hall, Visitor};

/// Pause after the system refused a new connection (out of files, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// One listening socket.
pub struct TcpDoor {
    listener: TcpListener,
    hall: Arc<Hall>,
}

impl TcpDoor {
    /// Binds the address.
    /// # Errors
    /// [`ListenError::Bind`].
    pub async fn open(addr: SocketAddr, hall: Arc<Hall>) -> Result<Self, ListenError> {
        let listener = TcpListener::bind(addr).await;
        let listener = listener.map_err(|source| ListenError::Bind { addr, source })?;
        Ok(Self { listener, hall })
    }

    /// Where it listens.
    /// # Errors
    /// What the system says about its own socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until told to stop; connections run on `tracker`.
    pub async fn run(self, tracker: TaskTracker) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.hall.stop.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.hall.places).try_acquire_owned() else {
                self.hall.metrics.connection_shed();
                tracing::warn!(%peer, connections_max = self.hall.config.connections_max, "too many connections: turned away");
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "connection was gone before it began");
                continue;
            }
            let hall = Arc::clone(&self.hall);
            tracker.spawn(async move {
                hall.metrics.connection_opened();
                let visitor = Visitor {
                    peer,
                    transport: Transport::Tcp,
                };
                hall.receive(stream, visitor).await;
                hall.metrics.connection_closed();
                drop(place);
            });
        }
    }
}
