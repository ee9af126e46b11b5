//! What people ask of the tables: names, signs, scales and families, the ledger, and every query of
//! docs/schema.md; on plain PostgreSQL and on TimescaleDB.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use chrono::Utc;
use cloud::normalise::dictionary::{self, CSV};
use cloud::normalise::family::Documented;
use cloud::store::{Writer, families, migrate};
use codec::encode::{IoSpec, IoValue};
use tests::batches::{Sent, SpoolOf, migrated};
use tests::servers::{Postgres, Timescale};
use tests::tables::Tables;

const IMEI: u64 = 356_307_042_441_013;

fn io(id: u16, value: IoValue<'static>) -> IoSpec<'static> {
    IoSpec { id, value }
}

/// Devices 1 and 2 send the same elements; 2 is of another family. Newest last, a minute between.
async fn drive(url: &str) -> Result<()> {
    let now_ms = u64::try_from(Utc::now().timestamp_millis())?;
    let records: [Vec<IoSpec<'_>>; 4] = [
        vec![
            io(239, IoValue::U8(1)),
            io(240, IoValue::U8(0)),
            io(21, IoValue::U8(4)),
            io(66, IoValue::U16(12_345)),
            io(67, IoValue::U16(4_001)),
            io(16, IoValue::U32(100_000)),
            io(216, IoValue::U32(777_000)),
            io(72, IoValue::U16(0xFF9C)),      // -10.0 °C in two bytes
            io(73, IoValue::U32(0xFFFF_FFF6)), // -1.0 °C in four
            io(74, IoValue::U16(3_000)),       // no sensor
            io(75, IoValue::U16(850)),         // not ready; 85.0 °C reads the same
            io(9, IoValue::U16(1_000)),
            io(78, IoValue::U64(0xE100_0012_3456_7801)),
            io(256, IoValue::Bytes(b"WVWZZZ1JZXW000001")),
            io(331, IoValue::Bytes(&[0xAB, 0])),
            io(200, IoValue::U8(2)),
            io(60_000, IoValue::U64(u64::MAX)),
            io(80, IoValue::U8(1)),
            io(80, IoValue::U8(3)),
        ],
        vec![
            io(256, IoValue::Bytes(&[0xFF, 0xFE])),
            io(72, IoValue::U32(215)),
        ],
        vec![io(239, IoValue::U8(0)), io(16, IoValue::U32(100_900))],
        vec![
            io(239, IoValue::U8(1)),
            io(16, IoValue::U32(101_500)),
            io(78, IoValue::U64(0)),
        ],
    ];
    let mut frames = Vec::new();
    for (io, minutes) in records.iter().zip([4, 3, 2, 1]) {
        for imei in [IMEI, IMEI + 1] {
            let at_ms = now_ms - minutes * 60_000;
            frames.push(Sent::record(imei, at_ms, at_ms + 900, io)?);
        }
    }
    let mut writer = Writer::new(migrated(url).await?, true);
    writer
        .write(&SpoolOf::new("depot", 1)?.batch(&frames)?, 1)
        .await?;
    Ok(())
}

/// What a sensor said a while ago.
async fn say(tables: &Tables) -> Result<()> {
    tables
        .run(
            "INSERT INTO sensor_readings (\"timestamp\", device_id, sensor_type, value, metadata, entry_id) \
             SELECT now() - n * interval '1 minute', 'room-1', 'temperature', 20 + n, '{\"unit\": \"celsius\"}', \
                    'mqtt_stream:room-1:temperature ' || n || '-0' \
             FROM generate_series(1, 5) AS n",
        )
        .await
}

/// Where a phone was a while ago.
async fn post(tables: &Tables) -> Result<()> {
    tables
        .run(
            "WITH phone AS (INSERT INTO devices (ident, vendor, first_seen, last_seen) \
                 VALUES ('van-7', 'http', now(), now()) RETURNING id) \
             INSERT INTO positions (device_id, fix_time, record_hash, received_at, latitude, longitude, \
                 event_io_id, valid, io) \
             SELECT id, now() - interval '1 minute', 1, now(), 54.6872, 25.2797, 0, true, \
                 '{\"accuracy_m\": 4.5, \"battery\": 0.83}' FROM phone",
        )
        .await
}

/// Name, value, unit and text of everything in the first record of a device.
async fn values(tables: &Tables, device: i32) -> Result<Vec<(String, String, String, String)>> {
    let sql = format!(
        "SELECT m.name, coalesce(trim_scale(m.value)::text, '-'), coalesce(m.unit, ''), coalesce(m.text, '-') \
         FROM (SELECT * FROM positions WHERE device_id = {device} ORDER BY fix_time LIMIT 1) AS first \
         CROSS JOIN LATERAL measurements(first::positions) AS m ORDER BY m.io_id, m.value"
    );
    tables.all(Box::leak(sql.into_boxed_str())).await
}

fn has(values: &[(String, String, String, String)], wanted: [&str; 4]) {
    let [name, value, unit, text] = wanted.map(str::to_owned);
    let row = (name, value, unit, text);
    assert!(values.contains(&row), "{row:?} not in {values:#?}");
}

async fn names_signs_scales_and_families(url: &str) -> Result<()> {
    drive(url).await?;
    let tables = Tables::connect(url).await?;
    let common = values(&tables, 1).await?;
    assert_eq!(common.len(), 19, "{common:#?}");
    has(&common, ["ignition", "1", "", "on"]);
    has(&common, ["external_voltage", "12.345", "V", "-"]);
    has(&common, ["total_odometer", "100000", "m", "-"]);
    has(&common, ["dallas_temperature_1", "-10", "°C", "-"]);
    has(&common, ["dallas_temperature_2", "-1", "°C", "-"]);
    has(
        &common,
        ["dallas_temperature_3", "-", "°C", "not_connected"],
    );
    has(&common, ["dallas_temperature_4", "-", "°C", "not_ready"]);
    has(&common, ["ibutton", "-", "", "e100001234567801"]);
    has(&common, ["vin", "-", "", "WVWZZZ1JZXW000001"]);
    has(&common, ["io_60000", "18446744073709551615", "", "-"]);
    has(&common, ["sleep_mode", "2", "", "deep_sleep"]);
    let twice: Vec<_> = common.iter().filter(|row| row.0 == "data_mode").collect();
    assert_eq!(twice.len(), 2, "an id that came twice is two rows");

    // The other family, for the same bytes; a person sets it, and history reads otherwise.
    tables
        .run("UPDATE devices SET family = 'fmx6' WHERE id = 2")
        .await?;
    let other = values(&tables, 2).await?;
    has(&other, ["can_total_mileage_counted", "100000", "m", "-"]);
    has(&other, ["total_odometer", "777000", "m", "-"]);
    has(&other, ["sleep_mode", "2", "", "gps_sleep"]);
    let odometers: Vec<(i32, i64)> = tables
        .all("SELECT device_id, odometer_m::bigint FROM telemetry WHERE gsm_signal = 4 ORDER BY 1")
        .await?;
    assert_eq!(odometers, [(1, 100_000), (2, 777_000)]);

    // Garbled text stays hexadecimal and ends no query; what was not sent is null.
    let odd: (String, Option<String>, i64) = tables
        .one(
            "SELECT io_text(p, 'vin'), io_text(p, 'ignition'), (io(p, 'dallas_temperature_1') * 10)::bigint \
             FROM positions p WHERE device_id = 1 ORDER BY fix_time OFFSET 1 LIMIT 1",
        )
        .await?;
    assert_eq!(odd, ("fffe".to_owned(), None, 215));
    Ok(())
}

async fn overrides_count_at_once_and_survive(url: &str) -> Result<()> {
    drive(url).await?;
    let tables = Tables::connect(url).await?;
    tables
        .run(
            "INSERT INTO io_dictionary_overrides (family, io_id, name, multiplier, unit) \
             VALUES ('*', 9, 'fuel_level', 0.012, 'l'), ('*', 60000, 'mine', 2, NULL), ('*', 16, 'common_16', NULL, NULL);
             INSERT INTO io_dictionary_overrides (family, io_id, unit) VALUES ('fmx6', 16, 'yd');
             UPDATE devices SET family = 'fmx6' WHERE id = 2",
        )
        .await?;
    let common = values(&tables, 1).await?;
    has(&common, ["fuel_level", "12", "l", "-"]);
    has(&common, ["mine", "36893488147419103230", "", "-"]);
    has(&common, ["common_16", "100000", "m", "-"]);
    // A family with a meaning of its own keeps it, with its own override.
    let other = values(&tables, 2).await?;
    has(&other, ["can_total_mileage_counted", "100000", "yd", "-"]);
    has(&other, ["fuel_level", "12", "l", "-"]);

    // Another dictionary replaces ours and leaves alone what people wrote.
    tables.run("UPDATE io_dictionary_version SET content_hash = 'older'; DELETE FROM io_dictionary WHERE io_id = 66").await?;
    let database = migrated(url).await?;
    let (rows, meanings, hash): (i64, i64, String) = tables
        .one("SELECT (SELECT count(*) FROM io_dictionary), (SELECT count(*) FROM io_meanings), content_hash FROM io_dictionary_version")
        .await?;
    assert_eq!(
        (rows, meanings, hash),
        (3_369, 10 * 2_425, cloud::store::dictionary::content_hash())
    );
    has(&values(&tables, 1).await?, ["fuel_level", "12", "l", "-"]);
    // Once more changes nothing, not even the time.
    let loaded = "SELECT loaded_at::text, xmin::text FROM io_dictionary_version";
    let before: (String, String) = tables.one(loaded).await?;
    migrate::up(&database, &mut database.connect().await?).await?;
    assert_eq!(tables.one::<(String, String)>(loaded).await?, before);
    // Taking an override back takes it back.
    tables.run("DELETE FROM io_dictionary_overrides").await?;
    has(
        &values(&tables, 1).await?,
        ["analog_input_1", "1", "V", "-"],
    );
    Ok(())
}

async fn a_guess_never_touches_what_a_person_set(url: &str) -> Result<()> {
    let mut io: Vec<IoSpec<'_>> = [239, 240, 21, 299, 300, 301, 302, 303]
        .map(|id| io(id, IoValue::U8(1)))
        .into();
    let at_ms = u64::try_from(Utc::now().timestamp_millis())? - 60_000;
    let mut frames = vec![
        Sent::record(IMEI, at_ms, at_ms, &io)?,
        Sent::record(IMEI + 1, at_ms, at_ms, &io)?,
    ];
    io.truncate(3);
    frames.push(Sent::record(IMEI + 2, at_ms, at_ms, &io)?);
    let database = migrated(url).await?;
    let mut writer = Writer::new(database.clone(), false);
    writer
        .write(&SpoolOf::new("depot", 1)?.batch(&frames)?, 1)
        .await?;
    let tables = Tables::connect(url).await?;
    tables
        .run("UPDATE devices SET family = 'tat' WHERE id = 2")
        .await?;
    let documented = Documented::new(&dictionary::read(CSV)?);
    assert_eq!(families::guess_some(&database, &documented).await?, 2);
    let seen: Vec<(i32, Option<String>, Option<String>, String)> = tables
        .all("SELECT id, family, family_guess, device_family(id) FROM devices ORDER BY id")
        .await?;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        seen,
        [
            (1, None, text("fmx6"), "fmx6".to_owned()),
            (2, text("tat"), None, "tat".to_owned()),
            (3, None, None, "*".to_owned()),
        ]
    );
    assert_eq!(
        families::guess_some(&database, &documented).await?,
        0,
        "once a day"
    );
    // A family that nobody knows is read as the common one.
    tables
        .run("UPDATE devices SET family = 'FMB 920' WHERE id = 1")
        .await?;
    assert_eq!(
        tables.one::<(String,)>("SELECT device_family(1)").await?.0,
        "*"
    );
    Ok(())
}

