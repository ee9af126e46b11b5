//! A TLS handshake with ourselves, in memory: key exchange, certificate, signature, both ciphers.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Error, RootCertStore, ServerConfig,
    ServerConnection,
};

use super::certificate;

/// A handshake takes two; what takes more does not end.
const ROUNDS_MAX: usize = 10;

pub(super) fn prove() -> Result<String, String> {
    let (ours, foreign) = (certificate::make()?, certificate::make()?);
    let authority = ours.cert[0].clone();
    let mut resolver = ResolvesServerCertUsingSni::new();
    resolver
        .add(certificate::NAME, ours)
        .map_err(|error| error.to_string())?;
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    let server = Arc::new(server);
    let (mut client, mut end) = pair(&server, authority)?;
    shake_hands(&mut client, &mut end).map_err(|error| format!("no handshake: {error}"))?;
    for (from, to) in [(b"up".as_slice(), "the server"), (b"down", "the client")] {
        let heard = if to == "the server" {
            client
                .writer()
                .write_all(from)
                .map_err(|error| error.to_string())?;
            shake_hands(&mut client, &mut end).map_err(|error| error.to_string())?;
            read(&mut end.reader())
        } else {
            end.writer()
                .write_all(from)
                .map_err(|error| error.to_string())?;
            shake_hands(&mut client, &mut end).map_err(|error| error.to_string())?;
            read(&mut client.reader())
        };
        if heard != from {
            return Err(format!("{to} heard {heard:?} instead of {from:?}"));
        }
    }
    let suite = client
        .negotiated_cipher_suite()
        .map(|suite| format!("{:?}", suite.suite()));
    // That it says yes proves little unless it can say no.
    let (mut client, mut end) = pair(&server, foreign.cert[0].clone())?;
    match shake_hands(&mut client, &mut end) {
        Err(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => {}
        other => return Err(format!("a foreign certificate was not refused: {other:?}")),
    }
    Ok(format!(
        "handshake in memory with {}, a foreign certificate is refused",
        suite.unwrap_or_default()
    ))
}

fn pair(
    server: &Arc<ServerConfig>,
    authority: CertificateDer<'static>,
) -> Result<(ClientConnection, ServerConnection), String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(|error| error.to_string())?;
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(certificate::NAME).expect("a host name");
    let client =
        ClientConnection::new(Arc::new(client), name).map_err(|error| error.to_string())?;
    let server = ServerConnection::new(Arc::clone(server)).map_err(|error| error.to_string())?;
    Ok((client, server))
}

/// Carries bytes both ways until nobody has anything to say.
fn shake_hands(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), Error> {
    for _ in 0..ROUNDS_MAX {
        if !client.wants_write() && !server.wants_write() {
            return Ok(());
        }
        let general = |error: std::io::Error| Error::General(error.to_string());
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).map_err(general)?;
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).map_err(general)?;
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).map_err(general)?;
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).map_err(general)?;
            client.process_new_packets()?;
        }
    }
    Err(Error::General(format!(
        "not done after {ROUNDS_MAX} rounds"
    )))
}

fn read(reader: &mut rustls::Reader<'_>) -> Vec<u8> {
    let mut heard = [0; 16];
    let count = reader.read(&mut heard).unwrap_or(0);
    heard[..count].to_vec()
}
