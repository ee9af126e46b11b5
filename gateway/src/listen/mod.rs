//! Where trackers arrive: sockets in, sessions fed, answers out.

mod accept;
mod hall;
mod identity;
mod nmea;
mod places;
mod quiet;
mod serial;
#[cfg(test)]
mod size_tests;
mod tcp;
mod tls;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hardware::SerialLine;
use thiserror::Error;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[cfg(feature = "ingest")]
pub(crate) use accept::accept_all;
pub use hall::Hall;
#[cfg(feature = "ingest")]
pub(crate) use hall::Visitor;
pub use identity::{Identity, IdentityError, TlsConfig};
#[cfg(feature = "ingest")]
pub(crate) use identity::{Stamp, stamp};
pub use nmea::NmeaDoor;
#[cfg(feature = "ingest")]
pub(crate) use places::{Place, Places};
pub use serial::{SerialDoor, page_of};
pub use tcp::TcpDoor;
pub use tls::TlsDoor;
pub use udp::UdpDoor;

use crate::session::SessionLimits;

/// How often certificate files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// How to receive trackers.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Connections at the same time, over all doors.
    pub connections_max: usize,
    /// Of them, from one address.
    pub connections_per_ip_max: usize,
    /// For the half-received frames of all connections together.
    pub memory_bytes_max: usize,
    /// Timeouts and sizes of a session.
    pub session: SessionLimits,
}

/// Where the doors are.
#[derive(Clone, Debug, Default)]
pub struct DoorsConfig {
    /// Plain TCP.
    pub tcp: Vec<SocketAddr>,
    /// UDP.
    pub udp: Vec<SocketAddr>,
    /// Sentences of NMEA over TCP.
    pub nmea: Vec<SocketAddr>,
    /// TCP with TLS …
    pub tls: Vec<SocketAddr>,
    /// … and the files it needs.
    pub identity: Option<TlsConfig>,
    /// Wires.
    pub serial: Vec<SerialLine>,
}

/// A door could not be opened.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Choose another address, or stop what holds it.
    #[error("cannot listen on {setting} = {addr}")]
    Bind {
        /// Which setting names it.
        setting: &'static str,
        /// The address as configured.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The certificate.
    #[error("listen.tls")]
    Identity(#[from] IdentityError),
    /// Set both, or no address of `listen.tls`.
    #[error("listen.tls needs listen.tls_cert and listen.tls_key")]
    NoIdentity,
}

pub(crate) async fn bind(
    addr: SocketAddr,
    setting: &'static str,
) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(addr).await;
    bound.map_err(|source| ListenError::Bind {
        setting,
        addr,
        source,
    })
}

async fn udp_socket(addr: SocketAddr) -> Result<UdpSocket, ListenError> {
    let bound = UdpSocket::bind(addr).await;
    bound.map_err(|source| ListenError::Bind {
        setting: "listen.udp",
        addr,
        source,
    })
}

/// All doors, open and not yet running.
pub struct Doors {
    tcp: Vec<TcpDoor>,
    udp: Vec<UdpDoor>,
    nmea: Vec<NmeaDoor>,
    tls: Vec<TlsDoor>,
    serial: Vec<SerialDoor>,
    identity: Option<Arc<Identity>>,
}

impl Doors {
    /// Opens every door; when one cannot be opened, none is. Serial lines open when they run.
    /// # Errors
    /// [`ListenError`] with setting and address or file.
    pub async fn open(config: &DoorsConfig, hall: &Arc<Hall>) -> Result<Self, ListenError> {
        let mut doors = Self {
            tcp: Vec::new(),
            udp: Vec::new(),
            nmea: Vec::new(),
            tls: Vec::new(),
            serial: Vec::new(),
            identity: None,
        };
        for addr in &config.tcp {
            let door = TcpDoor::open(*addr, Arc::clone(hall)).await?;
            tracing::info!(addr = %door.local_addr().unwrap_or(*addr), "listening for trackers over TCP");
            doors.tcp.push(door);
        }
        for addr in &config.udp {
            let door = UdpDoor::open(*addr, Arc::clone(hall)).await?;
            tracing::info!(addr = %door.local_addr().unwrap_or(*addr), "listening for trackers over UDP");
            doors.udp.push(door);
        }
        for line in &config.serial {
            let door = SerialDoor::new(line.clone(), Arc::clone(hall));
            doors.serial.push(door);
        }
        for addr in &config.nmea {
            let door = NmeaDoor::open(*addr, Arc::clone(hall)).await?;
            tracing::info!(addr = %door.local_addr().unwrap_or(*addr), "listening for sentences of NMEA");
            doors.nmea.push(door);
        }
        if config.tls.is_empty() {
            return Ok(doors);
        }
        let files = config.identity.clone().ok_or(ListenError::NoIdentity)?;
        let identity = Arc::new(Identity::open(files)?);
        for addr in &config.tls {
            let door = TlsDoor::open(*addr, Arc::clone(&identity), Arc::clone(hall)).await?;
            tracing::info!(addr = %door.local_addr().unwrap_or(*addr), "listening for trackers over TLS");
            doors.tls.push(door);
        }
        doors.identity = Some(identity);
        Ok(doors)
    }

    /// The certificate in use at the TLS doors, to be read again when told.
    #[must_use]
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.clone()
    }

    /// Starts them on `doors`, until `stop`; conversations run on `sessions`.
    pub fn run(self, doors: &TaskTracker, sessions: &TaskTracker, stop: CancellationToken) {
        for door in self.tcp {
            doors.spawn(door.run(sessions.clone()));
        }
        for door in self.udp {
            doors.spawn(door.run(sessions.clone()));
        }
        for door in self.nmea {
            doors.spawn(door.run(sessions.clone()));
        }
        for door in self.tls {
            doors.spawn(door.run(sessions.clone()));
        }
        for door in self.serial {
            doors.spawn(door.run(sessions.clone()));
        }
        if let Some(identity) = self.identity {
            doors.spawn(watch(identity, stop));
        }
    }
}

async fn watch(identity: Arc<Identity>, stop: CancellationToken) {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return,
        }
        let identity = Arc::clone(&identity);
        // A file on a slow card is no reason to keep trackers waiting.
        let _ = tokio::task::spawn_blocking(move || identity.look()).await;
    }
}
