//! The failure table in `docs/spool.md` names every error and every fault test there is, and no
//! others: a table that lags behind is worse than none. The drawing of the format is the same in
//! the page and in the code.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Files whose tests each show one kind of failure.
const FAULT_TESTS: [&str; 8] = [
    "crashes",
    "damage",
    "faults",
    "flips",
    "full",
    "garbage",
    "kill",
    "small_scope",
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands in backticks in the table.
fn named() -> BTreeSet<String> {
    let page = read("../docs/spool.md");
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let words = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    words.map(str::to_owned).collect()
}

/// `Enum::Variant` of every variant, read from the source: they stand at four spaces.
fn variants(path: &str, name: &str) -> BTreeSet<String> {
    let source = read(path);
    let body = source.split_once(&format!("pub enum {name} {{")).unwrap().1;
    let body = body.split_once("\n}").unwrap().0;
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let heads = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    heads
        .map(|line| line.split([' ', ',', '(']).next().unwrap())
        .map(|variant| format!("{name}::{variant}"))
        .collect()
}

/// Every test function of a file.
fn tests(file: &str) -> BTreeSet<String> {
    let source = read(&format!("tests/{file}.rs"));
    let mut lines = source.lines();
    let mut found = BTreeSet::new();
    while lines.any(|line| line.trim() == "#[test]") {
        let head = lines.by_ref().find(|line| line.trim().starts_with("fn "));
        let name = head.unwrap().trim().strip_prefix("fn ").unwrap();
        found.insert(name.split('(').next().unwrap().to_owned());
    }
    assert!(!found.is_empty(), "{file} has no test");
    found
}

#[test]
fn every_error_has_a_row_and_every_row_its_error() {
    let mut there = variants("src/error.rs", "SpoolError");
    there.extend(variants("src/fs/real.rs", "OpenError"));
    assert!(there.len() > 10, "{there:?}");
    let told: BTreeSet<String> = named()
        .into_iter()
        .filter(|word| word.contains("Error::"))
        .collect();
    assert_eq!(told, there);
}

#[test]
fn every_fault_test_has_a_row_and_every_row_names_tests_there_are() {
    let named = named();
    for file in FAULT_TESTS {
        for test in tests(file) {
            assert!(named.contains(&test), "{test} of {file}.rs has no row");
        }
    }
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(file) = name.strip_suffix(".rs") {
            there.extend(tests(file));
        }
    }
    // Test names are the only words of the table with several underscores and no dot or dash.
    let is_test = |word: &&String| {
        word.matches('_').count() >= 3 && word.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    for word in named
        .iter()
        .filter(is_test)
        .filter(|w| !w.ends_with("_total"))
    {
        assert!(there.contains(word), "there is no test {word}");
    }
}

#[test]
fn the_page_and_the_code_draw_the_same_bytes() {
    let code = read("src/format/mod.rs");
    let (_, drawing) = code.split_once("//! ```text\n").unwrap();
    let (drawing, _) = drawing.split_once("//! ```").unwrap();
    let drawing: String = drawing
        .split_inclusive('\n')
        .map(|line| line.strip_prefix("//! ").unwrap())
        .collect();
    assert!(drawing.lines().count() > 5, "{drawing}");
    assert!(read("../docs/spool.md").contains(&drawing), "{drawing}");
}
