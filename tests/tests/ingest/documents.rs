//! The OpenAPI file and the examples of the manual say what the door does.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use gateway::ingest::problem::Problem;
use serde_json::{Map, Value, json};
use tests::openapi::{answers_as_documented, document};
use tests::tables::eventually;

use super::door::{BEARER, Door, TOKEN, batch};

fn text(name: &str) -> Result<String> {
    let path = document(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn api() -> Result<Value> {
    Ok(serde_json::from_str(&text("openapi-ingest.json")?)?)
}

/// Follows a reference inside the file.
fn resolved<'a>(api: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(place) => api.pointer(place.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

#[test]
fn every_status_of_a_problem_stands_in_the_api() -> Result<()> {
    let api = api()?;
    for problem in Problem::all() {
        let status = problem.status().to_string();
        if status == "404" {
            continue; // of no path
        }
        for (path, methods) in api["paths"].as_object().unwrap() {
            let post = &methods["post"]["responses"];
            let is_known = !post[&status].is_null() || path == "/" && status == "411";
            ensure!(is_known, "{status} of {path}");
        }
        let response = &api["components"]["responses"][format!("Problem{status}")];
        let says_when = !response["headers"]["Retry-After"].is_null();
        ensure!(says_when == problem.retry_after_s().is_some(), "{status}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_as_the_api_says() -> Result<()> {
    let door = Door::open(&[]).await?;
    let words = [
        // What may be together (one of device and imei, one of two names) no schema says, and a bad item
        // among good ones is told in a 202.
        "--exclude-checks=positive_data_acceptance,negative_data_rejection",
    ];
    let path = document("openapi-ingest.json");
    answers_as_documented(&path, door.addr, TOKEN, &words).await?;
    let answer = door.post("/v1/batch", &batch("van", 0, 3)).await?;
    ensure!(answer.status == 202, "it is still there: {answer:?}");
    Ok(())
}

/// A value that the schema allows, and those that it does not.
fn examples(api: &Value, name: &str, schema: &Value) -> (Value, Vec<Value>) {
    let schema = resolved(api, schema);
    match (name, schema["type"].as_str()) {
        ("imei", _) => (json!("356307042441013"), vec![json!("35630704244101")]),
        ("time", _) => (
            json!("2026-11-22T08:00:00Z"),
            vec![json!(true), json!("soon")],
        ),
        (_, Some("object")) => {
            let most = schema["maxProperties"].as_u64().unwrap();
            let many = |count: u64| -> Map<String, Value> {
                (0..count).map(|at| (format!("a{at}"), at.into())).collect()
            };
            (many(most).into(), vec![many(most + 1).into(), json!([])])
        }
        (_, Some("string")) => {
            let most = usize::try_from(schema["maxLength"].as_u64().unwrap()).unwrap();
            let longest = json!("x".repeat(most));
            (
                longest,
                vec![json!(""), json!("x".repeat(most + 1)), json!(7)],
            )
        }
        _ => {
            let (least, most) = (&schema["minimum"], &schema["maximum"]);
            let (below, above) = (least.as_f64().unwrap() - 0.5, most.as_f64().unwrap() + 0.5);
            (most.clone(), vec![json!(below), json!(above), json!("7")])
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_takes_what_the_api_allows_and_nothing_else() -> Result<()> {
    let door = Door::open(&[]).await?;
    let api = api()?;
    let schema = &api["components"]["schemas"]["Item"];
    ensure!(schema["additionalProperties"] == false);
    let least = json!({ "device": "a", "time": 1_795_334_400, "latitude": 1, "longitude": 2 });
    let (mut good, mut bad) = (vec![least.clone()], Vec::new());
    for (name, property) in schema["properties"].as_object().unwrap() {
        let mut base = least.clone();
        let other = match name.as_str() {
            "imei" => Some("device"),
            "lat" => Some("latitude"),
            "lon" => Some("longitude"),
            _ => None,
        };
        if let Some(other) = other {
            base.as_object_mut().unwrap().remove(other);
        }
        let (allowed, refused) = examples(&api, name, property);
        let with = |value: &Value| {
            let mut item = base.clone();
            item[name.as_str()] = value.clone();
            item
        };
        good.push(with(&allowed));
        bad.extend(refused.iter().map(with));
    }
    let mut unknown = least.clone();
    unknown["velocity"] = json!(7);
    bad.push(unknown);
    let count = good.len();
    ensure!(count == 13 && bad.len() > 25, "{count}, {}", bad.len());
    let both: Value = good.iter().chain(&bad).cloned().collect();
    for path in [
        "/v1/batch",
        "/tracking/live",
        "/tracking/upload",
        "/scoring/batch",
    ] {
        ensure!(
            api["paths"][path]["post"]["responses"]["202"].is_object(),
            "{path}"
        );
        let answer = door.post(path, &both).await?;
        ensure!(answer.status == 202, "{answer:?}");
        let said = answer.json();
        let indexes = said["rejected"].as_array().unwrap().iter();
        let indexes: Vec<_> = indexes.map(|one| one["index"].as_u64().unwrap()).collect();
        let wanted = u64::try_from(count)?..u64::try_from(count + bad.len())?;
        ensure!(indexes == wanted.collect::<Vec<_>>(), "{said}");
        let receipt = said["receipt"].as_str().unwrap();
        ensure!(receipt.as_bytes()[16] == b':', "{receipt}");
    }
    // Every path and method of the file is there, and no other.
    for (path, methods) in api["paths"].as_object().unwrap() {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let answer = door.ask(method, path, &[BEARER], b"").await?;
            let is_known = !methods[method.to_lowercase()].is_null();
            ensure!(
                (answer.status == 405) != is_known,
                "{method} {path}: {answer:?}"
            );
            let known = &methods[method.to_lowercase()]["responses"];
            ensure!(
                !is_known || !known[answer.status.to_string()].is_null(),
                "{method} {path}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_manual_work() -> Result<()> {
    let door = Door::open(&[]).await?;
    let manual = text("http-ingest.md")?;
    std::fs::write(
        door.dir.path().join("batch.json"),
        batch("van-7", 0, 3).to_string(),
    )?;
    let track = "<gpx><trk><trkseg><trkpt lat=\"1\" lon=\"2\"><time>2026-11-22T08:00:00Z</time></trkpt></trkseg></trk></gpx>";
    std::fs::write(door.dir.path().join("track.gpx"), track)?;
    let examples: Vec<_> = manual
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(example, _)| example))
        .filter(|example| example.contains("curl "))
        .collect();
    ensure!(examples.len() >= 5, "{} examples", examples.len());
    for example in &examples {
        let script = example
            .replace("https://gateway.example", &format!("http://{}", door.addr))
            .replace("$TOKEN", TOKEN)
            .replace(
                "curl ",
                "curl --fail-with-body --silent --show-error --max-time 20 ",
            );
        let output = Command::new("sh")
            .args(["-ec", &script])
            .current_dir(door.dir.path())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success()
                && said.contains("\"accepted\":")
                && !said.contains("\"accepted\":0"),
            "{example}\n{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    eventually("they are counted", async || {
        let status = door.gateway.status().await?;
        Ok(status["ingest"]["positions_accepted"].as_u64() >= Some(examples.len() as u64))
    })
    .await
}
