//! The `cloud` binary with settings of the test's own, run to its end.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
pub(super) use tests::processes::Ran;
use tests::processes::program_path;
use tests::servers::{ADMIN, PROCESSOR, RedisAccess};

/// A directory with `cloud.toml`, where `cloud` is run.
#[derive(Debug)]
pub(super) struct Office {
    dir: tempfile::TempDir,
}

impl Office {
    /// With these sections in its settings.
    pub(super) fn new(settings: &str) -> Result<Self> {
        let office = Self {
            dir: tempfile::tempdir()?,
        };
        let site = office.dir().join("site");
        let text = format!("{settings}\n[site]\ndir = \"{}\"\n", site.display());
        office.settings(&text)?;
        Ok(office)
    }

    /// Reaches `redis` as the cloud, and as an administrator where users are made.
    pub(super) fn at(redis: &RedisAccess, database_url: &str) -> Result<Self> {
        let office = Self {
            dir: tempfile::tempdir()?,
        };
        let identity = redis.identity(PROCESSOR);
        office.settings(&format!(
            "[redis]\nurl = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n\
             [database]\nurl = \"{database_url}\"\n\
             [site]\ndir = \"{}\"\nadmin_url = \"{}\"\n",
            redis.url(PROCESSOR),
            identity.cert.display(),
            identity.key.display(),
            redis.ca().display(),
            office.dir().join("site").display(),
            redis.url(ADMIN),
        ))?;
        Ok(office)
    }

    /// Mode 0600: addresses hold passwords.
    fn settings(&self, text: &str) -> Result<()> {
        let mut options = fs::File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = file.open(self.dir().join("cloud.toml"))?;
        Ok(file.write_all(text.as_bytes())?)
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The users' file for these gateways, as `cloud acl print` prints it.
    pub(super) fn users_file(&self, gateways: &[&str]) -> Result<Ran> {
        let mut words = vec!["acl", "print", "--admin", "--cloud", "--format", "acl-file"];
        for gateway in gateways {
            words.extend(["--gateway", gateway]);
        }
        self.run(&words)?.ok()
    }

    /// Runs `cloud` with these words.
    pub(super) fn run(&self, words: &[&str]) -> Result<Ran> {
        self.run_with(words, &[])
    }

    /// The same with variables in its environment, which is empty otherwise.
    pub(super) fn run_with(&self, words: &[&str], environment: &[(&str, &str)]) -> Result<Ran> {
        let mut command = Command::new(program_path("cloud")?);
        command.env_clear().current_dir(self.dir());
        command.envs(environment.iter().copied());
        command.args(words).args(["--config", "cloud.toml"]);
        Ran::of(command.output()?)
    }
}
