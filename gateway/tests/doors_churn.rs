//! Ten thousand connections, opened, half of them dropped, and churned, in one process.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::HashSet;
use std::net::SocketAddr;

use gateway::listen::ListenConfig;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;
use world::{FRAME_1, Options, Tracker, World, frame, until};

const TRACKERS: usize = 10_000;

/// Dialled at the same time; the listening socket's queue is not endless.
const DIALS: usize = 200;

/// How many connections this process may have: each is two open files here.
fn trackers() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let files = limit.maximum.unwrap_or(u64::MAX);
    let most = usize::try_from(files / 2).unwrap_or(usize::MAX) - 200;
    if most < TRACKERS {
        eprintln!("only {files} open files are allowed: {most} connections instead of {TRACKERS}");
    }
    most.min(TRACKERS)
}

fn imei(number: usize) -> String {
    format!("{}", 350_000_000_000_000 + number)
}

async fn dial_all(
    addr: SocketAddr,
    numbers: impl Iterator<Item = usize>,
) -> Vec<(usize, Tracker<tokio::net::TcpStream>)> {
    let mut dialling = JoinSet::new();
    let mut all = Vec::new();
    for number in numbers {
        if dialling.len() >= DIALS {
            all.push(dialling.join_next().await.unwrap().unwrap());
        }
        dialling.spawn(async move {
            let mut tracker = Tracker::dial(addr).await;
            tracker.log_in(&imei(number)).await;
            (number, tracker)
        });
    }
    all.extend(dialling.join_all().await);
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_trackers_come_and_go_and_everybody_is_served() {
    let count = trackers();
    let base = Options::default();
    let options = Options {
        listen: ListenConfig {
            connections_max: count,
            connections_per_ip_max: count,
            ..base.listen.clone()
        },
        spool_bytes_max: 256 << 20,
        ..base
    };
    let world = World::new(options);
    let addr = world.tcp().await;
    let mut all = dial_all(addr, 0..count).await;
    assert_eq!(world.roster.len(), count);
    assert_eq!(world.counted("connections"), count as u64);

    // Half of them vanish, some in the middle of a frame.
    all.sort_unstable_by_key(|(number, _)| *number);
    for (number, tracker) in &mut all {
        if *number % 4 == 1 {
            tracker.say(&frame(FRAME_1)[..40]).await;
        }
    }
    all.retain(|(number, _)| number % 2 == 0);
    let half = all.len();
    until("half of them left", || world.roster.len() == half).await;
    until("with their places", || {
        world.counted("connections") == half as u64
    })
    .await;

    // Those who stay are served; the others come back, and a tenth of those who stay with them,
    // on new connections.
    for (_, tracker) in &mut all {
        tracker.say(&frame(FRAME_1)).await;
    }
    for (_, tracker) in &mut all {
        tracker.hears(&[0, 0, 0, 1]).await;
    }
    let mut epochs: HashSet<u64> = world.roster.connected().iter().map(|one| one.1).collect();
    let (moving, staying): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(number, _)| number % 20 == 0);
    let freed = count - half; // places; the moved ones need one each until the old are closed
    let back = (0..count).filter(|number| number % 2 == 1 || number % 20 == 0);
    let mut back = dial_all(addr, back.take(freed)).await;
    for (number, tracker) in &mut back {
        tracker.say(&frame(FRAME_1)).await;
        tracker.hears(&[0, 0, 0, 1]).await;
        assert!(*number < count);
    }
    for (_, epoch) in world.roster.connected() {
        epochs.insert(epoch);
    }
    assert_eq!(epochs.len(), half + back.len(), "no epoch is used twice");
    drop((moving, staying, back));
    until("everybody left", || world.roster.is_empty()).await;
    until("with their places", || world.counted("connections") == 0).await;
    let expected = (half + count - half) as u64;
    assert!(world.counted("records_acked") >= expected);
    assert_eq!(
        world.spool.usage().records_durable,
        world.counted("records_acked")
    );
}
