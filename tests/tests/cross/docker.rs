//! `Cross.toml`, for people with Docker: understood by cross 0.2.5, and for the machines we build for.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use toml::{Table, Value};

/// What cross 0.2.5 reads: `docs/cross_toml.md` of its package. Its main branch has others.
const BUILD: &[&str] = &["xargo", "build-std", "default-target", "env"];
const TARGET: &[&str] = &[
    "xargo",
    "build-std",
    "image",
    "pre-build",
    "runner",
    "dockerfile",
    "env",
];
const ENV: &[&str] = &["volumes", "passthrough"];

/// Keys of `table` that are not in `known`, with where they stand.
fn strangers(place: &str, table: &Table, known: &[&str]) -> Vec<String> {
    let strange = table.keys().filter(|key| !known.contains(&key.as_str()));
    strange.map(|key| format!("{place}.{key}")).collect()
}

/// Keys that cross would pass over with a warning.
fn unread(file: &Table) -> Vec<String> {
    let none = Table::new();
    let table = |value: Option<&Value>| value.and_then(Value::as_table).cloned();
    let mut found = strangers("", file, &["build", "target"]);
    let mut section = |place: &str, table_here: &Table, known: &[&str]| {
        found.extend(strangers(place, table_here, known));
        if let Some(env) = table(table_here.get("env")) {
            found.extend(strangers(&format!("{place}.env"), &env, ENV));
        }
    };
    section(
        "build",
        &table(file.get("build")).unwrap_or_else(|| none.clone()),
        BUILD,
    );
    for (name, target) in table(file.get("target")).unwrap_or(none) {
        let target = target.as_table().cloned().unwrap_or_default();
        section(&format!("target.{name}"), &target, TARGET);
    }
    found
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn cross_0_2_5_reads_every_key_of_its_settings() -> Result<()> {
    let text = std::fs::read_to_string(repository().join("Cross.toml"))?;
    let file: Table = toml::from_str(&text).context("Cross.toml")?;
    assert_eq!(unread(&file), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_key_of_a_later_version_is_found() -> Result<()> {
    let file: Table = toml::from_str(
        "[build]\nzig = true\n[build.env]\nvolume = []\n[target.armv7.env]\npassthrough = []\n[target.armv7]\nimages = \"\"\n[targets]\n",
    )?;
    assert_eq!(
        unread(&file),
        [
            ".targets",
            "build.zig",
            "build.env.volume",
            "target.armv7.images"
        ]
    );
    Ok(())
}

/// The musl targets that `tests/setup/cross.sh` names.
#[test]
fn both_ways_build_for_the_same_machines() -> Result<()> {
    let script = std::fs::read_to_string(repository().join("tests/setup/cross.sh"))?;
    let machines = script
        .lines()
        .find_map(|line| line.strip_prefix("CROSS_MACHINES=(")?.strip_suffix(')'))
        .context("the machines of cross.sh")?;
    let target = |machine: &str| match machine {
        "armv7" => "armv7-unknown-linux-musleabihf".to_owned(),
        other => format!("{other}-unknown-linux-musl"),
    };
    let ours: BTreeSet<String> = machines.split(' ').map(target).collect();
    for target in &ours {
        assert!(
            script.contains(target.trim_start_matches("aarch64")),
            "{target}"
        );
    }
    let text = std::fs::read_to_string(repository().join("Cross.toml"))?;
    let file: Table = toml::from_str(&text)?;
    let targets = file["target"].as_table().context("targets")?;
    assert_eq!(targets.keys().cloned().collect::<BTreeSet<_>>(), ours);
    Ok(())
}
