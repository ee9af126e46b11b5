//! What the tables say, in one snapshot.
//!
//! Invariant: one connection, one repeatable-read transaction; every answer is about the same
//! moment.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use crate::fleet::RecordKey;

/// A connection inside its snapshot.
pub(super) struct Snapshot {
    connection: PgConnection,
}

/// One row of `positions` or `positions_quarantine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) key: RecordKey,
    pub(super) quarantined: bool,
}

impl Snapshot {
    pub(super) async fn open(url: &str) -> Result<Snapshot> {
        let mut connection = PgConnection::connect(url)
            .await
            .context("connect to the database")?;
        sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut connection)
            .await?;
        Ok(Snapshot { connection })
    }

    /// IMEI to `devices.id`.
    pub(super) async fn devices(&mut self) -> Result<BTreeMap<u64, i32>> {
        let query = sqlx::query_as("SELECT imei, id FROM devices WHERE imei IS NOT NULL");
        let devices: Vec<(i64, i32)> = query
            .fetch_all(&mut self.connection)
            .await
            .context("read devices")?;
        Ok(devices
            .into_iter()
            .map(|(imei, id)| (imei.cast_unsigned(), id))
            .collect())
    }

    /// The rows of some devices, in no order.
    pub(super) async fn rows(&mut self, devices: &[i32]) -> Result<BTreeMap<i32, Vec<Row>>> {
        let query =
            "SELECT device_id, fix_time, record_hash FROM positions WHERE device_id = ANY($1)";
        let positions: Vec<(i32, DateTime<Utc>, i32)> = sqlx::query_as(query)
            .bind(devices)
            .fetch_all(&mut self.connection)
            .await
            .context("read positions")?;
        let query = "SELECT device_id, device_time_ms, record_hash FROM positions_quarantine \
                     WHERE device_id = ANY($1)";
        let quarantine: Vec<(i32, i64, i32)> = sqlx::query_as(query)
            .bind(devices)
            .fetch_all(&mut self.connection)
            .await
            .context("read positions_quarantine")?;
        let positions = positions
            .into_iter()
            .map(|(device, time, hash)| (device, time.timestamp_millis(), hash, false));
        let quarantine = quarantine
            .into_iter()
            .map(|(device, time_ms, hash)| (device, time_ms, hash, true));
        let mut rows: BTreeMap<i32, Vec<Row>> = BTreeMap::new();
        for (device, time_ms, record_hash, quarantined) in positions.chain(quarantine) {
            // Device time is 64 bits without sign; the columns read them as signed.
            let key = RecordKey {
                fix_time_ms: time_ms.cast_unsigned(),
                record_hash,
            };
            rows.entry(device)
                .or_default()
                .push(Row { key, quarantined });
        }
        Ok(rows)
    }

    /// The keys of everything a device has in the dead letters: whole frames and single
    /// records alike.
    pub(super) async fn dead_keys(&mut self, device: i32) -> Result<Vec<RecordKey>> {
        let letters: Vec<(Vec<u8>,)> =
            sqlx::query_as("SELECT bytes FROM dead_letters WHERE device_id = $1")
                .bind(device)
                .fetch_all(&mut self.connection)
                .await
                .context("read dead_letters")?;
        let mut keys = Vec::new();
        for (bytes,) in letters {
            keys.extend(RecordKey::of_data(&bytes));
            if let Some(time) = bytes.first_chunk::<8>() {
                keys.push(RecordKey::of(u64::from_be_bytes(*time), &bytes));
            }
        }
        Ok(keys)
    }

    /// Rows of `positions`, rows of both tables that belong to none of `devices`, and records
    /// in the dead letters.
    pub(super) async fn totals(&mut self, devices: &[i32]) -> Result<(u64, u64, u64)> {
        let query = "SELECT (SELECT count(*) FROM positions), \
                            (SELECT count(*) FROM positions WHERE device_id <> ALL($1)) \
                          + (SELECT count(*) FROM positions_quarantine WHERE device_id <> ALL($1)), \
                            (SELECT coalesce(sum(records), 0)::bigint FROM dead_letters)";
        let (rows, strangers, dead): (i64, i64, i64) = sqlx::query_as(query)
            .bind(devices)
            .fetch_one(&mut self.connection)
            .await
            .context("count rows")?;
        Ok((
            rows.cast_unsigned(),
            strangers.cast_unsigned(),
            dead.cast_unsigned(),
        ))
    }
}
