//! What a support bundle holds, and what it must not.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::processes::get;

use super::gateway_box::GatewayBox;
use super::{IMEI, SHORT, one_known_one_refused};

/// The parts of a support bundle by name.
fn parts(file: &std::path::Path) -> Result<BTreeMap<String, String>> {
    let bytes = zstd::stream::decode_all(std::fs::File::open(file)?)?;
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut parts = BTreeMap::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        parts.insert(entry.path()?.display().to_string(), text);
    }
    Ok(parts)
}

const SETTINGS: &str =
    "[uplink]\nurl = \"redis://box:geheim@127.0.0.1:1/\"\n[log]\nimei = \"full\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_support_bundle_has_the_facts_and_no_secret() -> Result<()> {
    let gateway = GatewayBox::start(SETTINGS, &[]).await?;
    let _known = one_known_one_refused(&gateway).await?;
    let ran = gateway.call(&["support", "--json"]).await?;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let file = gateway.dir().join("milepost-support-panel-test.tar.zst");
    assert_eq!(
        ran.json()?[0]["file"],
        "milepost-support-panel-test.tar.zst"
    );
    assert_eq!(
        std::fs::metadata(&file)?.permissions().mode() & 0o777,
        0o600
    );
    let found = parts(&file)?;
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "check.json",
            "machine.json",
            "metrics.txt",
            "running.json",
            "settings.json",
            "spool.json",
            "unit.txt",
            "version.json"
        ]
    );
    let json = |name: &str| -> Result<Value> {
        serde_json::from_str(&found[name]).with_context(|| found[name].clone())
    };
    let running = json("running.json")?;
    assert_eq!(running["status"]["records_acked"], 1);
    assert!(
        running["events"].to_string().contains("tracker-refused"),
        "{running}"
    );
    assert!(running["machine"]["kernel"].is_string());
    let url = running["settings"]
        .as_array()
        .context("a list")?
        .iter()
        .find(|row| row["key"] == "uplink.url");
    assert_eq!(
        url.context("uplink.url")?["value"],
        "redis://box:***@127.0.0.1:1/"
    );
    assert!(
        found["check.json"].contains("E-RED-0"),
        "{}",
        found["check.json"]
    );
    assert!(
        found["spool.json"].contains("\"waiting\"") || found["spool.json"].contains("lanes"),
        "{}",
        found["spool.json"]
    );
    assert!(found["metrics.txt"].contains("milepost_gateway_"));
    let all: String = found.values().map(String::as_str).collect();
    for secret in ["geheim", &IMEI.to_string(), "356307042441021"] {
        assert!(!all.contains(secret), "{secret}");
    }
    assert!(all.contains(SHORT));
    // The same facts for the button on the page, as far as a running gateway knows them.
    let (code, page) = get(gateway.http(), "/support").await?;
    assert_eq!(code, 200);
    assert!(!page.contains("geheim"));

    let again = gateway.call(&["support"]).await?;
    assert_eq!(again.code, 2, "a file that is there is left alone");
    let whole = gateway
        .call(&["support", "--full-imei", "--out", "whole"])
        .await?;
    assert_eq!(whole.code, 0, "{}", whole.err);
    let whole: String = parts(&gateway.dir().join("whole"))?.into_values().collect();
    assert!(whole.contains(&IMEI.to_string()) && !whole.contains("geheim"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_run_can_still_be_helped() -> Result<()> {
    let mut gateway = GatewayBox::start("", &[]).await?;
    gateway.signal(rustix::process::Signal::TERM)?;
    gateway.wait().await?;
    let ran = gateway.call(&["support", "--out", "stopped"]).await?;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let found = parts(&gateway.dir().join("stopped"))?;
    assert!(
        found["running.txt"].contains("E-STA-001"),
        "{}",
        found["running.txt"]
    );
    assert!(found.contains_key("check.json") && found.contains_key("spool.json"));
    // Not even settings that can be read.
    std::fs::write(
        gateway.dir().join("gateway.toml"),
        "[gateway]\nidd = \"x\"\n",
    )?;
    let ran = gateway.call(&["support", "--out", "broken"]).await?;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let found = parts(&gateway.dir().join("broken"))?;
    assert!(
        found["settings.txt"].contains("gateway.idd"),
        "{}",
        found["settings.txt"]
    );
    Ok(())
}
