//! The road on servers that somebody else started: it uses them, and it leaves them alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::fleet::{Fleet, FleetConfig};
use tests::processes::{Road, RoadOptions};
use tests::servers::{Postgres, Redis, RedisAccess, RedisOptions};
use tests::tables::{Tables, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_drives_through_servers_that_were_there_before_and_stay() -> Result<()> {
    let redis = Redis::start(RedisOptions {
        gateways: vec!["abroad".to_owned()],
        ..RedisOptions::default()
    })
    .await?;
    let postgres = Postgres::start().await?;
    let options = RoadOptions {
        gateway_id: "abroad".to_owned(),
        redis: Some(RedisAccess::clone(&redis)),
        database_url: Some(postgres.create_database().await?),
        ..RoadOptions::default()
    };
    let mut road = Road::start(options).await?;
    ensure!(
        road.redis.is_none() && road.postgres.is_none(),
        "nothing was started in their place"
    );
    let config = FleetConfig {
        devices: 5,
        rate: "10".parse()?,
        ..road.fleet_config()
    };
    let fleet = Fleet::start(config).await?;
    let tables = Tables::connect(road.database_url()).await?;
    let rows = async || {
        let (rows,) = tables
            .one::<(i64,)>("SELECT count(*) FROM positions")
            .await?;
        anyhow::Ok(rows)
    };
    eventually("rows arrive", async || Ok(rows().await? >= 200)).await?;
    fleet.stop_producing();
    ensure!(
        fleet.drain(Duration::from_secs(30)).await,
        "every tracker is ACKed"
    );
    let ledger = road
        .settled_ledger(&fleet.truth(), Duration::from_secs(60), |_| {})
        .await?;
    ensure!(ledger.is_clean() && ledger.stored >= 200, "{ledger}");

    road.stop().await?;
    drop(road);
    redis.ping().await?;
    ensure!(rows().await? >= 200, "the rows are still there");
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_the_redis_does_not_know_is_told_at_once() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let options = RoadOptions {
        gateway_id: "stranger".to_owned(),
        redis: Some(RedisAccess::clone(&redis)),
        database_url: Some("postgres://127.0.0.1:1/nowhere".to_owned()),
        ..RoadOptions::default()
    };
    let refused = Road::start(options).await.err().map(|e| format!("{e:#}"));
    ensure!(
        refused.as_deref() == Some("the Redis to use knows no gateway stranger"),
        "{refused:?}"
    );
    Ok(())
}
