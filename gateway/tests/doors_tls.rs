//! The TLS door with real certificates: who gets in, who does not, and new files while it runs.

#![allow(clippy::unwrap_used)]

mod world;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway::listen::{IdentityError, ListenConfig, TlsConfig};
use gateway::metrics::Shed;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use world::{FRAME_1, Options, Tracker, World, frame, limits, until};

const IMEI: &str = "356307042441013";

/// An authority and what it signs, as files.
struct Authority {
    dir: PathBuf,
    ca: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = dir.join("ca.crt");
        std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            dir: dir.to_owned(),
            ca,
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, name: &str, expired: bool) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if expired {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let cert_path = self.dir.join(format!("{name}.crt"));
        let key_path = self.dir.join(format!("{name}.key"));
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        std::fs::write(&cert_path, cert.pem()).unwrap();
        (cert_path, key_path)
    }

    fn server(&self, client_ca: Option<&Authority>) -> TlsConfig {
        let (cert, key) = self.issue("server", false);
        TlsConfig {
            cert,
            key,
            client_ca: client_ca.map(|authority| authority.ca.clone()),
        }
    }
}

fn certs(path: &Path) -> Vec<CertificateDer<'static>> {
    let certs = CertificateDer::pem_file_iter(path).unwrap();
    certs.map(Result::unwrap).collect()
}

/// Connects; an error here or at the first read is what a refused certificate looks like.
async fn dial(
    addr: SocketAddr,
    ca: &Path,
    identity: Option<(PathBuf, PathBuf)>,
) -> std::io::Result<Tracker<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certs(ca));
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            builder.with_client_auth_cert(certs(&cert), key).unwrap()
        }
    };
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    Ok(Tracker(stream.await?))
}

/// In TLS 1.3 the client hears of its refusal with the first read.
async fn is_refused(dialled: std::io::Result<Tracker<TlsStream<TcpStream>>>) -> bool {
    match dialled {
        Err(_) => true,
        Ok(mut tracker) => tracker.0.read_u8().await.is_err(),
    }
}

