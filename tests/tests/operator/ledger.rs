//! The ledger: balanced on a good day, and every way in which something may be gone is seen.

use anyhow::{Result, ensure};
use tests::batches::SpoolOf;
use tests::tables::eventually;

use super::stage::{IMEI, OTHER, Stage, raw, record};

const POSITIONS: &str = "SELECT count(*) FROM positions";

async fn filled(stage: &mut Stage) -> Result<SpoolOf> {
    let mut spool = SpoolOf::new("depot", 1)?;
    for part in 0..4 {
        let frames = [record(IMEI, part * 2)?, record(OTHER, part * 2 + 1)?];
        stage.send(&mut spool, &frames).await?;
        stage
            .tables
            .wait_for(POSITIONS, i64::try_from(part * 2 + 2)?)
            .await?;
    }
    let rest = [record(IMEI, 0)?, raw(IMEI, 9, vec![0x77, 3, 0, 0])];
    stage.send(&mut spool, &rest).await?;
    stage
        .tables
        .wait_for("SELECT count(*) FROM dead_letters", 1)
        .await?;
    Ok(spool)
}

#[tokio::test(flavor = "multi_thread")]
async fn received_is_what_became_of_it_and_what_is_on_its_way() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut spool = filled(&mut stage).await?;
    eventually("everything is acknowledged", async || {
        let told = stage.ask(&["--json", "ledger"]).await?.ended(0)?.json()?;
        Ok(told["in_flight"] == 0)
    })
    .await?;
    let said = stage.ask(&["ledger", "--since", "1h"]).await?.ended(0)?;
    said.has(&[
        "received 12 = stored 8 + quarantined 0 + duplicate 1 + dead letters 3 + dropped 0 + in flight 0",
        "nothing unaccounted",
    ])?;
    stage.cloud.kill9()?;
    for n in 20..30 {
        stage.send(&mut spool, &[record(IMEI, n)?]).await?;
    }
    let told = stage.ask(&["--json", "ledger"]).await?.ended(0)?.json()?;
    ensure!(
        told["in_flight"] == 10 && told["received"] == 12 && told["balanced"] == true,
        "{told}"
    );
    // Without Redis the tables are told all the same, and that one side is missing.
    stage.redis.kill9()?;
    let said = stage.ask(&["ledger"]).await?.ended(3)?;
    said.has(&["in flight ?", "stored 8", "not known"])?;
    stage
        .ask(&["ledger", "--since", "long"])
        .await?
        .ended(2)?
        .has(&["24h"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_told_with_exit_code_4() -> Result<()> {
    let mut stage = Stage::new().await?;
    filled(&mut stage).await?;
    let (device, all) = (
        ["ledger", "--device", "350000000000017", "--since", "all"],
        ["ledger"],
    );
    let said = stage.ask(&device).await?.ended(0)?;
    said.has(&[
        "6 frames, 8 records = stored 4",
        "duplicate 1 + dead letters 3",
        "nothing unaccounted",
    ])?;

    // Somebody deletes a row.
    stage
        .tables
        .run("DELETE FROM positions WHERE external_voltage_mv = 12002")
        .await?;
    let said = stage.ask(&device).await?.ended(4)?;
    said.has(&[
        "missing: record of 2026-09-21T14:13:22.000Z",
        "1 records have no row",
        "cloud replay",
    ])?;
    stage
        .ask(&["ledger", "--device", "350000000000025", "--since", "all"])
        .await?
        .ended(0)?;
    stage
        .ask(&["replay", "--from", "2026-09-01"])
        .await?
        .ended(0)?;
    stage.ask(&device).await?.ended(0)?;

    // Somebody deletes a dead letter.
    stage
        .tables
        .run("CREATE TABLE kept AS SELECT * FROM dead_letters; DELETE FROM dead_letters")
        .await?;
    let said = stage.ask(&all).await?.ended(4)?;
    said.has(&["gateway depot, spool 0000000000000001: 3 dead records have no dead letter"])?;
    stage
        .tables
        .run("INSERT INTO dead_letters OVERRIDING SYSTEM VALUE SELECT * FROM kept")
        .await?;
    stage.ask(&all).await?.ended(0)?;

    // A database that lost what its gateways forgot.
    stage
        .tables
        .run("DELETE FROM settled WHERE first_seq = 3; UPDATE spools SET low = 9")
        .await?;
    let said = stage.ask(&["--json", "ledger"]).await?.ended(4)?;
    ensure!(said.json()?["balanced"] == false, "{said:?}");
    said.has(&["2 positions were never settled"])?;

    // Somebody changes the sums, past the table's own rule.
    stage
        .tables
        .run("UPDATE spools SET low = 1; ALTER TABLE settled DROP CONSTRAINT settled_check1; UPDATE settled SET stored = 0 WHERE first_seq = 1")
        .await?;
    stage
        .ask(&all)
        .await?
        .ended(4)?
        .has(&["2 of the records received stand in no column"])?;
    Ok(())
}
