//! Every code has a page, every page a use and a test that provokes it, and the docs say the same.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::explain;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(dir: &Path, all: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            all.push((path, text));
        }
    }
}

/// `E-ABC-123` and `W-ABC-123` in a text.
fn codes(text: &str) -> BTreeSet<String> {
    let bytes = text.as_bytes();
    let is_code = |code: &&[u8]| {
        matches!(code[0], b'E' | b'W')
            && code[1] == b'-'
            && code[2..5].iter().all(u8::is_ascii_uppercase)
            && code[5] == b'-'
            && code[6..9].iter().all(u8::is_ascii_digit)
    };
    let found = bytes.windows(9).filter(is_code);
    found
        .map(|code| String::from_utf8(code.to_vec()).unwrap())
        .collect()
}

fn pages() -> BTreeSet<String> {
    explain::pages().map(|page| page.code.to_owned()).collect()
}

#[test]
fn every_code_is_well_formed_has_one_page_and_is_none_of_the_gateways() {
    assert!(pages().len() > 60, "only {} codes", pages().len());
    assert_eq!(
        explain::pages().count(),
        pages().len(),
        "a code with two pages"
    );
    for page in explain::pages() {
        let (kind, number) = (&page.code[..1], page.code[6..].parse::<u32>().unwrap());
        assert_eq!(kind == "E", page.is_error(), "{}", page.code);
        assert_eq!(kind == "W", number > 100, "{}", page.code);
        assert!(page.exit <= 4 && page.text.len() > 80, "{}", page.code);
        let has_bar = page.text.contains('|') || page.title.contains('|');
        assert!(!has_bar, "{}", page.code);
    }
    let theirs = std::fs::read_to_string(root().join("docs/codes.md")).unwrap();
    let theirs = codes(&theirs);
    assert!(
        theirs.len() > 60,
        "docs/codes.md has {} codes",
        theirs.len()
    );
    let both: Vec<_> = pages().intersection(&theirs).cloned().collect();
    assert!(both.is_empty(), "the gateway has {both:?} too");
}

/// A page whose constant nothing uses would be a code nobody can ever see.
#[test]
fn every_page_is_used() {
    let mut all = Vec::new();
    sources(&root().join("cloud/src"), &mut all);
    let (pages, users): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|(path, _)| path.parent().unwrap().ends_with("explain"));
    let mut seen = 0;
    for (path, text) in pages {
        let area = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let imported = format!("{area} as ");
        for line in text.lines() {
            let Some((name, _)) = line.trim().split_once(" = \"") else {
                continue;
            };
            if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
                seen += 1;
                let used = format!("pages::{name}");
                let is_end =
                    |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
                let used = users.iter().any(|(user, text)| {
                    (text.contains(&imported)
                        || user.components().any(|part| part.as_os_str() == &*area))
                        && text
                            .match_indices(&used)
                            .any(|(at, it)| is_end(&text[at + it.len()..]))
                });
                assert!(used, "{name} of {} is used nowhere", path.display());
            }
        }
    }
    assert_eq!(seen, explain::pages().count());
}

#[test]
fn every_code_has_a_test_that_provokes_it() {
    let mut all = Vec::new();
    sources(&root().join("tests/tests"), &mut all);
    sources(&root().join("cloud/src"), &mut all);
    let this = Path::new("explain/tests.rs");
    let tested = all
        .iter()
        .filter(|(path, _)| !path.ends_with(this))
        .flat_map(|(path, text)| {
            let is_shipped = path.components().any(|part| part.as_os_str() == "src");
            let from = if is_shipped {
                text.find("#[cfg(test)]").unwrap_or(text.len())
            } else {
                0
            };
            codes(&text[from..])
        });
    let tested: BTreeSet<String> = tested.collect();
    let untested: Vec<String> = pages().difference(&tested).cloned().collect();
    assert!(untested.is_empty(), "no test provokes {untested:?}");
}

#[test]
fn codes_are_found_however_they_are_typed() {
    for typed in ["E-RDS-004", "e-rds-004", "E-RDS-4", " rds-004 ", "rds-4"] {
        let found = explain::page(typed).map(|page| page.code);
        assert_eq!(found, Some("E-RDS-004"), "{typed}");
    }
    for typed in ["", "E", "E-RDS-999", "W-RDS-004", "004", "E-RED-004"] {
        assert!(explain::page(typed).is_none(), "{typed}");
    }
    assert!(explain::near("E-RDS-999").len() > 20);
    assert!(explain::near("E-XYZ-001").is_empty());
}

#[test]
fn the_docs_page_says_the_same() {
    let path = root().join("docs/codes-cloud.md");
    let wanted = explain::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/codes-cloud.md is old: UPDATE_DOCS=1 cargo test -p cloud explain"
    );
}
