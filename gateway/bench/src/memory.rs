//! Resident memory of the gateway: idle, with connected trackers, with trackers over TLS.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tests::processes::Gateway;
use tests::servers::{GATEWAY, Port, Redis, RedisOptions};

use crate::crowd::Crowd;
use crate::print::{Should, mib, progress, ratio};
use crate::throughput::FIRST_IMEI;
use crate::{frames, limits, process};

const FIRST: usize = 5_000;
const SECOND: usize = 10_000;

/// What the first 5,000 may cost.
const TARGET_MIB: f64 = 10.0;

/// What was begun with the last login (registry, buffers) is over by then.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures and prints.
/// # Errors
/// When a server does not start or a tracker is refused.
pub async fn run(base: &Path) -> Result<()> {
    println!("\nmemory: resident, Redis connected, trackers logged in and silent");
    let redis = Redis::start(RedisOptions::default()).await?;
    let files = process::trackers_within(process::allow_files());
    let dir = tempfile::tempdir_in(base)?;
    let gateway = Gateway::start(dir.path(), Some(dir.path()), GATEWAY, &redis, &limits()).await?;
    let pid = gateway.pid().context("the gateway runs")?;
    tokio::time::sleep(SETTLE).await;
    let idle = process::resident_bytes(pid)?;
    println!("idle                      {:>8.2} MiB", mib(idle));

    let mut crowds = Vec::new();
    for (already, wanted) in [(0, FIRST), (FIRST, SECOND)] {
        let count = wanted.min(files);
        if count < wanted {
            println!(
                "the limit of open files allows {files} trackers, not {wanted}: measured with those"
            );
        }
        if count <= already {
            break;
        }
        progress(&format!("memory: {count} trackers"));
        let to = gateway.tcp_addr();
        let enter = move || Crowd::enter(to, count - already, FIRST_IMEI + already as u64);
        crowds.push(tokio::task::spawn_blocking(enter).await??);
        tokio::time::sleep(SETTLE).await;
        let now = process::resident_bytes(pid)?;
        let more = now.saturating_sub(idle);
        println!(
            "{count:>6} trackers over TCP  {:>8.2} MiB, {} bytes each",
            mib(now),
            more / count as u64
        );
        if wanted == FIRST && count == FIRST {
            ratio(
                "memory-5000-trackers-mib",
                mib(more),
                Should::StayBelow,
                TARGET_MIB,
            );
        }
    }
    drop((crowds, gateway));
    over_tls(base, &redis, FIRST.min(files)).await
}

async fn over_tls(base: &Path, redis: &Redis, count: usize) -> Result<()> {
    progress(&format!("memory: {count} trackers over TLS"));
    let dir = tempfile::tempdir_in(base)?;
    let port = Port::free()?;
    let server = redis.pki().server("gateway")?;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let mut settings = limits();
    settings.push((
        "listen.tls",
        vec![format!("127.0.0.1:{}", port.number())].into(),
    ));
    settings.push(("listen.tls_cert", path(&server.cert).into()));
    settings.push(("listen.tls_key", path(&server.key).into()));
    let gateway = Gateway::start(dir.path(), Some(dir.path()), GATEWAY, redis, &settings).await?;
    let pid = gateway.pid().context("the gateway runs")?;
    tokio::time::sleep(SETTLE).await;
    let idle = process::resident_bytes(pid)?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(redis.pki().ca())?)?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (config, to) = (Arc::new(config), ([127, 0, 0, 1], port.number()).into());
    let enter = move || -> Result<Vec<_>> {
        let one = |number| enter(to, &config, FIRST_IMEI + number);
        (0..count as u64).map(one).collect()
    };
    let trackers = tokio::task::spawn_blocking(enter).await??;
    tokio::time::sleep(SETTLE).await;
    let now = process::resident_bytes(pid)?;
    let each = now.saturating_sub(idle) / count as u64;
    println!(
        "{count:>6} trackers over TLS  {:>8.2} MiB, {each} bytes each (idle {:.2} MiB)",
        mib(now),
        mib(idle)
    );
    drop(trackers);
    Ok(())
}

fn enter(
    to: SocketAddr,
    config: &Arc<ClientConfig>,
    imei: u64,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("localhost")?;
    let session = ClientConnection::new(Arc::clone(config), name)?;
    let mut stream = StreamOwned::new(session, TcpStream::connect(to)?);
    stream.write_all(&frames::login(imei)?)?;
    let mut said = [0];
    stream.read_exact(&mut said)?;
    ensure!(said == [codec::login::ACCEPT], "login refused");
    Ok(stream)
}
