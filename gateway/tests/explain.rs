//! Every code has a page, every page a use and a test that provokes it, and the docs say the same.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use codes::upkeep;
use gateway::explain::{self, BOOK};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(dirs: &[&str]) -> Vec<upkeep::Source> {
    let dirs: Vec<PathBuf> = dirs.iter().map(|dir| root().join(dir)).collect();
    upkeep::sources(&dirs).unwrap()
}

#[test]
fn every_code_in_the_source_has_a_page_and_only_one() {
    let all = sources(&["gateway/src"]);
    let used = all.iter().flat_map(|file| upkeep::codes_in(&file.text));
    let used: BTreeSet<String> = used.collect();
    assert!(used.len() > 60, "only {} codes found", used.len());
    assert_eq!(used, upkeep::codes_of(&BOOK));
    assert_eq!(upkeep::malformed(&BOOK), [""; 0]);
}

/// A page whose constant nothing uses would be a code nobody can ever see.
#[test]
fn every_page_is_used() {
    assert_eq!(upkeep::unused(&BOOK, &sources(&["gateway/src"])), [""; 0]);
}

#[test]
fn every_code_has_a_test_that_provokes_it() {
    let tests = sources(&["tests/tests", "gateway/tests", "gateway/src"]);
    let untested = upkeep::untested(&BOOK, &tests, Path::new("gateway/tests/explain.rs"));
    assert!(untested.is_empty(), "no test provokes {untested:?}");
}

#[test]
fn what_is_typed_is_looked_up_among_the_gateways_codes() {
    let found = explain::page("red-4").map(|page| page.code);
    assert_eq!(found, Some("E-RED-004"));
    assert!(explain::near("E-RED-999").len() > 20);
}

#[test]
fn the_docs_page_says_the_same() {
    let wanted = explain::markdown();
    let found = upkeep::kept(&root().join("docs/codes.md"), &wanted).unwrap();
    assert!(
        found == wanted,
        "docs/codes.md is old: UPDATE_DOCS=1 cargo test -p gateway --test explain"
    );
}
