//! Whose spool a directory holds.
//!
//! Why: the cloud files every spool under the gateway that first sent it. A box that came back
//! under another name (a container with a new host name on its old volume) would send its backlog
//! as a stranger, and nothing it sends would ever be settled.
//!
//! Invariant: a directory has one owner, written before its first segment, and never changes it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use contract::GatewayId;

use super::SpoolError;

const FILE: &str = "gateway";

/// Who owns the directory; `None` for a new one.
/// # Errors
/// [`SpoolError::Storage`] when the file is there and cannot be read or holds no gateway id.
pub fn owner(dir: &Path) -> Result<Option<GatewayId>, SpoolError> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SpoolError::storage(&path, source)),
    };
    let id = GatewayId::new(text.trim());
    id.map(Some).map_err(|error| {
        let source = std::io::Error::new(ErrorKind::InvalidData, error);
        SpoolError::storage(&path, source)
    })
}

/// Writes the owner of a new directory down; an owned one must be owned by `id`.
pub(crate) fn claim(dir: &Path, id: &GatewayId) -> Result<(), SpoolError> {
    match owner(dir)? {
        Some(owner) if owner == *id => return Ok(()),
        Some(owner) => {
            return Err(SpoolError::Owned {
                dir: dir.to_owned(),
                owner,
            });
        }
        None => {}
    }
    let path = dir.join(FILE);
    let write = || {
        let mut file = File::create(&path)?;
        file.write_all(format!("{id}\n").as_bytes())?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| SpoolError::storage(&path, source))
}
