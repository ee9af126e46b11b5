//! A hall with a real spool behind real sockets, and trackers that speak by hand.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway::access::{Access, AccessConfig};
use gateway::listen::{
    Hall, Identity, ListenConfig, NmeaDoor, TcpDoor, TlsConfig, TlsDoor, UdpDoor,
};
use gateway::metrics::Metrics;
use gateway::roster::Roster;
use gateway::session::SessionLimits;
use gateway::spool::{FullPolicy, Spool, SpoolConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Wiki "Codec", Codec 8 example 1: one record, priority High.
pub const FRAME_1: &str = "000000000000003608010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E0000000000000000010000C7CF";
/// Wiki "Codec", Codec 8 example 3: two records.
pub const FRAME_2: &str = "000000000000004308020000016B40D57B480100000000000000000000000000000001010101000000000000016B40D5C198010000000000000000000000000000000101010101000000020000252C";

/// Nothing here takes so long unless it never happens.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub spool: Spool,
    pub metrics: Arc<Metrics>,
    pub roster: Roster,
    pub access: Access,
    pub hall: Arc<Hall>,
    pub stop: CancellationToken,
    pub sessions: TaskTracker,
    pub dir: tempfile::TempDir,
}

pub struct Options {
    pub commit_interval_min: Duration,
    pub listen: ListenConfig,
    pub access: AccessConfig,
    pub spool_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            commit_interval_min: Duration::ZERO,
            listen: ListenConfig {
                connections_max: 1000,
                connections_per_ip_max: 1000,
                memory_bytes_max: 1 << 20,
                session: limits(),
            },
            access: AccessConfig::open(),
            spool_bytes_max: 64 << 20,
        }
    }
}

pub fn limits() -> SessionLimits {
    SessionLimits {
        handshake_timeout: Duration::from_secs(30),
        frame_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(600),
        codec: codec::Limits::default(),
    }
}

impl World {
    pub fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = SpoolConfig {
            dir: dir.path().join("spool"),
            gateway: contract::GatewayId::new("test").unwrap(),
            bytes_max: options.spool_bytes_max,
            full: FullPolicy::Refuse,
            commit_interval_min: options.commit_interval_min,
        };
        let (spool, _) = Spool::open(config, [1, 2, 3]).unwrap();
        let metrics = Arc::new(Metrics::default());
        let roster = Roster::new(1);
        let stop = CancellationToken::new();
        let access = Access::open(options.access).unwrap();
        let hall = Hall::new(
            options.listen,
            access.clone(),
            spool.clone(),
            Arc::clone(&metrics),
            roster.clone(),
            stop.clone(),
        );
        Self {
            spool,
            metrics,
            roster,
            access,
            hall: Arc::new(hall),
            stop,
            sessions: TaskTracker::new(),
            dir,
        }
    }

    /// Opens a TCP door on a port of the system's choice.
    pub async fn tcp(&self) -> SocketAddr {
        let any = "127.0.0.1:0".parse().unwrap();
        let door = TcpDoor::open(any, Arc::clone(&self.hall)).await.unwrap();
        let addr = door.local_addr().unwrap();
        tokio::spawn(door.run(self.sessions.clone()));
        addr
    }

    /// The same for UDP.
    pub async fn udp(&self) -> SocketAddr {
        let any = "127.0.0.1:0".parse().unwrap();
        let door = UdpDoor::open(any, Arc::clone(&self.hall)).await.unwrap();
        let addr = door.local_addr().unwrap();
        tokio::spawn(door.run(self.sessions.clone()));
        addr
    }

    /// The same for sentences of NMEA.
    pub async fn nmea(&self) -> SocketAddr {
        let any = "127.0.0.1:0".parse().unwrap();
        let door = NmeaDoor::open(any, Arc::clone(&self.hall)).await.unwrap();
        let addr = door.local_addr().unwrap();
        tokio::spawn(door.run(self.sessions.clone()));
        addr
    }

    /// The same for TLS.
    pub async fn tls(&self, files: TlsConfig) -> (SocketAddr, Arc<Identity>) {
        let any = "127.0.0.1:0".parse().unwrap();
        let identity = Arc::new(Identity::open(files).unwrap());
        let (hall, ours) = (Arc::clone(&self.hall), Arc::clone(&identity));
        let door = TlsDoor::open(any, ours, hall).await.unwrap();
        let addr = door.local_addr().unwrap();
        tokio::spawn(door.run(self.sessions.clone()));
        (addr, identity)
    }

    /// A counter of the device side as `/status` shows it.
    pub fn counted(&self, name: &str) -> u64 {
        let devices = serde_json::to_value(self.metrics.devices()).unwrap();
        devices[name].as_u64().unwrap()
    }
}

/// A tracker at the other end of any stream.
pub struct Tracker<S>(pub S);

impl Tracker<TcpStream> {
    pub async fn dial(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tracker<S> {
    pub async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads exactly as many bytes as are expected.
    pub async fn hears(&mut self, expected: &[u8]) {
        let mut heard = vec![0; expected.len()];
        let read = timeout(PATIENCE, self.0.read_exact(&mut heard)).await;
        read.expect("an answer in time").unwrap();
        assert_eq!(heard, expected);
    }

    /// Everything until the other side hangs up.
    pub async fn hears_out(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        let read = timeout(PATIENCE, self.0.read_to_end(&mut heard)).await;
        // A reset is a farewell too.
        let _ = read.expect("hung up in time");
        heard
    }

    pub async fn log_in(&mut self, imei: &str) {
        self.say(&login(imei)).await;
        self.hears(&[1]).await;
    }
}

pub fn login(imei: &str) -> Vec<u8> {
    let mut bytes = vec![0, 15];
    bytes.extend(imei.as_bytes());
    bytes
}

pub fn frame(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// Waits until `reached`, or panics with `what`.
pub async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "never happened: {what}");
}
