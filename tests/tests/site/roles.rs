//! Who writes can do all of a processor's work and no more, who reads can read and nothing else.

use anyhow::Result;
use sqlx::{Connection as _, PgConnection};
use tests::fleet::Tracker;
use tests::processes::{Road, RoadOptions};
use tests::servers::Postgres;
use tests::tables::Tables;

use super::program::Office;

const IMEI: u64 = 356_307_042_441_013;

/// Settings for this database.
fn office(url: &str) -> Result<Office> {
    Office::new(&format!("[database]\nurl = \"{url}\""))
}

/// The same database as another login.
fn login(postgres: &Postgres, url: &str, user: &str) -> String {
    let name = url.rsplit('/').next().unwrap_or_default();
    format!(
        "postgres://{user}:secret@127.0.0.1:{}/{name}",
        postgres.port()
    )
}

async fn refused(on: &mut PgConnection, sql: &'static str) -> Option<String> {
    let error = sqlx::raw_sql(sql).execute(on).await.err()?;
    Some(error.as_database_error()?.code()?.into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_lives_on_the_writers_rights_and_a_reader_only_reads() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let owner = office(&url)?;
    owner.run(&["migrate", "up"])?.ok()?;
    let applied = owner.run(&["roles", "apply"])?.ok()?;
    assert!(
        applied.out.contains("milepost_reader is there"),
        "{}",
        applied.out
    );
    owner.run(&["roles", "apply", "--json"])?.ok()?;
    let tables = Tables::connect(&url).await?;
    tables
        .run(
            "CREATE ROLE cloud1 LOGIN PASSWORD 'secret' IN ROLE milepost_writer; \
             CREATE ROLE grafana LOGIN PASSWORD 'secret' IN ROLE milepost_reader",
        )
        .await?;

    // The whole road with it: records, a command, a dead letter is never needed.
    let writer = login(&postgres, &url, "cloud1");
    let mut road = Road::start(RoadOptions {
        database_url: Some(writer.clone()),
        ..RoadOptions::default()
    })
    .await?;
    let mut tracker = Tracker::connect(road.gateway.tcp_addr(), IMEI).await?;
    assert!(tracker.login().await?);
    let record = codec::encode::RecordSpec {
        timestamp_ms: 1_700_000_000_000,
        satellites: 7,
        ..codec::encode::RecordSpec::default()
    };
    let mut data = Vec::new();
    codec::encode::avl_data(codec::AvlCodec::Codec8, &[record], &mut data)?;
    assert_eq!(tracker.send_frame(&data).await?, 1);
    tables.wait_for("SELECT count(*) FROM positions", 1).await?;
    let sent = road
        .cloud
        .call(&["cmd", "send", &IMEI.to_string(), "getinfo"])
        .await?;
    let (_, text) = tracker.read_order().await?;
    assert_eq!(text, "getinfo", "{sent}");
    tables
        .wait_for("SELECT count(*) FROM commands WHERE status = 'sent'", 1)
        .await?;
    let status = road.cloud.status().await?;
    assert_eq!(status["stats"]["errors"], 0, "{status}");
    road.stop().await?;

    let mut on = PgConnection::connect(&writer).await?;
    for sql in [
        "CREATE TABLE mine (a integer)",
        "DROP TABLE positions",
        "TRUNCATE positions",
        "DELETE FROM _sqlx_migrations",
        "UPDATE io_dictionary_overrides SET name = 'x'",
        "DELETE FROM command_events",
        "CREATE ROLE another",
    ] {
        assert_eq!(
            refused(&mut on, sql).await.as_deref(),
            Some("42501"),
            "{sql}"
        );
    }
    on.close().await?;

    let mut on = PgConnection::connect(&login(&postgres, &url, "grafana")).await?;
    for sql in [
        "SELECT * FROM telemetry",
        "SELECT * FROM ledger",
        "SELECT * FROM positions_hourly",
        "SELECT * FROM device_daily",
        "SELECT m.* FROM positions p CROSS JOIN LATERAL measurements(p) AS m",
    ] {
        let rows = sqlx::query(sql).fetch_all(&mut on).await?;
        assert!(!rows.is_empty() || sql.contains("measurements"), "{sql}");
    }
    for sql in [
        "INSERT INTO devices (imei, first_seen, last_seen) VALUES (1, now(), now())",
        "UPDATE devices SET name = 'x'",
        "DELETE FROM positions",
        "SELECT * FROM commands",
        "SELECT * FROM frames",
        "SELECT * FROM dead_letters",
        "SELECT io_meanings_refresh()",
        "INSERT INTO commands (imei, payload) VALUES (356307042441013, 'cpureset')",
    ] {
        assert_eq!(
            refused(&mut on, sql).await.as_deref(),
            Some("42501"),
            "{sql}"
        );
    }
    on.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_make_roles_prints_the_statements_that_do() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let tables = Tables::connect(&url).await?;
    tables
        .run("CREATE ROLE plain LOGIN PASSWORD 'secret'; GRANT CREATE ON SCHEMA public TO plain")
        .await?;
    let plain = office(&login(&postgres, &url, "plain"))?;
    plain.run(&["migrate", "up"])?.ok()?;
    let shy = plain.run(&["roles", "apply"])?.with(1)?;
    assert!(shy.err.contains("administrator"), "{}", shy.err);
    let dry = plain.run(&["roles", "apply", "--dry-run"])?.ok()?;
    assert_eq!(shy.out, dry.out);
    tables
        .rows("SELECT FROM pg_roles WHERE rolname LIKE 'milepost_%'")
        .await
        .map(|rows| assert_eq!(rows, 0))?;
    // What it printed works, and again.
    tables.run(&shy.out).await?;
    tables.run(&shy.out).await?;
    tables
        .rows("SELECT FROM pg_roles WHERE rolname LIKE 'milepost_%'")
        .await
        .map(|rows| assert_eq!(rows, 2))?;
    let may: Vec<(bool, bool)> = tables
        .all("SELECT has_table_privilege('milepost_writer', 'positions', 'INSERT'), has_table_privilege('milepost_reader', 'positions', 'INSERT')")
        .await?;
    assert_eq!(may, [(true, false)]);
    Ok(())
}

/// A table that nobody thought of would be closed to the processor, or open to everybody.
#[tokio::test]
async fn every_relation_is_somebodys() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    office(&url)?.run(&["migrate", "up"])?.ok()?;
    let found: Vec<(String,)> = Tables::connect(&url)
        .await?
        .all("SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') ORDER BY relname COLLATE \"C\"")
        .await?;
    let found: Vec<&str> = found.iter().map(|(name,)| name.as_str()).collect();
    let mut known: Vec<&str> = cloud::store::roles::RELATIONS
        .iter()
        .map(|(name, _)| *name)
        .collect();
    known.sort_unstable();
    assert_eq!(found, known, "say in RELATIONS what it is");
    Ok(())
}
