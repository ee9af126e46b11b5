//! The alerts: promtool reads them, each was seen firing and not, and each has its paragraph for people.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::files::{deploy, ending_in, list, text, word, yaml};
use super::tools::{agrees, promtool};

/// Every alert of the rules.
pub(super) fn alerts() -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for file in ending_in(&deploy("prometheus/rules"), ".yml")? {
        for group in list(&yaml(&file)?, "groups") {
            all.extend_from_slice(list(group, "rules"));
        }
    }
    ensure!(all.len() > 10, "only {} rules", all.len());
    Ok(all)
}

#[test]
fn promtool_accepts_the_rules_and_the_settings() -> Result<()> {
    let Some(promtool) = promtool()? else {
        return Ok(());
    };
    let rules = ending_in(&deploy("prometheus/rules"), ".yml")?;
    agrees(Command::new(&promtool).args(["check", "rules"]).args(rules))?;
    let settings = deploy("prometheus/prometheus.yml");
    agrees(
        Command::new(&promtool)
            .args(["check", "config"])
            .arg(settings),
    )?;
    Ok(())
}

#[test]
fn every_alert_fires_when_it_should_and_at_no_other_time() -> Result<()> {
    let Some(promtool) = promtool()? else {
        return Ok(());
    };
    let cases = ending_in(&deploy("prometheus/tests"), ".test.yml")?;
    agrees(Command::new(promtool).args(["test", "rules"]).args(cases))?;
    Ok(())
}

#[test]
fn every_alert_has_a_case_that_fires_and_one_that_does_not() -> Result<()> {
    let mut cases: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for file in ending_in(&deploy("prometheus/tests"), ".test.yml")? {
        for test in list(&yaml(&file)?, "tests") {
            for case in list(test, "alert_rule_test") {
                let seen = cases.entry(word(case, "alertname").to_owned()).or_default();
                match list(case, "exp_alerts") {
                    [] => seen.1 += 1,
                    _ => seen.0 += 1,
                }
            }
        }
    }
    for alert in alerts()? {
        let name = word(&alert, "alert");
        let (firing, silent) = cases.remove(name).unwrap_or_default();
        ensure!(
            firing > 0 && silent > 0,
            "{name}: {firing} cases that fire, {silent} that do not"
        );
    }
    ensure!(cases.is_empty(), "cases of no alert: {cases:?}");
    Ok(())
}

#[test]
fn every_alert_says_what_to_do_here_and_on_the_page() -> Result<()> {
    let page = text(&deploy("../docs/monitoring.md"))?;
    for alert in alerts()? {
        let name = word(&alert, "alert");
        let notes = &alert["annotations"];
        for note in ["summary", "description"] {
            ensure!(!word(notes, note).is_empty(), "{name} has no {note}");
        }
        let severity = word(&alert["labels"], "severity");
        ensure!(
            ["page", "ticket"].contains(&severity),
            "{name}: severity {severity:?}"
        );
        let row = format!("| `{name}` | {severity} |");
        ensure!(page.contains(&row), "docs/monitoring.md has no row {row}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `Milepost"));
    assert_eq!(
        rows.count(),
        alerts()?.len(),
        "rows of alerts that are gone"
    );
    Ok(())
}

#[test]
fn jobs_that_alerts_name_are_those_that_are_asked() -> Result<()> {
    let settings = yaml(&deploy("prometheus/prometheus.yml"))?;
    let jobs: Vec<&str> = list(&settings, "scrape_configs")
        .iter()
        .map(|job| word(job, "job_name"))
        .collect();
    let mut named = 0;
    for alert in alerts()? {
        let expression = word(&alert, "expr");
        for part in expression.split("job=\"").skip(1) {
            let job = part.split('"').next().context("an end")?;
            ensure!(jobs.contains(&job), "{job:?} is none of {jobs:?}");
            named += 1;
        }
    }
    ensure!(named >= 2, "no alert names a job any more");
    Ok(())
}
