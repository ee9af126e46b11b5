//! What a database that is there may still refuse: one record as data, or a whole batch as too much.
//!
//! The database is taught to refuse by a trigger, so the road runs as it is delivered.

use anyhow::{Result, ensure};
use codec::AvlCodec;
use codec::encode::{self, RecordSpec};
use sqlx::Executor as _;
use sqlx::postgres::PgPool;
use tests::fleet::Tracker;
use tests::processes::{Road, RoadOptions, get};
use tests::tables::{Tables, eventually};

const IMEI: u64 = 356_307_042_441_013;

/// A road whose database runs `teach` before the first record.
async fn road(teach: &'static str) -> Result<(Road, Tables, Tracker)> {
    let road = Road::start(RoadOptions::default()).await?;
    let admin = PgPool::connect(road.database_url()).await?;
    admin.execute(teach).await?;
    admin.close().await;
    let tables = Tables::connect(road.database_url()).await?;
    let mut tracker = Tracker::connect(road.gateway.tcp_addr(), IMEI).await?;
    ensure!(tracker.login().await?);
    Ok((road, tables, tracker))
}

/// Sends one frame for each speed while the cloud stands still, so that they share a batch.
async fn send(road: &mut Road, tracker: &mut Tracker, speeds: std::ops::Range<u16>) -> Result<()> {
    road.cloud.pause()?;
    for speed_kmh in speeds {
        let record = RecordSpec {
            timestamp_ms: 1_700_000_000_000 + u64::from(speed_kmh),
            satellites: 7,
            speed_kmh,
            ..RecordSpec::default()
        };
        let mut data = Vec::new();
        encode::avl_data(AvlCodec::Codec8, &[record], &mut data)?;
        ensure!(tracker.send_frame(&data).await? == 1);
    }
    eventually("all of it is in Redis", async || {
        let status = road.gateway.status().await?;
        Ok(status["uplink"]["records_sent"] == status["records_acked"])
    })
    .await?;
    road.cloud.resume()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_the_database_refuses_is_put_aside_and_its_neighbours_are_stored() -> Result<()>
{
    let (mut road, tables, mut tracker) =
        road("ALTER TABLE positions ADD CONSTRAINT superstitious CHECK (speed_kmh <> 13)").await?;
    send(&mut road, &mut tracker, 0..40).await?;
    tables
        .wait_for("SELECT count(*) FROM positions", 39)
        .await?;
    tables
        .wait_for("SELECT count(*) FROM dead_letters", 1)
        .await?;
    let letter: (String, Option<String>, i64) = tables
        .one("SELECT error_class, sqlstate, records FROM dead_letters")
        .await?;
    assert_eq!(letter, ("database".to_owned(), Some("23514".to_owned()), 1));
    let ledger: (i64, i64, i64) = tables
        .one("SELECT sum(received)::bigint, sum(stored)::bigint, sum(dead)::bigint FROM ledger")
        .await?;
    assert_eq!(ledger, (40, 39, 1));
    eventually("nothing is held up", async || {
        Ok(road.gateway.status().await?["spool"]["backlog"] == 0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_much_for_the_server_goes_in_parts() -> Result<()> {
    let (mut road, tables, mut tracker) = road(
        "CREATE FUNCTION too_much() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF (SELECT count(*) FROM fresh) > 12 THEN
                 RAISE EXCEPTION 'out of shared memory' USING ERRCODE = '53200';
             END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER too_much AFTER INSERT ON positions
             REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION too_much()",
    )
    .await?;
    send(&mut road, &mut tracker, 0..40).await?;
    eventually("it says that it is not ready", async || {
        let (code, why) = get(road.cloud.http_addr(), "/ready").await?;
        Ok(code == 503 && why.contains("refuses the batch"))
    })
    .await?;
    tables
        .wait_for("SELECT count(*) FROM positions", 40)
        .await?;
    eventually("it is ready again", async || {
        Ok(get(road.cloud.http_addr(), "/ready").await?.0 == 200)
    })
    .await?;
    let refused = road.cloud.status().await?["stats"]["errors"].as_u64();
    ensure!(
        refused >= Some(3),
        "the whole was refused first: {refused:?}"
    );
    tables
        .wait_for("SELECT count(*) FROM dead_letters", 0)
        .await
}
