//! What was given to which site, a file each. No secret is in here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use contract::GatewayId;
use serde::{Deserialize, Serialize};

use super::{SiteError, private};

/// A certificate that was given out. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Hexadecimal.
    pub serial: String,
    /// Who signed it: `Authority::id`.
    pub authority: String,
    /// When it was made.
    pub made_ms: u64,
    /// When it ends.
    pub ends_ms: u64,
    /// When it was revoked, if it was.
    pub revoked_ms: Option<u64>,
}

/// One site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The operator's name for it; also its gateway's id and its user in Redis.
    pub name: String,
    /// Where its gateway reaches Redis, without a login.
    pub url: String,
    /// SHA-256 of the passwords that open, hexadecimal, the newest last. A renewed box has two until
    /// it is renewed again: the one it still uses, and the one in its new bundle.
    pub passwords: Vec<String>,
    /// Every certificate, the newest last.
    pub certificates: Vec<Given>,
    /// When it was shut out, if it is.
    pub revoked_ms: Option<u64>,
}

impl Site {
    /// The end of its newest certificate that was not revoked.
    #[must_use]
    pub fn ends_ms(&self) -> Option<u64> {
        let valid = self.certificates.iter().filter(|c| c.revoked_ms.is_none());
        valid.map(|certificate| certificate.ends_ms).next_back()
    }
}

/// All of them, in a directory.
#[derive(Debug)]
pub struct Book {
    dir: PathBuf,
}

impl Book {
    /// Those of `site.dir`. Nothing is made yet.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        Self {
            dir: dir.join("sites"),
        }
    }

    /// Where they are.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.dir
    }

    fn path(&self, name: &GatewayId) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    /// # Errors
    /// [`SiteError::File`], [`SiteError::Record`].
    pub fn read(&self, name: &GatewayId) -> Result<Option<Site>, SiteError> {
        read(&self.path(name))
    }

    /// # Errors
    /// [`SiteError::File`].
    pub fn write(&self, name: &GatewayId, site: &Site) -> Result<(), SiteError> {
        let path = self.path(name);
        private::make_dir(&self.dir).map_err(SiteError::file("make", &self.dir))?;
        let mut text = serde_json::to_vec_pretty(site).map_err(|source| SiteError::Record {
            path: path.clone(),
            source,
        })?;
        text.push(b'\n');
        private::write(&path, &text).map_err(SiteError::file("write", &path))
    }

    /// Every site, by name.
    /// # Errors
    /// [`SiteError::File`], [`SiteError::Record`].
    pub fn all(&self) -> Result<Vec<Site>, SiteError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(SiteError::file("read", &self.dir)(error)),
        };
        let mut sites = Vec::new();
        for entry in entries {
            let path = entry.map_err(SiteError::file("read", &self.dir))?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                sites.extend(read(&path)?);
            }
        }
        sites.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(sites)
    }
}

fn read(path: &Path) -> Result<Option<Site>, SiteError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SiteError::file("read", path)(error)),
    };
    let site = serde_json::from_slice(&text).map_err(|source| SiteError::Record {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(site))
}
