//! Pure: no I/O, no clock.
//!
//! What two looks at `/status` of a running processor say: rates, queues and trouble.
//!
//! Why two: the page has counters, which know nothing of now; their difference over the time between
//! is the rate, whoever asks and however often.

pub mod ask;

use std::fmt::Write as _;

use serde_json::{Value, json};

/// The stages in the order in which a record goes through them.
const STAGES: [&str; 3] = ["read", "decode", "store"];

/// One stage, now.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// `read`, `decode` or `store`.
    pub name: &'static str,
    /// Into it, each second; `None`: the process was started anew between the looks.
    pub in_per_s: Option<f64>,
    /// Out of it, each second.
    pub out_per_s: Option<f64>,
    /// What waits before it; `None`: unknown.
    pub queue: Option<u64>,
    /// Age of the oldest thing that waits, seconds.
    pub oldest_s: Option<u64>,
    /// Since the start.
    pub errors: u64,
    /// Of the last half to whole minute, milliseconds; `None`: nothing was done.
    pub p99_ms: Option<f64>,
}

/// How much more there is in `now`, each second.
fn rate(before: &Value, now: &Value, seconds: f64) -> Option<f64> {
    let (before, now) = (before.as_u64()?, now.as_u64()?);
    // A counter that went back was started anew.
    let more = now.checked_sub(before)?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    (seconds > 0.0).then(|| more as f64 / seconds)
}

/// Every stage, from two pages and the seconds between them.
#[must_use]
pub fn stages(before: &Value, now: &Value, seconds: f64) -> Vec<Stage> {
    let stage = |name: &'static str| {
        let (before, now) = (&before["stages"][name], &now["stages"][name]);
        Stage {
            name,
            in_per_s: rate(&before["in"], &now["in"], seconds),
            out_per_s: rate(&before["out"], &now["out"], seconds),
            queue: now["queue"].as_u64(),
            oldest_s: now["oldest_s"].as_u64(),
            errors: now["errors"].as_u64().unwrap_or(0),
            p99_ms: now["p99_ms"].as_f64(),
        }
    };
    STAGES.into_iter().map(stage).collect()
}

/// Records since the start of which this many were `part`, in percent; `None`: none yet.
fn share(now: &Value, part: &str) -> Option<f64> {
    let records = &now["records"];
    let (part, all) = (records[part].as_u64()?, records["received"].as_u64()?);
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    (all > 0).then(|| part as f64 / all as f64 * 100.0)
}

/// For machines: one object.
#[must_use]
pub fn to_json(before: &Value, now: &Value, seconds: f64) -> Value {
    let stages: Vec<Value> = stages(before, now, seconds)
        .into_iter()
        .map(|stage| {
            json!({
                "stage": stage.name,
                "in_per_s": stage.in_per_s,
                "out_per_s": stage.out_per_s,
                "queue": stage.queue,
                "oldest_s": stage.oldest_s,
                "errors": stage.errors,
                "p99_ms": stage.p99_ms,
            })
        })
        .collect();
    json!({
        "at_ms": now["at_ms"],
        "version": now["version"],
        "stages": stages,
        "backlog": now["lag_entries"],
        "pending": now["pending_entries"],
        "dead_letters": now["dead_letters"],
        "records": now["records"],
        "writers": now["writers"],
        "engine": now["engine"],
        "redis": now["redis"],
        "database": now["database"],
        "trouble": now["trouble"],
    })
}

