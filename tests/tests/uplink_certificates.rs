//! New certificates while trackers are connected: nothing breaks, and files that do not work change
//! nothing.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use gateway::uplink::UplinkConfig;
use tests::edge::{self, EDGE, Edge, admin, in_order, replace, until_received};
use tests::servers::{Identity, Redis};
use tests::tables::eventually;

struct Files {
    cert: PathBuf,
    key: PathBuf,
    _dir: tempfile::TempDir,
}

impl Files {
    fn of(identity: &Identity) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let files = Self {
            cert: dir.path().join("our.crt"),
            key: dir.path().join("our.key"),
            _dir: dir,
        };
        files.become_those_of(identity)?;
        Ok(files)
    }

    fn become_those_of(&self, identity: &Identity) -> Result<()> {
        replace(&self.cert, &identity.cert)?;
        replace(&self.key, &identity.key)
    }

    fn used_by(&self, config: &mut UplinkConfig) {
        config.redis.cert = Some(self.cert.clone());
        config.redis.key = Some(self.key.clone());
        config.resend_after = Duration::from_secs(600);
    }
}

/// Connections of the edge that Redis has now.
async fn connections(redis: &Redis) -> Result<Vec<String>> {
    let mut admin = admin(redis).await?;
    let mut list = redis::cmd("CLIENT");
    let list: String = list.arg("LIST").query_async(&mut admin).await?;
    let user = format!(" user={EDGE} ");
    let of_edge = list.lines().filter(|line| line.contains(&user));
    let id = |line: &str| line.split(' ').next().map(str::to_owned);
    Ok(of_edge.filter_map(id).collect())
}

/// Failures, renewals, renewals that failed.
fn counts(edge: &Edge) -> [u64; 3] {
    edge.metrics.uplink_link.counts()
}

fn left_days(edge: &Edge) -> f64 {
    edge.status()["certificate_left_days"]
        .as_f64()
        .unwrap_or(f64::NAN)
}

/// Days from 1970 to the first of January of 2090 and 2091.
const DAYS_TO_2090: f64 = 43_830.0;
const DAYS_TO_2091: f64 = 44_195.0;

fn today() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() / 86_400.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_up_without_a_break() -> Result<()> {
    let redis = edge::redis(&[]).await?;
    let files = Files::of(&redis.pki().client_until(EDGE, 2090)?)?;
    let edge = Edge::start(&redis, |config| files.used_by(config))?;
    edge.append(0..1).await?;
    until_received(&redis, 0..1).await?;
    edge.append(1..20).await?;
    until_received(&redis, 0..20).await?;
    let days = left_days(&edge) + today()?;
    assert!((days - DAYS_TO_2090).abs() < 0.01, "{days}");
    let before = connections(&redis).await?;
    assert_eq!(before.len(), 1, "{before:?}");

    files.become_those_of(&redis.pki().client_until(EDGE, 2091)?)?;
    edge.reload.now();
    let mut sent = 20;
    eventually("it goes on with the new one", async || {
        edge.append(sent..sent + 1).await?; // trackers all the while
        sent += 1;
        Ok(counts(&edge) == [0, 1, 0])
    })
    .await?;
    edge.append(sent..sent + 20).await?;
    until_received(&redis, 0..sent + 20).await?;
    let arrived = in_order(&redis).await?;
    assert!(arrived.is_sorted(), "one after the other: {arrived:?}");
    assert_eq!(arrived.len() as u64, sent + 20, "nothing came twice");
    let days = left_days(&edge) + today()?;
    assert!((days - DAYS_TO_2091).abs() < 0.01, "{days}");
    eventually("the old connection is let go", async || {
        let now = connections(&redis).await?;
        Ok(now.len() == 1 && now != before)
    })
    .await?;
    assert_eq!(counts(&edge), [0, 1, 0], "no connection failed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_found_without_being_told() -> Result<()> {
    let redis = edge::redis(&[]).await?;
    let files = Files::of(redis.identity(EDGE))?;
    let edge = Edge::start(&redis, |config| {
        files.used_by(config);
        config.look_every = Duration::from_millis(50);
    })?;
    edge.append(0..5).await?;
    until_received(&redis, 0..5).await?;
    files.become_those_of(&redis.pki().client_until(EDGE, 2090)?)?;
    eventually("it goes on with the new one", async || {
        Ok(counts(&edge) == [0, 1, 0])
    })
    .await?;
    for number in 5..25 {
        edge.append(number..number + 1).await?;
        until_received(&redis, 0..number + 1).await?;
    }
    assert_eq!(counts(&edge), [0, 1, 0], "looked at often, changed once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_work_leave_the_old_connection_in_use() -> Result<()> {
    let redis = edge::redis(&[]).await?;
    let files = Files::of(redis.identity(EDGE))?;
    let edge = Edge::start(&redis, |config| files.used_by(config))?;
    edge.append(0..5).await?;
    until_received(&redis, 0..5).await?;
    let before = connections(&redis).await?;

    files.become_those_of(&redis.pki().foreign_client(EDGE)?)?;
    edge.reload.now();
    eventually("the files are found wanting", async || {
        let said = edge.status()["certificate_trouble"].to_string();
        Ok(said.contains("does not trust our certificate"))
    })
    .await?;
    edge.append(5..20).await?;
    until_received(&redis, 0..20).await?;
    assert_eq!(connections(&redis).await?, before);
    assert_eq!(counts(&edge), [0, 0, 1]);
    assert!(edge.status()["trouble"].is_null());

    files.become_those_of(&redis.pki().client_until(EDGE, 2090)?)?;
    edge.reload.now();
    eventually("the next files work", async || {
        Ok(counts(&edge) == [0, 1, 1])
    })
    .await?;
    assert!(edge.status()["certificate_trouble"].is_null());
    edge.append(20..30).await?;
    until_received(&redis, 0..30).await
}
