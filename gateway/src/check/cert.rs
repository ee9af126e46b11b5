//! Are our certificate files what they should be?
//!
//! Why rustls's own verifier is asked at other times than now: it says in its refusal when a
//! certificate begins and ends, so that no second reader of certificates is needed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::settings::Settings;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};

use super::Look;
use crate::chain::chain;
use crate::explain::Page;
use crate::explain::cert as pages;
use crate::spool::written::date;

const SOON_DAYS: u64 = 30;
const DAY_MS: u64 = 86_400_000;

/// 9999-12-31, the last day a certificate can name (RFC 5280, 4.1.2.5).
const LAST_S: u64 = 253_402_300_799;

/// `now_ms`: milliseconds since 1970 UTC.
pub(super) fn look(settings: &Settings, now_ms: u64) -> Look {
    let mut look = Look::new("certificates");
    doors(&mut look, settings, now_ms);
    let path = |name| settings.optional_path(name).ok().flatten();
    let (cert, key, ca) = (path("uplink.cert"), path("uplink.key"), path("uplink.ca"));
    if cert.is_none() && key.is_none() && ca.is_none() {
        look.good("none are set: the server is judged by the system's list of authorities");
        return look;
    }
    let authorities = ca.as_deref().and_then(|ca| read_ca(&mut look, ca, now_ms));
    let chain = cert
        .as_deref()
        .and_then(|cert| certificates(&mut look, "uplink.cert", cert));
    let key = key
        .as_deref()
        .and_then(|path| Some((path, read_key(&mut look, path)?)));
    let Some((chain, path)) = chain.zip(cert.as_deref()) else {
        return look;
    };
    if let Some((key_path, key)) = key {
        pair(&mut look, path, key_path, &chain, key);
    }
    dates(&mut look, "our certificate", path, &chain, now_ms);
    purpose(&mut look, path, &chain, authorities, now_ms);
    look
}

/// Do these PEM files make an identity that Redis may accept? For files that are not in place yet;
/// `place` is where they come from.
#[must_use]
pub fn look_at_pem(cert: &[u8], key: &[u8], ca: &[u8], place: &Path, now_ms: u64) -> Look {
    let mut look = Look::new("certificates");
    let read = |pem| CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let mut certificates = |name, pem| match read(pem) {
        Ok(found) if !found.is_empty() => Some(found),
        Ok(_) => {
            unreadable(&mut look, name, place, &pem::Error::NoItemsFound);
            None
        }
        Err(error) => {
            unreadable(&mut look, name, place, &error);
            None
        }
    };
    let chain = certificates("uplink.cert", cert);
    let found = certificates("uplink.ca", ca);
    let (Some(chain), Some(found)) = (chain, found) else {
        return look;
    };
    let authorities = roots(&mut look, place, &found, now_ms);
    match PrivateKeyDer::from_pem_slice(key) {
        Ok(key) => pair(&mut look, place, place, &chain, key),
        Err(error) => unreadable(&mut look, "uplink.key", place, &error),
    }
    dates(&mut look, "our certificate", place, &chain, now_ms);
    purpose(&mut look, place, &chain, authorities, now_ms);
    look
}

/// What trackers over TLS are shown; whether it is usable at all is told among the settings.
fn doors(look: &mut Look, settings: &Settings, now_ms: u64) {
    let path = settings.optional_path("listen.tls_cert").ok().flatten();
    let is_shown = settings.is_set("listen.tls")
        || cfg!(feature = "ingest") && settings.is_set("listen.https");
    let Some(path) = path.filter(|_| is_shown) else {
        return;
    };
    let read = CertificateDer::pem_file_iter(&path);
    let chain = read.and_then(Iterator::collect::<Result<Vec<_>, _>>);
    if let Ok(chain) = chain
        && !chain.is_empty()
    {
        dates(look, "the certificate for trackers", &path, &chain, now_ms);
    }
}

/// The PEM certificates of a file, at least one.
fn certificates(look: &mut Look, name: &str, path: &Path) -> Option<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if !found.is_empty() => Some(found),
        Ok(_) => {
            unreadable(look, name, path, &pem::Error::NoItemsFound);
            None
        }
        Err(error) => {
            unreadable(look, name, path, &error);
            None
        }
    }
}

fn read_key(look: &mut Look, path: &Path) -> Option<PrivateKeyDer<'static>> {
    use std::os::unix::fs::PermissionsExt as _;
    let key = match PrivateKeyDer::from_pem_file(path) {
        Ok(key) => key,
        Err(error) => {
            unreadable(look, "uplink.key", path, &error);
            return None;
        }
    };
    let mode = std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o004 != 0 {
        let path = path.display().to_string();
        look.bad(
            &pages::KEY_MODE,
            "everybody on this machine may read our private key",
            &path,
            format!("its mode is {:04o}", mode & 0o7777),
            format!("chmod 0600 {path}"),
        );
    }
    Some(key)
}

fn unreadable(look: &mut Look, name: &str, path: &Path, error: &pem::Error) {
    let place = format!("{name} = {}", path.display());
    match error {
        pem::Error::Io(source) => look.bad(
            &pages::FILE,
            format!("the file of {name} cannot be read"),
            place,
            source.to_string(),
            "correct the path, or let the gateway's user read it",
        ),
        other => {
            let kind = if name == "uplink.key" {
                "private key"
            } else {
                "certificate"
            };
            let what = format!("the file of {name} holds no {kind} in PEM");
            let why = chain(other);
            let remedy = "give the text file with -----BEGIN …-----, without a passphrase";
            look.bad(&pages::NOT_PEM, what, place, why, remedy);
        }
    }
}