/// For people.
#[must_use]
pub fn to_text(before: &Value, now: &Value, seconds: f64) -> String {
    let mut text = format!(
        "{:8}{:>10}{:>10}{:>10}{:>10}{:>8}{:>10}\n",
        "stage", "in/s", "out/s", "queue", "oldest", "err", "p99"
    );
    for stage in stages(before, now, seconds) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:8}{:>10}{:>10}{:>10}{:>10}{:>8}{:>10}",
            stage.name,
            per_second(stage.in_per_s),
            per_second(stage.out_per_s),
            stage.queue.map_or_else(dash, grouped),
            stage.oldest_s.map_or_else(dash, |s| format!("{s} s")),
            grouped(stage.errors),
            stage.p99_ms.map_or_else(dash, milliseconds),
        );
    }
    let number = |value: &Value| value.as_u64().map_or_else(dash, grouped);
    let percent = |part| share(now, part).map_or_else(dash, |share| format!("{share:.1} %"));
    let _ = writeln!(
        text,
        "backlog {} entries, {} pending   dead letters {}   duplicates {}   late >1 h {}",
        number(&now["lag_entries"]),
        number(&now["pending_entries"]),
        number(&now["dead_letters"]),
        percent("duplicate"),
        percent("late"),
    );
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let _ = writeln!(
        text,
        "writers {}   {}   redis {}   database {}",
        number(&now["writers"]),
        word(&now["engine"]),
        word(&now["redis"]),
        word(&now["database"]),
    );
    if let Some(trouble) = now["trouble"].as_str() {
        let _ = writeln!(text, "✗ {trouble}");
    }
    text
}

fn dash() -> String {
    "–".to_owned()
}

fn per_second(rate: Option<f64>) -> String {
    match rate {
        None => dash(),
        Some(rate) if rate == 0.0 || rate >= 10.0 =>
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate is never negative and rounded for people"
            )]
            grouped(rate.round() as u64)
        }
        Some(rate) => format!("{rate:.1}"),
    }
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.0} s", ms / 1_000.0),
    }
}

/// `8 412`: thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(entries: u64, rows: u64) -> Value {
        json!({
            "stages": {
                "read": {"in": entries, "out": entries, "queue": 310, "oldest_s": 3, "errors": 0, "p99_ms": 4.0},
                "decode": {"in": entries, "out": rows, "queue": 0, "errors": 2, "p99_ms": 0.05},
                "store": {"in": rows, "out": rows, "queue": null, "errors": 0, "p99_ms": null},
            },
            "lag_entries": 310, "pending_entries": 7, "dead_letters": 2, "writers": 3,
            "records": {"received": 1000, "duplicate": 4, "late": 12},
            "engine": "timescaledb 2.28.3", "redis": "connected", "database": "connected",
            "trouble": null,
        })
    }

    #[test]
    fn rates_are_differences_over_time() {
        let found = stages(&page(100, 1_000), &page(120, 17_824), 2.0);
        assert_eq!(found[0].in_per_s, Some(10.0));
        assert_eq!(found[1].out_per_s, Some(8_412.0));
        assert_eq!((found[0].queue, found[2].queue), (Some(310), None));
        // Started anew in between.
        let found = stages(&page(100, 1_000), &page(5, 20), 2.0);
        assert_eq!(found[0].in_per_s, None);
    }

    #[test]
    fn people_read_a_table() {
        let text = to_text(&page(100, 1_000), &page(120, 17_824), 2.0);
        let wanted = "\
stage         in/s     out/s     queue    oldest     err       p99
read            10        10       310       3 s       0    4.0 ms
decode          10     8 412         0         –       2    0.1 ms
store        8 412     8 412         –         –       0         –
backlog 310 entries, 7 pending   dead letters 2   duplicates 0.4 %   late >1 h 1.2 %
writers 3   timescaledb 2.28.3   redis connected   database connected
";
        assert_eq!(text, wanted);
        let mut sick = page(1, 1);
        sick["trouble"] = "no connection to the database".into();
        assert!(to_text(&sick, &sick, 1.0).ends_with("✗ no connection to the database\n"));
    }

    #[test]
    fn machines_read_one_object() {
        let found = to_json(&page(100, 1_000), &page(120, 17_824), 2.0);
        assert_eq!(found["stages"][2]["stage"], "store");
        assert_eq!(found["stages"][2]["in_per_s"], 8_412.0);
        assert_eq!(found["backlog"], 310);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1 000"),
            (1_234_567, "1 234 567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
