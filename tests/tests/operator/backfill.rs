//! Hex logs become rows, once.

use anyhow::{Result, ensure};

use super::stage::{RESPONSE, Stage, text};

/// Wiki "Codec", first examples of Codec 8 (whole frame) and of Codec 8 Extended (data field).
const CODEC8: &str = "000000000000003608010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E0000000000000000010000C7CF";
const CODEC8E: &str = "8E010000016B412CEE000100000000000000000000000000000000010005000100010100010011001D00010010015E2C880002000B000000003544C87A000E000000001DD7E06A000001";

const ROWS: &str = "SELECT (SELECT count(*) FROM positions) * 1000000 + (SELECT count(*) FROM messages) * 1000 \
                           + (SELECT count(*) FROM frames)";

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_stored_once_and_its_bad_lines_are_named() -> Result<()> {
    let stage = Stage::new().await?;
    let log = stage.path("capture.hex");
    let lines = [
        "# captured by hand".to_owned(),
        String::new(),
        format!("350000000000017 {CODEC8}"),
        format!("2019-06-10T12:00:00Z 350000000000017 {CODEC8E}   # bare"),
        format!("2019-06-10T12:00:01Z 350000000000025 {RESPONSE}"),
        format!("350000000000025 {RESPONSE}"),
        format!("350000000000017 {}", CODEC8.replace("C7CF", "C7CE")),
        "350000000000017 77010203".to_owned(),
        "35000000000001 0801".to_owned(),
        format!("350000000000025 {}", CODEC8.to_lowercase()),
    ];
    let mut bytes = lines.join("\n").into_bytes();
    bytes.extend(b"\n\xff\xfe no text\n");
    std::fs::write(&log, bytes)?;
    let log = text(&log)?;

    let told = stage
        .ask(&["--json", "backfill", "hexlog", log, "--dry-run"])
        .await?
        .ended(1)?
        .json()?;
    ensure!(
        told["stored"] == 3 && told["bad_lines"] == 5 && told["dry_run"] == true,
        "{told}"
    );
    ensure!(stage.count(ROWS).await? == 0, "a dry run changed something");

    let said = stage.ask(&["backfill", "hexlog", log]).await?.ended(1)?;
    let said = said.has(&[
        "4 frames with 3 records: 3 stored",
        "1 messages",
        "5 bad lines",
    ])?;
    for (line, why) in [
        (6, "when it was"),
        (7, "checksum"),
        (8, "codec"),
        (9, "no IMEI"),
        (11, "not text"),
    ] {
        let there = said
            .err
            .lines()
            .any(|l| l.contains(&format!("capture.hex:{line}: ")) && l.contains(why));
        ensure!(there, "{line}, {why}: {}", said.err);
    }
    ensure!(
        stage.count(ROWS).await? == 3_001_004,
        "{}",
        stage.count(ROWS).await?
    );
    let told = stage
        .ask(&["--json", "backfill", "hexlog", log])
        .await?
        .ended(1)?
        .json()?;
    ensure!(
        told["stored"] == 0 && told["known"] == 3 && told["messages"] == 0,
        "{told}"
    );
    ensure!(
        stage.count(ROWS).await? == 3_001_004,
        "running it again changed something"
    );
    // No gateway ever said it had these.
    ensure!(stage.count("SELECT count(*) FROM settled").await? == 0);
    stage.ask(&["ledger", "--since", "all"]).await?.ended(0)?;

    // Its raw frames are as good as others.
    stage.tables.run("TRUNCATE positions").await?;
    stage
        .ask(&["replay", "--from", "2019-01-01"])
        .await?
        .ended(0)?;
    ensure!(stage.count(ROWS).await? == 3_001_004);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_refused_before_anything_is_written() -> Result<()> {
    let stage = Stage::new().await?;
    let log = stage.path("good.hex");
    std::fs::write(&log, format!("350000000000017 {CODEC8}\n"))?;
    let (log, missing, dir) = (text(&log)?, stage.path("missing.hex"), stage.path("."));
    for bad in [text(&missing)?, text(&dir)?] {
        stage
            .ask(&["backfill", "hexlog", log, bad])
            .await?
            .ended(2)?
            .has(&["cannot read"])?;
    }
    stage.ask(&["backfill", "hexlog"]).await?.ended(2)?;
    ensure!(stage.count(ROWS).await? == 0);
    // A line without end is told and skipped, and what follows it is read.
    let long = format!("{}\n350000000000017 {CODEC8}", "0".repeat(3 << 20));
    std::fs::write(log, long)?;
    let said = stage.ask(&["backfill", "hexlog", log]).await?.ended(1)?;
    said.has(&["good.hex:1: the line is longer", "1 stored"])?;
    Ok(())
}
