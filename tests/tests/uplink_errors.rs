//! Every row of the uplink's error table against a real Redis: while the cause lasts, trackers are
//! acknowledged and the status names it with its remedy; once it is gone, everything arrives by
//! itself, and only what had an unknown outcome may arrive twice.
#![allow(clippy::unwrap_used)]

#[path = "uplink_errors/faults.rs"]
mod faults;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use contract::Lane;
use faults::{Stage, Step};
use gateway::uplink::{Cause, RedisConfig};
use tests::edge::{Edge, in_order, order, received, until_received};
use tests::servers::Port;
use tests::tables::eventually;

/// How often one envelope may arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrives {
    Once,
    /// The outcome of what was on its way is unknown, so it is sent again.
    OnceOrMore,
}

struct Case {
    name: &'static str,
    cause: Cause,
    arrives: Arrives,
}

macro_rules! cases {
    ($($name:ident: $cause:ident, $arrives:ident;)*) => {
        const CASES: &[Case] = &[$(Case {
            name: stringify!($name),
            cause: Cause::$cause,
            arrives: Arrives::$arrives,
        }),*];

        mod rows {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result<()> {
                play(stringify!($name), |stage, step| Box::pin(faults::$name(stage, step))).await
            })*
        }
    };
}

cases! {
    oom: Memory, Once;
    misconf: Disk, Once;
    readonly: Replica, Once;
    loading: Loading, Once;
    noreplicas: NoReplicas, Once;
    noperm: Rights, Once;
    wrongpass: Login, Once;
    killed: Refused, Once;
    paused: Timeout, OnceOrMore;
    black_hole: Timeout, OnceOrMore;
    half_link: Timeout, OnceOrMore;
    silent_door: Closed, Once;
    not_tls: NotTls, Once;
    server_certificate_expired: ServerExpired, Once;
    server_certificate_of_tomorrow: Clock, Once;
    wrong_ca: WrongCa, Once;
    wrong_name: WrongName, Once;
    our_certificate_expired: OursExpired, Once;
    our_certificate_unknown: OursUnknown, Once;
    certificate_file_gone: Files, Once;
    old_cloud: Contract, Once;
}

/// Causes that no server of ours can be made to show on a running connection, and where they are
/// tested instead.
const ELSEWHERE: [(Cause, &str); 6] = [
    (Cause::NoRoute, "what_no_start_can_mend_is_named_too"),
    (Cause::OursMissing, "what_no_start_can_mend_is_named_too"),
    (Cause::Cluster, "tests/uplink_cluster.rs"),
    (Cause::ClusterDown, "tests/uplink_cluster.rs"),
    (Cause::Spool, "the spool's own tests"),
    (Cause::Other, "gateway/src/uplink/cause.rs"),
];

type Fault = for<'a> fn(&'a mut Stage, Step) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

