//! A box with nothing wrong, the mistakes that can be put into it, and the looking.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use contract::{Device, GatewayId, Lane, Transport};
use gateway::spool::{Append, FullPolicy, Spool, SpoolConfig};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use redis::aio::MultiplexedConnection;
use redis::cmd;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
pub(super) use tests::mistakes::{Case, remove};
use tests::mistakes::{Edit, Looks, objects};
use tests::processes::program_path;
use tests::servers::{ADMIN, GATEWAY, Identity, Port, Redis, RedisOptions, mounted, redis_server};

pub(super) fn set(name: &'static str, value: &str) -> Edit {
    let value = if name == "listen.tcp" {
        json!([value])
    } else {
        value.into()
    };
    (name, Some(value))
}

pub(super) fn cert(name: &'static str, path: &Path) -> Edit {
    set(name, path.to_str().unwrap())
}

/// How findings of the gateway look.
const LOOKS: Looks = Looks {
    mark: "level",
    failed: "error",
    filled: &["what", "where", "why", "do"],
    exit_of: |code| gateway::explain::page(code).unwrap().exit,
};

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub(super) enum Dates {
    Past,
    Now,
    /// Ends in ten days.
    Soon,
    Future,
}

/// A TLS server that is no Redis: only its certificate matters.
pub(super) struct TlsServer {
    pub(super) url: String,
    pub(super) ca: String,
}

