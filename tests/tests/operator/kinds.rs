//! Payloads of other kinds than a tracker's: from the stream of their vendor to rows, and back again
//! by whatever reads them a second time.

use anyhow::{Result, ensure};
use contract::keys::{self, STREAM_TELTONIKA};
use contract::{
    Coding, Device, Entry, Envelope, Kind, Lane, Position, SpoolId, SpoolSeq, Transport, position,
};
use serde_json::json;
use tests::batches::SpoolOf;
use tests::tables::eventually;

use super::stage::{IMEI, NOON_MS, Stage, record, xadd};

const SPOOL: u64 = 9;

fn at(n: i64) -> Position {
    let mut position = Position {
        time_ms: NOON_MS.cast_signed() + n * 1_000,
        latitude: 54.6872,
        longitude: 25.2797,
        ..Position::default()
    };
    position.attributes.insert("battery".into(), json!(0.83));
    position
}

/// Who sent it, the payload, and how many records it holds.
type Sent = (Device, Vec<u8>, u32);

/// An entry with one envelope at each position of the spool from `first` on.
fn entry(kind: Kind, first: u64, envelopes: &[Sent]) -> Result<Entry> {
    let packed: Vec<(SpoolSeq, &Sent)> = (first..)
        .zip(envelopes)
        .map(|(seq, envelope)| Ok((SpoolSeq::new(seq)?, envelope)))
        .collect::<Result<_>>()?;
    let envelopes: Vec<Envelope<'_>> = packed
        .iter()
        .map(|(seq, (device, bytes, record_count))| Envelope {
            seq: *seq,
            received_at_ms: NOON_MS + 60_000,
            device: device.clone(),
            transport: Transport::Http,
            lane: Lane::Normal,
            record_count: *record_count,
            bytes,
        })
        .collect();
    let spool = SpoolId::from_u64(SPOOL)?;
    let gateway = "depot-1".parse()?;
    let entry = Entry::of_neighbours(gateway, spool, &envelopes, Coding::MsgPack)?;
    Ok(Entry { kind, ..entry })
}

fn phone(name: &str, positions: &[Position]) -> Result<(Device, Vec<u8>, u32)> {
    let count = u32::try_from(positions.len())?;
    Ok((Device::Text(name.into()), position::pack(positions)?, count))
}

async fn put(stage: &mut Stage, stream: &str, entry: &Entry) -> Result<()> {
    let fields: Vec<(Vec<u8>, Vec<u8>)> = entry
        .to_fields()
        .into_iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value))
        .collect();
    xadd(&mut stage.admin, stream, &fields).await?;
    Ok(())
}

