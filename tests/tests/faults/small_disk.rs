//! The disk of the database is full.

use anyhow::{Result, ensure};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tests::drive::{Drive, options};
use tests::processes::RoadOptions;
use tests::servers::{Postgres, skipped};
use tests::tables::{Tables, eventually};

use super::{ends_well, log_bytes, logged};

const DISK_BYTES: usize = 64 << 20;

/// Fills what is left; returns when nothing is.
async fn fill(admin: &Tables) -> Result<()> {
    admin.run("CREATE TABLE filler (number bigint)").await?;
    for rows in [500_000, 20_000, 1_000] {
        let mut full = false;
        for _ in 0..20 {
            let insert = format!("INSERT INTO filler SELECT generate_series(1, {rows})");
            if let Err(error) = admin.run(&insert).await {
                ensure!(format!("{error:#}").contains("No space left"), "{error:#}");
                full = true;
                break;
            }
        }
        ensure!(full, "the disk is full by now");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_database_is_named_and_costs_no_record() -> Result<()> {
    let Some((postgres, place)) = Postgres::start_with_small_disk(DISK_BYTES).await? else {
        return skipped("a full disk: this user may not mount one with `unshare`");
    };
    let mut server = PgConnection::connect(&postgres.url("postgres")).await?;
    let create = format!("CREATE TABLESPACE small LOCATION '{}'", place.display());
    server.execute(sqlx::AssertSqlSafe(create)).await?;
    server
        .execute("CREATE DATABASE cramped TABLESPACE small")
        .await?;
    // Files of a new database have holes until their pages are written: on a disk that is full by
    // then even DROP TABLE would fail.
    server.execute("CHECKPOINT").await?;
    server.close().await?;
    let url = postgres.url("cramped");
    let drive = Drive::start(RoadOptions {
        database_url: Some(url.clone()),
        ..options()
    })
    .await?;
    let admin = Tables::connect(&url).await?;
    let cloud = &drive.road.cloud;
    let before = log_bytes(cloud)?;
    fill(&admin).await?;
    drive.acked(400).await?;
    logged(cloud, before, "SQLSTATE 53100").await?;
    logged(cloud, before, "No space left on device").await?;
    drive.acked(200).await?;
    eventually("it says that it is not ready", async || {
        Ok(tests::processes::get(cloud.http_addr(), "/ready").await?.0 == 503)
    })
    .await?;
    admin.run("DROP TABLE filler").await?;
    drive.stored(400).await?;
    ends_well(&drive).await
}