fn read_ca(look: &mut Look, path: &Path, now_ms: u64) -> Option<RootCertStore> {
    let found = certificates(look, "uplink.ca", path)?;
    roots(look, path, &found, now_ms)
}

fn roots(
    look: &mut Look,
    path: &Path,
    found: &[CertificateDer<'static>],
    now_ms: u64,
) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in found {
        if let Err(error) = roots.add(certificate.clone()) {
            look.bad(
                &pages::NO_CA,
                "uplink.ca holds no usable authority",
                path.display().to_string(),
                error.to_string(),
                "give the certificate of the authority that signed Redis's certificate",
            );
            return None;
        }
    }
    dates(look, "the authority's certificate", path, found, now_ms);
    Some(roots)
}

fn pair(
    look: &mut Look,
    cert_path: &Path,
    key_path: &Path,
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
) {
    let made = CertifiedKey::from_der(chain.to_vec(), key, &ring::default_provider());
    let place = format!("{} and {}", cert_path.display(), key_path.display());
    match made {
        Ok(_) => look.good("key and certificate belong together"),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => look.bad(
            &pages::MISMATCH,
            "uplink.key is not the key of uplink.cert",
            place,
            "their public keys differ",
            "take both from the same bundle; after a renewal replace both",
        ),
        Err(error) => look.bad(
            &pages::NOT_PEM,
            "certificate or key cannot be understood",
            place,
            error.to_string(),
            "issue them anew: ECDSA P-256, Ed25519 or RSA of 2048 bits and more",
        ),
    }
}

/// From when to when is it valid? Milliseconds since 1970 UTC.
fn validity(chain: &[CertificateDer<'static>]) -> Option<(u64, u64)> {
    let verifier = verifier(None, chain)?;
    let ask = |at: u64| {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        verifier.verify_client_cert(&chain[0], &[], at).err()
    };
    let ms = |time: UnixTime| time.as_secs().saturating_mul(1000);
    let begin = match ask(0) {
        Some(Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before,
            ..
        })) => ms(not_before),
        _ => 0,
    };
    let end = match ask(LAST_S) {
        Some(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            ms(not_after)
        }
        _ => LAST_S * 1000,
    };
    Some((begin, end))
}

/// Judges by `roots`, or by the certificate itself where only its dates are asked for.
fn verifier(
    roots: Option<RootCertStore>,
    chain: &[CertificateDer<'static>],
) -> Option<Arc<dyn ClientCertVerifier>> {
    let roots = roots.or_else(|| {
        let mut own = RootCertStore::empty();
        own.add(chain.first()?.clone()).ok()?;
        Some(own)
    })?;
    let provider = Arc::new(ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .ok()
}

fn dates(
    look: &mut Look,
    whose: &str,
    path: &Path,
    chain: &[CertificateDer<'static>],
    now_ms: u64,
) {
    let place = path.display().to_string();
    let Some((begin_ms, end_ms)) = validity(chain) else {
        look.bad(
            &pages::NOT_PEM,
            format!("{whose} cannot be understood"),
            place,
            "it is PEM, and no certificate inside",
            "issue it anew",
        );
        return;
    };
    let span = format!("valid from {} to {}", date(begin_ms), date(end_ms));
    let days = end_ms.saturating_sub(now_ms) / DAY_MS;
    let today = date(now_ms);
    if now_ms > end_ms {
        look.bad(
            &pages::EXPIRED,
            format!("{whose} expired on {}", date(end_ms)),
            place,
            format!("{span}; today is {today}"),
            "renew it; a running gateway takes the new files by itself",
        );
    } else if now_ms < begin_ms {
        look.bad(
            &pages::NOT_YET,
            format!("{whose} is valid from {} only", date(begin_ms)),
            place,
            format!("{span}; today is {today}"),
            "set this machine's clock, or wait",
        );
    } else if days < SOON_DAYS {
        look.bad(
            &pages::SOON,
            format!("{whose} expires in {days} days"),
            place,
            span,
            "renew it now",
        );
    } else {
        look.good(format!("{whose} is {span}, {days} days left"));
    }
}

/// Is it one for clients, and by whom? Asked for a moment inside its validity.
fn purpose(
    look: &mut Look,
    path: &Path,
    chain: &[CertificateDer<'static>],
    authorities: Option<RootCertStore>,
    now_ms: u64,
) {
    let Some((begin_ms, end_ms)) = validity(chain) else {
        return;
    };
    let at = Duration::from_millis(now_ms.clamp(begin_ms, end_ms));
    let at = UnixTime::since_unix_epoch(at);
    let is_known = authorities.is_some();
    let Some(verifier) = verifier(authorities, chain) else {
        return;
    };
    let error = match verifier.verify_client_cert(&chain[0], &chain[1..], at) {
        Ok(_) if is_known => {
            look.good("our certificate is for clients and signed by uplink.ca");
            return;
        }
        Ok(_) => return,
        Err(error) => error,
    };
    let place = path.display().to_string();
    let (page, what, remedy): (&'static Page, _, _) = match &error {
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => (
            &pages::PURPOSE,
            "our certificate is not one for clients",
            "issue one with the extended key usage clientAuth",
        ),
        _ if is_known => (
            &pages::OTHER_CA,
            "our certificate is not signed by uplink.ca",
            "fine if Redis knows its authority; else use the files of one bundle",
        ),
        _ => return,
    };
    look.bad(page, what, place, error.to_string(), remedy);
}
