//! The whole road into a TimescaleDB hypertable.
//!
//! The server is PGlite with TimescaleDB. It has one session, so the cloud writes through a pool of
//! one and the test looks through the same door.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::fleet::{Fleet, FleetConfig};
use tests::processes::{Road, RoadOptions};
use tests::servers::Timescale;
use tests::tables::Tables;

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_drives_into_a_hypertable() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    let options = RoadOptions {
        database_url: Some(timescale.url()),
        cloud: vec![
            ("database.pool", Value::from(1)),
            ("database.timescale", Value::from("require")),
        ],
        ..RoadOptions::default()
    };
    let road = Road::start(options).await?;
    let config = FleetConfig {
        devices: 5,
        rate: "10".parse()?,
        ..road.fleet_config()
    };
    let fleet = Fleet::start(config).await?;
    let tables = Tables::connect(road.database_url()).await?;
    tests::tables::eventually("rows arrive", async || {
        Ok(tables
            .one::<(i64,)>("SELECT count(*) FROM positions")
            .await?
            .0
            >= 200)
    })
    .await?;
    fleet.stop_producing();
    ensure!(
        fleet.drain(Duration::from_secs(30)).await,
        "every tracker is ACKed"
    );
    let ledger = road
        .settled_ledger(&fleet.truth(), Duration::from_secs(60), |_| {})
        .await?;
    ensure!(
        ledger.is_clean() && ledger.stored == ledger.acked && ledger.stored >= 200,
        "{ledger}"
    );
    let hypertables: Vec<(String, i64)> = tables
        .all("SELECT hypertable_name::text, num_chunks::bigint FROM timescaledb_information.hypertables ORDER BY 1")
        .await?;
    ensure!(
        hypertables
            .iter()
            .any(|(name, chunks)| name == "positions" && *chunks > 0),
        "{hypertables:?}"
    );
    Ok(())
}
