//! `docs/codec.md` says which test proves what. Every test it names exists, and every test
//! file of the crate is named by it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The two columns of the table, from the rows that name tests.
fn rows() -> Vec<(String, Vec<String>)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/codec.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("## Which test proves what").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.skip(1)
        .map(|row| {
            let (claim, tests) = row[2..].split_once(" | ").unwrap();
            let named = tests.split('`').skip(1).step_by(2).map(str::to_owned);
            (claim.to_owned(), named.collect())
        })
        .collect()
}

fn source_of(named: &str) -> Option<(PathBuf, &str)> {
    let (file, test) = named.split_once("::")?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{file}.rs"));
    Some((path, test))
}

#[test]
fn every_test_that_the_page_names_exists() {
    let rows = rows();
    assert!(rows.len() >= 30, "only {} claims", rows.len());
    for (claim, tests) in rows {
        assert!(!tests.is_empty(), "{claim}: no test");
        for named in tests {
            let (path, test) = source_of(&named).unwrap_or_else(|| panic!("{claim}: {named}"));
            let source = fs::read_to_string(&path);
            let source = source.unwrap_or_else(|error| panic!("{claim}: {path:?}: {error}"));
            let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
            let at = lines
                .iter()
                .position(|line| line.starts_with(&format!("fn {test}(")));
            let at = at.unwrap_or_else(|| panic!("{claim}: {named} is not there"));
            let attributes = lines[..at].iter().rev();
            let mut attributes = attributes.take_while(|line| line.starts_with(['#', '/']));
            assert!(
                attributes.any(|line| *line == "#[test]"),
                "{named} is no test"
            );
        }
    }
}

#[test]
fn no_test_file_is_without_a_claim() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = fs::read_dir(tests)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let stems: BTreeSet<String> = files
        .map(|path| format!("tests/{}", path.file_stem().unwrap().to_str().unwrap()))
        .filter(|file| file != "tests/claims")
        .collect();
    let named: BTreeSet<String> = rows()
        .into_iter()
        .flat_map(|(_, tests)| tests)
        .filter_map(|named| Some(named.split_once("::")?.0.to_owned()))
        .collect();
    let unnamed: Vec<_> = stems.difference(&named).collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
}
