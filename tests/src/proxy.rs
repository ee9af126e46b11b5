//! A TCP proxy that can stop passing bytes on while every connection stays up.
//!
//! Why: the worst links do not break, they fall silent: a NAT that forgot the connection, a modem
//! that lost its cell. Nothing closes, nothing is refused, nothing comes.
//!
//! Invariant: it only delays or swallows bytes, it never changes or reorders them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What a proxy does with the bytes of the connections it has and of those to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// Both directions.
    All,
    /// What the client says, but no answer: half a link.
    Questions,
    /// Nothing; new connections are still taken.
    Nothing,
}

/// What one direction of all connections so far was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes read, passed on or not.
    pub bytes: u64,
    /// TCP segments that would have carried them over a link with the usual 1500 bytes a packet:
    /// computed from what was there at each read, not seen.
    pub segments: u64,
}

#[derive(Debug, Default)]
struct Count {
    bytes: AtomicU64,
    segments: AtomicU64,
}

impl Count {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
        let segments = bytes.div_ceil(SEGMENT_BYTES) as u64;
        self.segments.fetch_add(segments, Relaxed);
    }

    fn look(&self) -> Carried {
        Carried {
            bytes: self.bytes.load(Relaxed),
            segments: self.segments.load(Relaxed),
        }
    }
}

/// 1500 less 20 for IP and 32 for TCP with timestamps.
const SEGMENT_BYTES: usize = 1448;

/// A listening proxy. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    passes: watch::Sender<Passes>,
    to: watch::Sender<SocketAddr>,
    taken: Arc<AtomicU64>,
    /// What clients said, what the server said.
    carried: Arc<[Count; 2]>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Proxy {
    /// Listens on a free port and passes on to `to`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let passes = watch::Sender::new(Passes::All);
        let to = watch::Sender::new(to);
        let mut proxy = Self {
            addr,
            passes,
            to,
            taken: Arc::default(),
            carried: Arc::default(),
            task: None,
        };
        proxy.listen(listener);
        Ok(proxy)
    }

    fn listen(&mut self, listener: TcpListener) {
        let (now, where_to) = (self.passes.subscribe(), self.to.subscribe());
        let counter = Arc::clone(&self.taken);
        let carried = Arc::clone(&self.carried);
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                counter.fetch_add(1, Relaxed);
                while connections.try_join_next().is_some() {}
                let to = *where_to.borrow();
                connections.spawn(pass(client, to, now.clone(), Arc::clone(&carried)));
            }
        }));
    }

    /// Closes every connection and listens no more: its address refuses.
    pub async fn shut(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Its end is what was asked for.
            let _ = task.await;
        }
    }

    /// Listens again on the same address.
    ///
    /// # Errors
    /// When somebody else has taken it meanwhile.
    pub async fn open(&mut self) -> Result<()> {
        self.listen(TcpListener::bind(self.addr).await?);
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// What clients said so far, and what they were answered.
    #[must_use]
    pub fn carried(&self) -> [Carried; 2] {
        [self.carried[0].look(), self.carried[1].look()]
    }

    /// New connections lead there.
    pub fn turn(&self, to: SocketAddr) {
        self.to.send_replace(to);
    }

    /// From now on, for every connection. A byte that was swallowed does not come back.
    pub fn pass(&self, passes: Passes) {
        self.passes.send_replace(passes);
    }
}

async fn pass(
    client: TcpStream,
    to: SocketAddr,
    passes: watch::Receiver<Passes>,
    carried: Arc<[Count; 2]>,
) {
    let Ok(server) = TcpStream::connect(to).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let asked = |now| now != Passes::Nothing;
    let questions = copy(from_client, to_server, passes.clone(), &carried[0], asked);
    let answered = |now| now == Passes::All;
    let answers = copy(from_server, to_client, passes, &carried[1], answered);
    tokio::join!(questions, answers);
}

/// Once a byte was swallowed nothing more is passed on: the rest would make no sense.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    passes: watch::Receiver<Passes>,
    count_of: &Count,
    may: impl Fn(Passes) -> bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut dead = false;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        count_of.add(count);
        dead |= !may(*passes.borrow());
        if !dead && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    if dead {
        // A silent link does not say goodbye either.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn counts_what_it_carries_each_way() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::start(server.local_addr().unwrap()).await.unwrap();
        assert_eq!(proxy.carried(), [Carried::default(); 2]);
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let (mut served, _) = server.accept().await.unwrap();
        client.write_all(&[1; 5000]).await.unwrap();
        served.read_exact(&mut [0; 5000]).await.unwrap();
        served.write_all(&[2; 7]).await.unwrap();
        client.read_exact(&mut [0; 7]).await.unwrap();
        let [asked, answered] = proxy.carried();
        assert_eq!((asked.bytes, answered.bytes), (5000, 7));
        // One read at best, a read for each byte at worst.
        assert!((4..=5000).contains(&asked.segments), "{asked:?}");
        assert!((1..=7).contains(&answered.segments), "{answered:?}");
    }
}
