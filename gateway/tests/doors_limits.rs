//! Limits through real sockets: floods and slow drips are shed, trackers that behave are not.

#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;

use gateway::listen::ListenConfig;
use gateway::metrics::Shed;
use world::{FRAME_1, FRAME_2, Options, Tracker, World, frame, limits, login, until};

const IMEI: &str = "356307042441013";

/// As in the many descriptions of this sentence.
const SENTENCE: &[u8] = b"$GPRMC,225446,A,4916.45,N,12311.12,W,000.5,054.7,191194,020.3,E*68\r\n";

fn world(change: impl FnOnce(&mut ListenConfig)) -> World {
    let mut options = Options::default();
    change(&mut options.listen);
    World::new(options)
}

fn imei(number: u64) -> String {
    format!("{}", 350_000_000_000_000 + number)
}

/// A frame that says it is so long, and the beginning of what it promises.
fn half_frame(length: u32, sent: usize) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0];
    bytes.extend(length.to_be_bytes());
    bytes.push(8);
    bytes.resize(sent, 0);
    bytes
}

#[tokio::test]
async fn a_flood_of_strangers_costs_the_oldest_strangers_and_no_tracker() {
    let world = world(|listen| listen.connections_max = 8);
    let addr = world.tcp().await;
    let mut trackers = Vec::new();
    for number in 0..4 {
        let mut tracker = Tracker::dial(addr).await;
        tracker.log_in(&imei(number)).await;
        trackers.push(tracker);
    }
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(Tracker::dial(addr).await);
    }
    // In the middle of it a new tracker comes.
    let mut late = Tracker::dial(addr).await;
    late.log_in(IMEI).await;
    let shed = || world.metrics.doors.shed_count(Shed::NoLogin);
    until("strangers are gone", || shed() >= 197).await;
    trackers.push(late);
    for tracker in &mut trackers {
        tracker.say(&frame(FRAME_1)).await;
        tracker.hears(&[0, 0, 0, 1]).await;
    }
    assert!(flood[0].hears_out().await.is_empty());
    until("the rest stays", || world.counted("connections") == 8).await;
}

#[tokio::test]
async fn when_all_have_logged_in_a_newcomer_is_turned_away() {
    let world = world(|listen| listen.connections_max = 2);
    let addr = world.tcp().await;
    let mut first = Tracker::dial(addr).await;
    first.log_in(&imei(1)).await;
    let mut second = Tracker::dial(addr).await;
    second.log_in(&imei(2)).await;
    let mut third = Tracker::dial(addr).await;
    assert!(third.hears_out().await.is_empty());
    assert_eq!(world.metrics.doors.shed_count(Shed::NoPlace), 1);
    drop(second);
    until("a place is free", || world.counted("connections") == 1).await;
    let mut again = Tracker::dial(addr).await;
    again.log_in(&imei(3)).await;
    first.say(&frame(FRAME_1)).await;
    first.hears(&[0, 0, 0, 1]).await;
}

#[tokio::test]
async fn one_address_cannot_take_all_places() {
    let world = world(|listen| listen.connections_per_ip_max = 2);
    let addr = world.tcp().await;
    let mut both = [Tracker::dial(addr).await, Tracker::dial(addr).await];
    for (number, tracker) in both.iter_mut().enumerate() {
        tracker.log_in(&imei(number as u64)).await;
    }
    let mut third = Tracker::dial(addr).await;
    assert!(third.hears_out().await.is_empty());
    assert_eq!(world.metrics.doors.shed_count(Shed::PerAddress), 1);
    // Another address of the same machine.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Tracker(socket.connect(addr).await.unwrap());
    other.log_in(&imei(9)).await;
}

