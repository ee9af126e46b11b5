//! The same history in every order, cut and delivered in any way, gives the same tables.
//!
//! What is left out of the comparison tells of the order itself: surrogate keys, the database's
//! clock, how often something was delivered, and through which of two gateways a record came first
//! (`received_at`, and which spool's ledger calls it a duplicate).

use anyhow::{Context as _, Result, ensure};
use cloud::batch::{Batch, EntryId};
use cloud::store::{Database, Writer};
use codec::AvlCodec;
use codec::encode::{self, RecordSpec};
use contract::keys::STREAM_TELTONIKA;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tests::batches::{Sent, SpoolOf, migrated_with_pool};
use tests::items::gap;
use tests::servers::Postgres;
use tests::tables::Tables;

const IMEI: u64 = 350_000_000_000_001;
const NOON_MS: u64 = 1_790_000_000_000;
const CASES: u32 = 24;

/// Names and values of one item.
type Item = Vec<(Vec<u8>, Vec<u8>)>;

fn sent(device: u64, received_at_ms: u64, records: &[RecordSpec<'_>]) -> Result<Sent> {
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8E, records, &mut data)?;
    Ok(Sent {
        imei: IMEI + device,
        received_at_ms,
        data,
    })
}

fn record(at_ms: u64, speed_kmh: u16, satellites: u8) -> RecordSpec<'static> {
    RecordSpec {
        timestamp_ms: at_ms,
        latitude_e7: 546_870_123,
        longitude_e7: 252_797_000,
        speed_kmh,
        satellites,
        ..RecordSpec::default()
    }
}

/// Three openings of two spools, four devices, everything that can become of a frame.
fn history() -> Result<Vec<Item>> {
    let mut spools = [
        SpoolOf::new("depot", 1)?,
        SpoolOf::new("depot", 2)?,
        SpoolOf::new("yard", 3)?,
    ];
    let mut message = Vec::new();
    encode::command(b"getver", &mut message)?;
    let message = message[8..message.len() - 4].to_vec();
    let mut items = Vec::new();
    for n in 0..10 {
        let (device, at_ms) = (n % 4, NOON_MS + n * 1_000);
        let two = [record(at_ms, 1, 9), record(at_ms, 2, 9)];
        let mut frames = vec![
            // Two of one instant, one of them again in the same frame, one without a fix.
            sent(device, at_ms, &[two[0], two[1], two[0]])?,
            sent(device, at_ms + 10, &[record(at_ms + 500, 3, 0)])?,
            // What cannot be true, and what cannot be read.
            sent(device, at_ms + 20, &[record(n, 4, 9)])?,
            Sent {
                imei: IMEI + device,
                received_at_ms: at_ms + 30,
                data: vec![0x42, 3, u8::try_from(n)?, 2, 3],
            },
            Sent {
                imei: IMEI + device,
                received_at_ms: at_ms + 40,
                data: message.clone(),
            },
        ];
        let spool = &mut spools[usize::try_from(n % 3)?];
        let here = spool.entry(&frames)?;
        items.push(here);
        // The tracker heard no ACK and says it again, elsewhere and a little later.
        frames.truncate(2);
        for frame in &mut frames {
            frame.received_at_ms += 5_000;
        }
        items.push(spools[usize::try_from((n + 1) % 3)?].entry(&frames)?);
    }
    let bytes = |(name, value): (&str, Vec<u8>)| (name.as_bytes().to_vec(), value);
    items.push(gap(9, 4..=8, 11)?.into_iter().map(bytes).collect());
    Ok(items)
}

/// One way of being delivered.
#[derive(Debug, Clone)]
struct Way {
    /// Numbers of items; some come twice.
    order: Vec<usize>,
    items_in_batch: usize,
    writers: usize,
}

impl Way {
    /// Batches for each writer.
    fn deliver(&self, history: &[Item]) -> Result<Vec<Vec<Batch>>> {
        let mut dealt = vec![Vec::new(); self.writers];
        for (number, items) in self.order.chunks(self.items_in_batch).enumerate() {
            let mut batch = Batch::default();
            for &item in items {
                let id = EntryId {
                    stream: STREAM_TELTONIKA.into(),
                    id: format!("0-{}", item + 1).parse()?,
                };
                let decoded = cloud::decode::entry(&id, &history[item])?;
                batch.add(id, decoded, 0);
            }
            dealt[number % self.writers].push(batch);
        }
        Ok(dealt)
    }
}

