//! Lists `boards/*.toml`, so that a board exists because its file exists.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let of = |name| env::var_os(name).ok_or_else(|| io::Error::other("Cargo sets it"));
    let folder = Path::new(&of("CARGO_MANIFEST_DIR")?).join("boards");
    // A new file changes the folder, an edited one itself; Cargo looks at both.
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    for file in fs::read_dir(&folder)? {
        files.push(file?.path());
    }
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        if let (Some(name), Some("toml")) = (
            file.file_stem().and_then(|name| name.to_str()),
            file.extension().and_then(|kind| kind.to_str()),
        ) {
            // Comments are for who reads the file, and a box's binary has a limit.
            let text = fs::read_to_string(file)?;
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let text = lines.collect::<Vec<_>>().join("\n");
            // Writing to a String cannot fail.
            let _ = writeln!(list, "    ({name:?}, {text:?}),");
        }
    }
    list.push_str("]\n");
    fs::write(Path::new(&of("OUT_DIR")?).join("boards.rs"), list)
}
