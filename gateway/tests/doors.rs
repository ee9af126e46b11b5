//! The hall through real sockets: who has the seat, and what is still said on the way out.

#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;

use world::{FRAME_1, FRAME_2, Options, Tracker, World, frame, login, until};

const IMEI: &str = "356307042441013";

/// Slow commits, so that a frame is being kept while other things happen.
fn slow() -> Options {
    Options {
        commit_interval_min: Duration::from_millis(600),
        ..Options::default()
    }
}

#[tokio::test]
async fn the_newest_connection_wins_and_the_old_one_hears_its_ack_first() {
    let world = World::new(slow());
    let addr = world.tcp().await;
    let mut old = Tracker::dial(addr).await;
    old.log_in(IMEI).await;
    old.say(&frame(FRAME_1)).await;
    old.hears(&[0, 0, 0, 1]).await;
    let epoch_old = world.roster.connected()[0].1;
    // Two frames at once: the first is being kept until the next commit is due.
    old.say(&[frame(FRAME_2), frame(FRAME_1)].concat()).await;
    let mut new = Tracker::dial(addr).await;
    new.log_in(IMEI).await;
    assert_eq!(old.hears_out().await, [0, 0, 0, 2], "the ACK, then the end");
    assert_eq!(world.counted("records_acked"), 3);
    let connected = world.roster.connected();
    assert_eq!(connected.len(), 1);
    assert!(connected[0].1 > epoch_old);
    new.say(&frame(FRAME_1)).await;
    new.hears(&[0, 0, 0, 1]).await;
}

#[tokio::test]
async fn a_silent_old_connection_is_closed_as_soon_as_its_tracker_is_back() {
    let world = World::new(Options::default());
    let addr = world.tcp().await;
    let mut old = Tracker::dial(addr).await;
    old.log_in(IMEI).await;
    let mut other = Tracker::dial(addr).await;
    other.log_in("123456789012345").await;
    let mut new = Tracker::dial(addr).await;
    new.log_in(IMEI).await;
    assert!(old.hears_out().await.is_empty());
    other.say(&frame(FRAME_1)).await;
    other.hears(&[0, 0, 0, 1]).await;
    drop(new);
    drop(other);
    until("everybody left", || world.roster.is_empty()).await;
}

#[tokio::test]
async fn nobody_has_a_seat_before_the_login() {
    let world = World::new(Options::default());
    let addr = world.tcp().await;
    let mut tracker = Tracker::dial(addr).await;
    tracker.say(&login(IMEI)[..16]).await;
    until("connected", || world.counted("connections") == 1).await;
    assert!(world.roster.is_empty());
    tracker.say(&login(IMEI)[16..]).await;
    tracker.hears(&[1]).await;
    assert_eq!(world.roster.len(), 1);
}

#[tokio::test]
async fn a_stopping_gateway_acknowledges_what_it_has_begun_to_keep() {
    let world = World::new(slow());
    let addr = world.tcp().await;
    let mut tracker = Tracker::dial(addr).await;
    tracker.log_in(IMEI).await;
    tracker.say(&frame(FRAME_1)).await;
    tracker.hears(&[0, 0, 0, 1]).await;
    tracker.say(&frame(FRAME_2)).await;
    // The door takes one more tracker, so the frame before it has been read.
    let mut last = Tracker::dial(addr).await;
    last.log_in("123456789012345").await;
    world.stop.cancel();
    assert_eq!(tracker.hears_out().await, [0, 0, 0, 2]);
    world.sessions.close();
    world.sessions.wait().await;
    assert!(world.roster.is_empty());
}

#[tokio::test]
async fn what_the_spool_does_not_keep_is_not_acknowledged_and_costs_nobody_else() {
    let world = World::new(Options {
        spool_bytes_max: 8 << 20,
        ..Options::default()
    });
    let addr = world.tcp().await;
    let mut other = Tracker::dial(addr).await;
    other.log_in("123456789012345").await;
    let mut data = vec![8, 1];
    data.resize(60_000, 0);
    data[59_999] = 1;
    let mut large = Vec::new();
    codec::encode::frame(&data, &mut large).unwrap();
    let mut tracker = Tracker::dial(addr).await;
    tracker.log_in(IMEI).await;
    let mut acked = 0;
    while world.counted("frames_not_kept") == 0 {
        tracker.say(&large).await;
        until("dealt with", || {
            world.counted("records_acked") + world.counted("frames_not_kept") > acked
        })
        .await;
        if world.counted("frames_not_kept") == 0 {
            tracker.hears(&[0, 0, 0, 1]).await;
            acked += 1;
        }
        assert!(acked < 1_000, "a spool of 8 MiB is full some time");
    }
    assert!(tracker.hears_out().await.is_empty(), "no ACK, then the end");
    assert_eq!(world.counted("records_acked"), acked);
    assert_eq!(world.spool.usage().records_durable, acked);
    // It may come again, and whoever is here stays.
    let mut again = Tracker::dial(addr).await;
    again.log_in(IMEI).await;
    until("both are here", || world.counted("connections") == 2).await;
    assert_eq!(world.roster.len(), 2);
    drop(other);
}
