//! A wire made of pseudo-terminals: one end is plugged into the gateway, the other one answers TCP.
//!
//! Why TCP at the other end: that is what trackers and fleets of these tests speak. A connection that
//! ends there is a tracker that starts anew; the gateway's end does not notice, as on a real wire.
//!
//! Invariant: the gateway's end has one path, whatever is plugged in there.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// While nobody has opened the gateway's end there is nothing to wait for but time.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

type End = Option<Arc<AsyncFd<OwnedFd>>>;

pub(super) struct Wire {
    _dir: tempfile::TempDir,
    device: PathBuf,
    end: watch::Sender<End>,
    addr: SocketAddr,
    bridge: JoinHandle<io::Result<()>>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.bridge.abort();
    }
}

impl Wire {
    /// Not plugged in yet.
    pub(super) async fn new() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("milepost-wire-")
            .tempdir()?;
        let end = watch::Sender::new(None);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self {
            device: dir.path().join("ttyUSB0"),
            _dir: dir,
            addr: listener.local_addr()?,
            bridge: tokio::spawn(bridge(listener, end.subscribe())),
            end,
        })
    }

    /// Where the gateway is to look.
    pub(super) fn device(&self) -> &str {
        self.device
            .to_str()
            .expect("a temporary directory is UTF-8")
    }

    /// Where trackers connect.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn plug(&self) -> Result<()> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let end = openpt(flags)?;
        rustix::io::ioctl_fionbio(&end, true)?;
        grantpt(&end)?;
        unlockpt(&end)?;
        let name = ptsname(&end, Vec::new())?;
        symlink(name.to_str()?, &self.device).context("it was pulled out before")?;
        // What follows it is unsafe, for types whose descriptor may change.
        #[allow(deprecated)]
        let end = AsyncFd::new(end)?;
        self.end.send_replace(Some(Arc::new(end)));
        Ok(())
    }

    /// What is on its way is lost, and the device with it.
    pub(super) fn unplug(&self) -> Result<()> {
        self.end.send_replace(None);
        Ok(std::fs::remove_file(&self.device)?)
    }

    /// The device behind the path.
    pub(super) fn behind(&self) -> Result<PathBuf> {
        Ok(std::fs::read_link(&self.device)?)
    }

    /// Something else on the path.
    pub(super) fn point_to(&self, path: &Path) -> Result<()> {
        let _ = std::fs::remove_file(&self.device);
        Ok(symlink(path, &self.device)?)
    }

    /// Bytes of nobody.
    pub(super) async fn noise(&self, bytes: &[u8]) -> Result<()> {
        let end = self.end.borrow().clone().context("it is plugged in")?;
        Ok(write(&end, bytes).await?)
    }
}

/// Carries bytes between the latest connection and whatever end there is.
async fn bridge(listener: TcpListener, mut ends: watch::Receiver<End>) -> io::Result<()> {
    let mut tracker: Option<TcpStream> = None;
    let (mut said, mut heard) = ([0; 4096], [0; 4096]);
    loop {
        let end = ends.borrow_and_update().clone();
        tokio::select! {
            _ = ends.changed() => {}
            accepted = listener.accept() => tracker = Some(accepted?.0),
            read = from_tracker(&mut tracker, &mut said) => match (read, end) {
                // Between a tracker and a wire that is not there, bytes are lost.
                (Ok(length), Some(end)) if length > 0 => drop(write(&end, &said[..length]).await),
                (Ok(length), None) if length > 0 => {}
                _ => tracker = None,
            },
            length = from_wire(&end, &mut heard) => {
                if let Some(stream) = &mut tracker
                    && stream.write_all(&heard[..length]).await.is_err()
                {
                    tracker = None;
                }
            }
        }
    }
}

async fn from_tracker(tracker: &mut Option<TcpStream>, bytes: &mut [u8]) -> io::Result<usize> {
    match tracker {
        Some(stream) => stream.read(bytes).await,
        None => std::future::pending().await,
    }
}

async fn from_wire(end: &End, bytes: &mut [u8]) -> usize {
    let Some(end) = end else {
        return std::future::pending().await;
    };
    loop {
        let Ok(mut guard) = end.readable().await else {
            return std::future::pending().await;
        };
        let read = guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *bytes)?));
        match read {
            Ok(Ok(length)) if length > 0 => return length,
            // Nobody has opened it, or somebody had closed it: then it seems ready for ever.
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

async fn write(end: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut guard = end.writable().await?;
        match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
            Ok(Ok(length)) => bytes = &bytes[length..],
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
            Ok(Err(error)) => return Err(error),
            Err(_no_room_yet) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
    Ok(())
}
