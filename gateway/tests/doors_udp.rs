//! The UDP door: what is answered, what is not, and that many datagrams share a commit.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use codec::encode::{DatagramSpec, datagram};
use gateway::access::{AccessConfig, AccessMode};
use gateway::metrics::Datagram;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use world::{FRAME_1, FRAME_2, Options, PATIENCE, World, frame, until};

const IMEI: &str = "356307042441013";

/// Wiki "Codec", Codec 8 over UDP: one record.
const WIKI: &str = "003DCAFE0105000F33353230393330383634303336353508010000016B4F815B30010000000000000000000000000000000103021503010101425DBC000001";
const WIKI_ANSWER: &str = "0005CAFE010501";

fn spec(packet_id: u16, avl_packet_id: u8, imei: &str) -> DatagramSpec {
    DatagramSpec {
        packet_id,
        packet_type: 1,
        avl_packet_id,
        imei: imei.parse().unwrap(),
    }
}

fn build(spec: &DatagramSpec, text: &str) -> Vec<u8> {
    let bytes = frame(text);
    let mut out = Vec::new();
    datagram(spec, &bytes[8..bytes.len() - 4], &mut out).unwrap();
    out
}

struct Sender(UdpSocket);

impl Sender {
    async fn new(addr: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(addr).await.unwrap();
        Self(socket)
    }

    async fn say(&self, bytes: &[u8]) {
        self.0.send(bytes).await.unwrap();
    }

    async fn hears(&self) -> Vec<u8> {
        let mut buffer = [0; 64];
        let heard = timeout(PATIENCE, self.0.recv(&mut buffer)).await;
        let length = heard.expect("an answer in time").unwrap();
        buffer[..length].to_vec()
    }

    /// Sends a datagram that is answered for sure and hears nothing before that answer.
    async fn hears_nothing_but(&self, last: &[u8], answer: &[u8]) {
        self.say(last).await;
        assert_eq!(self.hears().await, answer);
    }
}

#[tokio::test]
async fn both_ids_are_echoed_and_every_record_is_counted() {
    let world = World::new(Options::default());
    let sender = Sender::new(world.udp().await).await;
    sender.say(&frame(WIKI)).await;
    assert_eq!(sender.hears().await, frame(WIKI_ANSWER));
    for (packet_id, avl_packet_id) in [(0, 0), (1, 255), (0xFFFF, 1), (0x1234, 0x56)] {
        let spec = spec(packet_id, avl_packet_id, IMEI);
        sender.say(&build(&spec, FRAME_2)).await;
        let [high, low] = packet_id.to_be_bytes();
        assert_eq!(sender.hears().await, [0, 5, high, low, 1, avl_packet_id, 2]);
    }
    assert_eq!(world.counted("records_acked"), 9);
    assert_eq!(world.spool.usage().records_durable, 9);
    assert!(world.roster.is_empty(), "nobody is connected over UDP");
}

