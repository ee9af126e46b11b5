//! Redis and TimescaleDB in containers, from `deploy/compose.yaml`, for as long as a handle lives.
//!
//! Containers belong to Docker's daemon and outlive whoever asked for them. A [`Guard`] therefore
//! listens on a pipe that we alone hold open, and says `docker compose down --volumes` when the pipe
//! ends, however we ended.
//!
//! Invariants: certificates, keys and passwords are made for this one run and lie in a directory
//! that is closed to others; there is a guard before there can be a container.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{Write, stderr};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use super::redis_access::{ACL_FILE, RedisAccess};
use super::{LOOK_AGAIN, Pki, Port, READY_TIMEOUT, postgres, secret};
use crate::child::last_words;

/// The user of `deploy/compose.yaml`'s health check: PING over the container's own socket.
const HEALTH_ACL: &str = "user health on nopass resetchannels -@all +ping\n";

/// How long the daemon may take to answer a simple question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Creating and starting containers whose images are there; healthy means a few seconds more.
const UP_TIMEOUT: Duration = Duration::from_secs(180);

/// The program and its arguments come after the directory. A line says that somebody is still there
/// to tidy up and to hear how it went; the end of the pipe without one says that we are dead.
const GUARD: &str = r#"
doomed=$1; shift
if read -r _; then exec "$@" </dev/null; fi
"$@" </dev/null
cd /; rm -rf "$doomed"
"#;

/// Running containers. Dropping it removes them, their volumes and their network.
#[derive(Debug)]
pub struct Compose {
    // Fields drop in this order: first the containers, then what they stand on.
    guard: Guard,
    redis: RedisAccess,
    database_url: String,
    _ports: [Port; 2],
    _dir: TempDir,
}

impl Compose {
    /// Starts the containers and waits until both servers answer. `project` is what Docker calls
    /// them; `gateways` are the ids Redis knows; `say` hears what is happening, and Docker's own
    /// progress goes to standard error.
    ///
    /// # Errors
    /// When Docker, its daemon, its compose plugin or an image is missing, or a container does not
    /// come up. The text says which and what to do.
    pub async fn start(
        project: &str,
        gateways: &[String],
        say: impl FnMut(&str),
    ) -> Result<Compose> {
        start(OsStr::new("docker"), project, gateways, say).await
    }

    /// The Redis in its container.
    #[must_use]
    pub fn redis(&self) -> &RedisAccess {
        &self.redis
    }

    /// The database in its container; it has the extension already.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Removes the containers, their volumes and their network. Takes seconds.
    ///
    /// # Errors
    /// When Docker could not: the text has its words and the command to try by hand.
    pub fn down(mut self) -> Result<()> {
        self.guard.down()
    }
}

