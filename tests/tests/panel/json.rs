//! Every command of the program answers `--help` and `--json`, and its JSON has the names that
//! docs/gateway.md promises.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests::fleet::Tracker;
use tests::servers::Pki;

use super::flashed;
use super::gateway_box::{GatewayBox, Killed, Ran, program};
use super::{one_known_one_refused, tapped_line};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/gateway.md");

fn help(words: &[&str]) -> Result<Ran> {
    let output = program()?.args(words).args(["--json", "--help"]).output()?;
    Ran::of(output)
}

/// The commands that `--help` lists, each to its leaves.
fn leaves(above: &[String]) -> Result<Vec<Vec<String>>> {
    let output = program()?.args(above).arg("--help").output()?;
    let text = Ran::of(output)?.out;
    let Some(list) = text.split("\nCommands:\n").nth(1) else {
        return Ok(vec![above.to_vec()]);
    };
    let mut found = Vec::new();
    for line in list.lines().take_while(|line| !line.is_empty()) {
        let name = line
            .strip_prefix("  ")
            .filter(|line| !line.starts_with(' '));
        let Some(name) = name.and_then(|line| line.split_whitespace().next()) else {
            continue;
        };
        if name != "help" {
            found.extend(leaves(&[above, &[name.to_owned()]].concat())?);
        }
    }
    ensure!(!found.is_empty(), "no commands in {text}");
    Ok(found)
}

/// Command → names, of the table in the docs.
pub(super) fn promised() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let text = std::fs::read_to_string(DOCS)?;
    let table = text
        .split("### JSON\n")
        .nth(1)
        .context("no section JSON in the docs")?;
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let quoted = |cell: &str| {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut found = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').collect();
        let command = quoted(cells[1]).concat();
        let names = quoted(cells[2]).into_iter().collect();
        ensure!(found.insert(command, names).is_none(), "{row}: twice");
    }
    Ok(found)
}

#[test]
fn every_command_takes_json_and_has_help_with_examples() -> Result<()> {
    let leaves = leaves(&[])?;
    assert!(leaves.len() >= 20, "{leaves:?}");
    for leaf in &leaves {
        let words: Vec<&str> = leaf.iter().map(String::as_str).collect();
        let help = help(&words)?;
        assert_eq!(help.code, 0, "{leaf:?}: {}", help.err);
        assert!(help.out.contains("--json"), "{leaf:?}: {}", help.out);
        assert!(help.out.contains("--no-color"), "{leaf:?}: {}", help.out);
        assert!(help.out.contains("Examples:\n  "), "{leaf:?}: {}", help.out);
    }
    let found: BTreeSet<String> = leaves.iter().map(|leaf| leaf.join(" ")).collect();
    let promised: BTreeSet<String> = promised()?.into_keys().collect();
    assert_eq!(
        found, promised,
        "the table in docs/gateway.md, section JSON"
    );
    Ok(())
}

/// What `tap --json` shows while a tracker sends.
async fn tapped(gateway: &GatewayBox, tracker: &mut Tracker) -> Result<Vec<Value>> {
    let mut tap = Killed(
        gateway
            .command(&["tap", "--json"])?
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let line = tapped_line(&mut tap, tracker).await?;
    Ok(vec![serde_json::from_str(&line)?])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_of_every_command_has_the_names_that_the_docs_promise() -> Result<()> {
    let gateway = GatewayBox::start("", &[]).await?;
    let mut known = one_known_one_refused(&gateway).await?;
    let pki = Pki::new(gateway.dir())?;
    let bundle = super::bundle::for_docs(&pki, gateway.dir())?;
    let bundle = bundle.to_str().context("UTF-8")?;
    let to = gateway.dir().join("imported");
    let to = to.to_str().context("UTF-8")?;
    let spooled = gateway.call(&["spool", "export"]).await?.out;
    let hex = gateway.dir().join("spool.hex");
    std::fs::write(&hex, spooled)?;
    let hex = hex.to_str().context("UTF-8")?;
    let root = gateway.dir().join("flashed");
    flashed::make(&root)?;
    let update = root.join("update");
    let (root, update) = (root.to_str(), update.to_str());
    let (root, update) = root.zip(update).context("UTF-8")?;
    for (command, promised) in promised()? {
        let leaf: Vec<&str> = command.split(' ').collect();
        let more: &[&str] = match command.as_str() {
            "device allow" | "device deny" => &["356307042441021", "--dry-run"],
            "cmd cancel" => &["--dry-run", "nobody"],
            "config import" => &[bundle, "--dir", to, "--dry-run"],
            "spool import" => &[hex, "--dry-run", "--dir", "elsewhere"],
            "update apply" => &[update, "--root", root, "--dry-run"],
            "update confirm" => &["--root", root, "--yes"],
            "update status" => &["--root", root],
            "support" => &["--out", "support.tar.zst"],
            "ingest token new" => &["api", "--dry-run", "--file", "tokens.txt"],
            _ => &[],
        };
        let words: Vec<&str> = [&leaf, more, &["--json"]].concat();
        let (objects, may_have_more) = match command.as_str() {
            // It says nothing on standard output: this one logs JSON.
            "run" => {
                let log = gateway.log()?;
                let lines = log.lines().map(serde_json::from_str);
                (lines.collect::<Result<Vec<Value>, _>>()?, true)
            }
            "tap" => (tapped(&gateway, &mut known).await?, false),
            // Nothing waits without a Redis; its answers are tested with one.
            "cmd ls" | "cmd cancel" => {
                let ran = gateway.call(&words).await?;
                ensure!(
                    ran.out.is_empty() && ran.code <= 1,
                    "{command}: {}{}",
                    ran.out,
                    ran.err
                );
                continue;
            }
            "spool import" => {
                std::fs::create_dir_all(gateway.dir().join("elsewhere"))?;
                std::fs::copy(
                    gateway.dir().join("spool/gateway"),
                    gateway.dir().join("elsewhere/gateway"),
                )?;
                (gateway.call(&words).await?.json()?, false)
            }
            _ => (gateway.call(&words).await?.json()?, false),
        };
        if objects.is_empty() {
            bail!("{command}: no answer");
        }
        let mut seen = BTreeSet::new();
        for object in &objects {
            let object = object
                .as_object()
                .with_context(|| format!("{command}: no object: {object}"))?;
            if may_have_more {
                let lacks: Vec<&String> = promised
                    .iter()
                    .filter(|name| !object.contains_key(*name))
                    .collect();
                assert!(lacks.is_empty(), "{command}: {object:?} lacks {lacks:?}");
                continue;
            }
            seen.extend(object.keys().cloned());
        }
        if !may_have_more {
            assert_eq!(seen, promised, "{command}");
        }
    }
    Ok(())
}
