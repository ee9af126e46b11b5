//! The OpenAPI document says what the API does: every operation, asked by a program that read nothing
//! else.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use cloud::web::problem::Problem;
use serde_json::Value;
use tests::batches::Sent;
use tests::openapi::{answers_as_documented, document};
use tests::tables::eventually;
use tokio::process::Command;

use super::stage::{IMEI, START_MS, Stage, fix};

fn path() -> PathBuf {
    document("openapi-cloud.json")
}

fn api() -> Result<Value> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path())?)?)
}

#[test]
fn every_status_of_a_problem_stands_in_the_api() -> Result<()> {
    let api = api()?;
    let responses = &api["components"]["responses"];
    let mut wanted = BTreeSet::new();
    for problem in Problem::all() {
        let (status, ..) = problem.facts();
        // Of no path, or of no method of it.
        if status == 405 {
            continue;
        }
        let response = &responses[format!("Problem{status}")];
        ensure!(response.is_object(), "{status} is not there");
        let says_when = response["headers"]["Retry-After"].is_object();
        ensure!(says_when == problem.retry_after_s().is_some(), "{status}");
        wanted.insert(format!("Problem{status}"));
    }
    let told: BTreeSet<String> = responses
        .as_object()
        .context("responses")?
        .keys()
        .filter(|name| name.starts_with("Problem"))
        .cloned()
        .collect();
    ensure!(told == wanted, "{told:?} {wanted:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_as_it_stands() -> Result<()> {
    let stage = Stage::new().await?;
    let path = format!("{}/openapi.json", super::stage::API);
    let served = super::stage::ask(stage.addr(), "GET", &path, &[], b"").await?;
    ensure!(served.status == 200 && served.json() == api()?);
    let known = [("If-None-Match", served.header("etag"))];
    let again = super::stage::ask(stage.addr(), "GET", &path, &known, b"").await?;
    ensure!(again.status == 304, "{again:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_as_the_document_says() -> Result<()> {
    let mut stage = Stage::new().await?;
    let dead = Sent {
        imei: IMEI,
        received_at_ms: START_MS,
        data: vec![0x77, 2, 1, 2, 3, 4, 5, 6, 7, 2],
    };
    stage.drive(&[fix(IMEI, 1)?, fix(IMEI + 8, 2)?]).await?;
    stage.send(&[dead]).await?;
    stage
        .post("/devices/1/commands", "{\"text\": \"getinfo\"}")
        .await?;
    eventually("there is something of everything", async || {
        let letters = stage.told("/dead-letters").await?;
        let commands = stage.told("/devices/1/commands").await?;
        let is_any = |told: &Value| told["items"].as_array().is_some_and(|it| !it.is_empty());
        Ok(is_any(&letters) && is_any(&commands))
    })
    .await?;
    let words = [
        // It never ends; its own tests listen to it.
        "--exclude-operation-id=live",
        // What parameters may be together (from before to, a month apart) no schema says.
        "--exclude-checks=positive_data_acceptance",
    ];
    answers_as_documented(&path(), stage.addr(), "made-up-token-to-act", &words).await?;
    ensure!(
        stage.told("/me").await?["name"] == "looker",
        "it is still there"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_manual_work() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.drive(&[fix(IMEI, 1)?, fix(IMEI, 2)?]).await?;
    let manual = std::fs::read_to_string(document("web.md"))?;
    let examples: Vec<&str> = manual
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(example, _)| example))
        .collect();
    ensure!(examples.len() >= 8, "{} examples", examples.len());
    for example in examples {
        let curl = "curl --fail-with-body --silent --show-error --max-time 20 ";
        let script = example
            .replace("127.0.0.1:8081", &stage.addr().to_string())
            .replace("$TOKEN", "made-up-token-to-act")
            .replace("curl ", curl);
        let output = Command::new("sh")
            .args(["-ec", &script])
            .current_dir(stage.dir.path())
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{example}\n{said}{why}");
    }
    let csv = std::fs::read_to_string(stage.dir.path().join("track.csv"))?;
    ensure!(csv.lines().count() == 3, "{csv}");
    Ok(())
}