async fn start(
    program: &OsStr,
    project: &str,
    gateways: &[String],
    mut say: impl FnMut(&str),
) -> Result<Compose> {
    let dir = tempfile::Builder::new()
        .prefix("milepost-compose-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()?;
    let ports = [Port::free()?, Port::free()?];
    let pki = Pki::new(dir.path())?;
    let mut redis = RedisAccess::new(&pki, gateways)?;
    redis.port = ports[0].number();
    let password = secret()?;
    let docker = Docker {
        program: program.to_owned(),
        project: project.to_owned(),
        file: compose_file()?,
        environment: vec![
            ("MILEPOST_REDIS_DIR", server_dir(&dir, &pki, &redis)?.into()),
            ("MILEPOST_REDIS_PORT", ports[0].number().to_string().into()),
            (
                "MILEPOST_DATABASE_PORT",
                ports[1].number().to_string().into(),
            ),
            ("MILEPOST_DATABASE_PASSWORD", password.clone().into()),
        ],
    };
    docker.answers().await?;
    docker.fetch_images(&mut say).await?;
    let guard = Guard::new(&docker, dir.path())?;
    say("starting containers");
    docker.up().await?;
    let database_url = format!(
        "postgres://milepost:{password}@127.0.0.1:{}/milepost",
        ports[1].number()
    );
    say("containers are healthy; waiting until both servers answer from here");
    let waited = async {
        until(async || redis.ping().await).await.context("redis")?;
        let database = until(async || postgres::answers(&database_url).await).await;
        database.context("timescaledb")
    };
    if let Err(error) = waited.await {
        let logs = docker.logs().await;
        return Err(error).context(format!("a container is up and does not answer:\n{logs}"));
    }
    Ok(Compose {
        guard,
        redis,
        database_url,
        _ports: ports,
        _dir: dir,
    })
}

async fn until(mut check: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        match check().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Where it is in the sources this program was built from.
fn compose_file() -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose.yaml");
    path.canonicalize().with_context(|| {
        let path = path.display();
        format!("no {path}: this program must run beside the sources it was built from")
    })
}

/// What the container of Redis sees. Its user is not ours, so files here are open to everybody who
/// gets to them, and nobody gets through the temporary directory above.
fn server_dir(dir: &TempDir, pki: &Pki, redis: &RedisAccess) -> Result<PathBuf> {
    let server = dir.path().join("server");
    std::fs::create_dir(&server)?;
    std::fs::set_permissions(&server, Permissions::from_mode(0o755))?;
    let identity = pki.server("redis")?;
    let files = [
        ("ca.crt", std::fs::read(pki.ca())?),
        ("redis.crt", std::fs::read(&identity.cert)?),
        ("redis.key", std::fs::read(&identity.key)?),
        (ACL_FILE, (redis.acl() + HEALTH_ACL).into_bytes()),
    ];
    for (name, content) in files {
        let path = server.join(name);
        std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    Ok(server)
}

/// The command, with what it must be told every time.
#[derive(Debug)]
struct Docker {
    program: OsString,
    project: String,
    file: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Docker {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).stdin(Stdio::null());
        command
    }

    fn compose(&self, words: &[&str]) -> Command {
        let mut command = self.command(&["compose", "--project-name", &self.project, "--file"]);
        command.arg(&self.file).args(words);
        let environment = self.environment.iter();
        command.envs(environment.map(|(name, value)| (name, value)));
        command
    }

    /// Docker, its daemon, its compose plugin: the commonest reasons, each with its cure.
    async fn answers(&self) -> Result<()> {
        let info = self.command(&["info", "--format", "{{.ServerVersion}}"]);
        ask(info).await.map_err(|unanswered| match unanswered {
            Unanswered::NotThere(error) => anyhow::Error::new(error)
                .context("there is no docker command: install Docker, or take another --engine"),
            Unanswered::Refused(words) => anyhow::anyhow!(
                "docker is installed but its daemon does not answer 'docker info': start it (or join \
                 its group), or take another --engine\n{words}"
            ),
        })?;
        let version = self.command(&["compose", "version", "--short"]);
        ask(version).await.map_err(|unanswered| {
            anyhow::anyhow!(
                "docker has no compose plugin: install it (docker-compose-plugin, or \
                 docker-compose-v2), or take another --engine\n{unanswered}"
            )
        })?;
        Ok(())
    }

    /// Before anything starts, and each by itself, so that a failure names its image.
    async fn fetch_images(&self, say: &mut impl FnMut(&str)) -> Result<()> {
        let images = ask(self.compose(&["config", "--images"])).await;
        let images = images.map_err(|unanswered| {
            anyhow::anyhow!("docker compose does not accept its file:\n{unanswered}")
        })?;
        for image in images
            .lines()
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let inspect = self.command(&["image", "inspect", "--format", "{{.Id}}", image]);
            if ask(inspect).await.is_ok() {
                continue;
            }
            say(&format!("pulling image {image}"));
            let status = watched(self.command(&["pull", image])).await?;
            ensure!(
                status.success(),
                "image {image} cannot be pulled (the lines above say why): look at the network and \
                 at 'docker login', or bring it here with 'docker load', or take another --engine"
            );
        }
        Ok(())
    }

    async fn up(&self) -> Result<()> {
        let up = watched(self.compose(&["up", "--detach", "--wait"]));
        let reason = match timeout(UP_TIMEOUT, up).await {
            Ok(Ok(status)) if status.success() => return Ok(()),
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => return Err(error),
            Err(_) => format!("not healthy after {} s", UP_TIMEOUT.as_secs()),
        };
        let logs = self.logs().await;
        bail!("the containers do not come up ({reason}); their last words:\n{logs}")
    }

    async fn logs(&self) -> String {
        let logs = self.compose(&["logs", "--no-color", "--tail", "20"]);
        ask(logs).await.unwrap_or_else(|error| error.to_string())
    }
}

/// Why a question to Docker has no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("cannot be started")]
    NotThere(#[source] std::io::Error),
    /// What it said instead.
    #[error("{0}")]
    Refused(String),
}

/// Standard output of a command that should be quick.
async fn ask(command: Command) -> Result<String, Unanswered> {
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output();
    match timeout(ANSWER_TIMEOUT, output).await {
        Ok(Ok(output)) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(Ok(output)) => {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(Unanswered::Refused(words.trim().to_owned()))
        }
        Ok(Err(error)) => Err(Unanswered::NotThere(error)),
        Err(_) => Err(Unanswered::Refused(format!(
            "no answer in {} s",
            ANSWER_TIMEOUT.as_secs()
        ))),
    }
}

/// Runs a command whose progress people want to see. Standard output is the ledger's alone.
async fn watched(mut command: Command) -> Result<std::process::ExitStatus> {
    command.stdout(stderr().as_fd().try_clone_to_owned()?);
    let mut command = tokio::process::Command::from(command);
    let status = command.kill_on_drop(true).status().await;
    status.context("run docker")
}

/// Removes the containers when it is told to, or when we are gone.
#[derive(Debug)]
struct Guard {
    shell: Child,
    /// Apart from `shell`, whose `wait` would close it.
    pipe: Option<ChildStdin>,
    log: PathBuf,
    project: String,
}

impl Guard {
    /// `doomed` is removed too if we die.
    fn new(docker: &Docker, doomed: &Path) -> Result<Guard> {
        let log = doomed.join("down.log");
        let output = File::create(&log)?;
        let down = docker.compose(&["down", "--volumes"]);
        let mut shell = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard"])
            .arg(doomed)
            .arg(down.get_program())
            .args(down.get_args())
            .envs(docker.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in a terminal must not reach it.
            .process_group(0)
            .spawn()
            .context("start /bin/sh")?;
        let pipe = shell.stdin.take();
        Ok(Guard {
            shell,
            pipe,
            log,
            project: docker.project.clone(),
        })
    }

    /// Does nothing the second time.
    fn down(&mut self) -> Result<()> {
        let Some(mut pipe) = self.pipe.take() else {
            return Ok(());
        };
        pipe.write_all(b"\n").context("tell the guard")?;
        drop(pipe);
        let status = self.shell.wait()?;
        ensure!(
            status.success(),
            "the containers could not be removed ({status}); try 'docker compose -p {} down --volumes'\n{}",
            self.project,
            last_words(&self.log)
        );
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.down() {
            // Nobody else is left to say it.
            let _ = writeln!(stderr().lock(), "{error:#}");
        }
    }
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