/// The fenced sql of a page, and the line each begins on.
fn queries(page: &str) -> Vec<(usize, String)> {
    let mut queries = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (line, number) in page.lines().zip(1..) {
        match (&mut open, line) {
            (None, "```sql") => open = Some((number + 1, String::new())),
            (Some(_), "```") => queries.extend(open.take()),
            (Some((_, sql)), line) => {
                sql.push_str(line);
                sql.push('\n');
            }
            (None, _) => {}
        }
    }
    queries
}

async fn every_query_of_the_page_answers(url: &str) -> Result<()> {
    drive(url).await?;
    let tables = Tables::connect(url).await?;
    say(&tables).await?;
    post(&tables).await?;
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema.md"))?;
    let queries = queries(&page);
    ensure!(queries.len() >= 12, "only {} queries found", queries.len());
    for (line, sql) in &queries {
        let place = format!("docs/schema.md:{line}");
        let rows = tables.rows(sql).await.with_context(|| place.clone())?;
        let fills = !sql.starts_with("UPDATE") && !sql.starts_with("INSERT");
        let may_be_empty = ["dead_letters", "positions_quarantine"];
        if fills && !may_be_empty.iter().any(|table| sql.contains(table)) {
            ensure!(rows > 0, "{place} finds nothing");
        }
    }
    let unbalanced: (i64, i64) = tables
        .one("SELECT count(*), count(*) FILTER (WHERE received <> stored + quarantined + duplicate + dead + dropped) FROM ledger")
        .await?;
    assert_eq!(unbalanced, (1, 0));
    Ok(())
}

