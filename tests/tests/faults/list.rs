//! The list of places at which the cloud is killed is complete, and none of them is shipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tests::fail_points::{self, VARIABLE};
use tests::processes::program_path;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(below: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(below)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn every_place_is_listed_and_every_listed_place_is_there() -> Result<()> {
    let mut files = Vec::new();
    sources(&root().join("cloud/src"), &mut files)?;
    let mut there: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let after = text.split("fail_point!(\"").skip(1);
        for name in after.filter_map(|rest| rest.split('"').next()) {
            *there.entry(name.to_owned()).or_default() += 1;
        }
    }
    let listed: BTreeMap<String, usize> = fail_points::all()?
        .into_iter()
        .map(|point| (point.name.to_owned(), 1))
        .collect();
    assert!(listed.len() > 20, "{listed:?}");
    assert_eq!(
        there, listed,
        "in the sources (left) and in the list, once each"
    );
    Ok(())
}

fn names_the_variable(binary: &Path) -> Result<bool> {
    let bytes = std::fs::read(binary)?;
    let name = VARIABLE.as_bytes();
    Ok(bytes.windows(name.len()).any(|window| window == name))
}

/// The places are compiled under `debug_assertions`, which no profile that is shipped switches on.
#[test]
fn what_is_shipped_has_none_of_them() -> Result<()> {
    let tested = program_path("cloud")?;
    assert!(names_the_variable(&tested)?, "the look sees it where it is");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml"))?;
    assert!(!manifest.contains("debug-assertions"));
    let source = std::fs::read_to_string(root().join("cloud/src/fail_point.rs"))?;
    for line in [
        "const VARIABLE",
        "pub(crate) fn reached",
        "$crate::fail_point::reached",
    ] {
        let at = source.find(line).unwrap();
        let before = source[..at].trim_end().lines().rev();
        let mut attributes = before.take_while(|line| line.trim_start().starts_with(['#', '/']));
        assert!(
            attributes.any(|a| a.trim() == "#[cfg(debug_assertions)]"),
            "{line}"
        );
    }
    let builds = tested.parent().and_then(Path::parent).unwrap();
    for profile in ["release", "demo", "edge"] {
        let shipped = builds.join(profile).join("cloud");
        if shipped.is_file() {
            assert!(!names_the_variable(&shipped)?, "{}", shipped.display());
        }
    }
    Ok(())
}
