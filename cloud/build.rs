//! Lists the files of the built web app, so that they can be put into the binary.
//!
//! Why a list made here: their names carry hashes and change with every build of the app. The app
//! itself is built with Node and committed; this needs none.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// Every file below `dir`, by its path in the app.
fn walk(dir: &Path, below: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name
            .to_str()
            .ok_or_else(|| io::Error::other(format!("{name:?} is no UTF-8")))?;
        let path = format!("{below}{name}");
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{path}/"), files)?;
        } else {
            files.push((path, entry.path()));
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let missing = |name: &str| io::Error::other(format!("Cargo sets {name}"));
    let root =
        std::env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| missing("CARGO_MANIFEST_DIR"))?;
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| missing("OUT_DIR"))?;
    let dist = Path::new(&root).join("web/dist");
    println!("cargo::rerun-if-changed=web/dist");
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    walk(&dist, "", &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for (name, path) in &files {
        // A String takes all that is written.
        let _ = writeln!(table, "    ({name:?}, include_bytes!({path:?})),");
    }
    table.push(']');
    std::fs::write(Path::new(&out).join("app_files.rs"), table)
}
