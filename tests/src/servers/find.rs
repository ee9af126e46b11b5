//! Where the server binaries are: what `./dev setup` unpacked first, then what the system has.
//!
//! | variable | meaning |
//! |---|---|
//! | `MILEPOST_REDIS_SERVER` | a `redis-server` or `valkey-server` built with TLS |
//! | `MILEPOST_VALKEY_SERVER` | a `valkey-server`, beside the other one |
//! | `MILEPOST_POSTGRES_BIN` | the directory with `initdb` and `postgres` |
//! | `MILEPOST_NODE` | `node`, 18 or newer |
//! | `MILEPOST_PYTHON_DIR` | the packages that the examples in Python import |
//! | `MILEPOST_SCHEMATHESIS_DIR` | schemathesis and what it imports |
//! | `MILEPOST_SERVERS_LIB` | colon-separated library directories of binaries named above |
//!
//! Invariant: the library directories are given to binaries named by a variable alone. A system
//! binary must not meet libraries from another place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::child::Environment;

/// A program and the library path it needs, if any.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The file to execute.
    pub path: PathBuf,
    /// Value for `LD_LIBRARY_PATH`, when the program was unpacked rather than installed.
    pub library_path: Option<OsString>,
}

impl Binary {
    fn unpacked(path: PathBuf) -> Self {
        Self {
            path,
            library_path: std::env::var_os("MILEPOST_SERVERS_LIB"),
        }
    }

    fn installed(path: PathBuf) -> Self {
        Self {
            path,
            library_path: None,
        }
    }

    /// Gives `command` the environment this binary needs.
    pub(super) fn prepare(&self, command: &mut Command) {
        if let Some(path) = &self.library_path {
            command.env("LD_LIBRARY_PATH", path);
        }
    }

    /// The same for a program that runs on and on.
    pub(super) fn environment(&self) -> Environment<'_> {
        Environment::Ours(self.library_path.as_deref())
    }

    /// Another program in the same directory.
    pub(super) fn sibling(&self, name: &str) -> Self {
        Self {
            path: self.path.with_file_name(name),
            library_path: self.library_path.clone(),
        }
    }
}

/// A server that is nowhere to be found, and what to do about it.
#[derive(Debug, Error)]
pub enum Missing {
    /// A variable names something that is not there.
    #[error("{variable} names {path}, which does not exist; run ./dev setup again or unset it")]
    Stale {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        path: String,
    },
    /// Neither named nor installed.
    #[error("{what} not found in PATH or {usual}; run ./dev setup, or set {variable}")]
    Nowhere {
        /// What was looked for.
        what: &'static str,
        /// The usual place besides PATH.
        usual: &'static str,
        /// The environment variable that would name it.
        variable: &'static str,
    },
}

/// `redis-server` 7.0 or newer, or `valkey-server`.
///
/// # Errors
/// [`Missing`], whose text says what to do.
pub fn redis_server() -> Result<Binary, Missing> {
    const VARIABLE: &str = "MILEPOST_REDIS_SERVER";
    if let Some(path) = named(VARIABLE, "")? {
        return Ok(Binary::unpacked(path));
    }
    let found = in_path("redis-server").or_else(|| in_path("valkey-server"));
    found.map(Binary::installed).ok_or(Missing::Nowhere {
        what: "redis-server or valkey-server",
        usual: "MILEPOST_REDIS_SERVER",
        variable: VARIABLE,
    })
}

/// Every server there is that speaks as Redis 7.0 or newer, each once, the one of [`redis_server`]
/// first.
///
/// # Errors
/// [`Missing`], when there is none, or a variable names what is not there.
pub fn redis_servers() -> Result<Vec<Binary>, Missing> {
    let mut servers = vec![redis_server()?];
    let others = [
        // A wheel brings its own libraries.
        named("MILEPOST_VALKEY_SERVER", "")?.map(Binary::installed),
        in_path("redis-server").map(Binary::installed),
        in_path("valkey-server").map(Binary::installed),
    ];
    for other in others.into_iter().flatten() {
        // Both names may be links to one program.
        let same =
            |server: &Binary| server.path.canonicalize().ok() == other.path.canonicalize().ok();
        if !servers.iter().any(same) {
            servers.push(other);
        }
    }
    Ok(servers)
}

/// `python3`, and the directory with the packages that the examples import.
///
/// # Errors
/// [`Missing`], whose text says what to do.
pub fn python() -> Result<(Binary, PathBuf), Missing> {
    python_with("MILEPOST_PYTHON_DIR", "../.dev/python", "redis")
}

/// `python3`, and the directory with schemathesis and what it imports.
///
/// # Errors
/// [`Missing`], whose text says what to do.
pub fn schemathesis() -> Result<(Binary, PathBuf), Missing> {
    let variable = "MILEPOST_SCHEMATHESIS_DIR";
    python_with(variable, "../.dev/schemathesis", "schemathesis")
}

/// `python3`, and the directory in which `package` is, named by the variable or at its usual place.
fn python_with(
    variable: &'static str,
    usual: &str,
    package: &str,
) -> Result<(Binary, PathBuf), Missing> {
    let python = in_path("python3").ok_or(Missing::Nowhere {
        what: "python3",
        usual: "PATH",
        variable: "PATH",
    })?;
    let packages = match std::env::var_os(variable).filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(usual),
    };
    if !packages.join(package).is_dir() {
        return Err(Missing::Stale {
            variable,
            path: packages.display().to_string(),
        });
    }
    Ok((Binary::installed(python), packages))
}

/// `postgres` 15 or newer; `initdb` is its neighbour.
///
/// # Errors
/// [`Missing`], whose text says what to do.
pub fn postgres_bin() -> Result<Binary, Missing> {
    const VARIABLE: &str = "MILEPOST_POSTGRES_BIN";
    if let Some(path) = named(VARIABLE, "postgres")? {
        return Ok(Binary::unpacked(path));
    }
    // A link in PATH may stand alone; its target has initdb beside it.
    let linked = in_path("postgres").and_then(|path| path.canonicalize().ok());
    let found = linked
        .filter(|path| path.with_file_name("initdb").exists())
        .or_else(newest_debian_postgres);
    found.map(Binary::installed).ok_or(Missing::Nowhere {
        what: "postgres with initdb",
        usual: "/usr/lib/postgresql/*/bin",
        variable: VARIABLE,
    })
}

/// Node.js, for the TimescaleDB test server.
///
/// # Errors
/// [`Missing`], whose text says what to do.
pub fn node() -> Result<Binary, Missing> {
    const VARIABLE: &str = "MILEPOST_NODE";
    if let Some(path) = named(VARIABLE, "")? {
        return Ok(Binary::unpacked(path));
    }
    in_path("node")
        .or_else(|| in_path("nodejs"))
        .map(Binary::installed)
        .ok_or(Missing::Nowhere {
            what: "node",
            usual: "as nodejs",
            variable: VARIABLE,
        })
}

fn named(variable: &'static str, file: &str) -> Result<Option<PathBuf>, Missing> {
    let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let path = if file.is_empty() {
        PathBuf::from(&value)
    } else {
        Path::new(&value).join(file)
    };
    if path.is_file() {
        return Ok(Some(path));
    }
    Err(Missing::Stale {
        variable,
        path: path.display().to_string(),
    })
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Debian keeps the servers out of PATH, one directory per major version.
fn newest_debian_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let newest = versions
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|major| *major >= 15)
        .max()?;
    let path = PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin/postgres"));
    path.is_file().then_some(path)
}
