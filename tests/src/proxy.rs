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

/// A listening proxy. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    passes: watch::Sender<Passes>,
    to: watch::Sender<SocketAddr>,
    taken: Arc<AtomicU64>,
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
            task: None,
        };
        proxy.listen(listener);
        Ok(proxy)
    }

    fn listen(&mut self, listener: TcpListener) {
        let (now, where_to) = (self.passes.subscribe(), self.to.subscribe());
        let counter = Arc::clone(&self.taken);
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                counter.fetch_add(1, Relaxed);
                while connections.try_join_next().is_some() {}
                let to = *where_to.borrow();
                connections.spawn(pass(client, to, now.clone()));
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

    /// New connections lead there.
    pub fn turn(&self, to: SocketAddr) {
        self.to.send_replace(to);
    }

    /// From now on, for every connection. A byte that was swallowed does not come back.
    pub fn pass(&self, passes: Passes) {
        self.passes.send_replace(passes);
    }
}

async fn pass(client: TcpStream, to: SocketAddr, passes: watch::Receiver<Passes>) {
    let Ok(server) = TcpStream::connect(to).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let questions = copy(from_client, to_server, passes.clone(), |now| {
        now != Passes::Nothing
    });
    let answers = copy(from_server, to_client, passes, |now| now == Passes::All);
    tokio::join!(questions, answers);
}

/// Once a byte was swallowed nothing more is passed on: the rest would make no sense.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    passes: watch::Receiver<Passes>,
    may: impl Fn(Passes) -> bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut dead = false;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
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
