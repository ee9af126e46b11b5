//! Every SQL query of the dashboards answers on the real tables, asked as whoever Grafana is.

use anyhow::{Context as _, Result, ensure};
use tests::fleet::{Fleet, FleetConfig};
use tests::processes::{Road, RoadOptions};
use tests::servers::Timescale;
use tests::tables::{Tables, eventually};

use serde_json::json;

use super::dashboards::queries;

/// What Grafana puts in the place of its macros and variables.
fn filled(sql: &str) -> Result<String> {
    let mut text = sql.replace("$device", "1");
    while let Some(at) = text.find("$__timeFilter(") {
        let begin = at + "$__timeFilter(".len();
        let end = begin + text[begin..].find(')').context("an end of $__timeFilter")?;
        let column = text[begin..end].to_owned();
        let span =
            format!("{column} BETWEEN now() - interval '1 day' AND now() + interval '1 hour'");
        text.replace_range(at..=end, &span);
    }
    ensure!(
        !text.contains('$'),
        "a macro that is not known here: {text}"
    );
    Ok(text)
}

/// Empty on a day on which nothing goes wrong.
const MAY_BE_EMPTY: [&str; 2] = ["positions_quarantine", "missing > 0"];

/// `reader`: asked by the role that Grafana's login is a member of.
async fn every_query_answers(road: &Road, reader: bool) -> Result<()> {
    let fleet = Fleet::start(FleetConfig {
        devices: 3,
        rate: "10".parse()?,
        ..road.fleet_config()
    })
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    eventually("positions of every device", async || {
        let (devices,): (i64,) = tables.one("SELECT count(*) FROM device_latest").await?;
        Ok(devices == 3)
    })
    .await?;
    fleet.stop_producing();
    if reader {
        road.cloud.call(&["roles", "apply"]).await?;
        tables.run("SET ROLE milepost_reader").await?;
    }
    for (place, sql) in queries()? {
        let rows = tables
            .rows(&filled(&sql)?)
            .await
            .with_context(|| place.clone())?;
        let may_be_empty = MAY_BE_EMPTY.iter().any(|part| sql.contains(part));
        ensure!(rows > 0 || may_be_empty, "{place} finds nothing:\n{sql}");
    }
    // The role is what keeps Grafana from the rest.
    ensure!(
        !reader || tables.rows("SELECT * FROM commands").await.is_err(),
        "a reader of dashboards reads commands"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_answers_a_reader_on_plain_postgresql() -> Result<()> {
    let mut road = Road::start(RoadOptions::default()).await?;
    every_query_answers(&road, true).await?;
    road.stop().await
}

/// As the owner: this server has one session, so a role would be the cloud's as well.
#[tokio::test(flavor = "multi_thread")]
async fn every_query_answers_on_timescaledb() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    let mut road = Road::start(RoadOptions {
        database_url: Some(timescale.url()),
        cloud: vec![
            ("database.pool", json!(1)),
            ("database.timescale", json!("require")),
        ],
        ..RoadOptions::default()
    })
    .await?;
    every_query_answers(&road, false).await?;
    road.stop().await
}
