//! The fleet against a small peer on a real socket that follows the protocol, or breaks it.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codec::{Cut, Expect, Limits, cut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What the peer does instead of answering rightly.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lapse {
    None,
    /// Reads the frame and hangs up.
    Close,
    /// Hangs up in the middle of the answer.
    HalfAnswer,
    WrongCount,
    /// Reads the frame and says nothing more.
    Silence,
    /// Answers byte by byte.
    Slow,
    RefuseLogin,
}

#[derive(Debug, Default)]
struct Seen {
    /// Per IMEI: how often each record came.
    records: BTreeMap<u64, BTreeMap<RecordKey, u32>>,
    /// Per IMEI: records the peer answered rightly, byte for byte.
    answered: BTreeMap<u64, BTreeSet<RecordKey>>,
    frames: BTreeMap<u64, Vec<Vec<u8>>>,
    pings: u64,
    messages: u64,
}

struct Peer {
    to: String,
    seen: Arc<Mutex<Seen>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// `lapses` are taken in turn, one per connection or frame, over all connections.
async fn peer(lapses: &[Lapse]) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let lapses: Vec<Lapse> = lapses.to_vec();
    let lapses = Arc::new(Mutex::new(lapses.into_iter().cycle()));
    let shared = Arc::clone(&seen);
    let accepting = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (seen, lapses) = (Arc::clone(&shared), Arc::clone(&lapses));
            let next = move || lapses.lock().unwrap().next().unwrap_or(Lapse::None);
            tokio::spawn(async move { serve(socket, &seen, next).await });
        }
    });
    Peer {
        to,
        seen,
        accepting,
    }
}

async fn serve(mut socket: TcpStream, seen: &Mutex<Seen>, next: impl Fn() -> Lapse) -> Option<()> {
    let mut input = Vec::new();
    let mut imei = None;
    loop {
        let expect = if imei.is_none() {
            Expect::Login
        } else {
            Expect::Frame
        };
        match cut(&input, expect, Limits::default()) {
            Cut::NeedMore { .. } => {
                let read = socket.read_buf(&mut input).await.ok()?;
                if read == 0 {
                    return None;
                }
            }
            Cut::Ping => {
                seen.lock().unwrap().pings += 1;
                input.remove(0);
            }
            Cut::Login(login) => {
                imei = Some(login.imei().unwrap().as_u64());
                let consumed = login.consumed();
                input.drain(..consumed);
                let refuse = next() == Lapse::RefuseLogin;
                socket.write_all(&[u8::from(!refuse)]).await.ok()?;
                if refuse {
                    imei = None;
                }
            }
            Cut::Frame(frame) => {
                let imei = imei.unwrap();
                let keys = RecordKey::of_data(frame.data());
                let (consumed, ack) = (frame.consumed(), frame.ack());
                {
                    let mut seen = seen.lock().unwrap();
                    seen.frames
                        .entry(imei)
                        .or_default()
                        .push(input[..consumed].to_vec());
                    for key in &keys {
                        *seen
                            .records
                            .entry(imei)
                            .or_default()
                            .entry(*key)
                            .or_default() += 1;
                    }
                }
                input.drain(..consumed);
                let Some(ack) = ack else {
                    seen.lock().unwrap().messages += 1;
                    continue;
                };
                let lapse = next();
                match lapse {
                    Lapse::Close => return None,
                    Lapse::HalfAnswer => {
                        socket.write_all(&ack[..2]).await.ok()?;
                        return None;
                    }
                    Lapse::WrongCount => socket.write_all(&[0, 0, 0, 0]).await.ok()?,
                    Lapse::Silence => std::future::pending().await,
                    Lapse::None | Lapse::RefuseLogin | Lapse::Slow => {
                        // Known before it is said, as in the real server.
                        seen.lock()
                            .unwrap()
                            .answered
                            .entry(imei)
                            .or_default()
                            .extend(&keys);
                        if lapse == Lapse::Slow {
                            for byte in ack {
                                socket.write_all(&[byte]).await.ok()?;
                                tokio::task::yield_now().await;
                            }
                        } else {
                            socket.write_all(&ack).await.ok()?;
                        }
                    }
                }
            }
            other => panic!("a device said {other:?}"),
        }
    }
}

