//! Devices and where they are: pages, ETags, packing, and what is refused.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::stage::{IMEI, Stage, fix};

/// Every item behind `path`, page by page.
async fn all(stage: &Stage, path: &str, limit: usize) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let told = stage.told(&format!("{path}?limit={limit}{after}")).await?;
        let page = told["items"].as_array().context("items")?;
        ensure!(page.len() <= limit, "{} of {limit}", page.len());
        items.extend(page.clone());
        match told["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(items),
        }
        ensure!(page.len() == limit, "a page that is not the last is full");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_tell_every_device_once_also_those_of_the_same_moment() -> Result<()> {
    let mut stage = Stage::new().await?;
    let frames: Result<Vec<_>> = (0..7).map(|n| fix(IMEI + n, 5)).collect();
    stage.drive(&frames?).await?;
    for path in ["/devices", "/latest"] {
        let whole = all(&stage, path, 500).await?;
        ensure!(whole.len() == 7, "{path}: {}", whole.len());
        for limit in [1, 2, 3, 7] {
            let pages = all(&stage, path, limit).await?;
            ensure!(pages == whole, "{path} by {limit}");
        }
    }
    let latest = stage.told("/latest?limit=1").await?;
    let one = &latest["items"][0];
    ensure!(
        one["imei"] == "350000000000017"
            && one["time"] == "2026-09-21T14:13:25.000Z"
            && one["received_at"] == "2026-09-21T14:13:25.500Z"
            && one["latitude"] == 52.5168
            && one["speed_kmh"] == 50
            && one["ignition"] == true
            && one["movement"].is_null(),
        "{one}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_found_by_part_of_its_name_and_told_with_its_values() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.drive(&[fix(IMEI, 1)?, fix(IMEI + 8, 2)?]).await?;
    stage
        .tables
        .run("UPDATE devices SET name = 'Van 100%', family = 'fmb' WHERE imei = 350000000000017; \
              INSERT INTO devices (ident, vendor, first_seen, last_seen) VALUES ('boat', 'http', now(), now())")
        .await?;
    let found = async |q: &str| -> Result<Vec<Value>> {
        let told = stage.told(&format!("/devices?q={q}")).await?;
        Ok(told["items"].as_array().context("items")?.clone())
    };
    ensure!(found("van").await?.len() == 1 && found("0%25").await?.len() == 1);
    ensure!(found("%25").await?.len() == 1, "% is no pattern");
    ensure!(found("_").await?.is_empty(), "_ is no pattern");
    ensure!(found("00017").await?.len() == 1 && found("3500").await?.len() == 2);
    let boat = found("BOAT").await?;
    ensure!(boat[0]["imei"].is_null() && boat[0]["ident"] == "boat" && boat[0]["vendor"] == "http");
    ensure!(found("'; DROP TABLE devices; --").await.is_err() || found("").await?.len() == 3);
    let id = stage.device(IMEI).await?;
    let told = stage.told(&format!("/devices/{id}")).await?;
    ensure!(
        told["device"]["name"] == "Van 100%" && told["device"]["family"] == "fmb",
        "{told}"
    );
    ensure!(
        told["latest"]["device_id"] == id && told["time"] == told["latest"]["time"],
        "{told}"
    );
    let values = told["values"].as_array().context("values")?;
    let value = |name: &str| values.iter().find(|it| it["name"] == name).cloned();
    let voltage = value("external_voltage").context("voltage")?;
    ensure!(
        voltage["value"] == 12.001 && voltage["unit"] == "V" && voltage["raw"] == 12001,
        "{voltage}"
    );
    ensure!(value("ignition").context("ignition")?["io_id"] == 239);
    let boat = boat[0]["id"].as_i64().context("id")?;
    let told = stage.told(&format!("/devices/{boat}")).await?;
    ensure!(told["latest"].is_null() && told["time"].is_null() && told["values"] == json!([]));
    stage
        .get("/devices/999")
        .await?
        .is_problem(404, "not-there")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_not_sent_again_and_what_is_large_is_packed() -> Result<()> {
    let mut stage = Stage::new().await?;
    let frames: Result<Vec<_>> = (0..20).map(|n| fix(IMEI + n, 5)).collect();
    stage.drive(&frames?).await?;
    for path in ["/latest", "/devices", "/devices/1"] {
        let plain = stage.get(path).await?;
        let tag = plain.header("etag").to_owned();
        ensure!(!tag.is_empty() && plain.header("content-encoding").is_empty());
        ensure!(plain.header("vary").contains("Accept-Encoding"));
        let again = stage.look(path, &[("If-None-Match", &tag)]).await?;
        ensure!(
            again.status == 304 && again.body.is_empty(),
            "{path}: {again:?}"
        );
        ensure!(again.header("etag") == tag);
        let packed = stage.look(path, &[("Accept-Encoding", "br, gzip")]).await?;
        if plain.body.len() < 1_024 {
            ensure!(packed.body == plain.body, "{path}");
            continue;
        }
        ensure!(packed.header("content-encoding") == "gzip" && packed.header("etag") == tag);
        ensure!(packed.body.len() < plain.body.len() / 2, "{path}");
        ensure!(unpacked(&packed.body)? == plain.body, "{path}");
        let refused = stage.look(path, &[("Accept-Encoding", "gzip;q=0")]).await?;
        ensure!(refused.body == plain.body, "{path}");
    }
    let tag = stage.get("/latest").await?.header("etag").to_owned();
    stage.drive(&[fix(IMEI, 6)?]).await?;
    let changed = stage.look("/latest", &[("If-None-Match", &tag)]).await?;
    ensure!(changed.status == 200 && changed.header("etag") != tag);
    Ok(())
}

/// By another program than ours.
fn unpacked(bytes: &[u8]) -> Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), bytes)?;
    let input = std::fs::File::open(file.path())?;
    let mut gzip = Command::new("gzip");
    let output = gzip.arg("-dc").stdin(Stdio::from(input)).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_with_a_sentence() -> Result<()> {
    let stage = Stage::new().await?;
    for path in [
        "/devices?limit=0",
        "/devices?limit=5001",
        "/devices?limit=ten",
        "/devices?limit=1&limit=2",
        "/devices?after=",
        "/devices?after=7",
        "/devices?after=k99999999999999999999",
        "/devices?Q=van",
        "/devices?q=%00",
        "/latest?q=van",
        "/me?x=1",
        "/devices/0",
        "/devices/-1",
        "/devices/2147483648",
        "/devices/van",
        "/devices/%FF",
        "/devices/1?x=1",
    ] {
        stage
            .get(path)
            .await?
            .is_problem(400, "malformed")
            .context(path)?;
    }
    let long = format!("/devices?q={}", "x".repeat(101));
    stage.get(&long).await?.is_problem(400, "malformed")?;
    stage.get("/nothing").await?.is_problem(404, "no-path")?;
    stage
        .get("/devices/1/nothing")
        .await?
        .is_problem(404, "no-path")?;
    let posted = stage.post("/devices", "{}").await?;
    posted.is_problem(405, "method")?;
    ensure!(posted.header("allow").contains("GET"), "{posted:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_said_and_comes_back() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.told("/devices").await?;
    stage.postgres.stop().await?;
    let answer = stage.get("/devices").await?;
    answer.is_problem(503, "database")?;
    ensure!(!answer.header("retry-after").is_empty());
    stage.postgres.restart().await?;
    tests::tables::eventually("it answers again", async || {
        Ok(stage.get("/devices").await?.status == 200)
    })
    .await
}
