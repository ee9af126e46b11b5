//! A certificate authority for one test: server and client certificates as PEM files.
//!
//! Invariant: keys are readable by their owner alone, as the real ones must be.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// A certificate and its private key, as PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub cert: PathBuf,
    /// The private key, mode 0600.
    pub key: PathBuf,
}

/// An authority of our own. A second one in another directory is a foreign one to the first.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    ca: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Clone, Copy)]
enum Role {
    Server,
    Misnamed,
    Client,
}

impl Pki {
    /// Makes an authority and writes `ca.crt` into `dir`, which must exist.
    ///
    /// # Errors
    /// When `dir` cannot be written.
    pub fn new(dir: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Milepost test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = dir.join("ca.crt");
        write(&ca, &params.self_signed(&key)?.pem(), 0o644)?;
        Ok(Self {
            dir: dir.to_owned(),
            ca,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Its key, as `ca.key` beside the certificate: for whoever signs with it as we do.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn ca_key(&self) -> Result<PathBuf> {
        let path = self.dir.join("ca.key");
        write(&path, &self.issuer.key().serialize_pem(), 0o600)?;
        Ok(path)
    }

    /// A server certificate for 127.0.0.1, localhost, and 10.0.2.2, which is this machine to one that
    /// QEMU runs: `<name>.crt`, `<name>.key`.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn server(&self, name: &str) -> Result<Identity> {
        self.issue(name, Role::Server, None)
    }

    /// A server certificate of this authority for 127.0.0.1 that ended in 2001.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn expired_server(&self, name: &str) -> Result<Identity> {
        self.issue(name, Role::Server, Some((2000, 2001)))
    }

    /// A server certificate of this authority for a host that is not here.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn misnamed_server(&self, name: &str) -> Result<Identity> {
        self.issue(name, Role::Misnamed, None)
    }

    /// A server certificate of this authority for 127.0.0.1 that begins in 2099.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn future_server(&self, name: &str) -> Result<Identity> {
        self.issue(name, Role::Server, Some((2099, 2100)))
    }

    /// A client certificate that ends with the first day of `year`.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn client_until(&self, name: &str, year: i32) -> Result<Identity> {
        self.issue(name, Role::Client, Some((2000, year)))
    }

    /// A client certificate with `name` as its common name.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn client(&self, name: &str) -> Result<Identity> {
        self.issue(name, Role::Client, None)
    }

    /// A client certificate of this authority that ended in 2001.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn expired_client(&self, name: &str) -> Result<Identity> {
        self.issue(name, Role::Client, Some((2000, 2001)))
    }

    /// A client certificate that carries the right name from an authority nobody here trusts.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn foreign_client(&self, name: &str) -> Result<Identity> {
        let dir = self.dir.join(format!("foreign-{name}"));
        std::fs::create_dir_all(&dir)?;
        Self::new(&dir)?.client(name)
    }

    fn issue(&self, name: &str, role: Role, years: Option<(i32, i32)>) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let (names, usage) = match role {
            Role::Server => (
                ["localhost", "127.0.0.1", "10.0.2.2"]
                    .map(str::to_owned)
                    .to_vec(),
                ExtendedKeyUsagePurpose::ServerAuth,
            ),
            Role::Misnamed => (
                vec!["redis.example".to_owned()],
                ExtendedKeyUsagePurpose::ServerAuth,
            ),
            Role::Client => (Vec::new(), ExtendedKeyUsagePurpose::ClientAuth),
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        if let Some((from, until)) = years {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        }
        let identity = Identity {
            cert: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
        };
        write(
            &identity.cert,
            &params.signed_by(&key, &self.issuer)?.pem(),
            0o644,
        )?;
        write(&identity.key, &key.serialize_pem(), 0o600)?;
        Ok(identity)
    }
}

fn write(path: &Path, pem: &str, mode: u32) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(pem.as_bytes()));
    written.with_context(|| format!("write {}", path.display()))
}
