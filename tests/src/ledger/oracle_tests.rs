//! The oracle against tables in a real PostgreSQL that were spoiled on purpose. The tables
//! here have no unique key: a doubled row must be seen even where the schema fails to forbid it.

#![allow(clippy::unwrap_used)]

use codec::Imei;
use sqlx::{Connection, PgConnection};

use super::*;
use crate::fleet::Truth;
use crate::servers::Postgres;

const TABLES: &str = "
    CREATE TABLE devices (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, imei bigint UNIQUE);
    CREATE TABLE positions (device_id int, fix_time timestamptz, record_hash int);
    CREATE TABLE positions_quarantine (device_id int, device_time_ms bigint, record_hash int);
    CREATE TABLE dead_letters (device_id int, records bigint, bytes bytea);";

const IMEIS: [u64; 3] = [
    350_000_000_000_001,
    350_000_000_000_002,
    350_000_000_000_003,
];
const NOON_MS: u64 = 1_750_000_000_123;

fn key(index: u64) -> RecordKey {
    RecordKey {
        fix_time_ms: NOON_MS + index / 2,
        record_hash: -5 + (index as i32),
    }
}

/// Per device ten records, the last two not ACKed.
fn truth() -> Truth {
    let truth = Truth::new();
    for imei in IMEIS {
        let imei = Imei::from_u64(imei).unwrap();
        let keys: Vec<RecordKey> = (0..10).map(key).collect();
        truth.sent(imei, &keys).unwrap();
        truth.acked(imei, &keys[..8]).unwrap();
    }
    truth
}

/// The tables after everything went well; of the two unACKed records one was stored.
async fn good_tables(connection: &mut PgConnection) {
    run(connection, TABLES).await;
    for (device, imei) in (1_i32..).zip(IMEIS) {
        sqlx::query("INSERT INTO devices (imei) VALUES ($1)")
            .bind(imei.cast_signed())
            .execute(&mut *connection)
            .await
            .unwrap();
        for index in 0..9 {
            store(connection, device, key(index)).await;
        }
    }
}