#[tokio::test]
async fn datagrams_of_many_trackers_share_a_commit() {
    let options = Options {
        commit_interval_min: Duration::from_millis(300),
        ..Options::default()
    };
    let world = World::new(options);
    let addr = world.udp().await;
    let mut senders = Vec::new();
    for _ in 0..4 {
        senders.push(Sender::new(addr).await);
    }
    let (began, commits) = (Instant::now(), world.spool.usage().commits);
    let mut expected = BTreeSet::new();
    for number in 0..50u8 {
        let sender = &senders[usize::from(number) % 4];
        sender.say(&build(&spec(7, number, IMEI), FRAME_1)).await;
        expected.insert(number);
    }
    let mut heard = BTreeSet::new();
    for number in 0..50usize {
        let answer = senders[number % 4].hears().await;
        assert_eq!((&answer[..5], answer[6]), (&[0, 5, 0, 7, 1][..], 1));
        heard.insert(answer[5]);
    }
    assert_eq!(heard, expected, "in any order, each once");
    let commits = world.spool.usage().commits - commits;
    assert!(commits <= 5, "{commits} commits");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_repeated_or_late_datagram_is_kept_again_and_answered_again() {
    let world = World::new(Options::default());
    let sender = Sender::new(world.udp().await).await;
    let first = build(&spec(1, 1, IMEI), FRAME_1);
    let second = build(&spec(2, 2, IMEI), FRAME_2);
    let (one, two) = ([0, 5, 0, 1, 1, 1, 1], [0, 5, 0, 2, 1, 2, 2]);
    for (bytes, answer) in [(&second, two), (&first, one), (&first, one), (&second, two)] {
        sender.say(bytes).await;
        assert_eq!(sender.hears().await, answer);
    }
    // The answer was lost: the rows are idempotent, so twice is the same as once.
    assert_eq!(world.spool.usage().records_durable, 6);
    assert_eq!(world.metrics.doors.datagram_count(Datagram::Kept), 4);
}

#[tokio::test]
async fn damaged_datagrams_get_no_answer_and_cost_nobody_anything() {
    let world = World::new(Options::default());
    let sender = Sender::new(world.udp().await).await;
    let good = build(&spec(1, 9, IMEI), FRAME_1);
    let mut sent = 0;
    for length in 0..good.len() {
        sender.say(&good[..length]).await;
        sent += 1;
    }
    for at in [0, 1, 6, 7, 8, 12] {
        // The length, the length of the identity, a digit of it.
        let mut bent = good.clone();
        bent[at] ^= 0x40;
        sender.say(&bent).await;
        sent += 1;
    }
    let damaged = || world.metrics.doors.datagram_count(Datagram::Damaged);
    until("all were seen", || damaged() == sent).await;
    sender
        .hears_nothing_but(&good, &[0, 5, 0, 1, 1, 9, 1])
        .await;
    assert_eq!(world.spool.usage().records_durable, 1);
}

#[tokio::test]
async fn an_unknown_imei_gets_no_answer_and_is_listed_as_refused() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("imeis.txt");
    std::fs::write(&list, format!("{IMEI}\n")).unwrap();
    let options = Options {
        access: AccessConfig {
            mode: AccessMode::List,
            list: Some(list),
            ..AccessConfig::open()
        },
        ..Options::default()
    };
    let world = World::new(options);
    let sender = Sender::new(world.udp().await).await;
    let unknown = build(&spec(1, 1, "356307042441031"), FRAME_1);
    for _ in 0..3 {
        sender.say(&unknown).await;
    }
    let refused = || world.metrics.doors.datagram_count(Datagram::Refused);
    until("all were seen", || refused() == 3).await;
    let good = build(&spec(1, 9, IMEI), FRAME_1);
    sender
        .hears_nothing_but(&good, &[0, 5, 0, 1, 1, 9, 1])
        .await;
    let refused = world.access.refused();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (refused[0].count, refused[0].nearest),
        (3, Some(IMEI.parse().unwrap()))
    );
    assert_eq!(world.spool.usage().records_durable, 1);
}

#[tokio::test]
async fn what_the_spool_does_not_keep_is_not_answered() {
    let options = Options {
        spool_bytes_max: 8 << 20,
        ..Options::default()
    };
    let world = World::new(options);
    let sender = Sender::new(world.udp().await).await;
    let mut large = vec![8, 1];
    large.resize(60_000, 0);
    let mut bytes = Vec::new();
    datagram(&spec(1, 1, IMEI), &large, &mut bytes).unwrap();
    let not_kept = || world.metrics.doors.datagram_count(Datagram::NotKept);
    let kept = || world.metrics.doors.datagram_count(Datagram::Kept);
    for sent in 1.. {
        sender.say(&bytes).await;
        until("dealt with", || kept() + not_kept() == sent).await;
        if not_kept() > 0 {
            break;
        }
        sender.hears().await;
        assert!(sent < 1000, "a spool of 8 MiB is full some time");
    }
    let silence = timeout(Duration::from_millis(100), sender.hears()).await;
    assert!(silence.is_err(), "{silence:?}");
    assert_eq!(world.counted("frames_not_kept"), 1);
}

#[tokio::test]
async fn a_message_is_kept_without_an_answer_and_a_channel_ack_is_given_when_asked_for() {
    /// Wiki "Codec", Codec 12: a command response.
    const FRAME_12: &str = "00000000000000370C01060000002F4449313A31204449323A30204449333A302041494E313A302041494E323A313639323420444F313A3020444F323A3101000066E3";
    let world = World::new(Options::default());
    let sender = Sender::new(world.udp().await).await;
    sender.say(&build(&spec(1, 1, IMEI), FRAME_12)).await;
    let kept = || world.metrics.doors.datagram_count(Datagram::Kept);
    until("kept", || kept() == 1).await;
    let asks = DatagramSpec {
        packet_type: 0,
        ..spec(0x0102, 3, IMEI)
    };
    sender.say(&build(&asks, FRAME_1)).await;
    assert_eq!(sender.hears().await, [0, 3, 1, 2, 2]);
    assert_eq!(sender.hears().await, [0, 5, 1, 2, 1, 3, 1]);
}
