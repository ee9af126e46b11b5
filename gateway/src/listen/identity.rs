//! Who we are to trackers that speak TLS, read anew when the files change.
//!
//! Invariants: connections keep the certificate they began with; files that do not fit change
//! nothing, the last good ones stay in use.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, crypto};
use thiserror::Error;

use crate::chain::chain;
use crate::clock;
use crate::uplink::certificate::Validity;

/// The files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Our certificate and those between it and its authority, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Whoever has a certificate of this authority may connect, nobody else; PEM. `None`: anybody.
    pub client_ca: Option<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// Correct the path, the permissions or the file: it must be PEM.
    #[error("{setting} {} cannot be read", path.display())]
    File {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: pem::Error,
    },
    /// A PEM file, but without a certificate.
    #[error("{setting} {} holds no certificate", path.display())]
    Empty {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key belong to different pairs, or the key is of a kind that is not
    /// supported.
    #[error("listen.tls_cert {} and listen.tls_key {} do not fit together", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The authority of the clients cannot be used.
    #[error("listen.tls_client_ca {} cannot be used", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: VerifierBuilderError,
    },
}

impl TlsConfig {
    /// Reads the files into what a handshake needs.
    /// # Errors
    /// [`IdentityError`] with setting and file.
    pub fn load(&self) -> Result<ServerConfig, IdentityError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of TLS 1.2 and 1.3");
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let unusable = |source| IdentityError::ClientCa {
                    path: path.clone(),
                    source,
                };
                let mut roots = RootCertStore::empty();
                let certs = certificates("listen.tls_client_ca", path)?;
                roots.add_parsable_certificates(certs);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(unusable)?)
            }
        };
        let chain = certificates("listen.tls_cert", &self.cert)?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|source| IdentityError::File {
                setting: "listen.tls_key",
                path: self.key.clone(),
                source,
            })?;
        let config = builder.with_single_cert(chain, key);
        config.map_err(|source| IdentityError::Pair {
            cert: self.cert.clone(),
            key: self.key.clone(),
            source,
        })
    }

    fn validity(&self) -> Option<Validity> {
        Validity::of_pem(&std::fs::read(&self.cert).ok()?)
    }

    fn stamps(&self) -> [Stamp; 3] {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].map(|path| stamp(path?))
    }
}

fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let unreadable = |source| IdentityError::File {
        setting,
        path: path.to_owned(),
        source,
    };
    let certs = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let certs: Vec<_> = certs.collect::<Result<_, _>>().map_err(unreadable)?;
    if certs.is_empty() {
        return Err(IdentityError::Empty {
            setting,
            path: path.to_owned(),
        });
    }
    Ok(certs)
}

/// When, how long and which a file is; `None` while it is not there.
pub(crate) type Stamp = Option<(SystemTime, u64, u64)>;

pub(crate) fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}

/// The certificate in use.
#[derive(Debug)]
pub struct Identity {
    files: TlsConfig,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Arc<ServerConfig>,
    validity: Option<Validity>,
    stamps: [Stamp; 3],
    trouble: Option<String>,
}

impl Identity {
    /// Reads the files.
    /// # Errors
    /// [`IdentityError`] with setting and file.
    pub fn open(files: TlsConfig) -> Result<Self, IdentityError> {
        let stamps = files.stamps();
        let current = Arc::new(files.load()?);
        let state = Mutex::new(State {
            current,
            validity: files.validity(),
            stamps,
            trouble: None,
        });
        Ok(Self { files, state })
    }

    /// For the next handshake.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state().current)
    }

    /// Reads the files again; connections that stand are not touched.
    /// # Errors
    /// [`IdentityError`]; the last good files stay in use.
    pub fn reload(&self) -> Result<(), IdentityError> {
        let stamps = self.files.stamps();
        let (loaded, validity) = (self.files.load(), self.files.validity());
        let mut state = self.state();
        state.stamps = stamps;
        match loaded {
            Ok(config) => {
                state.current = Arc::new(config);
                state.validity = validity;
                state.trouble = None;
                tracing::info!(cert = %self.files.cert.display(), "certificate for trackers read again");
                Ok(())
            }
            Err(error) => {
                state.trouble = Some(chain(&error));
                tracing::error!(
                    error = chain(&error),
                    "new certificate for trackers not taken; the one before stays in use"
                );
                Err(error)
            }
        }
    }

    /// Reads the files again if they look different.
    pub fn look(&self) {
        if self.state().stamps != self.files.stamps() {
            // The error is logged and kept for the status pages.
            let _ = self.reload();
        }
    }

    /// Days until the certificate in use ends, negative afterwards; `None` when it does not say.
    #[must_use]
    pub fn left_days(&self) -> Option<f64> {
        let validity = self.state().validity?;
        Some(validity.left_days(clock::now_ms()))
    }

    /// Why the newest files are not in use.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
