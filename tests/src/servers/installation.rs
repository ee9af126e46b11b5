//! An unpacked PostgreSQL installation, made usable for a user without rights.
//!
//! Why: as root we start PostgreSQL as `nobody`, who cannot pass a home directory of mode 0700, and
//! that is where `.dev/` often is. PostgreSQL finds its own files relative to its binary, so the whole
//! installation is taken along, below the cluster's directory.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Binary;

/// Can a user without rights reach `path`? Every directory on the way needs `x` for others.
pub(super) fn open_to_others(path: &Path) -> bool {
    path.ancestors().all(|dir| {
        dir.metadata()
            .is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    })
}

/// The time zones that came with an unpacked PostgreSQL of Debian's layout, `<top>/usr/share/zoneinfo`.
pub(super) fn zoneinfo(binary: &Binary) -> Option<PathBuf> {
    let usr = binary
        .path
        .ancestors()
        .nth(5)
        .filter(|_| binary.library_path.is_some())?;
    Some(usr.join("share/zoneinfo")).filter(|path| path.is_dir())
}

/// The binary itself, or when others cannot reach it, its copy in an installation below `dir`.
pub(super) fn readable_by_others(binary: Binary, dir: &Path) -> Result<Binary> {
    let libraries: Vec<PathBuf> = binary
        .library_path
        .iter()
        .flat_map(|path| std::env::split_paths(path).collect::<Vec<_>>())
        .collect();
    let open = open_to_others(&binary.path) && libraries.iter().all(|path| open_to_others(path));
    if open {
        return Ok(binary);
    }
    // PostgreSQL finds its files relative to the binary: <usr>/lib/postgresql/15/bin in Debian's
    // layout, <usr>/bin elsewhere. Keep what lies below as it is.
    let bin = binary
        .path
        .parent()
        .context("a binary lies in a directory")?;
    let debian = bin
        .ancestors()
        .nth(2)
        .is_some_and(|dir| dir.ends_with("lib/postgresql"));
    let above = if debian { 4 } else { 1 };
    let usr = bin
        .ancestors()
        .nth(above)
        .context("an installation lies in a directory")?;
    let parts: &[&str] = if debian {
        &["lib/postgresql", "share/postgresql", "share/zoneinfo"]
    } else {
        &["bin", "lib", "share"]
    };
    let copy = dir.join("installation");
    for part in parts.iter().filter(|part| usr.join(part).is_dir()) {
        link_tree(&usr.join(part), &copy.join(part))?;
    }
    let mut library_path = Vec::new();
    for (index, library) in libraries.iter().enumerate() {
        let place = copy.join(format!("libraries-{index}"));
        link_tree(library, &place)?;
        library_path.push(place);
    }
    Ok(Binary {
        path: copy.join(binary.path.strip_prefix(usr)?),
        library_path: binary
            .library_path
            .map(|_| std::env::join_paths(library_path))
            .transpose()?,
    })
}

/// Hard links where the file system allows, copies where not. Relative links stay links; absolute
/// ones lead out of the tree, so what they lead to is taken instead.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    // Whatever the umask: another user must get in.
    std::fs::set_permissions(to, Permissions::from_mode(0o755))?;
    let entries = std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let (mut source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            link_tree(&source, &target)?;
            continue;
        }
        if kind.is_symlink() {
            let leads_to = std::fs::read_link(&source)?;
            if leads_to.is_relative() {
                std::os::unix::fs::symlink(leads_to, &target)?;
                continue;
            }
            match source.canonicalize() {
                Ok(file) if file.is_file() => source = file,
                _ => continue,
            }
        }
        if std::fs::hard_link(&source, &target).is_err() {
            std::fs::copy(&source, &target)
                .with_context(|| format!("copy {}", source.display()))?;
        }
    }
    Ok(())
}
