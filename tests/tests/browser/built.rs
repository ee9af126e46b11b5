//! The built files in `cloud/web/dist` are what the sources make, byte for byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::driver::{packages, sources};

fn files(dir: &Path, below: &str, into: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            files(&entry.path(), &format!("{name}/"), into)?;
        } else {
            into.insert(name, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// Copies the sources as a clone has them: without `made`, the paths that nobody commits.
fn copy(from: &Path, to: &Path, made: &[PathBuf]) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if made.contains(&path) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&path, &target, made)?;
        } else {
            std::fs::copy(path, target)?;
        }
    }
    Ok(())
}

/// `dist`, and what `.gitignore` names: whole paths, a line each.
fn made(web: &Path) -> Result<Vec<PathBuf>> {
    let ignored = std::fs::read_to_string(web.join(".gitignore"))?;
    let paths = ignored.lines().map(|line| line.trim_start_matches('/'));
    Ok(paths.chain(["dist"]).map(|path| web.join(path)).collect())
}

#[test]
fn the_built_files_are_what_the_sources_make() -> Result<()> {
    let Some((node, web)) = packages()? else {
        return Ok(());
    };
    // The directory must not matter either.
    let dir = tempfile::tempdir()?;
    let here = dir.path().join("web");
    copy(&sources(), &here, &made(&sources())?)?;
    std::os::unix::fs::symlink(web.join("node_modules"), here.join("node_modules"))?;
    let npm = node.with_file_name("npm");
    let npm = if npm.is_file() { npm } else { "npm".into() };
    for script in ["test", "build"] {
        let ran = Command::new(&npm)
            .args(["run", script])
            .current_dir(&here)
            .output()
            .with_context(|| npm.display().to_string())?;
        ensure!(
            ran.status.success(),
            "npm run {script}: {}\n{}",
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        );
        let told = String::from_utf8_lossy(&ran.stdout).into_owned();
        for line in told.lines().filter(|line| line.contains("gzip of")) {
            eprintln!("{line}");
        }
    }
    let (mut committed, mut built) = (BTreeMap::new(), BTreeMap::new());
    files(&sources().join("dist"), "", &mut committed)?;
    files(&here.join("dist"), "", &mut built)?;
    let names = |all: &BTreeMap<String, Vec<u8>>| all.keys().cloned().collect::<Vec<_>>();
    ensure!(
        names(&committed) == names(&built),
        "cloud/web/dist has {:?}, the sources make {:?}: npm run build in cloud/web, and commit dist",
        names(&committed),
        names(&built)
    );
    for (name, bytes) in &built {
        ensure!(
            &committed[name] == bytes,
            "cloud/web/dist/{name} is not what the sources make: npm run build, and commit dist"
        );
    }
    Ok(())
}