pub(super) struct Stage {
    pub(super) redis: Redis,
    settings: BTreeMap<&'static str, Value>,
    program: PathBuf,
    dir: tempfile::TempDir,
    plain: std::sync::Mutex<Vec<Child>>,
    _port: Port,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in self.plain.get_mut().unwrap() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Stage {
    pub(super) async fn start() -> Result<Self> {
        let redis = Redis::start(RedisOptions::default()).await?;
        let dir = tempfile::Builder::new()
            .prefix("milepost-check-")
            .tempdir()?;
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        // Where a user without rights may execute it.
        let program = dir.path().join("gateway");
        std::fs::copy(program_path("gateway")?, &program)?;
        let port = Port::free()?;
        let identity = redis.identity(GATEWAY);
        let settings = BTreeMap::from([
            ("gateway.id", json!(GATEWAY)),
            (
                "listen.tcp",
                json!([format!("127.0.0.1:{}", port.number())]),
            ),
            ("http.listen", json!("127.0.0.1:0")),
            ("spool.dir", json!(dir.path().join("spool"))),
            ("spool.bytes_max", json!("64MiB")),
            ("uplink.url", json!(redis.url(GATEWAY))),
            ("uplink.cert", json!(identity.cert)),
            ("uplink.key", json!(identity.key)),
            ("uplink.ca", json!(redis.ca())),
        ]);
        let stage = Self {
            redis,
            settings,
            program,
            dir,
            plain: std::sync::Mutex::default(),
            _port: port,
        };
        stage.admin_does(&["HSET contract reads 1-1"]).await?;
        Ok(stage)
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path(name);
        std::fs::write(&path, text)?;
        Ok(path.to_str().unwrap().to_owned())
    }

    /// Runs the check with one mistake in it: every finding, and the exit code.
    pub(super) fn check(&self, case: &Case) -> Result<(Vec<Value>, i32)> {
        let file = self.write("gateway.toml", &case.settings(&self.settings))?;
        std::fs::set_permissions(&file, PermissionsExt::from_mode(case.mode))?;
        let mut words = case.before.clone();
        if let Some(right) = case.without.filter(|_| rustix::process::getuid().is_root()) {
            words.extend(["setpriv".to_owned(), format!("--bounding-set={right}")]);
        }
        words.push(self.program.to_str().unwrap().to_owned());
        let output = Command::new(&words[0])
            .args(&words[1..])
            .args([
                "check",
                "--json",
                "--config",
                case.file.as_deref().unwrap_or(&file),
            ])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(case.env.iter().map(|(name, value)| (name, value)))
            .output()?;
        case.findings(output)
    }

    /// Runs a verb that prints JSON: its objects, and the exit code.
    pub(super) fn run(&self, words: &[&str]) -> Result<(Vec<Value>, i32)> {
        let output = Command::new(&self.program)
            .args(words)
            .env_clear()
            .output()?;
        objects(output)
    }

    /// Every case is found as [`Looks::complaint`] says.
    pub(super) fn expect(&self, cases: &[Case]) -> Result<()> {
        let mut wrong = Vec::new();
        for case in cases {
            let (found, exit) = self.check(case)?;
            wrong.extend(LOOKS.complaint(case, &found, exit));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    /// With the spool on a file system that is mounted read-only. `None` where we may not mount.
    pub(super) fn on_read_only(&self, mut case: Case) -> Result<Option<Case>> {
        let place = self.path("read-only");
        let Some(words) = mounted(&place, "ro")? else {
            return Ok(None);
        };
        let words = words.into_iter().map(|word| word.into_string().unwrap());
        case.before = words.collect();
        let spool = place.join("spool");
        Ok(Some(
            case.edit(vec![set("spool.dir", spool.to_str().unwrap())]),
        ))
    }

    /// A spool in which `owner` has kept frames, each in a commit of its own.
    pub(super) fn spool_of(&self, owner: &str, name: &str) -> Result<String> {
        let dir = self.path(name);
        let spool = open(&dir, owner, 10)?;
        for frame in 0..5 {
            let kept = spool.append(Append {
                kind: contract::Kind::Teltonika,
                device: Device::Imei("356307042441013".parse()?),
                transport: Transport::Tcp,
                lane: Lane::Normal,
                received_at_ms: 1,
                record_count: 1,
                panic: false,
                bytes: vec![frame; 100],
            });
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(kept))?;
        }
        Ok(dir.to_str().unwrap().to_owned())
    }

    /// Flips a bit of a commit in the middle, and lets the next start find it.
    pub(super) fn damage(&self, dir: &str) -> Result<()> {
        for file in std::fs::read_dir(dir)? {
            let path = file?.path();
            let mut bytes = std::fs::read(&path)?;
            let frame = bytes.windows(50).position(|bytes| bytes == [2; 50]);
            if let Some(frame) = frame {
                bytes[frame] ^= 1;
                std::fs::write(&path, bytes)?;
            }
        }
        open(Path::new(dir), GATEWAY, 20).map(drop)
    }

    pub(super) fn made(&self, dates: Dates) -> Result<Identity> {
        let (params, key) = params(dates, GATEWAY, ExtendedKeyUsagePurpose::ClientAuth)?;
        let cert = params.self_signed(&key)?;
        let name = format!("made-{}", dates as u8);
        let identity = Identity {
            cert: self.write(&format!("{name}.crt"), &cert.pem())?.into(),
            key: self
                .write(&format!("{name}.key"), &key.serialize_pem())?
                .into(),
        };
        std::fs::set_permissions(&identity.key, PermissionsExt::from_mode(0o600))?;
        Ok(identity)
    }

    /// Shows a certificate of its own to whoever comes.
    pub(super) fn tls_server(&self, dates: Dates, name: &str) -> Result<TlsServer> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = authority.self_signed(&authority_key)?.pem();
        let ca = self.write(&format!("{name}-{}.pem", dates as u8), &ca)?;
        let (params, key) = params(dates, name, ExtendedKeyUsagePurpose::ServerAuth)?;
        let cert = params.signed_by(&key, &Issuer::new(authority, authority_key))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(cert.der().to_vec())], key)?;
        let config = Arc::new(config);
        let addr = serve(move |mut tcp| {
            if let Ok(mut tls) = rustls::ServerConnection::new(Arc::clone(&config)) {
                // It ends with the client's refusal.
                let _ = tls.complete_io(&mut tcp);
            }
        })?;
        Ok(TlsServer {
            url: format!("rediss://{addr}/"),
            ca,
        })
    }

    /// A server of another kind, which speaks first.
    pub(super) fn greeter(&self, greeting: &'static str) -> Result<SocketAddr> {
        serve(move |mut tcp| {
            let _ = tcp.write_all(greeting.as_bytes());
            // Until the other side has heard enough.
            let _ = tcp.set_read_timeout(Some(Duration::from_secs(30)));
            let _ = tcp.read_to_end(&mut Vec::new());
        })
    }

    /// A Redis without TLS, login and files. Returns its port.
    pub(super) async fn plain_redis(&self) -> Result<u16> {
        let binary = redis_server()?;
        let port = Port::free()?.number();
        let mut command = Command::new(&binary.path);
        if let Some(path) = &binary.library_path {
            command.env("LD_LIBRARY_PATH", path);
        }
        let child = command
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
            .current_dir(self.dir())
            .stdout(Stdio::null())
            .spawn()?;
        self.plain.lock().unwrap().push(child);
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while client.get_multiplexed_async_connection().await.is_err() {
            ensure!(
                Instant::now() < deadline,
                "the plain Redis does not come up"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(port)
    }

    pub(super) async fn admin(&self) -> Result<MultiplexedConnection> {
        Ok(self
            .redis
            .client(ADMIN)?
            .get_multiplexed_async_connection()
            .await?)
    }

    pub(super) async fn admin_does(&self, lines: &[&str]) -> Result<()> {
        self.redis.admin_does(lines).await
    }

    pub(super) async fn info(&self, field: &str) -> Result<String> {
        let info: String = cmd("INFO").query_async(&mut self.admin().await?).await?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(line.context("no such field")?.trim().to_owned())
    }

    pub(super) async fn until_info(&self, field: &str, wanted: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.info(field).await? != wanted {
            ensure!(
                Instant::now() < deadline,
                "{field} does not become {wanted}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// What is not good among the findings, a line each.
fn open(dir: &Path, owner: &str, life: u64) -> Result<Spool> {
    let config = SpoolConfig {
        dir: dir.to_owned(),
        gateway: GatewayId::new(owner)?,
        bytes_max: 64 << 20,
        full: FullPolicy::Refuse,
        commit_interval_min: Duration::ZERO,
    };
    Ok(Spool::open(config, [life, life + 1, life + 2])?.0)
}

/// Serves each connection in turn, as long as the test lives.
fn serve(mut one: impl FnMut(std::net::TcpStream) + Send + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || listener.incoming().flatten().for_each(&mut one));
    Ok(addr)
}

fn params(
    dates: Dates,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(CertificateParams, KeyPair)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    let now = std::time::SystemTime::now();
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let (from, to) = match dates {
        Dates::Past => (now - days(100), now - days(10)),
        Dates::Now => (now - days(1), now + days(100)),
        Dates::Soon => (now - days(100), now + days(10)),
        Dates::Future => (now + days(10), now + days(100)),
    };
    params.not_before = from.into();
    params.not_after = to.into();
    Ok((params, key))
}
