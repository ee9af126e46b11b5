//! Who may talk, from files that change while the gateway runs, and over restarts.

#![allow(clippy::unwrap_used)]

mod world;

use std::fs;
use std::path::Path;
use std::time::Duration;

use gateway::access::{self, Access, AccessConfig, AccessMode};
use gateway::session::Refusal;
use world::{FRAME_1, Options, Tracker, World, frame, login, until};

const VAN: &str = "356307042441013";
const TRUCK: &str = "123456789012345";

fn peer() -> gateway::peer::Peer {
    gateway::peer::Peer::Line("/dev/ttyS1")
}

fn list(path: &Path) -> AccessConfig {
    AccessConfig {
        mode: AccessMode::List,
        list: Some(path.to_owned()),
        ..AccessConfig::open()
    }
}

fn learn(dir: &Path, learn_for: Duration) -> AccessConfig {
    AccessConfig {
        mode: AccessMode::Learn,
        list: None,
        learned: dir.join("learned.txt"),
        learn_for,
    }
}

async fn ask(access: &Access, digits: &str) -> Result<(), Refusal> {
    access.ask(digits.parse().unwrap(), peer()).await
}

#[tokio::test]
async fn a_list_is_read_again_and_a_broken_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("imeis.txt");
    fs::write(&path, format!("{VAN}\n")).unwrap();
    let access = Access::open(list(&path)).unwrap();
    assert!(ask(&access, VAN).await.is_ok());
    assert!(ask(&access, TRUCK).await.is_err());

    fs::write(&path, format!("{VAN}\n{TRUCK}\n")).unwrap();
    access.look();
    assert!(ask(&access, TRUCK).await.is_ok());
    assert!(access.refused().is_empty(), "it is no longer refused");

    fs::write(&path, format!("{TRUCK}\n12345\n")).unwrap();
    access.look();
    assert!(ask(&access, VAN).await.is_ok(), "the old list is in force");
    let trouble = access.status().trouble.unwrap();
    assert!(
        trouble.contains("line 2") && trouble.contains("imeis.txt"),
        "{trouble}"
    );
    fs::remove_file(&path).unwrap();
    assert!(access.reload().is_err());
    assert!(ask(&access, VAN).await.is_ok());

    fs::write(&path, format!("{TRUCK}\n!{VAN}\n")).unwrap();
    assert!(access.reload().unwrap());
    assert_eq!(access.status().trouble, None);
    assert_eq!(ask(&access, VAN).await, Err(Refusal::Denied));
}

#[tokio::test]
async fn a_refused_tracker_hears_no_and_is_listed_until_it_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("imeis.txt");
    fs::write(&path, format!("{VAN}\n")).unwrap();
    let options = Options {
        access: list(&path),
        ..Options::default()
    };
    let world = World::new(options);
    let addr = world.tcp().await;
    for _ in 0..2 {
        let mut tracker = Tracker::dial(addr).await;
        tracker
            .say(&[login("356307042441031"), frame(FRAME_1)].concat())
            .await;
        assert_eq!(tracker.hears_out().await, [0]);
    }
    let refused = world.access.refused();
    assert_eq!((refused.len(), refused[0].count), (1, 2));
    assert_eq!(refused[0].nearest, Some(VAN.parse().unwrap()));
    assert_eq!(refused[0].peer, addr.ip().into());
    assert!(refused[0].last_seen_ms > 0);
    let shown = serde_json::to_value(&refused[0]).unwrap();
    assert_eq!(shown["imei"], "356307042441031");
    assert_eq!(
        (
            world.counted("logins_refused"),
            world.spool.usage().records_durable
        ),
        (2, 0)
    );

    access::allow(&path, "356307042441031".parse().unwrap()).unwrap();
    world.access.look();
    let mut tracker = Tracker::dial(addr).await;
    tracker.log_in("356307042441031").await;
    assert!(world.access.refused().is_empty());
}

#[tokio::test]
async fn a_watched_list_needs_nobody_to_say_that_it_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("imeis.txt");
    fs::write(&path, "").unwrap();
    let access = Access::open(list(&path)).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let watch = tokio::spawn(access.clone().watch(stop.clone()));
    access::allow(&path, VAN.parse().unwrap()).unwrap();
    until("the list is read", || access.status().listed == 1).await;
    stop.cancel();
    watch.await.unwrap();
}

#[tokio::test]
async fn what_was_learned_outlives_the_window_and_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let first = Access::open(learn(dir.path(), hour)).unwrap();
    assert!(first.window_left().unwrap() > hour - Duration::from_secs(5));
    assert!(ask(&first, VAN).await.is_ok());
    // Told only after it is on disk: another process sees it at once.
    assert_eq!(
        access::list(&dir.path().join("learned.txt")).unwrap().len(),
        1
    );
    drop(first);
    // A restart does not give the time back.
    let second = Access::open(learn(dir.path(), hour)).unwrap();
    assert!(second.window_left().unwrap() < hour);
    drop(second);
    // The window is used up.
    fs::write(dir.path().join("learned.window"), "used_s 3600\n").unwrap();
    let closed = Access::open(learn(dir.path(), hour)).unwrap();
    assert_eq!(closed.window_left(), Some(Duration::ZERO));
    assert!(ask(&closed, VAN).await.is_ok());
    let refusal = ask(&closed, "356307042441031").await.unwrap_err();
    let nearest = Some(VAN.parse().unwrap());
    assert_eq!(refusal, Refusal::WindowClosed { listed: 1, nearest });
    // The operator lets one more in.
    access::allow(&dir.path().join("learned.txt"), TRUCK.parse().unwrap()).unwrap();
    closed.look();
    assert!(ask(&closed, TRUCK).await.is_ok());
    assert!(closed.status().to_words().contains("closed"));
}

#[tokio::test]
async fn many_new_trackers_at_once_are_all_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::open(learn(dir.path(), Duration::from_secs(3600))).unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..500u64 {
        let access = access.clone();
        let imei = codec::Imei::from_u64(350_000_000_000_000 + number).unwrap();
        asking.spawn(async move { access.ask(imei, peer()).await });
    }
    while let Some(answer) = asking.join_next().await {
        assert_eq!(answer.unwrap(), Ok(()));
    }
    let learned = access::read(&dir.path().join("learned.txt")).unwrap();
    assert_eq!(learned.len(), 500);
}

#[tokio::test]
async fn who_cannot_be_remembered_is_sent_away_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    let access = Access::open(learn(&home, Duration::from_secs(3600))).unwrap();
    assert!(ask(&access, VAN).await.is_ok());
    fs::rename(&home, dir.path().join("away")).unwrap();
    assert_eq!(ask(&access, TRUCK).await, Err(Refusal::NotRemembered));
    assert!(ask(&access, VAN).await.is_ok());
    fs::rename(dir.path().join("away"), &home).unwrap();
    assert!(ask(&access, TRUCK).await.is_ok());
    // Denied while the window is open: it is not learned again.
    access::deny(&home.join("learned.txt"), TRUCK.parse().unwrap()).unwrap();
    access.look();
    assert_eq!(ask(&access, TRUCK).await, Err(Refusal::Denied));
}

#[tokio::test]
async fn a_denied_imei_stays_out_even_when_everybody_else_may_come() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("imeis.txt");
    fs::write(&path, format!("!{VAN}\n")).unwrap();
    let config = AccessConfig {
        list: Some(path),
        ..AccessConfig::open()
    };
    let access = Access::open(config).unwrap();
    assert_eq!(ask(&access, VAN).await, Err(Refusal::Denied));
    assert!(ask(&access, TRUCK).await.is_ok());
}
