//! Dates at the ends of what counters hold, and one bad record among a thousand.

use anyhow::Result;
use cloud::store::{Tally, Writer};
use tests::batches::{Sent, SpoolOf, migrated};
use tests::servers::{Postgres, Timescale};
use tests::tables::Tables;

const IMEI: u64 = 350_000_000_000_001;

/// Seconds since 1970 UTC: the last one that 31 bits hold, the next; the end of 2099; the first that
/// 32 bits do not hold.
const FAR: [u64; 4] = [2_147_483_647, 2_147_483_648, 4_102_444_799, 4_294_967_296];

/// When a tracker and its gateway are both in that year, a record is as good as any.
async fn far_dates(url: &str) -> Result<()> {
    let database = migrated(url).await?;
    let mut writer = Writer::new(database, true);
    let mut spool = SpoolOf::new("depot", 1)?;
    for (number, at_s) in (1..).zip(FAR) {
        let at_ms = at_s * 1_000 + 123;
        let frame = Sent::record(IMEI, at_ms, at_ms + 500, &[])?;
        let written = writer.write(&spool.batch(&[frame])?, 1).await?;
        let expected = Tally {
            received: 1,
            stored: 1,
            ..Tally::default()
        };
        assert_eq!(written.tally(), expected, "number {number}");
    }
    // 1970, however late it is received: kept apart, with its time as sent.
    let odd: Vec<Sent> = [0, 1_000, 86_400_000]
        .into_iter()
        .map(|at_ms| Sent::record(IMEI, at_ms, 1_790_000_000_000, &[]))
        .collect::<Result<_>>()?;
    let written = writer.write(&spool.batch(&odd)?, 1).await?;
    let expected = Tally {
        received: 3,
        quarantined: 3,
        ..Tally::default()
    };
    assert_eq!(written.tally(), expected);
    let tables = Tables::connect(url).await?;
    let times: Vec<(i64, i64)> = tables
        .all("SELECT (extract(epoch FROM fix_time) * 1000)::bigint, (extract(epoch FROM received_at) * 1000)::bigint FROM positions ORDER BY 1")
        .await?;
    let wanted: Vec<(i64, i64)> = FAR
        .iter()
        .map(|at_s| {
            let at_ms = i64::try_from(at_s * 1_000 + 123).unwrap();
            (at_ms, at_ms + 500)
        })
        .collect();
    assert_eq!(times, wanted);
    let frames: (i64,) = tables.one("SELECT count(*) FROM frames").await?;
    assert_eq!(frames.0, 7);
    let latest: (i64,) = tables
        .one("SELECT (extract(epoch FROM fix_time) * 1000)::bigint FROM device_latest")
        .await?;
    assert_eq!(latest.0, wanted[3].0);
    let odd: Vec<(i64, String)> = tables
        .all("SELECT device_time_ms, reason FROM positions_quarantine ORDER BY 1")
        .await?;
    let odd: Vec<(i64, &str)> = odd.iter().map(|(ms, why)| (*ms, why.as_str())).collect();
    let reason = odd[0].1;
    assert_eq!(odd, [(0, reason), (1_000, reason), (86_400_000, reason)]);
    let by_hour: (i64,) = tables
        .one("SELECT sum(records)::bigint FROM positions_hourly")
        .await?;
    assert_eq!(by_hour.0, 4, "aggregates reach there as well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_of_1970_2038_2099_and_2106_are_kept_exactly_on_plain_postgresql() -> Result<()> {
    let postgres = Postgres::start().await?;
    far_dates(&postgres.create_database().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_of_1970_2038_2099_and_2106_are_kept_exactly_on_timescaledb() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    far_dates(&timescale.url()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_record_in_a_batch_of_a_thousand_is_one_dead_letter_and_999_rows() -> Result<()> {
    const FROM_MS: u64 = 1_790_000_000_000;
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let mut writer = Writer::new(migrated(&url).await?, true);
    let tables = Tables::connect(&url).await?;
    tables
        .run("ALTER TABLE positions ADD CONSTRAINT superstitious CHECK (extract(epoch FROM fix_time)::bigint <> 1790000613)")
        .await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    for (from, bad) in [(0, 1), (1_000, 0)] {
        let frames: Vec<Sent> = (from..from + 1_000)
            .map(|n| {
                let at_ms = FROM_MS + n * 1_000;
                Sent::record(IMEI + n % 7, at_ms, at_ms, &[])
            })
            .collect::<Result<_>>()?;
        let written = writer.write(&spool.batch(&frames)?, 1).await?;
        let expected = Tally {
            received: 1_000,
            stored: 1_000 - bad,
            dead: bad,
            ..Tally::default()
        };
        assert_eq!(written.tally(), expected);
    }
    let letter: (String, Option<String>, i64, i32, Vec<u8>) = tables
        .one("SELECT error_class, sqlstate, seq, record_index, bytes FROM dead_letters")
        .await?;
    let sent = Sent::record(IMEI + 613 % 7, FROM_MS + 613_000, 0, &[])?;
    // The data field without codec and counts.
    let bytes = sent.data[2..sent.data.len() - 1].to_vec();
    let expected = (
        "database".to_owned(),
        Some("23514".to_owned()),
        614,
        0,
        bytes,
    );
    assert_eq!(letter, expected);
    let rows: (i64, i64, i64) = tables
        .one("SELECT (SELECT count(*) FROM positions), (SELECT count(*) FROM frames), (SELECT max(last_seq) FROM settled)")
        .await?;
    assert_eq!(rows, (1_999, 2_000, 2_000));
    Ok(())
}