fn config(peer: &Peer, devices: usize) -> FleetConfig {
    FleetConfig {
        devices,
        rate: "50".parse().unwrap(),
        records_per_frame: 3,
        start_ms: 1_750_000_000_000,
        ack_timeout: Duration::from_millis(300),
        backoff: (Duration::from_millis(5), Duration::from_millis(40)),
        ..FleetConfig::new(&peer.to)
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the peer answered and what the fleet believes must be the same.
fn assert_truth(fleet: &Fleet, peer: &Peer) {
    let seen = peer.seen.lock().unwrap();
    let truth = fleet.truth();
    assert_eq!(
        truth.devices(),
        seen.records.keys().copied().collect::<Vec<_>>()
    );
    for imei in truth.devices() {
        let records = truth.records(imei);
        let acked: BTreeSet<RecordKey> = records
            .iter()
            .filter(|record| record.acked)
            .map(|record| record.key)
            .collect();
        assert_eq!(Some(&acked), seen.answered.get(&imei));
        let sent: BTreeSet<RecordKey> = records.iter().map(|record| record.key).collect();
        assert_eq!(
            sent,
            seen.records[&imei].keys().copied().collect::<BTreeSet<_>>()
        );
    }
    let stats = fleet.stats();
    assert_eq!((stats.sent, stats.acked), truth.totals());
}

#[tokio::test]
async fn everything_is_acked_by_a_good_peer() {
    let peer = peer(&[Lapse::None, Lapse::Slow]).await;
    let fleet = Fleet::start(config(&peer, 30)).await.unwrap();
    until("2000 ACKs", || fleet.stats().acked > 2_000).await;
    assert_eq!(fleet.stats().connected, 30);
    assert!(fleet.drain(Duration::from_secs(20)).await);
    let stats = fleet.stats();
    assert_eq!(
        (
            stats.resent,
            stats.reconnects,
            stats.connected,
            stats.waiting
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(stats.sent, stats.acked);
    assert!(stats.ack_delay_max_ms < 300);
    assert_truth(&fleet, &peer);
}

#[tokio::test]
async fn every_lapse_makes_duplicates_and_loses_nothing() {
    for lapse in [
        Lapse::Close,
        Lapse::HalfAnswer,
        Lapse::WrongCount,
        Lapse::Silence,
        Lapse::RefuseLogin,
    ] {
        // First in the row, so that it meets a login too.
        let peer = peer(&[lapse, Lapse::None, Lapse::None, Lapse::None, Lapse::None]).await;
        let fleet = Fleet::start(config(&peer, 4)).await.unwrap();
        until("lapses", || {
            let stats = fleet.stats();
            stats.acked > 100 && stats.reconnects > 0
        })
        .await;
        assert!(
            fleet.drain(Duration::from_secs(20)).await,
            "{lapse:?}: {:?}",
            fleet.stats()
        );
        let stats = fleet.stats();
        assert_eq!(stats.sent, stats.acked, "{lapse:?}");
        match lapse {
            Lapse::WrongCount => assert!(stats.wrong_counts > 0),
            Lapse::Silence => assert!(stats.timeouts > 0),
            Lapse::RefuseLogin => assert!(stats.refused > 0),
            // Seen when it happens, not when patience is over.
            Lapse::Close | Lapse::HalfAnswer => assert_eq!(stats.timeouts, 0),
            _ => {}
        }
        assert_truth(&fleet, &peer);
        let seen = peer.seen.lock().unwrap();
        let came_twice = seen
            .records
            .values()
            .flat_map(BTreeMap::values)
            .any(|times| *times > 1);
        assert_eq!(came_twice, lapse != Lapse::RefuseLogin, "{lapse:?}");
        assert_eq!(stats.resent > 0, came_twice);
    }
}

#[tokio::test]
async fn a_peer_that_comes_late_and_goes_for_a_while_gets_everything() {
    let first = peer(&[Lapse::None]).await;
    let config = FleetConfig {
        devices: 5,
        ..config(&first, 5)
    };
    let to: std::net::SocketAddr = first.to.parse().unwrap();
    drop(first);
    let fleet = Fleet::start(config).await.unwrap();
    until("failed attempts", || fleet.stats().connects_failed > 20).await;
    assert_eq!((fleet.stats().sent, fleet.stats().connected), (0, 0));
    // The port may be taken again while its old connections linger (tokio sets SO_REUSEADDR).
    let listener = TcpListener::bind(to).await.unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    let accepting = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let seen = Arc::clone(&shared);
            tokio::spawn(async move { serve(socket, &seen, || Lapse::None).await });
        }
    });
    let peer = Peer {
        to: to.to_string(),
        seen,
        accepting,
    };
    until("ACKs", || fleet.stats().acked > 50).await;
    assert!(fleet.drain(Duration::from_secs(20)).await);
    assert_truth(&fleet, &peer);
}

#[tokio::test]
async fn a_drain_that_cannot_succeed_ends_in_time_and_says_so() {
    let peer = peer(&[Lapse::Silence]).await;
    let fleet = Fleet::start(FleetConfig {
        ack_timeout: Duration::from_secs(60),
        ..config(&peer, 3)
    })
    .await
    .unwrap();
    until("frames", || fleet.stats().frames == 3).await;
    assert!(!fleet.drain(Duration::from_millis(200)).await);
    let stats = fleet.stats();
    assert!(
        stats.waiting > 0 && stats.acked == 0 && stats.connected == 0,
        "{stats:?}"
    );
    assert!(fleet.is_finished());
}

#[tokio::test]
async fn the_same_seed_says_the_same_bytes_whatever_the_peer_does() {
    let mut said = Vec::new();
    for lapses in [
        &[Lapse::None][..],
        &[Lapse::None, Lapse::None, Lapse::Close],
    ] {
        let peer = peer(lapses).await;
        let fleet = Fleet::start(config(&peer, 3)).await.unwrap();
        until("ACKs", || fleet.stats().acked > 150).await;
        fleet.stop().await;
        let seen = peer.seen.lock().unwrap();
        let mut frames = seen.frames.clone();
        frames.values_mut().for_each(Vec::dedup);
        said.push(frames);
    }
    assert_eq!(
        said[0].keys().collect::<Vec<_>>(),
        said[1].keys().collect::<Vec<_>>()
    );
    for (left, right) in said[0].values().zip(said[1].values()) {
        let both = left.len().min(right.len());
        assert!(both > 5);
        assert_eq!(left[..both], right[..both]);
    }
}

#[tokio::test]
async fn idle_devices_ping_and_replays_end_by_themselves() {
    let good = peer(&[Lapse::None]).await;
    let fleet = Fleet::start(FleetConfig {
        rate: "1/1h".parse().unwrap(),
        records_per_frame: 200,
        ping_after: Duration::from_millis(20),
        ..config(&good, 4)
    })
    .await
    .unwrap();
    until("pings", || good.seen.lock().unwrap().pings > 20).await;
    drop(fleet);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("capture.hex");
    // A message needs no answer and must not hold up what follows; then a codec nobody knows.
    let text = "000F333530303030303030303030303033\n0C0105000000046162636401\n77021122330 2\n";
    std::fs::write(&file, text).unwrap();
    let peer = peer(&[Lapse::None]).await;
    let replay = Some(ReplayConfig { file, speed: 1.0 });
    let fleet = Fleet::start(FleetConfig {
        replay,
        ..config(&peer, 0)
    })
    .await
    .unwrap();
    until("the end", || fleet.is_finished()).await;
    let seen = peer.seen.lock().unwrap();
    assert_eq!(seen.frames[&350_000_000_000_003].len(), 2);
    assert_eq!(seen.messages, 1);
    assert_eq!(fleet.stats().acked, 2);
}

#[tokio::test]
async fn a_tracker_by_hand() {
    let peer = peer(&[Lapse::RefuseLogin]).await;
    let mut tracker = Tracker::connect(peer.to.parse().unwrap(), 350_000_000_000_007)
        .await
        .unwrap();
    tracker.send_raw(&[0xFF]).await.unwrap();
    assert!(!tracker.login().await.unwrap());
    assert!(
        tracker
            .stays_silent(Duration::from_millis(20))
            .await
            .unwrap()
    );
    assert!(tracker.login().await.is_ok());

    let peer = self::peer(&[Lapse::None, Lapse::Slow, Lapse::WrongCount, Lapse::Close]).await;
    let mut tracker = Tracker::connect(peer.to.parse().unwrap(), 350_000_000_000_007)
        .await
        .unwrap();
    assert!(tracker.login().await.unwrap());
    assert_eq!(tracker.send_frame(&[0x77, 5, 1, 5]).await.unwrap(), 5);
    assert_eq!(tracker.send_frame(&[0x77, 5, 1, 5]).await.unwrap(), 0);
    tracker.set_deadline(Duration::from_millis(50));
    assert!(!tracker.closed_by_peer().await.unwrap());
    assert!(tracker.send_frame(&[0x77, 5, 1, 5]).await.is_err());
    assert!(tracker.closed_by_peer().await.unwrap());
}
