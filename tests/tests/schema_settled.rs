//! Few rows instead of many in `settled`: the same ranges, the same sums, beside writers at work.
#![allow(clippy::unwrap_used)]

use anyhow::{Result, ensure};
use cloud::store::{Database, Tally, Writer, compaction, edges};
use codec::encode::{IoSpec, IoValue};
use sqlx::{Connection as _, PgConnection};
use tests::batches::{Sent, SpoolOf, decoded, migrated, migrated_with_pool};
use tests::servers::{Postgres, Timescale};
use tests::tables::Tables;

const IMEI: u64 = 350_000_000_000_001;
const NOON_MS: u64 = 1_790_000_000_000;

fn frames(from: u64, count: u64) -> Vec<Sent> {
    let io = [IoSpec {
        id: 239,
        value: IoValue::U8(1),
    }];
    (from..from + count)
        .map(|n| Sent::record(IMEI, NOON_MS + n * 1_000, NOON_MS + n * 1_000, &io).unwrap())
        .collect()
}

/// What stands in the ledger, and every settled range as the floor tells it.
async fn told(database: &Database, tables: &Tables) -> Result<(Vec<(String, String)>, String)> {
    let ledger = tables
        .all("SELECT concat_ws(' ', gateway, spool_id), concat_ws(' ', hour, received, stored, quarantined, duplicate, dead, dropped) FROM ledger ORDER BY 1, 2")
        .await?;
    let edges = edges::settled(database).await?.edges;
    let mut ranges: Vec<String> = edges
        .values()
        .flatten()
        .map(|(spool, ranges)| format!("{spool} {ranges}"))
        .collect();
    ranges.sort();
    Ok((ledger, ranges.join("; ")))
}

async fn merging_changes_nothing_but_the_number_of_rows(url: &str) -> Result<()> {
    let database = migrated(url).await?;
    let mut writer = Writer::new(database.clone(), false);
    let (mut depot, mut yard) = (SpoolOf::new("depot", 1)?, SpoolOf::new("yard", 2)?);
    let mut again = None;
    for n in 0..12 {
        // Some of it known already, so that the sums differ from row to row.
        let entry = depot.entry(&frames(n * 3, 4))?;
        writer.write(&decoded(&entry)?, 1).await?;
        writer.write(&yard.batch(&frames(n, 2))?, 1).await?;
        again = Some(entry);
    }
    let tables = Tables::connect(url).await?;
    // Two hours ago, then the next hour, then now; and a hole in what is oldest.
    tables
        .run(
            "UPDATE settled SET settled_at = date_trunc('hour', now()) - interval '3 hours' + id * interval '1 second' WHERE id <= 12;
             UPDATE settled SET settled_at = date_trunc('hour', now()) - interval '2 hours' + id * interval '1 second' WHERE id BETWEEN 13 AND 18;
             DELETE FROM settled WHERE id = 5",
        )
        .await?;
    let before = told(&database, &tables).await?;
    // Of the oldest hour the depot in two parts and the yard; of the next hour both in one.
    ensure!(
        compaction::compact(&database).await? == 5,
        "a row for each part and hour"
    );
    assert_eq!(told(&database, &tables).await?, before);
    let rows: (i64,) = tables.one("SELECT count(*) FROM settled").await?;
    assert_eq!(rows.0, 5 + 6, "what is young stays as it is");
    assert_eq!(compaction::compact(&database).await?, 0, "once is enough");
    // What was settled stays settled, one by one and through the constraint.
    let again = decoded(&again.unwrap())?;
    assert_eq!(writer.write(&again, 1).await?.tally(), Tally::default());
    let overlap = tables
        .run("INSERT INTO settled SELECT (jsonb_populate_record(s, jsonb_build_object('id', 9999, 'last_seq', s.first_seq))).* FROM settled s LIMIT 1")
        .await;
    ensure!(overlap.is_err(), "a merged range excludes as well as many");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn merging_changes_nothing_but_the_number_of_rows_on_plain_postgresql() -> Result<()> {
    let postgres = Postgres::start().await?;
    merging_changes_nothing_but_the_number_of_rows(&postgres.create_database().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn merging_changes_nothing_but_the_number_of_rows_on_timescaledb() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    merging_changes_nothing_but_the_number_of_rows(&timescale.url()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_merging_side_by_side_settle_everything_once() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let database = migrated_with_pool(&url, 4).await?;
    let tables = Tables::connect(&url).await?;
    // Everything is history at once, so that merging has to do with what is being written.
    tables
        .run(
            "CREATE FUNCTION long_ago() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN NEW.settled_at := date_trunc(''hour'', now()) - interval ''5 hours''; RETURN NEW; END'; \
             CREATE TRIGGER long_ago BEFORE INSERT ON settled FOR EACH ROW EXECUTE FUNCTION long_ago()",
        )
        .await?;
    let mut entries = Vec::new();
    let mut spool = SpoolOf::new("depot", 1)?;
    for n in 0..60 {
        entries.push(spool.entry(&frames(n * 5, 5))?);
    }
    let mut tasks = Vec::new();
    // Two writers get every entry: each is settled by one of them.
    for number in 0..2 {
        let (database, entries) = (database.clone(), entries.clone());
        tasks.push(tokio::spawn(async move {
            let mut writer = Writer::new(database, false);
            for n in 0..entries.len() {
                let entry = &entries[if number == 0 {
                    n
                } else {
                    entries.len() - 1 - n
                }];
                while writer.write(&decoded(entry)?, 1).await.is_err() {}
            }
            anyhow::Ok(())
        }));
    }
    let mut merged = 0;
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        // A deadlock with a writer is nobody's fault and is tried again at the next turn.
        merged += compaction::compact(&database).await.unwrap_or(0);
    }
    for task in tasks {
        task.await??;
    }
    compaction::compact(&database).await?;
    ensure!(merged > 0, "merging had something to do meanwhile");
    let settled: (i64, i64, i64, i64, i64) = tables
        .one("SELECT count(*), min(first_seq), max(last_seq), sum(received)::bigint, sum(stored)::bigint FROM settled")
        .await?;
    assert_eq!(settled, (1, 1, 300, 300, 300));
    // Nobody else may merge meanwhile.
    let mut other = PgConnection::connect(&url).await?;
    sqlx::raw_sql("DROP TRIGGER long_ago ON settled; BEGIN; SELECT pg_advisory_xact_lock(hashtext('milepost.compaction'))")
        .execute(&mut other)
        .await?;
    assert_eq!(compaction::compact(&database).await?, 0);
    Ok(())
}
