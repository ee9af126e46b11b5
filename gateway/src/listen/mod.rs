//! Where trackers arrive: sockets in, sessions fed, answers out.

mod hall;
mod tcp;

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

pub use hall::Hall;
pub use tcp::TcpDoor;

use crate::session::SessionLimits;

/// How to receive trackers.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Connections at the same time, over all doors.
    pub connections_max: usize,
    /// Timeouts and sizes of a session.
    pub session: SessionLimits,
}

/// A door could not be opened.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Choose another address, or stop what holds it.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address as configured.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
