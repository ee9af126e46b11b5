//! Dead letters: shown, read again, given up; and the ledger balances at every step.

use anyhow::{Context as _, Result, ensure};
use contract::Entry;
use serde_json::Value;
use tests::batches::SpoolOf;

use super::stage::{IMEI, Stage, raw, record, text};

const LETTERS: &str = "SELECT count(*) FROM dead_letters";
const POSITIONS: &str = "SELECT count(*) FROM positions";

/// What a codec nobody knows looks like: two records, says its count.
fn unknown() -> Vec<u8> {
    vec![0x77, 2, 1, 2, 3, 4, 5, 6, 7, 2]
}

async fn id_of(stage: &Stage, class: &'static str) -> Result<String> {
    let ls = stage
        .ask(&["--json", "dlq", "ls", "--class", class])
        .await?
        .ended(0)?;
    let id = ls.json()?["id"].as_i64().context("a number")?;
    Ok(id.to_string())
}

async fn balanced(stage: &Stage) -> Result<Value> {
    let said = stage.ask(&["--json", "ledger", "--since", "all"]).await?;
    said.ended(0)?.json()
}

/// The bytes become what an older decoder could not read and today's can.
async fn understood(stage: &Stage, class: &str, data: &[u8]) -> Result<()> {
    let data = hex::encode(data);
    let sql = format!(
        "UPDATE frames f SET data = '\\x{data}' FROM dead_letters l WHERE l.error_class = '{class}' \
             AND f.spool_id = l.spool_id AND f.seq = l.seq; \
         UPDATE dead_letters SET bytes = '\\x{data}' WHERE error_class = '{class}'"
    );
    stage.tables.run(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_read_today_becomes_rows_once() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    let frames = [record(IMEI, 0)?, raw(IMEI, 1, unknown()), record(IMEI, 2)?];
    stage.send(&mut spool, &frames).await?;
    stage.tables.wait_for(LETTERS, 1).await?;
    stage.tables.wait_for(POSITIONS, 2).await?;
    stage
        .tables
        .run("INSERT INTO dead_letters (gateway, entry_id, error_class, reason, records, bytes) \
              VALUES ('depot', 'commands:responses 5-1', 'command-response', 'no command of ours', 0, '{}')")
        .await?;
    let id = id_of(&stage, "codec").await?;

    // As long as nobody can read it, it stays, and says so.
    let said = stage.ask(&["dlq", "show", &id]).await?.ended(0)?;
    said.has(&[
        "redrive would succeed: no",
        "^^ it stopped here",
        "350000000000017",
        "position 2",
        "dictionary",
    ])?;
    let said = stage.ask(&["dlq", "redrive", "--all"]).await?.ended(1)?;
    said.has(&["stays", "passed by", "command-response", "0 redriven"])?;
    ensure!(stage.count(LETTERS).await? == 2);
    let ledger = balanced(&stage).await?;
    ensure!(ledger["dead"] == 2 && ledger["stored"] == 2, "{ledger}");

    understood(&stage, "codec", &record(IMEI, 1)?.data).await?;
    let said = stage.ask(&["--json", "dlq", "show", &id]).await?.ended(0)?;
    ensure!(said.json()?["redrive_would_succeed"] == true, "{said:?}");
    let said = stage
        .ask(&["dlq", "redrive", &id, "--dry-run"])
        .await?
        .ended(0)?;
    said.has(&["1 would be redriven (1 stored)"])?;
    ensure!(
        (stage.count(LETTERS).await?, stage.count(POSITIONS).await?) == (2, 2),
        "a dry run changes nothing"
    );

    let said = stage
        .ask(&["--json", "dlq", "redrive", "--all", "--class", "codec"])
        .await?
        .ended(0)?;
    let told = said.json()?;
    ensure!(told["redriven"] == 1 && told["stored"] == 1, "{told}");
    ensure!((stage.count(LETTERS).await?, stage.count(POSITIONS).await?) == (1, 3));
    // Two records by the count of the frame, one in truth: the ledger has the truth.
    let ledger = balanced(&stage).await?;
    ensure!(
        ledger["received"] == 3 && ledger["stored"] == 3 && ledger["dead"] == 0,
        "{ledger}"
    );

    let said = stage.ask(&["dlq", "redrive", &id]).await?.ended(0)?;
    said.has(&["not there"])?;
    ensure!(stage.count(POSITIONS).await? == 3);
    stage
        .ask(&["dlq", "show", &id])
        .await?
        .ended(1)?
        .has(&["there is no dead letter"])?;
    stage
        .ask(&["dlq", "redrive"])
        .await?
        .ended(2)?
        .has(&["--all"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_database_refused_comes_alone_and_only_when_it_is_taken() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage
        .tables
        .run("ALTER TABLE positions ADD CONSTRAINT picky CHECK (external_voltage_mv <> 12001)")
        .await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    let frames = [record(IMEI, 0)?, record(IMEI, 1)?, record(IMEI, 2)?];
    stage.send(&mut spool, &frames).await?;
    stage.tables.wait_for(LETTERS, 1).await?;
    stage.tables.wait_for(POSITIONS, 2).await?;
    let id = id_of(&stage, "database").await?;
    let show = stage.ask(&["dlq", "show", &id]).await?.ended(0)?;
    show.has(&[
        "23514",
        "record 0",
        "redrive would succeed: yes",
        "asks it again",
    ])?;
    // The decoder reads it, the database still says no: it stays as it was.
    stage
        .ask(&["dlq", "redrive", &id])
        .await?
        .ended(1)?
        .has(&["stays", "picky"])?;
    ensure!((stage.count(LETTERS).await?, stage.count(POSITIONS).await?) == (1, 2));
    stage
        .tables
        .run("ALTER TABLE positions DROP CONSTRAINT picky")
        .await?;
    stage.ask(&["dlq", "redrive", &id]).await?.ended(0)?;
    ensure!((stage.count(LETTERS).await?, stage.count(POSITIONS).await?) == (0, 3));
    let ledger = balanced(&stage).await?;
    ensure!(ledger["stored"] == 3 && ledger["dead"] == 0, "{ledger}");
    Ok(())
}

/// Names and values of an entry.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// The payload of an entry of these frames, and the entry with another payload.
fn spoilt(fields: &Fields) -> Result<(Vec<u8>, Fields)> {
    let names = fields
        .iter()
        .map(|(name, value)| Ok((std::str::from_utf8(name)?, value.as_slice())));
    let names = names.collect::<Result<Vec<_>>>()?;
    let entry = Entry::from_fields(names)?;
    let mut spoilt = fields.to_vec();
    let data = spoilt
        .iter_mut()
        .find(|(name, _)| name == b"d")
        .context("a payload")?;
    data.1 = b"?!".to_vec();
    Ok((entry.data, spoilt))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_and_an_entry_that_nobody_could_open_are_read_when_they_can_be() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    stage.send(&mut spool, &[record(IMEI, 0)?]).await?;
    let entry = spool.entry(&[record(IMEI, 1)?, record(IMEI, 2)?])?;
    let (payload, spoilt) = spoilt(&entry)?;
    stage.xadd(&spoilt).await?;
    let whole = spool.entry(&[record(IMEI, 3)?])?;
    let (low, rest): (Vec<_>, Vec<_>) = whole.into_iter().partition(|(name, _)| name == b"low");
    stage.xadd(&rest).await?;
    stage.tables.wait_for(LETTERS, 2).await?;
    stage.tables.wait_for(POSITIONS, 1).await?;
    let ledger = balanced(&stage).await?;
    ensure!(ledger["dead"] == 2 && ledger["stored"] == 1, "{ledger}");
    let entries = stage
        .ask(&["--json", "dlq", "ls", "--stream", "telemetry:teltonika"])
        .await?
        .ended(0)?;
    ensure!(
        entries.out.lines().count() == 1 && entries.json()?["error_class"] == "entry",
        "{entries:?}"
    );

    // The missing field is written down behind the others.
    let length = |bytes: &[u8]| (bytes.len() as u32).to_be_bytes().to_vec();
    let (name, value) = &low[0];
    let more = [length(name), name.clone(), length(value), value.clone()].concat();
    let (payload, more) = (hex::encode(payload), hex::encode(more));
    stage
        .tables
        .run(&format!(
            "UPDATE dead_letters SET bytes = '\\x{payload}' WHERE error_class = 'payload'; \
             UPDATE dead_letters SET bytes = bytes || '\\x{more}' WHERE error_class = 'entry'"
        ))
        .await?;
    stage
        .ask(&["dlq", "redrive", "--all"])
        .await?
        .ended(0)?
        .has(&["2 redriven (3 stored)"])?;
    ensure!((stage.count(LETTERS).await?, stage.count(POSITIONS).await?) == (0, 4));
    let ledger = balanced(&stage).await?;
    // What came in an entry without a place was never counted as received.
    ensure!(ledger["received"] == 3 && ledger["stored"] == 3, "{ledger}");
    // Its gateway sends it again, since nothing settled it: known by then.
    stage.xadd(&[low, rest].concat()).await?;
    stage
        .tables
        .wait_for("SELECT coalesce(sum(duplicate), 0)::int8 FROM settled", 1)
        .await?;
    ensure!(stage.count(POSITIONS).await? == 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_in_a_file_first_and_told_in_the_ledger() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    stage
        .send(&mut spool, &[record(IMEI, 0)?, raw(IMEI, 1, unknown())])
        .await?;
    stage.tables.wait_for(LETTERS, 1).await?;
    let id = id_of(&stage, "codec").await?;
    let file = stage.path("letters.ndjson");
    let file = text(&file)?;
    stage
        .ask(&["dlq", "drop", &id])
        .await?
        .ended(2)?
        .has(&["--yes", "--dry-run"])?;
    stage
        .ask(&["dlq", "drop", &id, "--yes"])
        .await?
        .ended(2)?
        .has(&["--export"])?;
    stage
        .ask(&["dlq", "drop", "--all", "--dry-run"])
        .await?
        .ended(0)?
        .has(&["would go", "2 records"])?;
    std::fs::write(file, "mine")?;
    let said = stage
        .ask(&["dlq", "drop", &id, "--yes", "--export", file])
        .await?;
    said.ended(2)?
        .has(&["nothing was removed", "letters.ndjson"])?;
    ensure!(std::fs::read_to_string(file)? == "mine" && stage.count(LETTERS).await? == 1);
    std::fs::remove_file(file)?;

    let said = stage
        .ask(&["dlq", "drop", "--all", "--yes", "--export", file])
        .await?;
    said.ended(0)?.has(&["1 dropped, 2 records"])?;
    let line: Value = serde_json::from_str(std::fs::read_to_string(file)?.trim())?;
    ensure!(
        line["bytes_hex"] == hex::encode(unknown()) && line["error_class"] == "codec",
        "{line}"
    );
    ensure!(
        line["device_id"] == "350000000000017" && line["records"] == 2,
        "{line}"
    );
    ensure!(stage.count(LETTERS).await? == 0);
    let ledger = balanced(&stage).await?;
    ensure!(
        ledger["dropped"] == 2 && ledger["dead"] == 0 && ledger["received"] == 3,
        "{ledger}"
    );
    stage
        .ask(&["dlq", "ls"])
        .await?
        .ended(0)?
        .has(&["0 of 0 dead letters"])?;
    Ok(())
}
