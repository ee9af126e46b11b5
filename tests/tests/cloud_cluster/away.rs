//! Masters that die.

use anyhow::{Context as _, Result, ensure};
use tests::processes::program_path;
use tests::servers::PROCESSOR;
use tests::tables::{Tables, eventually};

use super::stage::{cluster, drive, road, settled, shard, until_more, until_released};

/// A master that has a shard.
const VICTIM: usize = 1;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_over_from_a_killed_master_and_nothing_is_lost() -> Result<()> {
    let mut cluster = cluster().await?;
    let replica = cluster.add_replica(VICTIM).await?;
    let mut road = road(&cluster, &[]).await?;
    let tables = Tables::connect(road.database_url()).await?;
    let fleet = drive(&road).await?;
    until_more(&tables, 300).await?;
    let slot = cluster.slot(&shard(1)).await?;
    assert_eq!(cluster.owner(slot).await?, VICTIM);
    cluster.kill9(VICTIM)?;
    eventually("the replica took over", async || {
        Ok(cluster.owner(slot).await? == replica)
    })
    .await?;
    until_more(&tables, 500).await?;
    settled(&mut road, &fleet, 0).await?;
    until_released(&cluster).await?;
    eventually("every reader has its stream again", async || {
        Ok(road.cloud.status().await?["redis"] == "connected")
    })
    .await?;
    road.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_away_is_named_and_its_file_brings_everything_back() -> Result<()> {
    let mut cluster = cluster().await?;
    let mut road = road(&cluster, &[]).await?;
    let tables = Tables::connect(road.database_url()).await?;
    let fleet = drive(&road).await?;
    until_more(&tables, 300).await?;
    cluster.kill9(VICTIM)?;
    eventually("the log says what it is and what to do", async || {
        let log = std::fs::read_to_string(road.cloud.log())?;
        Ok(log.contains("part of the cluster is down; bring the missing masters back"))
    })
    .await
    .with_context(|| road.cloud.last_words())?;
    eventually("it is not ready", async || {
        Ok(road.cloud.status().await?["redis"] == "disconnected")
    })
    .await?;
    cluster.restart(VICTIM).await?;
    until_more(&tables, 300).await?;
    settled(&mut road, &fleet, 0).await?;
    until_released(&cluster).await?;
    eventually("it is ready again", async || {
        Ok(road.cloud.status().await?["redis"] == "connected")
    })
    .await?;
    road.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_known_by_itself_and_a_wrong_setting_is_named() -> Result<()> {
    let cluster = cluster().await?;
    let access = cluster.access();
    let identity = access.identity(PROCESSOR);
    let lag = |url: String, cluster: &str| -> Result<(bool, String)> {
        let ran = std::process::Command::new(program_path("cloud")?)
            .args(["lag", "--json"])
            .env_clear()
            .env("CLOUD__REDIS__URL", url)
            .env("CLOUD__REDIS__CLUSTER", cluster)
            .env("CLOUD__REDIS__CERT", &identity.cert)
            .env("CLOUD__REDIS__KEY", &identity.key)
            .env("CLOUD__REDIS__CA", access.ca())
            .env(
                "CLOUD__STREAM__NAMES",
                "telemetry:a,telemetry:b,telemetry:c,telemetry:d",
            )
            .output()?;
        let said = [ran.stdout, ran.stderr].concat();
        Ok((ran.status.success(), String::from_utf8(said)?))
    };
    let one = access.url(PROCESSOR);
    let gone = one.replace(&format!(":{}/", access.port()), ":1/");
    let several = format!("{gone},{one}");
    for (url, setting) in [(&one, "auto"), (&one, "true"), (&several, "auto")] {
        let (good, said) = lag(url.clone(), setting)?;
        ensure!(
            good && said.matches("\"lag_entries\"").count() == 4,
            "{setting}: {said}"
        );
    }
    let (good, said) = lag(one, "false")?;
    ensure!(!good && said.contains("redis.cluster = true"), "{said}");
    ensure!(
        !said.contains(access.url(PROCESSOR).as_str()),
        "its password: {said}"
    );
    let (good, said) = lag(several, "false")?;
    ensure!(!good && said.contains("redis.cluster"), "{said}");
    Ok(())
}