/// Everything the tables say that does not depend on the order.
async fn said(tables: &Tables) -> Result<Vec<(String,)>> {
    tables
        .all(
            "SELECT concat('position ', imei, ' ', to_jsonb(p) - '{device_id,received_at,stored_at}'::text[]) \
                 FROM positions p JOIN devices d ON d.id = p.device_id \
             UNION ALL SELECT concat('odd ', imei, ' ', to_jsonb(p) - '{device_id,received_at,stored_at}'::text[]) \
                 FROM positions_quarantine p JOIN devices d ON d.id = p.device_id \
             UNION ALL SELECT concat('latest ', imei, ' ', to_jsonb(p) - '{device_id,received_at}'::text[]) \
                 FROM device_latest p JOIN devices d ON d.id = p.device_id \
             UNION ALL SELECT concat('device ', imei, ' ', first_seen, ' ', last_seen) FROM devices \
             UNION ALL SELECT concat('frame ', imei, ' ', to_jsonb(p) - '{device_id}'::text[]) \
                 FROM frames p JOIN devices d ON d.id = p.device_id \
             UNION ALL SELECT concat('message ', imei, ' ', to_jsonb(p) - '{device_id,stored_at}'::text[]) \
                 FROM messages p JOIN devices d ON d.id = p.device_id \
             UNION ALL SELECT concat('letter ', imei, ' ', to_jsonb(p) - '{id,device_id,delivery_count,first_failed,last_failed}'::text[]) \
                 FROM dead_letters p LEFT JOIN devices d ON d.id = p.device_id \
             UNION ALL SELECT concat('spool ', spool_id, ' ', gateway, ' ', low) FROM spools \
             UNION ALL SELECT concat('settled ', gateway, ' ', spool_id, ' ', range_agg(int8range(first_seq, last_seq, '[]')), ' ', \
                     sum(received), ' ', sum(dead), ' ', sum(dropped)) FROM settled GROUP BY gateway, spool_id \
             UNION ALL SELECT concat('ledger ', sum(received), ' ', sum(stored), ' ', sum(quarantined), ' ', sum(duplicate), ' ', \
                     sum(dead), ' ', sum(dropped)) FROM settled \
             ORDER BY 1",
        )
        .await
}

async fn write(mut writer: Writer, batches: Vec<Batch>) -> Result<()> {
    for batch in batches {
        let mut attempts = 0;
        // Two that meet at one position: one of them is told to try again.
        while let Err(error) = writer.write(&batch, 1).await {
            attempts += 1;
            ensure!(attempts < 100, "{error}");
        }
    }
    Ok(())
}

async fn play(
    way: &Way,
    history: &[Item],
    database: &Database,
    tables: &Tables,
) -> Result<Vec<(String,)>> {
    tables
        .run("TRUNCATE positions, positions_quarantine, device_latest, devices, frames, messages, dead_letters, spools, settled RESTART IDENTITY")
        .await?;
    let mut writing = Vec::new();
    for batches in way.deliver(history)? {
        let writer = Writer::new(database.clone(), true);
        writing.push(tokio::spawn(write(writer, batches)));
    }
    for writer in writing {
        writer.await??;
    }
    said(tables).await
}

#[test]
fn the_same_history_in_every_order_gives_the_same_tables() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let history = history()?;
    let (_postgres, database, tables) = runtime.block_on(async {
        let postgres = Postgres::start().await?;
        let url = postgres.create_database().await?;
        let database = migrated_with_pool(&url, 3).await?;
        anyhow::Ok((postgres, database, Tables::connect(&url).await?))
    })?;
    // As it happened, all in one.
    let as_it_was = Way {
        order: (0..history.len()).collect(),
        items_in_batch: history.len(),
        writers: 1,
    };
    let expected = runtime.block_on(play(&as_it_was, &history, &database, &tables))?;
    let kinds = [
        "position ",
        "odd ",
        "latest ",
        "message ",
        "letter ",
        "frame ",
    ];
    for kind in kinds {
        let some = expected.iter().any(|(line,)| line.starts_with(kind));
        ensure!(some, "no {kind}in {expected:?}");
    }
    let count = history.len();
    let again = proptest::collection::vec(0..count, 0..count / 2);
    let order = again.prop_flat_map(move |again| {
        let all: Vec<usize> = (0..count).chain(again).collect();
        Just(all).prop_shuffle()
    });
    let ways = (order, 1usize..6, 1usize..3).prop_map(|(order, items_in_batch, writers)| Way {
        order,
        items_in_batch,
        writers,
    });
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        max_shrink_iters: 8,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&ways, |way| {
        let said = runtime
            .block_on(play(&way, &history, &database, &tables))
            .map_err(|error| TestCaseError::fail(format!("{way:?}: {error:#}")))?;
        // Whoever sees it fail sees the way: it is all one needs to play it again.
        let missing = expected.iter().find(|line| !said.contains(line));
        let more = said.iter().find(|line| !expected.contains(line));
        prop_assert!(
            said == expected,
            "{:?}: missing {:?}, instead {:?}",
            way,
            missing,
            more
        );
        Ok(())
    });
    outcome
        .map_err(|failure| anyhow::anyhow!("{failure}"))
        .context("an order matters")
}