async fn play(name: &str, fault: Fault) -> Result<()> {
    let case = CASES.iter().find(|case| case.name == name);
    let case = case.context("a case of the table")?;
    let mut stage = Stage::start().await?;
    let edge = Edge::open(1 << 28)?.launch(stage.config())?;
    edge.append(0..50).await?;
    until_received(&stage.redis, 0..50).await?;

    fault(&mut stage, Step::Break).await?;
    edge.append(50..200)
        .await
        .context("trackers are acknowledged")?;
    eventually("the status says what it is and what to do", async || {
        let status = edge.status();
        let trouble = status["trouble"].as_str().unwrap_or_default();
        ensure!(status["cause"] == case.cause.name(), "{status}");
        Ok(trouble.contains(case.cause.words()) && trouble.contains(case.cause.remedy()))
    })
    .await?;
    edge.append(200..220)
        .await
        .context("trackers are acknowledged")?;
    assert_eq!(edge.spool.usage().backlog(), 220, "nothing is let go");

    fault(&mut stage, Step::Mend).await?;
    until_received(&stage.redis, 0..220).await?;
    eventually("the trouble is over", async || {
        let status = edge.status();
        Ok(status["trouble"].is_null() && status["cause"].is_null() && status["connected"] == true)
    })
    .await?;
    let mut arrived = in_order(&stage.redis).await?;
    arrived.sort_unstable();
    let doubled = arrived.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(
        doubled == 0 || case.arrives == Arrives::OnceOrMore,
        "{doubled} arrived twice"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_pipeline_refused_in_the_middle_only_the_rest_is_sent_again() -> Result<()> {
    let stage = Stage::start().await?;
    let edge = Edge::open(1 << 28)?;
    for number in 0..200 {
        // A batch each, so that one pipeline has many entries.
        edge.append_one(Lane::Normal, number, 60_000).await?;
    }
    stage.room_for_more(600_000).await?;
    let edge = edge.launch(stage.config())?;
    eventually("Redis is full", async || {
        Ok(edge.status()["cause"] == Cause::Memory.name())
    })
    .await?;
    let some = received(&stage.redis).await?.len();
    assert!((1..200).contains(&some), "{some} of 200 were accepted");
    order(&stage.redis, &["CONFIG", "SET", "maxmemory", "0"]).await?;
    until_received(&stage.redis, 0..200).await?;
    let arrived = in_order(&stage.redis).await?;
    assert_eq!(arrived.len(), 200, "nothing that was accepted came again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_link_is_noticed_within_the_response_timeout() -> Result<()> {
    let mut stage = Stage::start().await?;
    let mut config = stage.config();
    config.redis.response_timeout = Duration::from_secs(2);
    let edge = Edge::open(1 << 28)?.launch(config)?;
    edge.append(0..5).await?;
    until_received(&stage.redis, 0..5).await?;
    let before = stage.proxy.taken();
    faults::black_hole(&mut stage, Step::Break).await?;
    edge.append(5..10).await?;
    eventually("a new connection is tried", async || {
        Ok(stage.proxy.taken() > before)
    })
    .await?;
    // The old connection never came back to life: what arrives went over another one.
    faults::black_hole(&mut stage, Step::Mend).await?;
    until_received(&stage.redis, 0..10).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_start_can_mend_is_named_too() -> Result<()> {
    let stage = Stage::start().await?;
    let cause = async |redis: RedisConfig| match redis.connect().await {
        Ok(_) => None,
        Err(error) => Some(error.cause()),
    };
    let nobody = Port::free()?;
    let refused = RedisConfig::at(format!("redis://127.0.0.1:{}/", nobody.number()));
    assert_eq!(cause(refused).await, Some(Cause::Refused));
    let unknown = RedisConfig::at("redis://no-such-host.invalid:6379/");
    assert_eq!(cause(unknown).await, Some(Cause::NoRoute));
    let missing = RedisConfig {
        cert: None,
        key: None,
        ..stage.config().redis
    };
    assert_eq!(cause(missing).await, Some(Cause::OursMissing));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_goes_on_being_sent_and_takes_again_what_is_settled() -> Result<()> {
    let stage = Stage::start().await?;
    let edge = Edge::open(8 << 20)?;
    let mut kept = 0;
    while edge.append_one(Lane::Normal, kept, 60_000).await.is_ok() {
        kept += 1;
        ensure!(kept < 1_000, "a spool of 8 MiB is full by now");
    }
    let edge = edge.launch(stage.config())?;
    until_received(&stage.redis, 0..kept).await?;
    let refused = edge.append_one(Lane::Normal, kept, 60_000).await;
    assert!(refused.is_err(), "in Redis is not in the database");
    tests::edge::settle(&stage.redis, &format!("1-{kept}")).await?;
    eventually("the floor makes room", async || {
        edge.append_one(Lane::Normal, kept, 60_000).await?;
        Ok(true)
    })
    .await?;
    until_received(&stage.redis, 0..kept + 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_neither_holds_back_nor_reorders() -> Result<()> {
    let stage = Stage::start().await?;
    let edge = Edge::open(1 << 28)?.launch(stage.config())?;
    edge.append_at(0, 0).await?;
    until_received(&stage.redis, 0..1).await?;
    // 1970, the year 2100, and back: what was received when is told, and nothing else asks for it.
    let clocks = [0, 4_102_444_800_000, 1_700_000_000_000, 1];
    for (clock_ms, number) in clocks.into_iter().cycle().zip(1..=80) {
        edge.append_at(clock_ms, number).await?;
    }
    until_received(&stage.redis, 0..81).await?;
    let arrived = in_order(&stage.redis).await?;
    assert!(arrived.is_sorted() && arrived.len() == 81, "{arrived:?}");
    Ok(())
}

#[test]
fn the_documentation_has_a_row_for_each_cause() {
    let page = include_str!("../../docs/gateway.md");
    let section = page.split("\n## Uplink\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|cells: &Vec<&str>| cells.len() == 5)
        .collect();
    let documented: Vec<_> = rows
        .iter()
        .map(|cells| (cells[0].trim_matches('`'), cells[1], cells[4]))
        .collect();
    let expected: Vec<_> = Cause::ALL
        .iter()
        .map(|cause| (cause.name(), cause.words(), cause.remedy()))
        .collect();
    assert_eq!(documented, expected);

    let tested: BTreeSet<_> = CASES.iter().map(|case| case.cause.name()).collect();
    let elsewhere: BTreeSet<_> = ELSEWHERE.iter().map(|(cause, _)| cause.name()).collect();
    for cause in Cause::ALL.iter().map(|cause| cause.name()) {
        assert!(
            tested.contains(cause) != elsewhere.contains(cause),
            "{cause} is tested here or elsewhere"
        );
    }
}
