//! Checkers that others wrote: promtool, and schemas out of Python packages.
//!
//! Invariant: never skipped in silence. `./dev setup` fetches both; where it could not, a line says so.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use tests::servers::skipped;

/// `None` after the skip was said: there is no promtool.
pub(super) fn promtool() -> Result<Option<PathBuf>> {
    let named = std::env::var_os("MILEPOST_PROMTOOL").filter(|path| !path.is_empty());
    if let Some(path) = named.map(PathBuf::from) {
        ensure!(
            path.is_file(),
            "MILEPOST_PROMTOOL names {}, which is not there; run ./dev setup",
            path.display()
        );
        return Ok(Some(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("promtool"));
    let found = found.into_iter().find(|program| program.is_file());
    if found.is_none() {
        skipped("alerts and dashboards: no promtool; run ./dev setup")?;
    }
    Ok(found)
}

/// `python3 -m <module>` with the packages that carry schemas; `None` after the skip was said.
pub(super) fn schemas(module: &str) -> Result<Option<Command>> {
    let named = std::env::var_os("MILEPOST_SCHEMAS_DIR").filter(|dir| !dir.is_empty());
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.dev/schemas");
    let dir = named.map_or(beside, PathBuf::from);
    if !dir.join(module).is_dir() {
        skipped(&format!(
            "deploy/ against schemas: no {module}; run ./dev setup"
        ))?;
        return Ok(None);
    }
    let mut python = Command::new("python3");
    python.args(["-m", module]).env("PYTHONPATH", dir);
    Ok(Some(python))
}

/// Runs it; its words are the error.
pub(super) fn agrees(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{:?} says:\n{}{}",
        command.get_args().collect::<Vec<&OsStr>>(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}
