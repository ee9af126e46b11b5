//! `systemctl reload` sends SIGHUP: the list of IMEIs and both certificates are read anew, and no
//! tracker notices.
//!
//! The gateway also looks at these files by itself. So that only the signal can be the reason, the
//! list and the certificate for trackers change without a change of length, time or inode; and the
//! certificate for Redis changes more often than it is looked at.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tests::edge::{EDGE, replace};
use tests::fleet::Tracker;
use tests::processes::{Gateway, get};
use tests::servers::{Identity, Pki, Port};
use tests::tables::eventually;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{IMEI, RECORD, tracker};

const NEWCOMER: u64 = 350_000_000_000_017;

/// Longer than any certificate or key here.
const FILE_BYTES: usize = 4096;

/// Once in so many seconds the gateway looks at its certificate for Redis by itself, and a wait here
/// takes at most twice as long: it would see two of these, not all.
const RENEWALS: usize = 5;

/// Writes over `old`, so that only its contents change.
fn overwrite(old: &Path, new: &[u8]) -> Result<()> {
    let mut bytes = new.to_vec();
    ensure!(bytes.len() <= FILE_BYTES);
    bytes.resize(FILE_BYTES, b'\n');
    let before = std::fs::metadata(old).and_then(|meta| meta.modified());
    std::fs::write(old, bytes)?;
    if let Ok(before) = before {
        std::fs::File::options()
            .write(true)
            .open(old)?
            .set_modified(before)?;
    }
    Ok(())
}

fn overwrite_both(files: &Identity, with: &Identity) -> Result<()> {
    overwrite(&files.cert, &std::fs::read(&with.cert)?)?;
    overwrite(&files.key, &std::fs::read(&with.key)?)
}

fn list(imei: u64) -> Vec<u8> {
    format!("{imei}\n").into_bytes()
}

/// A handshake that trusts `ca` alone.
async fn shakes_hands(addr: SocketAddr, ca: &Path) -> Result<bool> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(ca)? {
        roots.add(cert?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    let shaken = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    Ok(shaken.is_ok())
}

async fn renewals(gateway: &Gateway) -> Result<usize> {
    let (_, text) = get(gateway.http_addr(), "/metrics").await?;
    let name = "milepost_gateway_uplink_certificate_renewals_total ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.context("the metric")?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_reads_lists_and_certificates_and_drops_nobody() -> Result<()> {
    let redis = tests::edge::redis(&[]).await?;
    let dir = tempfile::tempdir()?;
    let authority = |name: &str| -> Result<(Pki, Identity)> {
        let place = dir.path().join(name);
        std::fs::create_dir(&place)?;
        let pki = Pki::new(&place)?;
        let identity = pki.server("door")?;
        Ok((pki, identity))
    };
    let (old, old_door) = authority("old")?;
    let (new, new_door) = authority("new")?;
    let at = |name: &str| dir.path().join(name);
    let door = Identity {
        cert: at("door.crt"),
        key: at("door.key"),
    };
    overwrite_both(&door, &old_door)?;
    let ours = Identity {
        cert: at("our.crt"),
        key: at("our.key"),
    };
    std::fs::copy(&redis.identity(EDGE).cert, &ours.cert)?;
    std::fs::copy(&redis.identity(EDGE).key, &ours.key)?;
    let imeis = at("imeis");
    overwrite(&imeis, &[list(IMEI), list(IMEI)].concat())?;
    let tls = Port::free()?;
    let tls_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, tls.number()));
    let text = |path: &PathBuf| serde_json::Value::from(path.to_str().unwrap());
    let settings = [
        ("access.mode", "list".into()),
        ("access.list", text(&imeis)),
        ("listen.tls", vec![tls_addr.to_string()].into()),
        ("listen.tls_cert", text(&door.cert)),
        ("listen.tls_key", text(&door.key)),
        ("uplink.cert", text(&ours.cert)),
        ("uplink.key", text(&ours.key)),
    ];
    let mut gateway = Gateway::start(dir.path(), None, EDGE, &redis, &settings).await?;
    let record = hex::decode(RECORD)?;
    let mut stays = tracker(&gateway, IMEI).await?;
    assert_eq!(stays.send_frame(&record).await?, 1);
    let mut refused = Tracker::connect(gateway.tcp_addr(), NEWCOMER).await?;
    ensure!(!refused.login().await?, "not in the list yet");
    ensure!(shakes_hands(tls_addr, old.ca()).await?);

    overwrite(&imeis, &[list(IMEI), list(NEWCOMER)].concat())?;
    overwrite_both(&door, &new_door)?;
    gateway.hang_up()?;
    eventually("the new certificate is shown", async || {
        shakes_hands(tls_addr, new.ca()).await
    })
    .await?;
    ensure!(!shakes_hands(tls_addr, old.ca()).await?, "and no other");
    eventually("the newcomer is let in", async || {
        let mut newcomer = Tracker::connect(gateway.tcp_addr(), NEWCOMER).await?;
        newcomer.login().await
    })
    .await?;
    assert_eq!(stays.send_frame(&record).await?, 1);

    let mut began = 0;
    eventually("each renewed certificate is in use", async || {
        let done = renewals(&gateway).await?;
        if done == began && began < RENEWALS {
            let year = 2090 + i32::try_from(began)?;
            let renewed = redis.pki().client_until(EDGE, year)?;
            replace(&ours.key, &renewed.key)?;
            replace(&ours.cert, &renewed.cert)?;
            began += 1;
            gateway.hang_up()?;
        }
        Ok(done == RENEWALS)
    })
    .await?;
    assert_eq!(
        stays.send_frame(&record).await?,
        1,
        "on the connection of the beginning"
    );
    let status = gateway.status().await?;
    assert_eq!(status["uplink"]["trouble"], serde_json::Value::Null);
    // 2094 began 45,291 days after 1970.
    let left = status["uplink"]["certificate_left_days"]
        .as_f64()
        .context("days")?;
    ensure!((20_000.0..30_000.0).contains(&left), "{left}");
    let door_left = status["doors"]["certificate_left_days"]
        .as_f64()
        .context("days")?;
    let (_, metrics) = get(gateway.http_addr(), "/metrics").await?;
    for (name, left) in [("uplink", left), ("doors", door_left)] {
        let row = format!("milepost_gateway_{name}_certificate_left_days {left:.0}");
        let row = row.split_at(row.len() - 2).0;
        ensure!(metrics.contains(row), "{row}\n{metrics}");
    }
    Ok(())
}
