//! The dashboards: Grafana could load them, promtool reads each expression of theirs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::files::{deploy, ending_in, every, json, list, text, word, yaml};
use super::tools::{agrees, promtool};

/// Name and content of each.
pub(super) fn dashboards() -> Result<Vec<(String, Value)>> {
    let mut all = Vec::new();
    for file in ending_in(&deploy("grafana/dashboards"), ".json")? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        all.push((name.into_owned(), json(&file)?));
    }
    Ok(all)
}

/// Panels with where they are, for messages.
fn panels() -> Result<Vec<(String, Value)>> {
    let mut all = Vec::new();
    for (name, dashboard) in dashboards()? {
        for panel in list(&dashboard, "panels") {
            all.push((format!("{name}, {}", word(panel, "title")), panel.clone()));
        }
    }
    ensure!(all.len() > 30, "only {} panels", all.len());
    Ok(all)
}

/// Every PromQL expression with its place; Grafana's variables have a value.
pub(super) fn expressions() -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (place, panel) in panels()? {
        for target in list(&panel, "targets") {
            if let Some(expression) = target["expr"].as_str() {
                let expression = expression
                    .replace("$__rate_interval", "5m")
                    .replace("$gateway", ".*");
                all.push((place.clone(), expression));
            }
        }
    }
    ensure!(all.len() > 30, "only {} expressions", all.len());
    Ok(all)
}

/// Every SQL query with its place, as written.
pub(super) fn queries() -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (place, panel) in panels()? {
        for target in list(&panel, "targets") {
            if let Some(sql) = target["rawSql"].as_str() {
                all.push((place.clone(), sql.to_owned()));
            }
        }
    }
    for (name, dashboard) in dashboards()? {
        for variable in list(&dashboard["templating"], "list") {
            if let Some(sql) = variable["query"].as_str() {
                all.push((
                    format!("{name}, ${}", word(variable, "name")),
                    sql.to_owned(),
                ));
            }
        }
    }
    ensure!(all.len() > 10, "only {} queries", all.len());
    Ok(all)
}

#[test]
fn promtool_reads_every_expression() -> Result<()> {
    let Some(promtool) = promtool()? else {
        return Ok(());
    };
    let rules: Vec<Value> = expressions()?
        .iter()
        .zip(0..)
        .map(|((_, expression), number)| json!({"record": format!("panel:{number}"), "expr": expression}))
        .collect();
    let file = tempfile::NamedTempFile::new()?;
    // JSON is YAML.
    let text = json!({"groups": [{"name": "panels", "rules": rules}]}).to_string();
    std::fs::write(file.path(), text)?;
    let mut places = String::new();
    for ((place, _), number) in expressions()?.iter().zip(0..) {
        writeln!(places, "panel:{number} is {place}")?;
    }
    agrees(
        Command::new(promtool)
            .args(["check", "rules"])
            .arg(file.path()),
    )
    .context(places)?;
    Ok(())
}

#[test]
fn every_dashboard_stands_on_the_provisioned_sources() -> Result<()> {
    let sources = yaml(&deploy("grafana/provisioning/datasources/milepost.yml"))?;
    let sources: Vec<Value> = list(&sources, "datasources")
        .iter()
        .map(|source| json!({"type": source["type"], "uid": source["uid"]}))
        .collect();
    let names: Vec<String> = dashboards()?.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["custody", "devices", "edge", "pipeline"]);
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards()? {
        let uid = word(&dashboard, "uid").to_owned();
        ensure!(uid == format!("milepost-{name}"), "{name}: uid {uid}");
        ensure!(uids.insert(uid), "{name}: a uid twice");
        let mut named = Vec::new();
        every(&dashboard, "datasource", &mut named);
        ensure!(!named.is_empty(), "{name} asks nobody");
        for source in named {
            ensure!(
                sources.contains(source),
                "{name}: {source} is not provisioned"
            );
        }
        let mut numbers = BTreeSet::new();
        for panel in list(&dashboard, "panels") {
            let title = word(panel, "title");
            ensure!(
                !word(panel, "description").is_empty(),
                "{name}, {title}: what does it show?"
            );
            ensure!(
                numbers.insert(panel["id"].to_string()),
                "{name}, {title}: its id is taken"
            );
        }
    }
    Ok(())
}

#[test]
fn no_panel_covers_another() -> Result<()> {
    for (name, dashboard) in dashboards()? {
        let mut taken: BTreeSet<(u64, u64)> = BTreeSet::new();
        for panel in list(&dashboard, "panels") {
            let place = |key: &str| panel["gridPos"][key].as_u64().context(key.to_owned());
            let (x, y, w, h) = (place("x")?, place("y")?, place("w")?, place("h")?);
            ensure!(x + w <= 24 && w > 0 && h > 0, "{name}: {panel}");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                ensure!(
                    taken.insert(cell),
                    "{name}, {}: covers another",
                    word(panel, "title")
                );
            }
        }
    }
    Ok(())
}

#[test]
fn every_dashboard_has_its_paragraph() -> Result<()> {
    let page = text(&deploy("../docs/monitoring.md"))?;
    for (name, dashboard) in dashboards()? {
        let row = format!("| [{name}.json](../deploy/grafana/dashboards/{name}.json) |");
        ensure!(
            page.contains(&row),
            "{}: no row {row}",
            word(&dashboard, "title")
        );
    }
    Ok(())
}
