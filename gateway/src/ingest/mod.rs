//! The HTTP door: positions from APIs, phone apps and files, through the same spool as any frame.
//!
//! Why in the gateway: a sender that was answered 202 may forget what it sent, and only the spool can
//! promise that. The answer is made from receipts, as an ACK is.
//!
//! Invariants: no 202 before every accepted position is durable; a problem document means that
//! nothing of the request was accepted (some of it may have been kept, which a repeat does not
//! double); the memory of all requests together is bounded, whatever they send.

mod answer;
mod body;
mod door;
mod group;
mod moment;
mod patient;
pub mod problem;
mod rate;
pub mod read;
mod repeat;
mod route;
mod sources;
pub mod tokens;
mod unpack;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use settings::TokenFileError;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listen::{Hall, Identity, IdentityError, ListenError, Places, TlsConfig};
use body::Memory;
use door::Door;
use repeat::Repeats;
use sources::Sources;

pub use sources::{new_token, read as read_tokens};

/// How often the file of tokens and the certificate are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// Where the HTTP doors are, and how much of everything.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Plain HTTP.
    pub http: Vec<SocketAddr>,
    /// HTTP inside TLS …
    pub https: Vec<SocketAddr>,
    /// … and the files it needs. Senders need no certificate: they have tokens.
    pub identity: Option<TlsConfig>,
    /// Who may post; `None`: everybody, at loopback addresses alone.
    pub tokens: Option<PathBuf>,
    /// Largest body, as it comes and opened.
    pub body_bytes_max: usize,
    /// For all requests together.
    pub memory_bytes_max: usize,
    /// Connections at the same time.
    pub connections_max: usize,
}

/// Why the doors cannot be opened.
#[derive(Debug, Error)]
pub enum IngestError {
    /// Set `ingest.tokens`; or `ingest.open`, and listen on loopback addresses alone.
    #[error(
        "{setting} = {addr} without ingest.tokens: set it, or ingest.open = true and a loopback address"
    )]
    NoTokens {
        /// `listen.http` or `listen.https`.
        setting: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// The file of tokens.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// Set both files, or take the addresses out of `listen.https`.
    #[error("listen.https needs listen.tls_cert and listen.tls_key")]
    NoIdentity,
    /// The certificate.
    #[error("listen.https")]
    Identity(#[from] IdentityError),
    /// An address is taken or not ours.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl IngestConfig {
    /// Would everybody who reaches a door be let in, and not only from this machine?
    /// # Errors
    /// [`IngestError::NoTokens`] with the first such door.
    pub fn check_open(&self, is_open: bool) -> Result<(), IngestError> {
        if self.tokens.is_some() {
            return Ok(());
        }
        let http = self.http.iter().map(|addr| ("listen.http", *addr));
        let https = self.https.iter().map(|addr| ("listen.https", *addr));
        for (setting, addr) in http.chain(https) {
            if !is_open || !addr.ip().to_canonical().is_loopback() {
                return Err(IngestError::NoTokens { setting, addr });
            }
        }
        Ok(())
    }
}

/// Everything a request needs; one for all doors.
pub struct Ingest {
    config: IngestConfig,
    hall: Arc<Hall>,
    sources: Sources,
    memory: Memory,
    /// Beside those of all doors, so that senders leave room for trackers.
    places: Arc<Places>,
    repeats: Mutex<Repeats>,
}

/// All doors, open and not yet running.
pub struct IngestDoors {
    doors: Vec<Door>,
    identity: Option<Arc<Identity>>,
    ingest: Arc<Ingest>,
}

impl IngestDoors {
    /// Opens every door; when one cannot be opened, none is.
    /// # Errors
    /// [`IngestError`].
    pub async fn open(config: IngestConfig, hall: &Arc<Hall>) -> Result<Self, IngestError> {
        let identity = match (&config.identity, config.https.is_empty()) {
            (_, true) => None,
            (None, false) => return Err(IngestError::NoIdentity),
            (Some(files), false) => Some(Arc::new(Identity::open(files.clone())?)),
        };
        let sources = Sources::open(config.tokens.clone())?;
        let ingest = Arc::new(Ingest {
            hall: Arc::clone(hall),
            sources,
            memory: Memory::new(config.memory_bytes_max, Arc::clone(&hall.metrics)),
            places: Arc::new(Places::of(config.connections_max)),
            repeats: Mutex::default(),
            config,
        });
        let mut doors = Vec::new();
        for addr in &ingest.config.http {
            doors.push(Door::open(*addr, None, &ingest).await?);
        }
        for addr in &ingest.config.https {
            doors.push(Door::open(*addr, identity.clone(), &ingest).await?);
        }
        ingest.say_sources();
        Ok(Self {
            doors,
            identity,
            ingest,
        })
    }

    /// For whoever reads files anew when told.
    #[must_use]
    pub fn ingest(&self) -> Arc<Ingest> {
        Arc::clone(&self.ingest)
    }

    /// Starts them on `doors`, until `stop`; connections run on `sessions`.
    pub fn run(self, doors: &TaskTracker, sessions: &TaskTracker, stop: CancellationToken) {
        for door in self.doors {
            doors.spawn(door.run(sessions.clone()));
        }
        doors.spawn(watch(self.ingest, self.identity, stop));
    }
}

impl Ingest {
    /// Reads the file of tokens again.
    /// # Errors
    /// [`TokenFileError`]; the last good one stays in force.
    pub fn reload(&self) -> Result<(), TokenFileError> {
        let read = self.sources.reload();
        self.say_sources();
        read
    }

    /// Who may post, in words.
    #[must_use]
    pub fn who(&self) -> String {
        match self.sources.count() {
            Some(count) => format!("{count} sources with a token"),
            None => "everybody on this machine".to_owned(),
        }
    }

    fn say_sources(&self) {
        let metrics = &self.hall.metrics.ingest;
        metrics.sources(self.sources.count(), self.sources.trouble());
    }
}

async fn watch(ingest: Arc<Ingest>, identity: Option<Arc<Identity>>, stop: CancellationToken) {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return,
        }
        let (ingest, identity) = (Arc::clone(&ingest), identity.clone());
        // A file on a slow card is no reason to keep anybody waiting.
        let looked = tokio::task::spawn_blocking(move || {
            ingest.sources.look();
            ingest.say_sources();
            if let Some(identity) = identity {
                identity.look();
            }
        });
        let _ = looked.await;
    }
}
