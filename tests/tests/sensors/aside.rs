//! What is no reading: dead letters with the founding names, and everything around it stored.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use redis::AsyncCommands as _;
use redis::streams::StreamRangeReply;
use serde_json::Value;
use tests::items;

use super::site::{COPIES, Fields, LETTERS, ROOM, ROWS, Site, reading};

/// Copies of dead letters, each as text by field name.
async fn copies(site: &mut Site) -> Result<Vec<HashMap<String, String>>> {
    let all: StreamRangeReply = site.admin.xrange_all(COPIES).await?;
    let text = |item| -> Result<HashMap<String, String>> {
        let fields = items::fields(item)?.into_iter();
        let pair = |(name, value): (&str, Vec<u8>)| {
            (
                name.to_owned(),
                String::from_utf8_lossy(&value).into_owned(),
            )
        };
        Ok(fields.map(pair).collect())
    };
    all.ids.iter().map(text).collect()
}

fn with(value: &str, timestamp: &str, metadata: &str) -> Fields {
    vec![
        ("value", value.into()),
        ("timestamp", timestamp.into()),
        ("metadata", metadata.into()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_reading_is_put_aside_and_its_neighbours_are_stored() -> Result<()> {
    let mut site = Site::start(&[]).await?;
    let good = "2026-01-15T10:30:00Z";
    let bad = [
        (
            with("warm", good, ""),
            "value \"warm\" is not a finite number",
        ),
        (
            with("NaN", good, ""),
            "value \"NaN\" is not a finite number",
        ),
        (
            with("1", "yesterday", ""),
            "timestamp \"yesterday\" is neither",
        ),
        (with("1", "1970-01-01T00:00:00Z", ""), "before_2007"),
        (with("1", "2099-01-01T00:00:00Z", ""), "ahead_of_reception"),
        (with("1", good, "{unit: C}"), "metadata is not JSON"),
        (vec![("value", b"1".to_vec())], "field timestamp is missing"),
        (
            vec![("temperature", b"\xff\x00".to_vec())],
            "field value is missing",
        ),
    ];
    let mut ids = Vec::new();
    for (fields, _) in &bad {
        site.says(ROOM, "20").await?;
        ids.push(site.sends(ROOM, fields).await?);
    }
    site.tables.wait_for(ROWS, bad.len() as i64).await?;
    site.tables.wait_for(LETTERS, bad.len() as i64).await?;
    site.until_acknowledged(ROOM).await?;
    let copies = copies(&mut site).await?;
    assert_eq!(copies.len(), bad.len());
    let letters: Vec<(String, String, String, i64)> = site
        .tables
        .all("SELECT error_class, reason, entry_id, records FROM dead_letters")
        .await?;
    for ((fields, why), id) in bad.iter().zip(&ids) {
        let copy = copies.iter().find(|copy| copy["original_id"] == *id);
        let copy = copy.with_context(|| format!("{why}: no copy"))?;
        let value = fields.iter().find(|(name, _)| *name == "value");
        let value = value.map_or_else(String::new, |(_, value)| {
            String::from_utf8_lossy(value).into_owned()
        });
        for (name, wanted) in [
            ("original_stream", ROOM),
            ("device_id", "room-1"),
            ("sensor_type", "temperature"),
            ("value", value.as_str()),
            ("error_class", "sensor"),
        ] {
            assert_eq!(copy[name], wanted, "{name} of {copy:?}");
        }
        assert!(copy["error"].contains(why), "{copy:?}");
        let age_s = chrono::Utc::now().timestamp() - copy["failed_at"].parse::<i64>()?;
        assert!((0..120).contains(&age_s), "{copy:?}");
        let entry = format!("{ROOM} {id}");
        let letter = letters.iter().find(|letter| letter.2 == entry);
        let letter = letter.with_context(|| format!("{why}: no letter"))?;
        assert!(letter.0 == "sensor" && letter.1.contains(why), "{letter:?}");
        assert_eq!(letter.3, 0, "it is no AVL record");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poison_in_a_thousand_is_one_dead_letter_and_999_rows() -> Result<()> {
    // Valid JSON that PostgreSQL refuses as data (22P05).
    const POISON: &str = r#"{"note": "\u0000"}"#;
    let mut site = Site::start(&[]).await?;
    site.cloud.terminate().await?;
    let mut poison = String::new();
    for number in 0..1_000 {
        let metadata = if number == 617 {
            POISON
        } else {
            r#"{"unit": "C"}"#
        };
        let id = site.sends(ROOM, &reading("1", Some(metadata))).await?;
        if number == 617 {
            poison = id;
        }
    }
    site.cloud.restart().await?;
    site.tables.wait_for(ROWS, 999).await?;
    site.tables.wait_for(LETTERS, 1).await?;
    site.until_acknowledged(ROOM).await?;
    let letter: (String, String, String) = site
        .tables
        .one("SELECT entry_id, sqlstate, error_class FROM dead_letters")
        .await?;
    let wanted = (format!("{ROOM} {poison}"), "22P05", "sensor");
    assert_eq!(letter, (wanted.0, wanted.1.to_owned(), wanted.2.to_owned()));
    let copies = copies(&mut site).await?;
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0]["sqlstate"], "22P05", "{copies:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_takes_later_is_redriven() -> Result<()> {
    let mut site = Site::start(&[]).await?;
    site.tables
        .run("ALTER TABLE sensor_readings ADD CONSTRAINT cold CHECK (value < 100)")
        .await?;
    site.says(ROOM, "451").await?;
    site.sends(ROOM, &with("warm", "2026-01-15T10:30:00Z", ""))
        .await?;
    site.tables.wait_for(LETTERS, 2).await?;
    site.tables
        .run("ALTER TABLE sensor_readings DROP CONSTRAINT cold")
        .await?;
    let shown = site
        .cloud
        .call(&["dlq", "ls", "--json", "--class", "sensor"])
        .await?;
    let lines: Vec<Value> = shown
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let refused = lines
        .iter()
        .find(|it| it["sqlstate"] == "23514")
        .context("the refused one")?;
    assert_eq!(refused["original_stream"], ROOM);
    let id = refused["id"].to_string();
    let one = site.cloud.call(&["dlq", "show", &id]).await?;
    assert!(one.contains("redrive would succeed: yes"), "{one}");
    site.cloud
        .call(&["dlq", "redrive", &id, "--dry-run"])
        .await?;
    site.tables.wait_for(ROWS, 0).await?;
    site.cloud.call(&["dlq", "redrive", &id]).await?;
    site.tables.wait_for(ROWS, 1).await?;
    site.tables.wait_for(LETTERS, 1).await?;
    // The other one is no number today either.
    let still = site.cloud.call(&["dlq", "redrive", "--all"]).await;
    assert!(format!("{:#}", still.unwrap_err()).contains("not a finite number"));
    site.tables.wait_for(LETTERS, 1).await
}
