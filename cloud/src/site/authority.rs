//! The authority that signs gateways' certificates: one that is kept here, or one that is given.
//!
//! Invariants: the kept key never leaves its directory; no certificate outlives its authority; a
//! list of revoked certificates is only ever made anew, with everything that was ever revoked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{SiteError, private};

/// Names in `site.dir`.
const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";

/// The list of what was revoked, in `site.dir`.
pub const REVOKED: &str = "revoked.pem";

/// Changing it means a new certificate for every gateway and every server.
const KEPT_DAYS: u64 = 3_650;

const DAY_MS: u64 = 86_400_000;

/// A server whose clock is a little late must not refuse a certificate for being from the future.
const BACKDATED_MS: u64 = 3_600_000;

/// Bytes of a serial number: enough to be unique by chance, few enough for every reader (RFC 5280,
/// 4.1.2.2).
const SERIAL_BYTES: usize = 16;

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate and whatever else its file holds, PEM.
    pub pem: String,
    /// Certificates between a gateway's and the root, PEM; empty for a root.
    between: String,
    /// The first half of the SHA-256 of its certificate, hexadecimal.
    pub id: String,
    /// When it ends, milliseconds since 1970 UTC.
    pub ends_ms: u64,
}

/// A new certificate and its key.
pub struct Issued {
    /// With those between it and the root, PEM.
    pub certificate: String,
    /// PEM, PKCS #8.
    pub key: String,
    /// Hexadecimal.
    pub serial: String,
    /// Milliseconds since 1970 UTC.
    pub ends_ms: u64,
}

/// Where the kept one is.
#[must_use]
pub fn kept_certificate(dir: &Path) -> PathBuf {
    dir.join(CERTIFICATE)
}

impl Authority {
    /// The one that is kept in `dir`, if there is one.
    /// # Errors
    /// [`SiteError::File`], [`SiteError::Authority`].
    pub fn kept(dir: &Path) -> Result<Option<Self>, SiteError> {
        let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
        // The certificate is written last: without it, a key alone is the rest of a start.
        match certificate.exists() {
            true => Self::read(&certificate, &key).map(Some),
            false => Ok(None),
        }
    }

