//! Reading `deploy/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A file or directory below `deploy/`.
pub(super) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

pub(super) fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// One document of YAML.
pub(super) fn yaml(path: &Path) -> Result<Value> {
    serde_saphyr::from_str(&text(path)?).with_context(|| path.display().to_string())
}

pub(super) fn json(path: &Path) -> Result<Value> {
    serde_json::from_str(&text(path)?).with_context(|| path.display().to_string())
}

/// Files of a directory that end so, in the order of their names.
pub(super) fn ending_in(dir: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_file() && path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The list under `key`; empty when there is none.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The text under `key`; empty when there is none.
pub(super) fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Every value of this key, however deep.
pub(super) fn every<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| every(item, key, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                if name == key {
                    found.push(field);
                }
                every(field, key, found);
            }
        }
        _ => {}
    }
}
