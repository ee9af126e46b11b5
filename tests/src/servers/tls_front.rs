//! TLS in front of a Redis or Valkey that was built without it.
//!
//! Some ready-made servers (all Python wheels we looked at) have no TLS, and our programs speak
//! nothing else. The server then listens on a Unix socket in its private directory and this listener
//! asks for client certificates in its place.
//!
//! Invariant: it only passes bytes. When the server is down, connections are closed, not refused:
//! the one difference to a server with TLS of its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::Identity;

/// A listening front. Dropping it closes the port and every connection.
#[derive(Debug)]
pub(super) struct TlsFront(AbortHandle);

impl TlsFront {
    /// Listens on 127.0.0.1:`port` and passes what authenticated clients say on to `socket`.
    pub(super) async fn listen(
        port: u16,
        ca: &Path,
        server: &Identity,
        socket: PathBuf,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
        let chain = CertificateDer::pem_file_iter(&server.cert)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&server.key)?;
        let config = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.with_context(|| format!("listen on 127.0.0.1:{port}"))?;
        let task = tokio::spawn(async move {
            // Connections belong to this set, so that they end when the front does.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(pass(client, acceptor.clone(), socket.clone()));
            }
        });
        Ok(Self(task.abort_handle()))
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One connection. Whatever goes wrong ends it, which is all its client would see of a server too.
async fn pass(client: TcpStream, acceptor: TlsAcceptor, socket: PathBuf) -> std::io::Result<()> {
    let mut client = acceptor.accept(client).await?;
    let mut server = UnixStream::connect(&socket).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