macro_rules! on_both {
    ($($test:ident as $plain:ident, $timescale:ident;)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $plain() -> Result<()> {
            let postgres = Postgres::start().await?;
            $test(&postgres.create_database().await?).await
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn $timescale() -> Result<()> {
            let Some(timescale) = Timescale::start().await? else {
                return Ok(()); // said aloud by the server's room
            };
            $test(&timescale.url()).await
        }
    )+};
}

on_both! {
    names_signs_scales_and_families as names_signs_scales_and_families_on_plain_postgresql,
        names_signs_scales_and_families_on_timescaledb;
    overrides_count_at_once_and_survive as overrides_count_at_once_and_survive_on_plain_postgresql,
        overrides_count_at_once_and_survive_on_timescaledb;
    a_guess_never_touches_what_a_person_set as a_guess_never_touches_what_a_person_set_on_plain_postgresql,
        a_guess_never_touches_what_a_person_set_on_timescaledb;
    every_query_of_the_page_answers as every_query_of_the_page_answers_on_plain_postgresql,
        every_query_of_the_page_answers_on_timescaledb;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_and_a_span_of_time_use_the_unique_key() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    drive(&url).await?;
    let tables = Tables::connect(&url).await?;
    // So few rows that reading them all would be cheaper: forbid that, and see what is possible.
    tables
        .run("SET enable_seqscan = off; SET enable_bitmapscan = off")
        .await?;
    let span = "time >= now() - interval '1 day' AND time < now()";
    for query in [
        format!("SELECT * FROM telemetry WHERE device_id = 1 AND {span}"),
        format!("SELECT time, speed_kmh FROM telemetry WHERE device_id = 1 AND {span} ORDER BY time"),
        "SELECT * FROM measurements(1, now() - interval '1 day', now(), ARRAY['vin'])".to_owned(),
        "SELECT io(p, 'vin') FROM positions p WHERE device_id = 1 AND fix_time > now() - interval '1 day'".to_owned(),
    ] {
        let sql: &'static str = Box::leak(format!("EXPLAIN (COSTS off) {query}").into_boxed_str());
        let plan: Vec<(String,)> = tables.all(sql).await?;
        let plan: Vec<String> = plan.into_iter().map(|line| line.0).collect();
        let plan = plan.join("\n");
        ensure!(
            plan.contains("positions_pkey")
                && plan.contains("device_id = 1) AND (fix_time >"),
            "{query}\n{plan}"
        );
    }
    Ok(())
}
