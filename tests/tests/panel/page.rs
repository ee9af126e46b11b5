//! Is everything that the page reads in the answers that it asks for?

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::processes::get;

use super::gateway_box::GatewayBox;
use super::one_known_one_refused;

/// What JavaScript itself knows of texts, numbers and lists.
const BUILT_IN: [&str; 8] = [
    "length", "map", "filter", "slice", "toString", "toFixed", "push", "includes",
];

/// Every chain of names that `script` reads from the variable `name`: `s.spool.backlog`.
fn read_from(script: &str, name: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let start = format!("{name}.");
    let mut found = BTreeSet::new();
    for (at, _) in script.match_indices(&start) {
        let before = script[..at].chars().next_back();
        if before.is_some_and(|c| is_word(c) || c == '.' && !script[..at].ends_with("...")) {
            continue;
        }
        let rest = &script[at + start.len()..];
        let end = rest
            .find(|c: char| !is_word(c) && c != '.')
            .unwrap_or(rest.len());
        let names = rest[..end].split('.').filter(|name| !name.is_empty());
        let names: Vec<&str> = names.take_while(|name| !BUILT_IN.contains(name)).collect();
        if !names.is_empty() {
            found.insert(names.join("."));
        }
    }
    found
}

/// Is there such a place in the object, whatever stands there?
fn has(object: &Value, names: &str) -> bool {
    let mut at = object;
    names.split('.').all(|name| match at.get(name) {
        Some(inner) => {
            at = inner;
            true
        }
        None => false,
    })
}

#[test]
fn names_are_found_in_a_script() {
    let script = "put(s.spool.backlog); x = ss.no; [...s.list.map(f)]; if (s.a.b === d.c.toFixed(1)) as.no; s.a.b; this.s.no";
    let of = |name| read_from(script, name).into_iter().collect::<Vec<_>>();
    assert_eq!(of("s"), ["a.b", "list", "spool.backlog"]);
    assert_eq!(of("d"), ["c"]);
    assert!(has(&json!({"a": {"b": null}}), "a.b") && !has(&json!({"a": null}), "a.b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_that_the_page_reads_is_in_the_answers() -> Result<()> {
    let gateway = GatewayBox::start("", &[]).await?;
    let _known = one_known_one_refused(&gateway).await?;

    let (_, page) = get(gateway.http(), "/").await?;
    let script = page.split("<script>").nth(1).context("no script")?;
    let status = gateway.json("/status").await?;
    let devices = gateway.json("/devices?limit=500&after=0").await?;
    let events = gateway.json("/events?limit=20").await?;
    // An order and an outcome need a Redis to come from: what the gateway makes of them is tested
    // there, and named here.
    let order =
        json!({ "imei": "", "cid": "", "state": "", "command": "", "sends": 0, "expires_ms": 0 });
    let outcome = json!({ "imei": "", "cid": "", "status": "", "reason": "", "at_ms": 0 });
    let mut read = 0;
    for (name, answer, least) in [
        ("s", &status, 30),
        ("page", &devices, 3),
        ("d", &devices["devices"][0], 12),
        ("r", &status["access"]["refused"][0], 5),
        ("event", &events["events"][0], 5),
        ("order", &order, 6),
        ("outcome", &outcome, 5),
    ] {
        ensure!(answer.is_object(), "no example of {name}");
        let names = read_from(script, name);
        assert!(names.len() >= least, "{name}: only {names:?}");
        for names in &names {
            assert!(
                has(answer, names),
                "{name}.{names} is in no answer: {answer}"
            );
        }
        read += names.len();
    }
    assert!(read > 60, "{read}");
    // And what it asks for is there.
    for (at, _) in script.match_indices("ask(\"/") {
        let path = &script[at + 5..];
        let path = &path[..path.find(['"', '?']).context("a path")?];
        assert_eq!(get(gateway.http(), path).await?.0, 200, "{path}");
    }
    // Every element that the script looks for stands on the page, once.
    for start in ["put(\"", "at(\""] {
        for (at, _) in script.match_indices(start) {
            let id = script[at + start.len()..]
                .split('"')
                .next()
                .context("an id")?;
            let places = page.matches(&format!("id=\"{id}\"")).count();
            assert_eq!(places, 1, "{id}");
        }
    }
    Ok(())
}
