//! Paths and lanes, and every form a body may have.

use anyhow::{Result, ensure};
use serde_json::json;

use super::door::{BEARER, Door, JSON, TOKEN, batch};
use super::statuses::gzip;

#[tokio::test(flavor = "multi_thread")]
async fn every_path_has_its_lane() -> Result<()> {
    let mut door = Door::open(&[]).await?;
    door.redis.pause()?;
    let mut expected = [0_u64; 3];
    let body = batch("van", 0, 2);
    for (path, lane) in [
        ("/tracking/live", 0),
        ("/tracking/upload", 1),
        ("/tracking/flymaster/upload/file", 2),
        ("/scoring/batch", 1),
        ("/v1/batch", 1),
        ("/v1/batch?lane=high", 0),
        ("/v1/batch?lane=bulk", 2),
    ] {
        let answer = door.post(path, &body).await?;
        ensure!(answer.status == 202, "{path}: {answer:?}");
        expected[lane] += 1;
        for (at, lane) in ["high", "normal", "bulk"].into_iter().enumerate() {
            let waiting = door.waiting(lane).await?;
            ensure!(waiting == expected[at], "{path}: {waiting} in {lane}");
        }
    }
    door.redis.resume()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_of_five_hundred_keeps_the_others_in_every_form() -> Result<()> {
    let door = Door::open(&[]).await?;
    let mut items = batch("van", 0, 500);
    items[321]["latitude"] = json!(91);
    let items = items.as_array().unwrap();
    let lines: Vec<_> = items.iter().map(ToString::to_string).collect();
    let lines = lines.join("\n").into_bytes();
    let array = serde_json::to_vec(items)?;
    let zstd = zstd::bulk::compress(&lines, 3)?;
    for (media_type, coding, body) in [
        ("application/json", "identity", &array),
        ("application/json", "gzip", &gzip(&array)?),
        ("application/x-ndjson", "", &lines),
        ("application/x-ndjson; charset=utf-8", "zstd", &zstd),
        ("application/msgpack", "", &msgpack(items)),
    ] {
        let headers = [
            BEARER,
            ("Content-Type", media_type),
            ("Content-Encoding", coding),
        ];
        let answer = door.ask("POST", "/v1/batch", &headers, body).await?;
        let said = answer.json();
        ensure!(
            answer.status == 202 && said["accepted"] == 499,
            "{media_type}: {answer:?}"
        );
        ensure!(
            said["rejected"].as_array().unwrap().len() == 1,
            "{answer:?}"
        );
        ensure!(said["rejected"][0]["index"] == 321, "{answer:?}");
        ensure!(
            said["rejected"][0]["reason"]
                .as_str()
                .unwrap()
                .contains("latitude")
        );
    }
    let status = door.gateway.status().await?;
    ensure!(
        status["spool"]["records_durable"] == 5 * 499,
        "{}",
        status["spool"]
    );
    ensure!(
        status["ingest"]["items_rejected"] == 5,
        "{}",
        status["ingest"]
    );
    Ok(())
}

/// As short as MsgPack can say it here: maps and texts below 16 entries and 32 bytes.
fn msgpack(items: &[serde_json::Value]) -> Vec<u8> {
    let mut bytes = vec![0xdc];
    bytes.extend(u16::try_from(items.len()).unwrap().to_be_bytes());
    items.iter().for_each(|item| put(&mut bytes, item));
    bytes
}

fn put(bytes: &mut Vec<u8>, value: &serde_json::Value) {
    if let Some(members) = value.as_object() {
        bytes.push(0x80 | u8::try_from(members.len()).unwrap());
        for (name, value) in members {
            put(bytes, &json!(name));
            put(bytes, value);
        }
    } else if let Some(text) = value.as_str() {
        bytes.push(0xa0 | u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    } else {
        bytes.push(0xcb);
        bytes.extend(value.as_f64().unwrap().to_be_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_app_reports_with_its_token_in_the_query_or_as_a_password() -> Result<()> {
    let mut door = Door::open(&[]).await?;
    door.redis.pause()?;
    let position = "id=phone-1&lat=52.5&lon=13.25&timestamp=1795334400&speed=10&bearing=90\
        &altitude=34&accuracy=5&batt=85";
    let in_query = format!("/?token={TOKEN}&{position}");
    for method in ["GET", "POST"] {
        let answer = door.ask(method, &in_query, &[], b"").await?;
        ensure!(
            answer.status == 200 && answer.json()["accepted"] == 1,
            "{answer:?}"
        );
    }
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let path = format!("/?token={TOKEN}");
    let answer = door
        .ask("POST", &path, &[form], position.as_bytes())
        .await?;
    ensure!(answer.status == 200, "{answer:?}");
    // `anybody:made-up-token-of-the-api`, in base64.
    let basic = (
        "Authorization",
        "Basic YW55Ym9keTptYWRlLXVwLXRva2VuLW9mLXRoZS1hcGk=",
    );
    ensure!(
        door.ask("GET", &format!("/?{position}"), &[basic], b"")
            .await?
            .status
            == 200
    );
    let newer = json!({
        "location": { "timestamp": "2026-11-22T08:00:00Z",
                      "coords": { "latitude": 52.5, "longitude": 13.25, "speed": 10 } },
        "device_id": "phone-1"
    });
    let answer = door
        .ask("POST", "/", &[basic, JSON], newer.to_string().as_bytes())
        .await?;
    ensure!(
        answer.status == 200 && answer.json()["accepted"] == 1,
        "{answer:?}"
    );
    ensure!(door.waiting("normal").await? == 5);
    for (path, status) in [
        ("/?lat=1&lon=2&id=a", 401),
        ("/?token=made-up-token-of-nobody&lat=1&lon=2&id=a", 401),
        (&format!("/?token={TOKEN}&lat=1&id=a"), 400),
        (&format!("/?token={TOKEN}"), 400),
    ] {
        let answer = door.ask("GET", path, &[], b"").await?;
        ensure!(answer.status == status, "{path}: {answer:?}");
    }
    ensure!(door.ask("PUT", &in_query, &[], b"").await?.status == 405);
    door.redis.resume()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_uploaded_for_one_device_into_the_slow_lane() -> Result<()> {
    let mut door = Door::open(&[]).await?;
    door.redis.pause()?;
    let gpx = "<gpx version=\"1.1\"><trk><trkseg>\
        <trkpt lat=\"52.5\" lon=\"13.25\"><ele>34</ele><time>2026-11-22T08:00:00Z</time></trkpt>\
        <trkpt lat=\"52.6\" lon=\"13.25\"><time>2026-11-22T08:00:01Z</time></trkpt>\
        <trkpt lat=\"52.7\" lon=\"13.25\"/></trkseg></trk></gpx>";
    let csv = "time,lat,lon,speed_kmh\n2026-11-22T08:00:00Z,52.5,13.25,50\n,1,2,3\n";
    for (path, media_type, body, accepted) in [
        ("/v1/upload?device=van", "application/gpx+xml", gpx, 2),
        ("/v1/upload?imei=356307042441013", "text/csv", csv, 1),
        (
            "/tracking/flymaster/upload/file?device=glider",
            "application/gpx+xml",
            gpx,
            2,
        ),
    ] {
        let headers = [BEARER, ("Content-Type", media_type)];
        let answer = door.ask("POST", path, &headers, body.as_bytes()).await?;
        let said = answer.json();
        ensure!(
            answer.status == 202 && said["accepted"] == accepted,
            "{path}: {answer:?}"
        );
        ensure!(
            said["rejected"].as_array().unwrap().len() == 1,
            "{path}: {answer:?}"
        );
    }
    ensure!(door.waiting("bulk").await? == 3);
    let headers = [BEARER, ("Content-Type", "application/gpx+xml")];
    let nobody = door
        .ask("POST", "/v1/upload", &headers, gpx.as_bytes())
        .await?;
    ensure!(nobody.status == 422, "{nobody:?}");
    let both = door
        .ask(
            "POST",
            "/v1/upload?device=a&imei=b",
            &headers,
            gpx.as_bytes(),
        )
        .await?;
    ensure!(both.status == 400, "{both:?}");
    door.redis.resume()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_commit_however_many_devices_it_has() -> Result<()> {
    let door = Door::open(&[]).await?;
    let commits = async || -> Result<u64> {
        let status = door.gateway.status().await?;
        Ok(status["spool"]["commits"].as_u64().unwrap())
    };
    let before = commits().await?;
    let mut items = batch("", 0, 100);
    for (at, item) in items.as_array_mut().unwrap().iter_mut().enumerate() {
        item["device"] = json!(format!("van-{}", at % 20));
    }
    let answer = door.post("/v1/batch", &items).await?;
    let said = answer.json();
    let receipt = said["receipt"].as_str().unwrap_or_default();
    ensure!(
        receipt.ends_with(":1-20"),
        "one frame for each device: {answer:?}"
    );
    ensure!(commits().await? == before + 1);
    Ok(())
}
