//! Puts the dictionary that this program carries into the database.
//!
//! Invariants: the same dictionary twice changes nothing; what people wrote into
//! `io_dictionary_overrides` and `devices` is never touched.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::database::{Database, DatabaseError};
use super::errors::StoreError;
use crate::fail_point::fail_point;
use crate::normalise::dictionary::{self, CSV, Meaning};

/// Which dictionary this is: xxh3-64 of the file.
#[must_use]
pub fn content_hash() -> String {
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(CSV.as_bytes()))
}

/// Which dictionary is loaded; `None`: none.
/// # Errors
/// [`StoreError`].
pub async fn loaded(on: &mut PgConnection) -> Result<Option<String>, StoreError> {
    version(on)
        .await
        .map_err(|source| StoreError::new("reading the dictionary's version", source))
}

/// Loads it unless it is there. `true`: it was not.
/// # Errors
/// [`DatabaseError`]: nothing was changed.
pub async fn load(database: &Database, on: &mut PgConnection) -> Result<bool, DatabaseError> {
    let hash = content_hash();
    let put = put(on, &hash).await;
    put.map_err(|source| database.refused("loading the dictionary of IO elements", source))
}

async fn put(on: &mut PgConnection, hash: &str) -> Result<bool, sqlx::Error> {
    // Asked without a lock first: who may only write records may look, and finds it done.
    if version(&mut *on).await?.as_deref() == Some(hash) {
        return Ok(false);
    }
    let mut on = on.begin().await?;
    // Whoever comes second waits here, and then finds it done.
    sqlx::query("LOCK TABLE io_dictionary_version IN EXCLUSIVE MODE")
        .execute(&mut *on)
        .await?;
    if version(&mut on).await?.as_deref() == Some(hash) {
        return Ok(false);
    }
    let meanings = dictionary::read(CSV).expect("a test reads the file that is compiled in");
    sqlx::raw_sql("DELETE FROM io_dictionary; DELETE FROM io_dictionary_version")
        .execute(&mut *on)
        .await?;
    insert(&mut on, &meanings).await?;
    sqlx::query("INSERT INTO io_dictionary_version (content_hash, rows) VALUES ($1, $2)")
        .bind(hash)
        .bind(i32::try_from(meanings.len()).unwrap_or(i32::MAX))
        .execute(&mut *on)
        .await?;
    sqlx::query("SELECT io_meanings_refresh()")
        .execute(&mut *on)
        .await?;
    fail_point!("dictionary-written");
    on.commit().await?;
    Ok(true)
}

async fn version(on: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT content_hash FROM io_dictionary_version")
        .fetch_optional(on)
        .await
}

async fn insert(on: &mut PgConnection, meanings: &[Meaning]) -> Result<(), sqlx::Error> {
    fn column<'a, T>(meanings: &'a [Meaning], value: impl Fn(&'a Meaning) -> T) -> Vec<T> {
        meanings.iter().map(value).collect()
    }
    let texts = |meaning: &Meaning| {
        let texts: BTreeMap<String, &String> = meaning
            .values
            .iter()
            .map(|(number, name)| (number.to_string(), name))
            .collect();
        serde_json::to_value(texts).unwrap_or(Value::Null)
    };
    // Decimals travel as text and become numeric there, which keeps them exact.
    sqlx::query(
        "INSERT INTO io_dictionary (family, io_id, name, size_bytes, kind, minimum, maximum, \
             multiplier, unit, value_texts, description) \
         SELECT family, io_id, name, size_bytes, kind, minimum::numeric, maximum::numeric, \
             multiplier::numeric, nullif(unit, ''), value_texts, description \
         FROM UNNEST($1::text[], $2::int4[], $3::text[], $4::int2[], $5::text[], $6::text[], \
             $7::text[], $8::text[], $9::text[], $10::jsonb[], $11::text[]) \
         AS a(family, io_id, name, size_bytes, kind, minimum, maximum, multiplier, unit, \
             value_texts, description)",
    )
    .bind(column(meanings, |m| m.family.as_str()))
    .bind(column(meanings, |m| i32::from(m.io_id)))
    .bind(column(meanings, |m| m.name.as_str()))
    .bind(column(meanings, |m| m.size_bytes.map(i16::from)))
    .bind(column(meanings, |m| m.kind.as_str()))
    .bind(column(meanings, |m| m.minimum.as_deref()))
    .bind(column(meanings, |m| m.maximum.as_deref()))
    .bind(column(meanings, |m| m.multiplier.as_str()))
    .bind(column(meanings, |m| m.unit.as_str()))
    .bind(column(meanings, texts))
    .bind(column(meanings, |m| m.description.as_str()))
    .execute(on)
    .await?;
    Ok(())
}
