//! Sensor streams: which there are, which match and are none, and how far behind we are.

use contract::keys;

use super::Look;
use super::scan::scan;
use crate::config::SensorConfig;
use crate::explain::{redis as redis_pages, sensors as pages};
use crate::sensors::name::{self, NotOurs};
use crate::stream::consumer::chained;
use crate::stream::pattern::matches;
use crate::stream::{Link, RedisFailure, Standing, Stream, lag};

/// Keys beyond these are not looked at.
const MAX: usize = 10_000;

/// Names in a finding.
const EXAMPLES: usize = 3;

/// What was seen.
#[derive(Debug, Default)]
struct Facts {
    /// Keys that match, of any kind.
    keys: Vec<String>,
    /// Of them, streams.
    streams: Vec<String>,
    /// Of these, those that are read.
    standings: Vec<Standing>,
}

/// The findings.
pub(super) async fn look(link: &Link, config: &SensorConfig, group: &str) -> Look {
    let mut look = Look::new("sensors");
    match facts(link, config, group).await {
        Ok(facts) => judge(&facts, config, group, &mut look),
        // Told among the rights of the user, with the rule that is missing.
        Err(failure) if failure.code() == Some("NOPERM") => {
            look.skipped(format!("not looked at: {}", chained(&failure)));
        }
        Err(failure) => look.bad(
            &redis_pages::UNUSABLE,
            chained(&failure),
            "look up the answer; its log may say more",
        ),
    }
    look
}

async fn facts(link: &Link, config: &SensorConfig, group: &str) -> Result<Facts, RedisFailure> {
    let keys = scan(link, &config.pattern, None, MAX).await?.keys;
    let streams = scan(link, &config.pattern, Some("stream"), MAX).await?.keys;
    let ours = streams
        .iter()
        .filter(|key| name::sensor(key, config).is_ok());
    let ours = ours.map(|key| Stream {
        name: key.as_str().into(),
        named: false,
    });
    let mut told = Vec::new();
    lag::several(link, ours.collect(), group, |it| told.push(it)).await;
    Ok(Facts {
        keys,
        streams,
        standings: told.into_iter().collect::<Result<_, _>>()?,
    })
}

/// Some of the names, and how many there are.
fn some(names: &[&str]) -> String {
    let shown = names[..names.len().min(EXAMPLES)].join(", ");
    match names.len().saturating_sub(EXAMPLES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn judge(facts: &Facts, config: &SensorConfig, group: &str, look: &mut Look) {
    let pattern = &config.pattern;
    let mut others: Vec<&str> = Vec::new();
    let mut nameless: Vec<&str> = Vec::new();
    // What is not there yet would match all the same.
    let configured = config.telemetry.iter().chain(&config.dead_letter);
    let configured = configured.filter(|name| matches(pattern, name));
    for key in facts.streams.iter().chain(configured) {
        match name::sensor(key, config) {
            Ok(_) => {}
            Err(NotOurs::Form) => nameless.push(key),
            Err(_) if others.contains(&key.as_str()) => {}
            Err(_) => others.push(key),
        }
    }
    // The founding pattern takes in the founding stream of dead letters: known, and left out.
    if let Some(copies) = &config.dead_letter
        && others == [copies.as_str()]
    {
        others.clear();
        look.good(format!(
            "{copies} matches {pattern} and is left out: dead letters"
        ));
    }
    if !others.is_empty() {
        look.bad(
            &pages::OTHERS,
            format!("{pattern} also matches {}", some(&others)),
            "choose a pattern that matches sensors alone",
        );
    }
    if !nameless.is_empty() {
        look.bad(
            &pages::NAME,
            format!("{} match {pattern} and name no sensor", some(&nameless)),
            "rename them to <prefix>:<device>:<sensor type>, or choose another pattern",
        );
    }
    let is_ours =
        |key: &str| key.starts_with(&keys::stream("")) || facts.streams.iter().any(|it| it == key);
    let kinds: Vec<&str> = facts
        .keys
        .iter()
        .map(String::as_str)
        // Keys of the contract are known to whoever chose such a pattern by the finding above.
        .filter(|key| !is_ours(key) && name::sensor(key, config).is_ok())
        .collect();
    if !kinds.is_empty() {
        look.bad(
            &pages::KIND,
            format!("{} match {pattern} and are no streams", some(&kinds)),
            "rename or remove them, or choose another pattern",
        );
    }
    if facts.standings.is_empty() {
        look.bad(
            &pages::NOTHING,
            format!("no sensor stream matches {pattern}"),
            "see whether sensors write, and under which names",
        );
        return;
    }
    let without: Vec<&str> = facts
        .standings
        .iter()
        .filter(|it| it.pending_entries.is_none())
        .map(|it| &*it.stream.name)
        .collect();
    if !without.is_empty() {
        look.bad(
            &pages::NO_GROUP,
            format!("{} have no group {group}", some(&without)),
            "start `cloud run`, which creates it at 0",
        );
        return;
    }
    let told = |of: fn(&Standing) -> Option<u64>| {
        let total = lag::total(&facts.standings, of);
        total.map_or_else(|| "unknown".to_owned(), |total| total.to_string())
    };
    look.good(format!(
        "{} sensor streams, group {group}: lag {}, pending {}",
        facts.standings.len(),
        told(|it| it.lag_entries),
        told(|it| it.pending_entries),
    ));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn codes(pattern: &str, streams: &[&str], others: &[&str], grouped: bool) -> Vec<&'static str> {
        let config = SensorConfig {
            pattern: pattern.to_owned(),
            telemetry: vec!["telemetry:teltonika".to_owned()],
            dead_letter: Some("mqtt_stream:failed".to_owned()),
            look_every: Duration::from_secs(30),
            keep: None,
        };
        let owned = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let ours = streams
            .iter()
            .filter(|key| name::sensor(key, &config).is_ok());
        let standings = ours.map(|key| Standing {
            stream: Stream {
                name: (*key).into(),
                named: false,
            },
            lag_entries: Some(1),
            lag_records: None,
            estimated: false,
            pending_entries: grouped.then_some(0),
            age_s: None,
        });
        let facts = Facts {
            keys: owned(&[streams, others].concat()),
            streams: owned(streams),
            standings: standings.collect(),
        };
        let mut look = Look::new("sensors");
        judge(&facts, &config, "processor", &mut look);
        look.codes()
    }

    #[test]
    fn what_matches_and_is_not_read_is_told() {
        let sensor = "mqtt_stream:d:t";
        let founding = "mqtt_stream:*";
        assert_eq!(
            codes(founding, &[sensor, "mqtt_stream:failed"], &[], true),
            [""; 0]
        );
        assert_eq!(
            codes(founding, &["mqtt_stream:failed"], &[], true),
            ["W-SNS-101"]
        );
        assert_eq!(codes("*", &[sensor], &[], true), ["W-SNS-102"]);
        let all = ["mqtt_stream:x", "mqtt_stream:d:t"];
        assert_eq!(codes(founding, &all, &[], true), ["W-SNS-103"]);
        assert_eq!(
            codes(founding, &[sensor], &["mqtt_stream:e:t"], true),
            ["W-SNS-104"]
        );
        assert_eq!(codes(founding, &[sensor], &[], false), ["W-SNS-105"]);
    }

    #[test]
    fn many_names_are_cut_short() {
        assert_eq!(some(&["a", "b"]), "a, b");
        assert_eq!(some(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
