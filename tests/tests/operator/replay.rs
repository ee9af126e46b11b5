//! Replay: the same rows again, whatever became of them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cloud::store::{Writer, again};
use serde_json::Value;
use tests::batches::{Sent, SpoolOf, migrated};
use tests::servers::Timescale;
use tests::tables::{Tables, eventually};

use super::stage::{IMEI, NOON_MS, OTHER, RESPONSE, Said, Stage, raw, record};

/// Every row that a decoder makes, as text; without the moment at which it was stored, and without the
/// family, which housekeeping guesses when it comes to it.
async fn rows(stage: &Stage) -> Result<Vec<String>> {
    let rows: Vec<(String,)> = stage
        .tables
        .all(
            "SELECT 'position ' || (to_jsonb(p) - 'stored_at')::text FROM positions p \
             UNION ALL SELECT 'quarantine ' || (to_jsonb(q) - 'stored_at')::text FROM positions_quarantine q \
             UNION ALL SELECT 'message ' || (to_jsonb(m) - 'stored_at')::text FROM messages m \
             UNION ALL SELECT 'latest ' || to_jsonb(l)::text FROM device_latest l \
             UNION ALL SELECT 'settled ' || to_jsonb(s)::text FROM settled s \
             UNION ALL SELECT 'device ' || (to_jsonb(d) - array['family_guess', 'family_confidence', \
                 'family_guessed_at'])::text FROM devices d ORDER BY 1",
        )
        .await?;
    Ok(rows.into_iter().map(|(row,)| row).collect())
}

async fn replay(stage: &Stage, more: &[&str]) -> Result<Said> {
    let words = ["--json", "replay", "--from", "2026-09-01"];
    stage.ask(&[&words, more].concat()).await
}

