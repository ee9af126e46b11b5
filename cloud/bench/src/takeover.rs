//! Two processors share a stream, one is killed: how long until the other has stored what it held.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::Scale;
use crate::print::progress;
use crate::product::Product;
use crate::stage::Stage;

/// Measures and prints.
/// # Errors
/// When a process does not start, or records do not arrive.
pub async fn run(stage: &Stage, scale: &Scale) -> Result<()> {
    let claim_after = format!("{}s", scale.claim_after.as_secs());
    println!("\ntakeover: one of two processors is killed, stream.claim_after {claim_after}");
    let url = stage.postgres.create_database().await?;
    let of = |consumer: &str| {
        [
            ("stream.consumer", consumer.into()),
            ("stream.claim_after", claim_after.as_str().into()),
        ]
    };
    let mut stays = Product::new(stage, "shared", &url, &of("stays")).await?;
    let mut goes = Product::new(stage, "shared", &url, &of("goes")).await?;
    let records = stays.fill(scale.turn_rows).await?;
    goes.cloud.resume()?;
    stays.cloud.resume()?;
    // In the middle of it, so that the other one holds entries for sure.
    let before = stays.wait(records / 4).await?;
    goes.cloud.kill9()?;
    let (killed_at, left) = (Instant::now(), records.saturating_sub(before));
    ensure!(left > 0, "nothing was left to take over");
    progress(&format!("takeover: killed with {left} records to go"));
    stays.wait(records).await?;
    println!(
        "the last record was stored {:.1} s after the kill -9",
        killed_at.elapsed().as_secs_f64()
    );
    stays.cloud.terminate().await?;
    Ok(())
}