    /// Makes one and keeps it in `dir`.
    /// # Errors
    /// [`SiteError::File`], [`SiteError::Certificate`].
    pub fn create(dir: &Path, now_ms: u64) -> Result<Self, SiteError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Milepost");
        // Two of them in one file must be told apart by name too.
        let name = format!("Milepost sites {}", &random_hex::<4>()?);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before =
            date_time_ymd(1970, 1, 1) + since_1970(now_ms.saturating_sub(BACKDATED_MS));
        params.not_after = date_time_ymd(1970, 1, 1) + since_1970(now_ms + KEPT_DAYS * DAY_MS);
        let certificate = params.self_signed(&key)?.pem();
        for (name, contents) in [(KEY, key.serialize_pem()), (CERTIFICATE, certificate)] {
            let path = dir.join(name);
            private::write(&path, contents.as_bytes()).map_err(SiteError::file("write", &path))?;
        }
        Self::read(&dir.join(CERTIFICATE), &dir.join(KEY))
    }

    /// One whose files are named. The first certificate is who signs.
    /// # Errors
    /// [`SiteError::File`], [`SiteError::Authority`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, SiteError> {
        let text = |path: &Path| fs::read_to_string(path).map_err(SiteError::file("read", path));
        let refused = |why: &str| SiteError::Authority {
            path: certificate.to_owned(),
            why: why.to_owned(),
        };
        let pem = text(certificate)?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let all = all.map_err(|_| refused("it is no certificate in PEM"))?;
        let first = all
            .first()
            .ok_or_else(|| refused("it holds no certificate in PEM"))?;
        let (_, parsed) =
            X509Certificate::from_der(first).map_err(|_| refused("it cannot be understood"))?;
        if !parsed.is_ca() {
            return Err(refused("its first certificate is not one of an authority"));
        }
        let key_pair = KeyPair::from_pem(&text(key)?).map_err(|error| SiteError::Authority {
            path: key.to_owned(),
            why: format!(
                "its key cannot be read ({error}): give PKCS #8 in PEM without a passphrase, as `openssl pkcs8 -topk8 -nocrypt` writes it"
            ),
        })?;
        if parsed.public_key().subject_public_key.data.as_ref() != key_pair.public_key_raw() {
            return Err(refused("the key is not the one of its certificate"));
        }
        let ends_s = parsed.validity().not_after.timestamp();
        let mut between = String::new();
        for certificate in pem_blocks(&pem).zip(&all).filter(|(_, der)| !is_root(der)) {
            between.push_str(certificate.0);
        }
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(first, key_pair)?,
            between,
            id: hex::encode(&Sha256::digest(first)[..16]),
            ends_ms: u64::try_from(ends_s)
                .unwrap_or_default()
                .saturating_mul(1_000),
            pem,
        })
    }

    /// A client certificate with `name` as its common name, for `days` or as long as we live.
    /// # Errors
    /// [`SiteError::Certificate`], [`SiteError::Random`].
    pub fn issue(&self, name: &str, now_ms: u64, days: u32) -> Result<Issued, SiteError> {
        let ends_ms = (now_ms + u64::from(days) * DAY_MS).min(self.ends_ms) / 1_000 * 1_000;
        let key = KeyPair::generate()?;
        let mut serial = random::<SERIAL_BYTES>()?;
        // Positive, and its first byte never zero: the same bytes in every encoding.
        serial[0] = serial[0] & 0x7f | 0x40;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before =
            date_time_ymd(1970, 1, 1) + since_1970(now_ms.saturating_sub(BACKDATED_MS));
        params.not_after = date_time_ymd(1970, 1, 1) + since_1970(ends_ms);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate: certificate.pem() + &self.between,
            key: key.serialize_pem(),
            serial: hex::encode(serial),
            ends_ms,
        })
    }

    /// The list of these serial numbers and when each was revoked, PEM. It holds as long as we do: one
    /// that ends keeps everybody out.
    /// # Errors
    /// [`SiteError::Certificate`] when the authority may not sign lists.
    pub fn revocation_list(
        &self,
        revoked: &[(Vec<u8>, u64)],
        now_ms: u64,
    ) -> Result<String, SiteError> {
        let revoked_certs = revoked.iter().map(|(serial, at_ms)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(1970, 1, 1) + since_1970(*at_ms),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(1970, 1, 1) + since_1970(now_ms),
            next_update: date_time_ymd(1970, 1, 1) + since_1970(self.ends_ms.max(now_ms + DAY_MS)),
            crl_number: SerialNumber::from_slice(&(now_ms / 1_000).to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.pem()?)
    }
}

fn is_root(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.subject().as_raw() == parsed.issuer().as_raw())
}

/// Each certificate of a PEM file, as it stands there.
pub(super) fn pem_blocks(pem: &str) -> impl Iterator<Item = &str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let begins = pem.match_indices(BEGIN).map(|(at, _)| at);
    begins.filter_map(move |begin| {
        let rest = &pem[begin..];
        let end = rest.find(END)? + END.len();
        let line = rest[end..].find('\n').map_or(rest.len(), |at| end + at + 1);
        Some(&rest[..line])
    })
}

/// Whole seconds since 1970: a certificate knows no smaller ones.
fn since_1970(ms: u64) -> Duration {
    Duration::from_secs(ms / 1_000)
}

fn random<const N: usize>() -> Result<[u8; N], SiteError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SiteError::Random)?;
    Ok(bytes)
}

/// `N` random bytes in hexadecimal.
/// # Errors
/// [`SiteError::Random`].
pub(super) fn random_hex<const N: usize>() -> Result<String, SiteError> {
    Ok(hex::encode(random::<N>()?))
}