#[tokio::test]
async fn half_frames_share_a_budget_and_the_oldest_pays() {
    let world = world(|listen| listen.memory_bytes_max = 100_000);
    let addr = world.tcp().await;
    let mut healthy = Tracker::dial(addr).await;
    healthy.log_in(IMEI).await;
    let mut slow = Vec::new();
    for number in 0..10 {
        let mut tracker = Tracker::dial(addr).await;
        tracker.log_in(&imei(number)).await;
        tracker.say(&half_frame(60_000, 30_000)).await;
        slow.push(tracker);
        // What behaves is served all the time, also with a frame in two parts.
        let bytes = frame(FRAME_2);
        healthy.say(&bytes[..30]).await;
        healthy.say(&bytes[30..]).await;
        healthy.hears(&[0, 0, 0, 2]).await;
    }
    let shed = || world.metrics.doors.shed_count(Shed::Memory);
    until("the oldest are gone", || shed() >= 7).await;
    for tracker in &mut slow[..7] {
        assert!(tracker.hears_out().await.is_empty());
    }
    // The youngest may still finish: its checksum is wrong, but it is read to the end.
    let newest = slow.last_mut().unwrap();
    newest.say(&vec![0; 30_012]).await;
    newest.hears(&[0, 0, 0, 0]).await;
    healthy.say(&frame(FRAME_1)).await;
    healthy.hears(&[0, 0, 0, 1]).await;
    assert_eq!(world.roster.len(), 1 + 10 - shed() as usize);
}

#[tokio::test]
async fn every_kind_of_silence_is_ended_and_counted_under_its_name() {
    let mut session = limits();
    session.handshake_timeout = Duration::from_millis(200);
    session.frame_timeout = Duration::from_millis(200);
    session.idle_timeout = Duration::from_millis(400);
    let world = world(|listen| listen.session = session);
    let addr = world.tcp().await;
    let mut drip = Tracker::dial(addr).await;
    drip.say(&login(IMEI)[..5]).await;
    let mut half = Tracker::dial(addr).await;
    half.log_in(&imei(1)).await;
    half.say(&half_frame(1000, 20)).await;
    let mut silent = Tracker::dial(addr).await;
    silent.log_in(&imei(2)).await;
    let mut garbage = Tracker::dial(addr).await;
    garbage.say(b"GET / HTTP/1.1\r\n\r\n").await;
    for tracker in [&mut drip, &mut half, &mut silent, &mut garbage] {
        assert!(tracker.hears_out().await.is_empty());
    }
    until("nobody is left", || world.counted("connections") == 0).await;
    for reason in Shed::ALL {
        let expected = match reason {
            Shed::HandshakeTimeout | Shed::FrameTimeout | Shed::IdleTimeout | Shed::Unreadable => 1,
            _ => 0,
        };
        let count = world.metrics.doors.shed_count(reason);
        assert_eq!(count, expected, "{reason:?}");
    }
}

#[tokio::test]
async fn a_lost_ack_makes_the_tracker_repeat_and_both_copies_are_kept() {
    let world = world(|_| {});
    let addr = world.tcp().await;
    let mut tracker = Tracker::dial(addr).await;
    tracker.log_in(IMEI).await;
    tracker.say(&frame(FRAME_2)).await;
    let durable = || world.spool.usage().records_durable;
    until("kept", || durable() == 2).await;
    drop(tracker); // the ACK is on its way and never read
    let mut again = Tracker::dial(addr).await;
    again.log_in(IMEI).await;
    // Twice more, the second one because it believes that the ACK was lost.
    again.say(&frame(FRAME_2).repeat(2)).await;
    again.hears(&[0, 0, 0, 2, 0, 0, 0, 2]).await;
    assert_eq!(durable(), 6);
}

#[tokio::test]
async fn a_device_that_sent_whole_sentences_owes_nothing() {
    let world = world(|listen| listen.memory_bytes_max = 4_096);
    let addr = world.nmea().await;
    let mut devices = Vec::new();
    for number in 0..10 {
        let mut device = Tracker::dial(addr).await;
        device.say(format!("{}\r\n", imei(number)).as_bytes()).await;
        devices.push(device);
    }
    // The second is looked at when all is counted that the first one left.
    for kept in [10, 20] {
        for device in &mut devices {
            device.say(SENTENCE).await;
        }
        until("all is kept", || world.spool.usage().backlog() == kept).await;
    }
    assert_eq!(world.metrics.doors.shed_count(Shed::Memory), 0);
    assert_eq!(world.counted("connections"), 10);
}