/// Two trackers, records that come twice, one from the future, a message, what nobody can read.
async fn filled(stage: &mut Stage) -> Result<Vec<String>> {
    let mut spool = SpoolOf::new("depot", 1)?;
    let mut frames = Vec::new();
    for n in 0..40 {
        frames.push(record(if n % 2 == 0 { IMEI } else { OTHER }, n)?);
    }
    frames.push(Sent {
        received_at_ms: NOON_MS + 60_000,
        ..record(IMEI, 0)?
    });
    frames.push(Sent {
        received_at_ms: NOON_MS + 61_000,
        ..record(IMEI, 3_000_000_000)?
    });
    frames.push(raw(OTHER, 62, hex::decode(RESPONSE)?));
    frames.push(raw(OTHER, 63, vec![0x77, 1, 2, 3]));
    stage.send(&mut spool, &frames).await?;
    stage
        .tables
        .wait_for("SELECT count(*) FROM frames", 44)
        .await?;
    rows(stage).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_gives_back_the_same_rows_and_nothing_doubled() -> Result<()> {
    let mut stage = Stage::new().await?;
    let before = filled(&mut stage).await?;
    ensure!(
        before.iter().any(|row| row.starts_with("quarantine")),
        "{before:#?}"
    );
    let told = replay(&stage, &[]).await?.ended(0)?.json()?;
    ensure!(
        told["frames"] == 44 && told["records"] == 42 && told["known"] == 42,
        "{told}"
    );
    ensure!(told["in_dead_letters"] == 1, "{told}");
    assert_eq!(rows(&stage).await?, before);

    // Some are gone, some are wrong.
    stage
        .tables
        .run(
            "DELETE FROM positions WHERE external_voltage_mv % 7 = 0; \
             UPDATE positions SET speed_kmh = 250, ignition = NULL, io = '{\"1\": 2}' WHERE external_voltage_mv % 7 = 1; \
             UPDATE device_latest SET latitude = 0; DELETE FROM messages",
        )
        .await?;
    let spoilt = rows(&stage).await?;
    let told = replay(&stage, &["--dry-run"]).await?.ended(0)?.json()?;
    ensure!(told["dry_run"] == true && told["messages"] == 1, "{told}");
    ensure!(rows(&stage).await? == spoilt, "a dry run changed something");
    let again = replay(&stage, &[]).await?.ended(0)?.json()?;
    for count in ["stored", "corrected", "messages"] {
        ensure!(
            again[count] == told[count] && again[count] != 0,
            "{count}: {told} {again}"
        );
    }
    let after = rows(&stage).await?;
    // The latest positions are corrected with their rows; those whose row was right stay as they are.
    let but_latest = |rows: &[String]| -> Vec<String> {
        rows.iter()
            .filter(|row| !row.starts_with("latest"))
            .cloned()
            .collect()
    };
    ensure!(but_latest(&after) == but_latest(&before), "{after:#?}");

    // All are gone.
    stage
        .tables
        .run("TRUNCATE positions, positions_quarantine, messages, device_latest")
        .await?;
    replay(&stage, &[]).await?.ended(0)?;
    ensure!(
        rows(&stage).await? == before,
        "not the same rows: {:#?}",
        rows(&stage).await?
    );
    let told = replay(&stage, &[]).await?.ended(0)?.json()?;
    ensure!(
        told["stored"] == 0 && told["corrected"] == 0 && told["messages"] == 0,
        "{told}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_one_tracker_or_of_a_time_leaves_the_rest_alone() -> Result<()> {
    let mut stage = Stage::new().await?;
    filled(&mut stage).await?;
    stage.tables.run("TRUNCATE positions").await?;
    let imei = OTHER.to_string();
    replay(&stage, &["--imei", &imei]).await?.ended(0)?;
    let mine = "SELECT count(*) FROM positions p JOIN devices d ON d.id = p.device_id WHERE imei = 350000000000025";
    ensure!(stage.count("SELECT count(*) FROM positions").await? == 20);
    ensure!(stage.count(mine).await? == 20);
    stage.tables.run("TRUNCATE positions").await?;
    // From the tenth second to before the twentieth, by the gateway's clock.
    let (from, to) = ("2026-09-21T14:13:30.500Z", "2026-09-21T14:13:40.500Z");
    let said = stage
        .ask(&["replay", "--from", from, "--to", to])
        .await?
        .ended(0)?;
    said.has(&["10 frames with 10 records: 10 put back"])?;
    ensure!(stage.count("SELECT count(*) FROM positions").await? == 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replayed_is_said() -> Result<()> {
    let mut stage = Stage::new().await?;
    replay(&stage, &[])
        .await?
        .ended(1)?
        .has(&["nothing to replay", "frames.keep"])?;
    filled(&mut stage).await?;
    let said = stage
        .ask(&["replay", "--from", "2026-01-01"])
        .await?
        .ended(0)?;
    said.has(&[
        "note: the oldest frame kept was received at 2026-09-21T14:13:20.500Z",
        "frames.retention",
    ])?;
    let cases: [(&[&str], i32, &str); 5] = [
        (&["replay"], 2, "--from"),
        (
            &["replay", "--from", "yesterday"],
            2,
            "2026-11-22T08:00:00Z",
        ),
        (
            &["replay", "--from", "2026-09-02", "--to", "2026-09-01"],
            2,
            "before --to",
        ),
        (
            &["replay", "--from", "24h", "--imei", "35000000000001"],
            2,
            "15",
        ),
        (
            &["replay", "--from", "24h", "--imei", "350000000000071"],
            1,
            "did you mean 350000000000017?",
        ),
    ];
    for (words, code, part) in cases {
        stage.ask(words).await?.ended(code)?.has(&[part])?;
    }
    // A frame that was read once and is not now is no success.
    stage
        .tables
        .run("UPDATE frames SET data = '\\x0801' WHERE seq = 5")
        .await?;
    let said = replay(&stage, &[]).await?.ended(1)?;
    ensure!(
        said.json()?["unreadable"] == 1 && said.err.contains("position 5"),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_or_stopped_is_finished_by_the_next() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    for part in 0..24 {
        let frames = (part * 500..(part + 1) * 500).map(|n| record(IMEI, n));
        stage
            .send(&mut spool, &frames.collect::<Result<Vec<_>>>()?)
            .await?;
    }
    let count = "SELECT count(*) FROM positions";
    stage.tables.wait_for(count, 12_000).await?;
    let before = rows(&stage).await?;
    for signal in ["-KILL", "-TERM"] {
        stage
            .tables
            .run("TRUNCATE positions, device_latest")
            .await?;
        let mut command = stage.command(&["replay", "--from", "2026-09-01"])?;
        command
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let child = command.spawn()?;
        eventually("it is at work", async || Ok(stage.count(count).await? > 0)).await?;
        let pid = child.id().unwrap_or(0).to_string();
        tokio::process::Command::new("kill")
            .args([signal, &pid])
            .status()
            .await?;
        let output =
            tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await??;
        let left = stage.count(count).await?;
        ensure!(left < 12_000, "it was quicker than the signal: {left}");
        if signal == "-TERM" {
            let said = String::from_utf8(output.stderr)?;
            ensure!(
                output.status.code() == Some(1)
                    && said.contains("go on with `cloud replay --from 2026-09-21T"),
                "{said}"
            );
        }
        let told: Value = replay(&stage, &[]).await?.ended(0)?.json()?;
        // The server may have finished the page in hand after its client was gone.
        let (stored, known) = (told["stored"].as_i64(), told["known"].as_i64());
        let (stored, known) = stored.zip(known).context("numbers")?;
        ensure!(
            stored + known == 12_000 && known >= left && stored > 0,
            "{told}, {left} were there"
        );
        ensure!(rows(&stage).await? == before, "after {signal}");
    }
    Ok(())
}

/// Rows in the columnstore are compared as they lie there, and only the wrong ones are unpacked.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_rows_are_put_back_and_corrected_too() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    let url = timescale.url();
    let database = migrated(&url).await?;
    let frames: Vec<Sent> = (0..60).map(|n| record(IMEI, n)).collect::<Result<_>>()?;
    let batch = SpoolOf::new("depot", 1)?.batch(&frames)?;
    Writer::new(database.clone(), true).write(&batch, 1).await?;
    let tables = Tables::connect(&url).await?;
    let all = "SELECT (to_jsonb(p) - 'stored_at')::text FROM positions p ORDER BY fix_time";
    let before: Vec<(String,)> = tables.all(all).await?;
    tables
        .run(
            "DELETE FROM positions WHERE external_voltage_mv % 7 = 0; \
             UPDATE positions SET speed_kmh = 250 WHERE external_voltage_mv % 7 = 1; \
             ALTER TABLE positions SET (timescaledb.compress, timescaledb.compress_segmentby = 'device_id', timescaledb.compress_orderby = 'fix_time DESC, record_hash'); \
             SELECT compress_chunk(c) FROM show_chunks('positions') AS c",
        )
        .await?;
    let mut on = database.connect().await?;
    let done = again::transaction(&mut on, &batch.units, true, false).await?;
    ensure!(
        (done.stored, done.corrected, done.known) == (8, 8, 44),
        "{done:?}"
    );
    let after: Vec<(String,)> = tables.all(all).await?;
    ensure!(after == before, "{after:#?}");
    let once_more = again::transaction(&mut on, &batch.units, true, false).await?;
    ensure!(
        (once_more.stored, once_more.corrected) == (0, 0),
        "{once_more:?}"
    );
    let rows = before.first().context("there are rows")?;
    ensure!(rows.0.contains("12000"), "{rows:?}");
    Ok(())
}
