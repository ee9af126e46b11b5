//! Every metric that an alert or a dashboard names is one that gateway or cloud really tells.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::fleet::{Fleet, FleetConfig};
use tests::processes::{Road, RoadOptions, get};
use tests::servers::Redis;
use tests::servers::{GATEWAY, RedisAccess, RedisOptions};
use tests::tables::eventually;

use super::alerts::alerts;
use super::dashboards;
use super::files::word;

/// What Prometheus itself makes.
const OF_PROMETHEUS: [&str; 1] = ["up"];

/// Told only after two days' rate is known, or a while of it: looked for in its own test of the gateway
/// (`every_metric_has_its_kind_its_help_and_a_value_once`), and in the sources here.
const LATER: [&str; 1] = ["milepost_gateway_spool_left_days"];

/// Words of PromQL that look like metrics.
const WORDS: [&str; 14] = [
    "absent",
    "and",
    "bool",
    "by",
    "group_left",
    "histogram_quantile",
    "ignoring",
    "increase",
    "label_replace",
    "on",
    "or",
    "rate",
    "unless",
    "vector",
];

/// Names of metrics in an expression: words that are no function, label, keyword or number.
pub(super) fn named(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = String::new();
    // Selectors, ranges and texts are no names; neither are the labels after by, on or without.
    let (mut depth, mut quoted) = (0, false);
    for letter in expression.chars() {
        match letter {
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth -= 1,
            _ if quoted || depth > 0 => {}
            _ => rest.push(letter),
        }
    }
    for clause in ["by (", "without (", "on (", "ignoring ("] {
        while let Some(at) = rest.find(clause) {
            let end = rest[at..].find(')').map_or(rest.len(), |end| at + end);
            rest.replace_range(at..end, " ");
        }
    }
    let words = rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    for word in words.filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic())) {
        let is_function = rest.contains(&format!("{word}("));
        if !is_function && !WORDS.contains(&word) && !["sum", "max", "min", "time"].contains(&word)
        {
            found.insert(word.to_owned());
        }
    }
    found
}

#[test]
fn names_are_found_in_expressions() {
    let names = |text| named(text).into_iter().collect::<Vec<_>>();
    assert_eq!(
        names("max by (stream) (a_b{job=\"x\", y=~\"c_d\"}) > 5 or vector(0)"),
        ["a_b"]
    );
    assert_eq!(
        names("histogram_quantile(0.99, sum by (le) (rate(s_bucket[5m]))) / time()"),
        ["s_bucket"]
    );
    assert_eq!(names("up{job=\"a\"} == 0 and b > 21600"), ["b", "up"]);
    assert_eq!(
        names("label_replace(m, \"c\", \"uplink\", \"\", \"\") < 30"),
        ["m"]
    );
}

/// Every name, with the place that names it.
fn all_named() -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for alert in alerts()? {
        let place = format!("alert {}", word(&alert, "alert"));
        let names = named(word(&alert, "expr"));
        ensure!(!names.is_empty(), "{place} names nothing");
        all.extend(names.into_iter().map(|name| (name, place.clone())));
    }
    for (place, expression) in dashboards::expressions()? {
        let names = named(&expression);
        ensure!(!names.is_empty(), "{place} names nothing: {expression}");
        all.extend(names.into_iter().map(|name| (name, place.clone())));
    }
    Ok(all)
}

/// Names with a value in the text that Prometheus reads.
fn told(text: &str) -> impl Iterator<Item = String> {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let end = row.find(['{', ' ']).unwrap_or(row.len());
        row[..end].to_owned()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_named_is_told_by_a_running_gateway_or_cloud() -> Result<()> {
    let redis = Redis::start(RedisOptions {
        gateways: vec![GATEWAY.to_owned()],
        memory_bytes_max: 64 << 20,
        ..RedisOptions::default()
    })
    .await?;
    // A certificate for trackers, so that its days are told.
    let door = redis.pki().server("door")?;
    let mut road = Road::start(RoadOptions {
        redis: Some(RedisAccess::clone(&redis)),
        gateway: vec![
            ("listen.tls", json!(["127.0.0.1:0"])),
            ("listen.tls_cert", json!(door.cert)),
            ("listen.tls_key", json!(door.key)),
        ],
        ..RoadOptions::default()
    })
    .await?;
    let fleet = Fleet::start(FleetConfig {
        devices: 3,
        rate: "5".parse()?,
        ..road.fleet_config()
    })
    .await?;
    let mut missing = Vec::new();
    let wanted = all_named()?;
    let names = "every metric that is named has a value";
    let looked = eventually(names, async || {
        let (_, of_gateway) = get(road.gateway.http_addr(), "/metrics").await?;
        let (_, of_cloud) = get(road.cloud.http_addr(), "/metrics").await?;
        let all: BTreeSet<String> = told(&of_gateway).chain(told(&of_cloud)).collect();
        let elsewhere = |name: &str| OF_PROMETHEUS.contains(&name) || LATER.contains(&name);
        missing = wanted
            .iter()
            .filter(|(name, _)| !all.contains(name) && !elsewhere(name))
            .map(|(name, place)| format!("{place}: {name}"))
            .collect();
        Ok(missing.is_empty())
    })
    .await;
    looked.with_context(|| format!("nobody tells\n{}", missing.join("\n")))?;
    let source = include_str!("../../../gateway/src/metrics.rs");
    for name in LATER {
        let own = name.trim_start_matches("milepost_gateway_");
        ensure!(source.contains(&format!("\"{own}\"")), "{name} is gone");
    }
    // What Redis may use is what it was given.
    let (_, of_cloud) = get(road.cloud.http_addr(), "/metrics").await?;
    let row = format!(
        "\nmilepost_cloud_redis_memory_max_bytes{{node=\"\"}} {}\n",
        64 << 20
    );
    ensure!(of_cloud.contains(&row), "{of_cloud}");
    fleet.stop_producing();
    road.stop().await
}