async fn run(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

async fn store(connection: &mut PgConnection, device: i32, key: RecordKey) {
    let time = chrono::DateTime::from_timestamp_millis(key.fix_time_ms.cast_signed()).unwrap();
    sqlx::query("INSERT INTO positions VALUES ($1, $2, $3)")
        .bind(device)
        .bind(time)
        .bind(key.record_hash)
        .execute(connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn every_kind_of_damage_is_seen_and_nothing_else() {
    let postgres = Postgres::start().await.unwrap();
    let good = Ledger {
        sent: 30,
        acked: 24,
        stored: 27,
        stored_unacked: 3,
        rows: 27,
        ..Ledger::default()
    };
    let lost = |index| Lost {
        imei: IMEIS[1],
        key: key(index),
    };
    let stored_in_quarantine = "
        DELETE FROM positions WHERE device_id = 2 AND record_hash = -5;
        INSERT INTO positions_quarantine VALUES (2, 1750000000123, -5)";
    let cases = [
        ("SELECT 1", good.clone()),
        (
            "DELETE FROM positions WHERE device_id = 2 AND record_hash = -4",
            Ledger {
                stored: 26,
                rows: 26,
                lost_count: 1,
                lost: vec![lost(1)],
                ..good.clone()
            },
        ),
        (
            "INSERT INTO positions SELECT * FROM positions WHERE device_id = 2 AND record_hash IN (-5, -3)",
            Ledger {
                duplicates: 2,
                rows: 29,
                ..good.clone()
            },
        ),
        (
            "INSERT INTO positions_quarantine VALUES (3, 1750000000123, -5)",
            Ledger {
                duplicates: 1,
                ..good.clone()
            },
        ),
        (
            "INSERT INTO positions SELECT device_id, fix_time, 99 FROM positions WHERE record_hash = -3",
            Ledger {
                phantoms: 3,
                rows: 30,
                ..good.clone()
            },
        ),
        (
            "INSERT INTO positions VALUES (1, '2000-01-01Z', 1), (1, '2040-01-01Z', 1)",
            Ledger {
                phantoms: 2,
                rows: 29,
                ..good.clone()
            },
        ),
        // The right content at the wrong time is one record lost and one made up.
        (
            "UPDATE positions SET fix_time = fix_time + interval '1 ms' WHERE device_id = 2 AND record_hash = -5",
            Ledger {
                phantoms: 1,
                stored: 26,
                lost_count: 1,
                lost: vec![lost(0)],
                ..good.clone()
            },
        ),
        (
            "INSERT INTO devices (imei) VALUES (350000000000009); INSERT INTO positions VALUES (4, now(), 1)",
            Ledger {
                phantoms: 1,
                rows: 28,
                ..good.clone()
            },
        ),
        (
            stored_in_quarantine,
            Ledger {
                stored: 26,
                quarantined: 1,
                rows: 26,
                ..good.clone()
            },
        ),
        // A device the database never heard of.
        (
            "DELETE FROM positions WHERE device_id = 2; DELETE FROM devices WHERE id = 2",
            Ledger {
                stored: 18,
                stored_unacked: 2,
                rows: 18,
                lost_count: 8,
                lost: (0..8).map(lost).collect(),
                ..good.clone()
            },
        ),
    ];
    for (damage, expected) in cases {
        let url = postgres.create_database().await.unwrap();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        good_tables(&mut connection).await;
        run(&mut connection, damage).await;
        let ledger = compare(&truth(), &url).await.unwrap();
        assert_eq!(ledger, expected, "{damage}");
        let clean = expected.lost_count == 0 && expected.duplicates + expected.phantoms == 0;
        assert_eq!(ledger.is_clean(), clean, "{damage}");
        connection.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_lies_in_the_dead_letters_is_not_lost() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.create_database().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    run(&mut connection, TABLES).await;
    run(
        &mut connection,
        "INSERT INTO devices (imei) VALUES (350000000000001)",
    )
    .await;
    // Two records of Codec 8 without IO: the smallest there are.
    let records: Vec<Vec<u8>> = [3_u8, 4]
        .iter()
        .map(|last| {
            let mut record = vec![0; 30];
            record[7] = *last;
            record
        })
        .collect();
    let data = [&[8, 2][..], &records[0], &records[1], &[2]].concat();
    let keys = RecordKey::of_data(&data);
    assert_eq!(keys.len(), 2);
    let truth = Truth::new();
    let imei = Imei::from_u64(IMEIS[0]).unwrap();
    truth.sent(imei, &keys).unwrap();
    truth.acked(imei, &keys).unwrap();
    assert_eq!(compare(&truth, &url).await.unwrap().lost_count, 2);

    for (bytes, lost) in [(&records[1], 1), (&data, 0)] {
        sqlx::query("INSERT INTO dead_letters VALUES (1, 2, $1)")
            .bind(bytes)
            .execute(&mut connection)
            .await
            .unwrap();
        let ledger = compare(&truth, &url).await.unwrap();
        assert_eq!((ledger.lost_count, ledger.acked_dead), (lost, 2 - lost));
    }
    assert_eq!(compare(&truth, &url).await.unwrap().dead, 4);
}

#[test]
fn the_table_names_what_is_lost_without_telling_whose_it_is() {
    let lost = Lost {
        imei: IMEIS[1],
        key: key(0),
    };
    let ledger = Ledger {
        acked: 30,
        lost_count: 22,
        lost: vec![lost],
        ..Ledger::default()
    };
    let text = ledger.to_string();
    assert!(
        text.contains("lost …0002 2025-06-15T15:06:40.123+00:00 hash -5"),
        "{text}"
    );
    assert!(
        text.contains("and 21 more") && !text.contains("350000"),
        "{text}"
    );
}
