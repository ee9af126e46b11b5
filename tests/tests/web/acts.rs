//! What an operator does: commands, dead letters; and the pipeline that shows what became of it all.

use anyhow::{Context as _, Result, ensure};
use codec::encode::MessageSpec;
use serde_json::{Value, json};
use tests::batches::Sent;
use tests::fleet::Tracker;
use tests::processes::{Gateway, Setting};
use tests::servers::GATEWAY;
use tests::tables::eventually;

use super::stage::{API, IMEI, START_MS, Stage, fix};

/// A gateway beside the stage.
async fn gateway(stage: &Stage) -> Result<Gateway> {
    let settings: [Setting; 0] = [];
    let dir = stage.dir.path();
    Gateway::start(dir, Some(dir), GATEWAY, &stage.redis, &settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_goes_to_its_tracker_and_its_answer_is_seen() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.drive(&[fix(IMEI, 1)?]).await?;
    let id = stage.device(IMEI).await?;
    let path = format!("/devices/{id}/commands");
    let posted = stage
        .post(&path, "{\"text\": \"getinfo\", \"expires_in_s\": 600}")
        .await?;
    ensure!(posted.status == 201, "{} {}", posted.status, posted.text());
    let told = posted.json();
    let cid = told["id"].as_str().context("an id")?.to_owned();
    ensure!(posted.header("location") == format!("{API}/commands/{cid}"));
    ensure!(
        told["state"] == "queued"
            && told["device_id"] == id
            && told["imei"] == "350000000000017"
            && told["text"] == "getinfo"
            && told["requested_by"] == "actor"
            && told["response"].is_null(),
        "{told}"
    );
    let gateway = gateway(&stage).await?;
    let mut tracker = Tracker::connect(gateway.tcp_addr(), IMEI).await?;
    ensure!(tracker.login().await?);
    let (_, order) = tracker.read_order().await?;
    ensure!(order == "getinfo", "{order}");
    let state = async |state: &str| {
        let told = stage.told(&format!("/commands/{cid}")).await?;
        Ok(told["state"] == state)
    };
    eventually("it is sent", async || state("sent").await).await?;
    let response = MessageSpec::response(b"INI:2019/7/22");
    tracker.send_message(&response).await?;
    eventually("it is acked", async || state("acked").await).await?;
    let told = stage.told(&format!("/commands/{cid}")).await?;
    ensure!(
        told["response"] == "INI:2019/7/22" && told["finished_at"].is_string(),
        "{told}"
    );
    let list = stage.told(&path).await?;
    ensure!(list["items"][0] == told && list["next"].is_null(), "{list}");
    let late = stage.post(&format!("/commands/{cid}/cancel"), "").await?;
    late.is_problem(409, "too-late")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_taken_back_while_nobody_has_it_and_pages_tell_each_once() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.drive(&[fix(IMEI, 1)?]).await?;
    let id = stage.device(IMEI).await?;
    let path = format!("/devices/{id}/commands");
    let mut ids = Vec::new();
    for n in 0..5 {
        let posted = stage
            .post(&path, &json!({"text": format!("cmd {n}")}).to_string())
            .await?;
        ids.insert(0, posted.json()["id"].clone());
    }
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let told = stage.told(&format!("{path}?limit=2{after}")).await?;
        let items = told["items"].as_array().context("items")?;
        found.extend(items.iter().map(|it| it["id"].clone()));
        match told["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    ensure!(found == ids, "{found:?} {ids:?}");
    let cid = ids[0].as_str().context("an id")?;
    let gone = stage.post(&format!("/commands/{cid}/cancel"), "").await?;
    let told = gone.json();
    ensure!(
        gone.status == 200 && told["state"] == "nacked" && told["reason"] == "cancelled",
        "{told}"
    );
    let upper = stage
        .told(&format!("/commands/{}", cid.to_uppercase()))
        .await?;
    ensure!(upper == told);
    stage
        .get("/commands/7")
        .await?
        .is_problem(400, "malformed")?;
    let unknown = "01936f4e-7c00-7000-8000-0000000000aa";
    stage
        .get(&format!("/commands/{unknown}"))
        .await?
        .is_problem(404, "not-there")?;
    stage
        .post(&format!("/commands/{unknown}/cancel"), "")
        .await?
        .is_problem(404, "not-there")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_command_is_refused_and_inserts_nothing() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.drive(&[fix(IMEI, 1)?]).await?;
    stage
        .tables
        .run("INSERT INTO devices (ident, vendor, first_seen, last_seen) VALUES ('boat', 'http', now(), now())")
        .await?;
    let id = stage.device(IMEI).await?;
    let path = format!("/devices/{id}/commands");
    for body in [
        "",
        "{",
        "[]",
        "{}",
        "{\"text\": 7}",
        "{\"text\": \"a\", \"codec\": 14}",
        "{\"text\": \"a\", \"expires_in_s\": 0}",
        "{\"text\": \"a\", \"expires_in_s\": 2592001}",
        "{\"text\": \"a\", \"expires_in_s\": -5}",
        "{\"text\": \"a\\u0000b\"}",
        "{\"text\": \"\u{fffd}\", \"text\": \"b\"}",
    ] {
        let answer = stage.post(&path, body).await?;
        answer
            .is_problem(400, "malformed")
            .with_context(|| body.to_owned())?;
    }
    for text in ["", "  ", &"x".repeat(4_097)] {
        let body = json!({"text": text}).to_string();
        stage.post(&path, &body).await?.is_problem(422, "refused")?;
    }
    let large = json!({"text": "x".repeat(20_000)}).to_string();
    stage
        .post(&path, &large)
        .await?
        .is_problem(413, "too-large")?;
    let bearer = ("Authorization", "Bearer made-up-token-to-act");
    let headers = [bearer, ("Content-Type", "text/plain")];
    let whole = format!("{API}{path}");
    let answer =
        super::stage::ask(stage.addr(), "POST", &whole, &headers, b"{\"text\":\"a\"}").await?;
    answer.is_problem(415, "media-type")?;
    stage
        .post("/devices/999/commands", "{\"text\": \"a\"}")
        .await?
        .is_problem(404, "not-there")?;
    let boat = stage.told("/devices?q=boat").await?["items"][0]["id"].clone();
    let answer = stage
        .post(&format!("/devices/{boat}/commands"), "{\"text\": \"a\"}")
        .await?;
    answer.is_problem(409, "too-late")?;
    ensure!(stage.told(&path).await?["items"] == json!([]));
    Ok(())
}

/// What a codec nobody knows looks like: two records, says its count.
fn unknown(n: u64) -> Sent {
    Sent {
        imei: IMEI,
        received_at_ms: START_MS + n * 1_000,
        data: vec![0x77, 2, 1, 2, 3, 4, 5, 6, 7, 2],
    }
}

async fn ledger(stage: &Stage) -> Result<Value> {
    // What the tables said is told again for some seconds.
    eventually("the ledger is there", async || {
        Ok(stage.told("/pipeline").await?["ledger"].is_object())
    })
    .await?;
    Ok(stage.told("/pipeline").await?["ledger"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_shown_with_the_byte_it_stopped_at_and_redriven() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage
        .send(&[fix(IMEI, 0)?, unknown(1), fix(IMEI, 2)?, unknown(3)])
        .await?;
    eventually("they are dead letters", async || {
        let told = stage.told("/dead-letters").await?;
        Ok(told["items"].as_array().is_some_and(|it| it.len() == 2))
    })
    .await?;
    let first = stage.told("/dead-letters?limit=1").await?;
    let next = first["next"].as_str().context("a second page")?;
    let second = stage
        .told(&format!("/dead-letters?limit=1&after={next}"))
        .await?;
    ensure!(second["next"].is_null(), "{second}");
    let item = &second["items"][0];
    let id = item["id"].as_i64().context("an id")?;
    ensure!(
        first["items"][0]["id"].as_i64() > Some(id),
        "the newest first"
    );
    ensure!(
        item["class"] == "codec"
            && item["imei"] == "350000000000017"
            && item["vendor"] == "teltonika"
            && item["gateway"] == "depot"
            && item["records"] == 2
            && item["size_bytes"] == 10,
        "{item}"
    );
    let told = stage.told(&format!("/dead-letters/{id}")).await?;
    ensure!(
        told["hex"] == "77020102030405060702"
            && told["truncated"] == false
            && told["stopped_at"] == 0
            && told["redrive_would_succeed"] == false
            && told["because"].as_str().is_some_and(|it| !it.is_empty())
            && told["notes"].as_array().is_some_and(|it| it.len() == 3),
        "{told}"
    );
    let redrive = format!("/dead-letters/{id}/redrive");
    let stays = stage.post(&redrive, "").await?;
    ensure!(
        stays.status == 200 && stays.json()["outcome"] == "stays",
        "{}",
        stays.text()
    );
    let before = ledger(&stage).await?;
    ensure!(
        before["dead"] == 4 && before["stored"] == 2 && before["difference"] == 0,
        "{before}"
    );
    // The bytes become what an older decoder could not read and today's can.
    let data = hex::encode(fix(IMEI, 1)?.data);
    stage
        .tables
        .run(&format!(
            "UPDATE frames f SET data = '\\x{data}' FROM dead_letters l WHERE l.id = {id} \
                 AND f.spool_id = l.spool_id AND f.seq = l.seq; \
             UPDATE dead_letters SET bytes = '\\x{data}' WHERE id = {id}"
        ))
        .await?;
    ensure!(stage.told(&format!("/dead-letters/{id}")).await?["redrive_would_succeed"] == true);
    let done = stage.post(&redrive, "").await?.json();
    ensure!(
        done["outcome"] == "redriven" && done["stored"] == 1,
        "{done}"
    );
    stage
        .post(&redrive, "")
        .await?
        .is_problem(404, "not-there")?;
    stage
        .get(&format!("/dead-letters/{id}"))
        .await?
        .is_problem(404, "not-there")?;
    eventually("the ledger balances with it", async || {
        let now = ledger(&stage).await?;
        Ok(now["dead"] == 2 && now["stored"] == 3 && now["difference"] == 0)
    })
    .await?;
    for bad in [
        "/dead-letters/0",
        "/dead-letters/x",
        "/dead-letters/9007199254740992",
    ] {
        stage.get(bad).await?.is_problem(400, "malformed")?;
    }
    Ok(())
}

fn state(told: &Value, name: &str) -> String {
    let stages = told["stages"].as_array().cloned().unwrap_or_default();
    let found = stages.iter().find(|it| it["name"] == name);
    found
        .and_then(|it| it["state"].as_str())
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_tells_what_moves_what_stands_and_what_does_not_balance() -> Result<()> {
    let mut stage = Stage::new().await?;
    let gateway = gateway(&stage).await?;
    let mut tracker = Tracker::connect(gateway.tcp_addr(), IMEI).await?;
    ensure!(tracker.login().await?);
    let mut n = 0;
    // Something new at every look, so that there is a rate.
    eventually("everything moves", async || {
        n += 1;
        tracker.send_frame(&fix(IMEI, n)?.data).await?;
        let told = stage.told("/pipeline").await?;
        let states =
            ["tracker", "gateway", "redis", "cloud", "database"].map(|it| state(&told, it));
        Ok(states.iter().all(|state| state == "moving"))
    })
    .await?;
    eventually("the gateway is there", async || {
        let told = stage.told("/pipeline").await?;
        let gateway = &told["gateways"][0];
        Ok(gateway["id"] == GATEWAY
            && gateway["last_seen"].is_string()
            && told["ledger"]["difference"] == 0
            && told["ledger"]["in_flight"] == 0)
    })
    .await?;
    stage
        .tables
        .run("UPDATE settled SET dead = 7, received = received + 7")
        .await?;
    eventually("what is missing is told", async || {
        let ledger = ledger(&stage).await?;
        let told = ledger["unaccounted"]
            .as_array()
            .is_some_and(|it| !it.is_empty());
        Ok(told && ledger["difference"].as_i64() >= Some(7))
    })
    .await?;
    stage.postgres.stop().await?;
    eventually("a database that is gone is told", async || {
        let told = stage.told("/pipeline").await?;
        Ok(state(&told, "database") == "stalled" && told["ledger"].is_null())
    })
    .await
}
