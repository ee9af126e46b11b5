//! What becomes of readings as they grow old, where TimescaleDB does not drop whole chunks.

use std::time::Duration;

use anyhow::Result;
use cloud::config::PolicyConfig;
use cloud::store::retention::{self, Deleted};
use tests::batches::migrated;
use tests::servers::Postgres;
use tests::tables::Tables;

use super::site::ROWS;

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[tokio::test(flavor = "multi_thread")]
async fn old_readings_are_deleted_on_plain_postgresql() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let database = migrated(&url).await?;
    let tables = Tables::connect(&url).await?;
    tables
        .run(
            "INSERT INTO sensor_readings (\"timestamp\", device_id, sensor_type, value, entry_id) \
             SELECT now() - n * interval '1 day', 'd', 't', n, n::text FROM generate_series(1, 10) AS n",
        )
        .await?;
    let keep = |sensors_retention| PolicyConfig {
        chunk_interval: DAY,
        compress_after: None,
        retention: None,
        frames_retention: None,
        sensors_retention,
    };
    let deleted = retention::delete_some(&database, &keep(None)).await?;
    assert_eq!(deleted, Deleted::default());
    let deleted = retention::delete_some(&database, &keep(Some(DAY * 5 + DAY / 2))).await?;
    assert_eq!((deleted.readings, deleted.more), (5, false));
    tables.wait_for(ROWS, 5).await?;
    let oldest: (f64,) = tables.one("SELECT max(value) FROM sensor_readings").await?;
    assert_eq!(oldest.0, 5.0);
    Ok(())
}
