//! The TCP door: every connection goes straight into the hall.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use contract::Transport;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::accept::accept_all;
use super::{Hall, ListenError, bind};

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
        let listener = bind(addr, "listen.tcp").await?;
        Ok(Self { listener, hall })
    }

    /// Where it listens.
    /// # Errors
    /// What the system says about its own socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until told to stop; connections run on `sessions`.
    pub async fn run(self, sessions: TaskTracker) {
        let hall = &self.hall;
        accept_all(
            self.listener,
            hall,
            Transport::Tcp,
            |stream, visitor, place| {
                sessions.spawn(Arc::clone(hall).receive(stream, visitor, place));
            },
        )
        .await;
    }
}
