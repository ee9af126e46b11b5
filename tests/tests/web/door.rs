//! Who comes in, and what browsers are told.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::processes::program_path;
use tests::tables::eventually;

use super::stage::{API, Stage, ask};

fn no_tokens(open: &str) -> [(&'static str, Value); 2] {
    [("web.tokens", json!("")), ("web.open", json!(open))]
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_known_token_comes_in_and_only_an_operator_acts() -> Result<()> {
    let stage = Stage::new().await?;
    let me = format!("{API}/me");
    let with =
        async |value: &str| ask(stage.addr(), "GET", &me, &[("Authorization", value)], b"").await;
    let nobody = ask(stage.addr(), "GET", &me, &[], b"").await?;
    nobody.is_problem(401, "token")?;
    ensure!(nobody.header("www-authenticate").starts_with("Bearer"));
    for wrong in ["Bearer", "Bearer nobody-has-this-token", "Basic bWFkZQ=="] {
        with(wrong).await?.is_problem(401, "token")?;
    }
    let told = stage.told("/me").await?;
    ensure!(told["name"] == "looker" && told["role"] == "read", "{told}");
    ensure!(told["tiles"].is_null() && told["now"].is_string(), "{told}");
    let looker = [("Authorization", "Bearer made-up-token-to-look")];
    let path = format!("{API}/dead-letters/1/redrive");
    let refused = ask(stage.addr(), "POST", &path, &looker, b"").await?;
    refused.is_problem(403, "role")?;
    // A token in an address ends up in logs: it is no parameter.
    let path = format!("{me}?token=made-up-token-to-look");
    ask(stage.addr(), "GET", &path, &[], b"")
        .await?
        .is_problem(401, "token")?;
    // Pages of another site do not have the token; where it is, whose page asks does not matter.
    let foreign = [
        looker[0],
        ("Host", "map.example"),
        ("Origin", "https://map.example"),
    ];
    ensure!(ask(stage.addr(), "GET", &me, &foreign, b"").await?.status == 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_counts_within_seconds_and_a_broken_file_changes_nothing() -> Result<()> {
    let stage = Stage::new().await?;
    let make = |words: &[&str]| -> Result<(Option<i32>, String)> {
        let output = std::process::Command::new(program_path("cloud")?)
            .env_clear()
            .args(["--json", "web", "token", "new", "--file"])
            .arg(&stage.tokens)
            .args(words)
            .output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?))
    };
    let before = std::fs::read_to_string(&stage.tokens)?;
    ensure!(make(&["ann", "--role", "operator", "--dry-run"])?.0 == Some(0));
    ensure!(std::fs::read_to_string(&stage.tokens)? == before);
    let (code, out) = make(&["ann", "--role", "operator"])?;
    let told: Value = serde_json::from_str(&out)?;
    let token = told["token"].as_str().unwrap_or_default().to_owned();
    ensure!(code == Some(0) && token.len() == 64, "{out}");
    let after = std::fs::read_to_string(&stage.tokens)?;
    ensure!(
        after.starts_with(&before) && !after.contains(&token),
        "{after}"
    );
    ensure!(after.trim_end().ends_with("role=operator"), "{after}");
    for bad in [&["ann", "--role", "read"][..], &["a b", "--role", "read"]] {
        ensure!(make(bad)?.0 == Some(2), "{bad:?}");
    }
    let bearer = format!("Bearer {token}");
    let me = async || {
        let headers = [("Authorization", bearer.as_str())];
        ask(stage.addr(), "GET", &format!("{API}/me"), &headers, b"").await
    };
    eventually("the new token counts", async || {
        let told = me().await?.json();
        Ok(told["name"] == "ann" && told["role"] == "operator")
    })
    .await?;
    std::fs::write(&stage.tokens, "ann nonsense\n")?;
    eventually("the broken file is told", async || {
        let log = std::fs::read_to_string(stage.cloud.log())?;
        me().await?;
        Ok(log.contains("line 1") && log.contains("stay in force"))
    })
    .await?;
    ensure!(me().await?.status == 200, "what was known stays known");
    std::fs::write(&stage.tokens, before)?;
    eventually("a token whose line is gone opens nothing", async || {
        Ok(me().await?.status == 401)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_keeps_the_cloud_from_starting() -> Result<()> {
    let mut stage = Stage::new().await?;
    std::fs::set_permissions(&stage.tokens, PermissionsExt::from_mode(0o644))?;
    let refused = stage.cloud.restart().await;
    let said = format!("{:?}", refused.err());
    ensure!(said.contains("chmod 0640"), "{said}");
    std::fs::remove_file(&stage.tokens)?;
    let refused = stage.cloud.restart().await;
    let said = format!("{:?}", refused.err());
    ensure!(
        said.contains("web.tokens") && said.contains("cannot be read"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_nobody_comes_in_unless_the_door_is_open_to_this_machine() -> Result<()> {
    let mut stage = Stage::with(&no_tokens("no")).await?;
    let me = format!("{API}/me");
    let get = async |stage: &Stage, headers: &[(&str, &str)]| {
        ask(stage.addr(), "GET", &me, headers, b"").await
    };
    let closed = get(&stage, &[]).await?;
    closed.is_problem(401, "closed")?;
    ensure!(
        closed.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .contains("cloud web token new")
    );
    let page = ask(stage.addr(), "GET", "/", &[], b"").await?;
    ensure!(page.status == 200, "the app says how to open it");
    stage.cloud.set(("web.open", json!("read")));
    stage.cloud.restart().await?;
    let told = get(&stage, &[]).await?.json();
    ensure!(told["name"] == "local" && told["role"] == "read", "{told}");
    let host = format!("localhost:{}", stage.addr().port());
    let origin = format!("http://{host}");
    let own = [
        ("Host", host.as_str()),
        ("Origin", origin.as_str()),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    ensure!(get(&stage, &own).await?.status == 200);
    let foreign: [&[(&str, &str)]; 5] = [
        &[("Host", "rebound.example")],
        &[("Origin", "https://elsewhere.example")],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
    ];
    for headers in foreign {
        get(&stage, headers).await?.is_problem(403, "foreign")?;
    }
    let path = format!("{API}/dead-letters/1/redrive");
    let refused = ask(stage.addr(), "POST", &path, &[], b"").await?;
    refused.is_problem(403, "role")?;
    stage.cloud.set(("web.open", json!("operator")));
    stage.cloud.restart().await?;
    ensure!(get(&stage, &[]).await?.json()["role"] == "operator");
    // The network is no machine of ours.
    stage.cloud.set(("http.listen", json!("0.0.0.0:0")));
    let said = format!("{:?}", stage.cloud.restart().await.err());
    ensure!(
        said.contains("web.open") && said.contains("loopback"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_told_to_load_nothing_from_elsewhere() -> Result<()> {
    let tiles = ("web.tiles", json!("https://tiles.example/{z}/{x}/{y}.png"));
    let stage = Stage::with(&[tiles]).await?;
    let page = ask(stage.addr(), "GET", "/", &[], b"").await?;
    ensure!(page.status == 200 && page.text().starts_with("<!doctype html>"));
    ensure!(page.header("content-type") == "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'self'",
        "script-src 'self';",
        "connect-src 'self' https://tiles.example;",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ] {
        ensure!(policy.contains(part), "no {part} in {policy}");
    }
    ensure!(page.header("cache-control") == "no-cache");
    let known = [("If-None-Match", page.header("etag"))];
    let again = ask(stage.addr(), "GET", "/index.html", &known, b"").await?;
    ensure!(again.status == 304 && again.body.is_empty(), "{again:?}");
    let place = [("Accept", "text/html,*/*")];
    ensure!(
        ask(stage.addr(), "GET", "/device/1", &place, b"")
            .await?
            .body
            == page.body
    );
    let lost = ask(stage.addr(), "GET", "/device/1", &[], b"").await?;
    lost.is_problem(404, "no-path")?;
    for path in [
        "/../Cargo.toml",
        "/assets/../index.html",
        "/%2e%2e/x",
        "/nothing.js",
    ] {
        let lost = ask(stage.addr(), "GET", path, &place, b"").await?;
        ensure!(lost.status == 404, "{path}: {}", lost.status);
    }
    ensure!(ask(stage.addr(), "POST", "/", &[], b"").await?.status == 405);
    let told = stage.get("/me").await?;
    ensure!(told.json()["tiles"] == "https://tiles.example/{z}/{x}/{y}.png");
    for answer in [&page, &told, &stage.get("/nothing").await?] {
        ensure!(
            answer.header("x-content-type-options") == "nosniff",
            "{answer:?}"
        );
        ensure!(answer.header("referrer-policy") == "no-referrer" || answer.status == 404);
        ensure!(
            answer.header("access-control-allow-origin").is_empty(),
            "CORS is off"
        );
    }
    let preflight = [
        ("Origin", "https://elsewhere.example"),
        ("Access-Control-Request-Method", "GET"),
    ];
    let path = format!("{API}/devices");
    let asked = ask(stage.addr(), "OPTIONS", &path, &preflight, b"").await?;
    ensure!(asked.status >= 400 && asked.header("access-control-allow-origin").is_empty());
    // It listens before it has seen Redis and the database.
    eventually("it is ready", async || {
        Ok(ask(stage.addr(), "GET", "/ready", &[], b"").await?.status == 200)
    })
    .await?;
    // What was there before is where it was.
    for path in ["/health", "/ready", "/status", "/metrics", "/queue/status"] {
        ensure!(
            ask(stage.addr(), "GET", path, &[], b"").await?.status == 200,
            "{path}"
        );
    }
    Ok(())
}
