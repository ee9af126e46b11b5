//! A stream is emptied into a file and put back, and nothing is lost or doubled on the way.

use anyhow::{Result, ensure};
use contract::keys::STREAM_TELTONIKA;
use redis::AsyncCommands as _;
use redis::streams::StreamRangeReply;
use tests::batches::SpoolOf;
use tests::items::pending;
use tests::tables::eventually;

use super::stage::{IMEI, Stage, record, text, xadd};

const POSITIONS: &str = "SELECT count(*) FROM positions";

async fn items(stage: &mut Stage) -> Result<StreamRangeReply> {
    Ok(stage.admin.xrange_all(STREAM_TELTONIKA).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_is_in_a_file_and_comes_back_byte_by_byte() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    stage.send(&mut spool, &[record(IMEI, 0)?]).await?;
    stage.tables.wait_for(POSITIONS, 1).await?;
    // What was stored and not acknowledged is still pending for whoever comes next.
    eventually("it is acknowledged", async || {
        Ok(pending(&mut stage.admin, STREAM_TELTONIKA).await? == 0)
    })
    .await?;
    stage.cloud.kill9()?;
    let mut sent = Vec::new();
    for n in 1..=120 {
        let entry = spool.entry(&[record(IMEI, n)?])?;
        stage.xadd(&entry).await?;
        sent.push(entry);
    }
    let _: () = stage.admin.set("no-stream", "x").await?;
    let file = stage.path("purged.ndjson");
    let file = text(&file)?.to_owned();
    let purge = ["queue", "purge", STREAM_TELTONIKA];
    let with = |more: &[&'static str]| [&purge[..], more].concat();
    stage
        .ask(&with(&[]))
        .await?
        .ended(2)?
        .has(&["--yes", "121 items"])?;
    stage
        .ask(&with(&["--yes"]))
        .await?
        .ended(2)?
        .has(&["--export"])?;
    let said = stage.ask(&with(&["--dry-run"])).await?.ended(0)?;
    said.has(&[
        "121 items",
        "120 items with 120 records are unread or pending",
        "send it again",
        "nothing was removed",
    ])?;
    std::fs::write(&file, "mine")?;
    stage
        .ask(&[&purge[..], &["--yes", "--export", &file]].concat())
        .await?
        .ended(2)?;
    ensure!(
        items(&mut stage).await?.ids.len() == 121,
        "a refusal removed something"
    );
    std::fs::remove_file(&file)?;

    // Somebody holds some of them.
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP")
        .arg("processor")
        .arg("other-0")
        .arg("COUNT")
        .arg(3);
    read.arg("STREAMS").arg(STREAM_TELTONIKA).arg(">");
    let _: redis::Value = read.query_async(&mut stage.admin).await?;
    let said = stage
        .ask(&[&["--json"], &purge[..], &["--yes", "--export", &file]].concat())
        .await?
        .ended(0)?;
    let told = said.json()?;
    ensure!(
        told["removed"] == 121 && told["gateways"][0]["unsettled_records"] == 120,
        "{told}"
    );
    ensure!(items(&mut stage).await?.ids.is_empty());
    ensure!(
        pending(&mut stage.admin, STREAM_TELTONIKA).await? == 0,
        "removed items are still held"
    );
    ensure!(std::fs::read_to_string(&file)?.lines().count() == 121);

    stage
        .ask(&["queue", "import", &file, "--dry-run"])
        .await?
        .ended(0)?
        .has(&["121 items would be"])?;
    ensure!(
        items(&mut stage).await?.ids.is_empty(),
        "a dry run put something back"
    );
    stage
        .ask(&["queue", "import", &file])
        .await?
        .ended(0)?
        .has(&["121 items put back into telemetry:teltonika"])?;
    let back = items(&mut stage).await?;
    for (item, entry) in back.ids.iter().skip(1).zip(&sent) {
        for (name, value) in entry {
            let found: Option<Vec<u8>> = item.get(std::str::from_utf8(name)?);
            ensure!(
                found.as_ref() == Some(value),
                "{}",
                String::from_utf8_lossy(name)
            );
        }
        ensure!(item.map.len() == entry.len());
    }
    // A second time by mistake.
    stage.ask(&["queue", "import", &file]).await?.ended(0)?;
    stage.cloud.restart().await?;
    stage.tables.wait_for(POSITIONS, 121).await?;
    stage
        .tables
        .wait_for("SELECT sum(received)::int8 FROM settled", 121)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_streams_and_bad_files_are_refused_and_named() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    stage.send(&mut spool, &[record(IMEI, 0)?]).await?;
    stage.tables.wait_for(POSITIONS, 1).await?;
    let outbound = "commands:outbound:depot";
    xadd(
        &mut stage.admin,
        outbound,
        &[(b"v".to_vec(), b"1".to_vec())],
    )
    .await?;
    let said = stage.ask(&["queue", "ls"]).await?.ended(0)?;
    said.has(&[
        STREAM_TELTONIKA,
        "processor",
        outbound,
        "commands:responses",
    ])?;
    let said = stage.ask(&["--json", "queue", "ls"]).await?.ended(0)?;
    let line = said
        .out
        .lines()
        .find(|l| l.contains(STREAM_TELTONIKA))
        .unwrap_or_default();
    let line: serde_json::Value = serde_json::from_str(line)?;
    ensure!(
        line["entries"] == 1 && line["groups"][0]["unread_entries"] == 0,
        "{line}"
    );

    let said = stage
        .ask(&["queue", "purge", outbound, "--yes", "--export", "x"])
        .await?;
    said.ended(2)?
        .has(&["orders to trackers", "cloud cmd cancel"])?;
    stage
        .ask(&["queue", "purge", "telemetry:nothing", "--dry-run"])
        .await?
        .ended(1)?
        .has(&["cloud queue ls"])?;
    let file = stage.path("bad.ndjson");
    let name = text(&file)?;
    stage
        .ask(&["queue", "import", name])
        .await?
        .ended(2)?
        .has(&["cannot read"])?;
    let good = r#"{"stream":"telemetry:teltonika","id":"5-1","fields":[["v","31"]]}"#;
    let order = good.replace("telemetry:teltonika", outbound);
    for (lines, code, why) in [
        (format!("{good}\n\nnonsense"), 1, "bad.ndjson:3: not JSON"),
        (format!("{good}\n{order}"), 2, "could be said twice"),
    ] {
        std::fs::write(&file, lines)?;
        stage
            .ask(&["queue", "import", name])
            .await?
            .ended(code)?
            .has(&[why])?;
    }
    let length: u64 = stage.admin.xlen(STREAM_TELTONIKA).await?;
    ensure!(length == 1, "half a file was put back");
    Ok(())
}
