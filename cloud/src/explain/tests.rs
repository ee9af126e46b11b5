//! Every code has a page, every page a use and a test that provokes it, and the docs say the same.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use codes::upkeep;

use crate::explain;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(dirs: &[&str]) -> Vec<upkeep::Source> {
    let dirs: Vec<PathBuf> = dirs.iter().map(|dir| root().join(dir)).collect();
    upkeep::sources(&dirs).unwrap()
}

#[test]
fn every_code_is_well_formed_has_one_page_and_is_none_of_the_gateways() {
    let ours = upkeep::codes_of(&explain::BOOK);
    assert!(ours.len() > 60, "only {} codes", ours.len());
    assert_eq!(upkeep::malformed(&explain::BOOK), [""; 0]);
    let theirs = std::fs::read_to_string(root().join("docs/codes.md")).unwrap();
    let theirs = upkeep::codes_in(&theirs);
    assert!(
        theirs.len() > 60,
        "docs/codes.md has {} codes",
        theirs.len()
    );
    let both: Vec<_> = ours.intersection(&theirs).cloned().collect();
    assert!(both.is_empty(), "the gateway has {both:?} too");
}

/// A page whose constant nothing uses would be a code nobody can ever see.
#[test]
fn every_page_is_used() {
    let unused = upkeep::unused(&explain::BOOK, &sources(&["cloud/src"]));
    assert_eq!(unused, [""; 0]);
}

#[test]
fn every_code_has_a_test_that_provokes_it() {
    let tests = sources(&["tests/tests", "cloud/src"]);
    let untested = upkeep::untested(&explain::BOOK, &tests, Path::new("explain/tests.rs"));
    assert!(untested.is_empty(), "no test provokes {untested:?}");
}

#[test]
fn what_is_typed_is_looked_up_among_the_clouds_codes() {
    let found = explain::page("rds-4").map(|page| page.code);
    assert_eq!(found, Some("E-RDS-004"));
    assert!(explain::page("E-RED-004").is_none());
    assert!(explain::near("E-RDS-999").len() > 20);
}

#[test]
fn the_docs_page_says_the_same() {
    let wanted = explain::markdown();
    let found = upkeep::kept(&root().join("docs/codes-cloud.md"), &wanted).unwrap();
    assert!(
        found == wanted,
        "docs/codes-cloud.md is old: UPDATE_DOCS=1 cargo test -p cloud explain"
    );
}
