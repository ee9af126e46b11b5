//! A backlog into the database, as after an outage: how fast, with how much memory, and what a row
//! takes on the disk.

use anyhow::Result;

use crate::Scale;
use crate::print::{Should, mib, progress, ratio};
use crate::product::Product;
use crate::stage::Stage;

/// Most memory that the cloud should have resident.
const TARGET_MIB: f64 = 64.0;

/// Measures and prints.
/// # Errors
/// When a server does not start, or records do not arrive.
pub async fn run(stage: &Stage, scale: &Scale) -> Result<()> {
    println!("\ndrain: {} records that wait in the stream", scale.backlog);
    let url = stage.postgres.create_database().await?;
    let mut product = Product::new(stage, "drain", &url, &[]).await?;
    progress("drain: filling the stream");
    let records = product.fill(scale.backlog).await?;
    progress("drain: working it off");
    let turn = product.turn(records).await?;
    println!(
        "drained in {:.1} s: {:.0} rows/s; cloud {:.2} CPU µs/row, at most {:.1} MiB resident",
        records as f64 / turn.rate(),
        turn.rate(),
        turn.each_us(turn.cloud_cpu),
        mib(turn.resident_bytes),
    );
    ratio(
        "drain-resident-mib",
        mib(turn.resident_bytes),
        Should::StayBelow,
        TARGET_MIB,
    );
    let (table, key, frames, rows): (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT pg_table_size('positions'), pg_indexes_size('positions'), \
                pg_total_relation_size('frames'), count(*) FROM positions",
    )
    .fetch_one(&mut product.tables)
    .await?;
    let each = |bytes: i64| bytes as f64 / rows as f64;
    println!(
        "bytes per row: {:.0} in positions, {:.0} in its indexes, {:.0} in frames (25 records each)",
        each(table),
        each(key),
        each(frames),
    );
    Ok(())
}
