//! What the doors tell whoever watches: frames, logins, refusals, damage, and that they still turn.

#![allow(clippy::unwrap_used)]

mod world;

use std::time::{Duration, Instant};

use codec::encode::{self, DatagramSpec};
use gateway::access::{AccessConfig, AccessMode};
use gateway::logbook::ImeiStyle;
use serde_json::Value;
use tokio::net::UdpSocket;
use world::{FRAME_1, Options, Tracker, World, frame, login, until};

const IMEI: &str = "356307042441013";
const STRANGER: &str = "123456789012345";

fn datagram(imei: &str) -> Vec<u8> {
    let spec = DatagramSpec {
        packet_id: 1,
        packet_type: 1,
        avl_packet_id: 1,
        imei: imei.parse().unwrap(),
    };
    let bytes = frame(FRAME_1);
    let mut out = Vec::new();
    encode::datagram(&spec, &bytes[8..bytes.len() - 4], &mut out).unwrap();
    out
}

fn latest(world: &World) -> Value {
    world.metrics.panel.events.latest(50, ImeiStyle::Short)["events"].take()
}

fn codes(world: &World) -> Vec<String> {
    let events = latest(world);
    let events = events.as_array().unwrap().iter();
    events
        .map(|event| event["code"].as_str().unwrap().to_owned())
        .collect()
}

fn frames_of(world: &World, imei: &str) -> u64 {
    let device = world.metrics.panel.devices.get(imei.parse().unwrap());
    device.map_or(0, |device| device.frames)
}

#[tokio::test]
async fn a_connection_tells_of_its_login_its_frames_its_damage_and_its_end() {
    let world = World::new(Options::default());
    let addr = world.tcp().await;
    let mut old = Tracker::dial(addr).await;
    old.log_in(IMEI).await;
    old.say(&frame(FRAME_1)).await;
    old.hears(&[0, 0, 0, 1]).await;
    assert_eq!(frames_of(&world, IMEI), 1);
    let mut damaged = frame(FRAME_1);
    *damaged.last_mut().unwrap() ^= 1;
    old.say(&damaged).await;
    old.hears(&[0, 0, 0, 0]).await;
    let mut new = Tracker::dial(addr).await;
    new.log_in(IMEI).await;
    assert!(old.hears_out().await.is_empty());
    until("all is told", || {
        let codes = codes(&world);
        ["tracker-accepted", "frame-damaged", "tracker-displaced"]
            .iter()
            .all(|code| codes.iter().any(|told| told == code))
    })
    .await;
    assert_eq!(frames_of(&world, IMEI), 1, "what is damaged is not kept");
}

#[tokio::test]
async fn a_refusal_is_told_once_for_each_door_and_without_the_imei() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list.txt");
    std::fs::write(&list, format!("{IMEI}\n")).unwrap();
    let access = AccessConfig {
        mode: AccessMode::List,
        list: Some(list),
        ..AccessConfig::open()
    };
    let world = World::new(Options {
        access,
        ..Options::default()
    });
    let mut tracker = Tracker::dial(world.tcp().await).await;
    tracker.say(&login(STRANGER)).await;
    assert_eq!(tracker.hears_out().await, [0]);
    let refused = || {
        let event = latest(&world)[0].take();
        (event["code"] == "tracker-refused").then_some(event)
    };
    until("the refusal is told", || refused().is_some()).await;
    let event = refused().unwrap();
    assert_eq!(event["imei"], "12345…345");
    assert!(
        !event["text"].as_str().unwrap().contains(STRANGER),
        "{event}"
    );

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = world.udp().await;
    socket.send_to(&datagram(STRANGER), addr).await.unwrap();
    until("that of the datagram too", || {
        refused().is_some_and(|event| event["times"] == 2)
    })
    .await;
    socket.send_to(&datagram(IMEI), addr).await.unwrap();
    until("a kept datagram is in the table", || {
        frames_of(&world, IMEI) == 1
    })
    .await;
    socket.send_to(b"nonsense", addr).await.unwrap();
    until("a damaged one is told", || {
        codes(&world)[0] == "frame-damaged"
    })
    .await;
}

#[tokio::test]
async fn a_door_that_stops_turning_would_be_named() {
    for kind in ["tcp", "udp"] {
        let world = World::new(Options::default());
        let addr = match kind {
            "tcp" => world.tcp().await,
            _ => world.udp().await,
        };
        let progress = &world.metrics.panel.progress;
        until("the door is watched", || {
            let now = Instant::now();
            let _ = progress.look(now);
            // Nobody turned in between, as if it had stood still for so long.
            let stuck = progress.look(now + Duration::from_secs(31));
            stuck.is_some_and(|stuck| stuck.stage == format!("{kind} {addr}"))
        })
        .await;
        let before = Instant::now();
        let _ = progress.look(before);
        until("it turns though nobody knocks", || {
            let as_if = before + Duration::from_secs(31);
            progress.look(as_if).is_none()
        })
        .await;
    }
}
