//! The socket at which gateways of this machine hand their entries over.
//!
//! Why we listen and gateways connect: several gateways may share one cloud, whoever is restarted is
//! found again by the uplink's own pauses, and a gateway needs nothing that it does not have.
//!
//! Invariants: one process serves a socket; the file has mode 0660 from its first moment on; what is
//! answered about a spool comes from the [`Board`], so from a COMMIT; an entry that was refused was not
//! taken.

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::resp::{self, Reply};
use super::shelf::Shelf;
use super::talk::{self, Request};
use crate::stream::floor::Board;

/// Owner and group: a gateway's user is made a member of our group.
const MODE: u32 = 0o660;

/// Gateways at once, and whoever else looks.
const CONNECTIONS_MAX: usize = 64;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// After an accept that failed for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no door.
#[derive(Debug, Error)]
pub enum DoorError {
    /// Stop the other one, or give this one another path.
    #[error("another cloud serves the socket {}: stop it, or name another socket", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Name another path.
    #[error("{} is there and no socket: remove it if nobody needs it, or name another path", path.display())]
    NoSocket {
        /// What is there.
        path: PathBuf,
    },
    /// Make the directory, and let this user write to it.
    #[error("cannot listen at the socket {}: make its directory, let this user write to it, and keep the path under 100 characters", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// An open socket. Dropping it removes the file.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// Goes with the process, however it ends.
    _lock: File,
}

impl Drop for Door {
    fn drop(&mut self) {
        // Whoever comes next replaces what is left.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Door {
    /// Listens. A file that a dead process left is replaced.
    /// # Errors
    /// [`DoorError`].
    pub fn open(path: &Path) -> Result<Self, DoorError> {
        let unusable = |source| DoorError::Listen {
            path: path.to_owned(),
            source,
        };
        let beside = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true);
        let lock = lock.open(beside(".lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DoorError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        if std::fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
            return Err(DoorError::NoSocket {
                path: path.to_owned(),
            });
        }
        // Under another name until it has its mode: a rename replaces what a dead process left.
        let fresh = beside(".new");
        let _ = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh).map_err(unusable)?;
        std::fs::set_permissions(&fresh, Permissions::from_mode(MODE)).map_err(unusable)?;
        std::fs::rename(&fresh, path).map_err(unusable)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Talks to whoever comes, until `stop`.
    pub async fn serve(self, desk: Desk, stop: CancellationToken) {
        let talks = TaskTracker::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let socket = match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    warn!(%error, "cannot take a connection at the socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                warn!(
                    connections = CONNECTIONS_MAX,
                    "too many connections at the socket; one was closed"
                );
                continue;
            };
            let (desk, stop) = (desk.clone(), stop.clone());
            talks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = desk.talk(socket) => {}
                }
                drop(place);
            });
        }
        talks.close();
        talks.wait().await;
    }
}

/// What is answered from. Clones answer the same.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Where entries go.
    pub shelf: Shelf,
    /// What is settled.
    pub board: Arc<Board>,
    /// Names this process: what another one was given, this one does not have.
    pub holder: Arc<str>,
}

impl Desk {
    async fn talk(&self, socket: UnixStream) {
        let peer = socket.peer_cred().ok();
        let (pid, uid) = (
            peer.and_then(|peer| peer.pid()),
            peer.map(|peer| peer.uid()),
        );
        debug!(pid, uid, "a connection at the socket");
        match self.converse(socket).await {
            Ok(true) => info!(pid, uid, "a gateway left"),
            Ok(false) => debug!(pid, uid, "somebody left who was no gateway"),
            Err(error) => debug!(pid, uid, %error, "a connection at the socket broke"),
        }
    }

    /// Until the other side leaves; was it a gateway?
    async fn converse(&self, mut socket: UnixStream) -> io::Result<bool> {
        let (mut heard, mut said) = (Vec::new(), Vec::new());
        let mut is_greeted = false;
        loop {
            let mut used = 0;
            loop {
                match resp::command(&heard[used..]) {
                    Ok(Some((words, taken))) => {
                        used += taken;
                        let request = Request::read(words);
                        self.answer(request, &mut is_greeted).write(&mut said);
                    }
                    Ok(None) => break,
                    Err(malformed) => {
                        Reply::Refused(format!("ERR {malformed}")).write(&mut said);
                        socket.write_all(&said).await?;
                        return Ok(false);
                    }
                }
            }
            heard.drain(..used);
            socket.write_all(&said).await?;
            said.clear();
            heard.reserve(READ_BYTES);
            if socket.read_buf(&mut heard).await? == 0 {
                return Ok(is_greeted);
            }
        }
    }

    fn answer(&self, request: Request, is_greeted: &mut bool) -> Reply {
        match request {
            Request::Greet(word) => {
                let reply = talk::greeted(&word);
                *is_greeted |= reply == Reply::Okay;
                reply
            }
            Request::Unknown(verb) => talk::unknown(&verb),
            _ if !*is_greeted => talk::not_greeted(),
            Request::Chat => Reply::Okay,
            Request::Contract { fields, single } => {
                let mut told = fields.iter().map(|it| talk::contract(it, &self.holder));
                match single {
                    true => told.next().unwrap_or(Reply::Nothing),
                    false => Reply::List(told.collect()),
                }
            }
            Request::Floor { gateway, spools } => {
                let told = spools.into_iter().map(|spool| {
                    let told = spool.and_then(|spool| self.board.told(&gateway, spool));
                    told.map_or(Reply::Nothing, |ranges| Reply::Text(ranges.to_string()))
                });
                Reply::List(told.collect())
            }
            Request::Add { stream, fields } => match self.shelf.put(&stream, fields) {
                Ok(entry) => Reply::Text(entry.id.to_string()),
                Err(full) => Reply::Refused(format!("OOM {full}")),
            },
            Request::Standing => talk::standing(self.shelf.pending() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_served_once_and_what_a_dead_process_left_is_replaced() {
        let dir = std::env::temp_dir().join(format!("milepost-door-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("uplink.sock");
        // As after kill -9: the file is there, nobody listens.
        drop(net::UnixListener::bind(&path).unwrap());
        let door = Door::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert!(net::UnixStream::connect(&path).is_ok());
        assert!(matches!(Door::open(&path), Err(DoorError::InUse { .. })));
        assert!(net::UnixStream::connect(&path).is_ok(), "not disturbed");
        drop(door);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(Door::open(&path), Err(DoorError::NoSocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        let away = dir.join("nowhere/uplink.sock");
        assert!(matches!(Door::open(&away), Err(DoorError::Listen { .. })));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