/// Rows as a decoder makes them.
async fn rows(stage: &Stage) -> Result<Vec<String>> {
    let rows: Vec<(String,)> = stage
        .tables
        .all(
            "SELECT 'position ' || (to_jsonb(p) - 'stored_at')::text FROM positions p \
             UNION ALL SELECT 'quarantine ' || (to_jsonb(q) - 'stored_at')::text FROM positions_quarantine q \
             UNION ALL SELECT 'latest ' || to_jsonb(l)::text FROM device_latest l ORDER BY 1",
        )
        .await?;
    Ok(rows.into_iter().map(|(row,)| row).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_and_records_become_rows_each_by_its_kind_without_a_setting() -> Result<()> {
    let mut stage = Stage::new().await?;
    let http = keys::stream(Kind::Position.vendor());
    let moving = Position {
        altitude_m: Some(112.4),
        heading_deg: Some(90.0),
        speed_kmh: Some(50.0),
        accuracy_m: Some(4.5),
        ..at(1)
    };
    let absurd = Position {
        time_ms: 0,
        ..at(0)
    };
    let imei = Device::Imei(IMEI.to_string().parse()?);
    // One spool, its positions dealt out by kind, as an uplink does it; the same content five times.
    let phones = [
        phone("boat-7", &[at(0), moving.clone(), absurd])?,
        phone("boat-7", &[at(0)])?,
        phone("boat-7", std::slice::from_ref(&moving))?,
        phone("boat-7", &[moving, at(0)])?,
        (imei, position::pack(&[at(0)])?, 1),
    ];
    put(&mut stage, &http, &entry(Kind::Position, 1, &phones)?).await?;
    let tracker = record(IMEI, 5)?;
    let name = (Device::Text("boat-7".into()), tracker.data.clone(), 1);
    let trackers = entry(Kind::Teltonika, 6, std::slice::from_ref(&name))?;
    put(&mut stage, STREAM_TELTONIKA, &trackers).await?;
    stage
        .tables
        .wait_for("SELECT count(*) FROM positions", 4)
        .await?;
    stage
        .tables
        .wait_for("SELECT count(*) FROM frames", 6)
        .await?;

    // A name belongs to its vendor; an IMEI is one device, whoever carries it.
    let devices: Vec<(Option<String>, Option<i64>, String, i64)> = stage
        .tables
        .all(
            "SELECT d.ident, d.imei, d.vendor, count(*) FROM devices d \
             JOIN positions p ON p.device_id = d.id GROUP BY 1, 2, 3 ORDER BY 3, 1",
        )
        .await?;
    let named = |vendor: &str, count| (Some("boat-7".to_owned()), None, vendor.to_owned(), count);
    assert_eq!(
        devices,
        [
            named("http", 2),
            (None, Some(IMEI.cast_signed()), "http".to_owned(), 1),
            named("teltonika", 1),
        ]
    );
    let unknown = stage
        .count(
            "SELECT count(*) FROM positions WHERE altitude_m IS NULL AND heading_deg IS NULL \
             AND speed_kmh IS NULL AND satellites IS NULL AND priority IS NULL AND valid \
             AND io = '{\"battery\": 0.83}'",
        )
        .await?;
    assert_eq!(unknown, 2, "what nobody said is null");
    let known = stage
        .count(
            "SELECT count(*) FROM positions WHERE (altitude_m, heading_deg, speed_kmh) = (112, 90, 50) \
             AND io = '{\"battery\": 0.83, \"accuracy_m\": 4.5, \"altitude_m\": 112.4}'",
        )
        .await?;
    assert_eq!(known, 1);
    let latest: (f64, Option<i32>) = stage
        .tables
        .one(
            "SELECT l.latitude, l.speed_kmh FROM device_latest l JOIN devices d ON d.id = l.device_id \
             WHERE d.ident = 'boat-7' AND d.vendor = 'http'",
        )
        .await?;
    assert_eq!(latest, (54.6872, Some(50)));
    let ledger: (i64, i64, i64, i64) = stage
        .tables
        .one(
            "SELECT sum(received)::int8, sum(stored)::int8, sum(quarantined)::int8, \
                 sum(duplicate)::int8 FROM ledger",
        )
        .await?;
    assert_eq!(ledger, (9, 4, 1, 4));
    let kinds: Vec<(Option<i16>, i64)> = stage
        .tables
        .all("SELECT kind, count(*) FROM frames GROUP BY 1 ORDER BY 1")
        .await?;
    assert_eq!(kinds, [(Some(1), 5), (None, 1)]);
    let values: Vec<(String, Option<f64>)> = stage
        .tables
        .all(
            "SELECT m.name, m.value::float8 FROM positions p CROSS JOIN LATERAL measurements(p) AS m \
             WHERE p.speed_kmh = 50 ORDER BY 1",
        )
        .await?;
    let value = |name: &str, value| (name.to_owned(), Some(value));
    assert_eq!(
        values,
        [
            value("accuracy_m", 4.5),
            value("altitude_m", 112.4),
            value("battery", 0.83)
        ]
    );
    let battery: (f64,) = stage
        .tables
        .one("SELECT max(io(p, 'battery'))::float8 FROM positions p")
        .await?;
    assert_eq!(battery.0, 0.83);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_and_dead_letters_of_every_kind_are_read_again_by_their_kind() -> Result<()> {
    let mut stage = Stage::new().await?;
    let http = keys::stream(Kind::Position.vendor());
    let good = phone("boat-7", &[at(0), at(1)])?;
    let mut newer = good.clone();
    newer.1[1] = position::VERSION + 1;
    let mut cut = good.clone();
    cut.1.pop();
    let envelopes = [good, newer, cut];
    put(&mut stage, &http, &entry(Kind::Position, 1, &envelopes)?).await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    stage.send(&mut spool, &[record(IMEI, 3)?]).await?;
    stage
        .tables
        .wait_for("SELECT count(*) FROM frames", 4)
        .await?;
    let letters: Vec<(String, Option<i16>, i64)> = stage
        .tables
        .all("SELECT error_class, kind, records FROM dead_letters ORDER BY seq")
        .await?;
    assert_eq!(
        letters,
        [
            ("kind".to_owned(), Some(1), 2),
            ("frame".to_owned(), Some(1), 2)
        ]
    );
    let before = rows(&stage).await?;
    ensure!(before.len() == 5, "{before:#?}");
    stage.tables.run("DELETE FROM positions").await?;
    let told = stage
        .ask(&["--json", "replay", "--from", "2026-09-01"])
        .await?
        .ended(0)?
        .json()?;
    ensure!(
        told["stored"] == 3 && told["in_dead_letters"] == 2,
        "{told}"
    );
    let after = rows(&stage).await?;
    let positions = |rows: &[String]| -> Vec<String> {
        let all = rows.iter().filter(|row| row.starts_with("position"));
        all.cloned().collect()
    };
    assert_eq!(positions(&after), positions(&before));

    // The one is repaired, as a newer version would read it; the other stays what it is.
    stage
        .tables
        .run(
            "UPDATE dead_letters SET bytes = set_byte(bytes, 1, 1) WHERE error_class = 'kind'; \
             UPDATE frames SET data = set_byte(data, 1, 1) WHERE seq = 2; \
             DELETE FROM positions",
        )
        .await?;
    stage.ask(&["dlq", "redrive", "--all"]).await?.ended(1)?;
    assert_eq!(stage.count("SELECT count(*) FROM positions").await?, 2);
    let left: Vec<(String,)> = stage
        .tables
        .all("SELECT error_class FROM dead_letters")
        .await?;
    assert_eq!(left, [("frame".to_owned(),)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_cannot_be_opened_is_redriven_as_its_kind() -> Result<()> {
    let mut stage = Stage::new().await?;
    let http = keys::stream(Kind::Position.vendor());
    // The spool becomes known as this gateway's.
    let first = entry(Kind::Position, 1, &[phone("boat-7", &[at(0)])?])?;
    put(&mut stage, &http, &first).await?;
    stage
        .tables
        .wait_for("SELECT count(*) FROM positions", 1)
        .await?;
    let second = entry(Kind::Position, 2, &[phone("boat-7", &[at(1)])?])?;
    let mut broken = second.clone();
    broken.data.pop();
    put(&mut stage, &http, &broken).await?;
    stage
        .tables
        .wait_for(
            "SELECT count(*) FROM dead_letters WHERE error_class = 'payload' AND kind = 1",
            1,
        )
        .await?;
    let hexadecimal = hex::encode(&second.data);
    stage
        .tables
        .run(&format!(
            "UPDATE dead_letters SET bytes = decode('{hexadecimal}', 'hex')"
        ))
        .await?;
    stage.ask(&["dlq", "redrive", "--all"]).await?.ended(0)?;
    assert_eq!(stage.count("SELECT count(*) FROM positions").await?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_a_later_gateway_stays_pending_and_holds_up_nobody() -> Result<()> {
    let mut stage = Stage::new().await?;
    let later = Kind::from_u8(200);
    let unread = entry(later, 1, &[phone("boat-7", &[at(0)])?])?;
    put(&mut stage, STREAM_TELTONIKA, &unread).await?;
    let known = entry(Kind::Position, 2, &[phone("boat-7", &[at(1)])?])?;
    // By the stream of another vendor, too: the entry says what it is, not the stream.
    put(&mut stage, STREAM_TELTONIKA, &known).await?;
    stage
        .tables
        .wait_for("SELECT count(*) FROM positions", 1)
        .await?;
    eventually("the later one alone is pending", async || {
        let mut admin = stage.admin.clone();
        Ok(tests::items::pending(&mut admin, STREAM_TELTONIKA).await? == 1)
    })
    .await?;
    let letters = stage.count("SELECT count(*) FROM dead_letters").await?;
    ensure!(letters == 0, "nothing of it is given up");
    Ok(())
}