#[tokio::test]
async fn a_tracker_over_tls_is_served_like_any_other() {
    let world = World::new(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let (addr, _) = world.tls(authority.server(None)).await;
    let mut tracker = dial(addr, &authority.ca, None).await.unwrap();
    tracker.log_in(IMEI).await;
    // Many frames in one record, and one frame in many records.
    let frames = frame(FRAME_1).repeat(300);
    tracker.say(&frames).await;
    tracker.hears(&[0, 0, 0, 1].repeat(300)).await;
    for part in frame(FRAME_1).chunks(1) {
        tracker.say(part).await;
    }
    tracker.hears(&[0, 0, 0, 1]).await;
    assert_eq!(world.roster.len(), 1);
    let mut plain = Tracker::dial(world.tcp().await).await;
    plain.log_in(IMEI).await;
    assert!(
        tracker.hears_out().await.is_empty(),
        "newest wins across doors"
    );
}

#[tokio::test]
async fn who_has_no_business_here_does_not_get_past_the_handshake() {
    let world = World::new(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(&dir.path().join("ours"));
    let foreign = Authority::new(&dir.path().join("foreign"));
    let (addr, _) = world.tls(ours.server(Some(&ours))).await;
    let failed = || world.metrics.doors.shed_count(Shed::TlsHandshake);

    let mut good = dial(addr, &ours.ca, Some(ours.issue("good", false)))
        .await
        .unwrap();
    good.log_in(IMEI).await;
    assert_eq!(failed(), 0);

    let none = dial(addr, &ours.ca, None).await;
    assert!(is_refused(none).await, "no certificate");
    let wrong = dial(addr, &ours.ca, Some(foreign.issue("wrong", false))).await;
    assert!(is_refused(wrong).await, "of another authority");
    let expired = dial(addr, &ours.ca, Some(ours.issue("expired", true))).await;
    assert!(is_refused(expired).await, "expired");
    let distrusts = dial(addr, &foreign.ca, Some(ours.issue("good", false))).await;
    assert!(distrusts.is_err(), "the tracker does not trust us");
    let mut plain = Tracker::dial(addr).await;
    plain.say(&world::login(IMEI)).await;
    plain.hears_out().await;
    until("all were counted", || failed() == 5).await;

    good.say(&frame(FRAME_1)).await;
    good.hears(&[0, 0, 0, 1]).await;
    assert_eq!(world.counted("logins_accepted"), 1);
}

#[tokio::test]
async fn a_handshake_and_a_login_share_one_time_limit() {
    let mut session = limits();
    session.handshake_timeout = Duration::from_millis(300);
    let base = Options::default();
    let options = Options {
        listen: ListenConfig {
            session,
            ..base.listen.clone()
        },
        ..base
    };
    let world = World::new(options);
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let (addr, _) = world.tls(authority.server(None)).await;
    let began = std::time::Instant::now();
    let mut mute = Tracker::dial(addr).await;
    assert!(mute.hears_out().await.is_empty());
    let mut shaken = dial(addr, &authority.ca, None).await.unwrap();
    assert!(shaken.hears_out().await.is_empty());
    assert!(began.elapsed() < Duration::from_secs(10));
    let counted = || world.metrics.doors.shed_count(Shed::HandshakeTimeout);
    until("both were counted", || counted() == 2).await;
}

#[tokio::test]
async fn new_certificates_are_used_without_dropping_anybody() {
    let world = World::new(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let old = Authority::new(&dir.path().join("old"));
    let new = Authority::new(&dir.path().join("new"));
    let files = old.server(None);
    let (addr, identity) = world.tls(files.clone()).await;
    let mut tracker = dial(addr, &old.ca, None).await.unwrap();
    tracker.log_in(IMEI).await;

    // Half of a new pair: nothing changes, and it says so.
    let (cert, key) = new.issue("server", false);
    std::fs::copy(&cert, &files.cert).unwrap();
    identity.look();
    assert!(identity.trouble().unwrap().contains("do not fit together"));
    drop(dial(addr, &old.ca, None).await.unwrap());
    // The other half.
    std::fs::copy(&key, &files.key).unwrap();
    identity.look();
    assert_eq!(identity.trouble(), None);
    drop(dial(addr, &new.ca, None).await.unwrap());
    assert!(dial(addr, &old.ca, None).await.is_err());
    // Gone altogether.
    std::fs::remove_file(&files.cert).unwrap();
    assert!(matches!(identity.reload(), Err(IdentityError::File { .. })));
    drop(dial(addr, &new.ca, None).await.unwrap());

    tracker.say(&frame(FRAME_1)).await;
    tracker.hears(&[0, 0, 0, 1]).await;
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_setting() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let good = authority.server(Some(&authority));
    assert!(good.load().is_ok());
    let other = |file: &str, text: &str| {
        let path = dir.path().join(file);
        std::fs::write(&path, text).unwrap();
        path
    };
    let empty = other("empty", "");
    let (_, foreign_key) = Authority::new(&dir.path().join("foreign")).issue("f", false);
    let cases: [(TlsConfig, &str); 6] = [
        (
            TlsConfig {
                cert: dir.path().join("none"),
                ..good.clone()
            },
            "listen.tls_cert",
        ),
        (
            TlsConfig {
                cert: empty.clone(),
                ..good.clone()
            },
            "listen.tls_cert",
        ),
        (
            TlsConfig {
                key: empty.clone(),
                ..good.clone()
            },
            "listen.tls_key",
        ),
        (
            TlsConfig {
                key: foreign_key,
                ..good.clone()
            },
            "do not fit together",
        ),
        (
            TlsConfig {
                client_ca: Some(empty),
                ..good.clone()
            },
            "listen.tls_client_ca",
        ),
        (
            TlsConfig {
                client_ca: Some(good.key.clone()),
                ..good.clone()
            },
            "listen.tls_client_ca",
        ),
    ];
    for (files, named) in cases {
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}
