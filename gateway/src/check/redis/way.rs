//! Name, connection, handshake, first answer: the way to Redis, one step at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use redis::ConnectionAddr;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
};

use super::answers;
use crate::check::Look;
use crate::explain::redis as pages;
use crate::uplink::RedisConfig;

const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// For the second look at a port that did not speak what was expected.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// First byte of a TLS alert record (RFC 8446, 5.1).
const TLS_ALERT: u8 = 0x15;

/// The way ends here; the reason has been told.
pub(super) struct Ended;

/// Walks as far as it goes.
pub(super) fn look(
    look: &mut Look,
    config: &RedisConfig,
    addr: &ConnectionAddr,
) -> Result<(), Ended> {
    let (host, port, tls) = match addr {
        ConnectionAddr::Tcp(host, port) => (host, *port, false),
        ConnectionAddr::TcpTls { host, port, .. } => (host, *port, true),
        // A socket file has neither name nor port; connecting says the rest.
        _ => return Ok(()),
    };
    let place = format!("uplink.url = {}", config.shown());
    let addrs = resolve(look, host, port, &place)?;
    if !tls && !addrs.iter().all(|addr| addr.ip().is_loopback()) {
        look.bad(
            &pages::PLAIN,
            format!("the way to {host} is not encrypted"),
            &place,
            "the address says redis:// and leads to another machine",
            "use rediss://, unless a tunnel protects the way",
        );
    }
    let tcp = connect(look, &addrs, &place)?;
    if tls {
        let tls = client_config(config).ok_or(Ended).inspect_err(|_| {
            look.skipped("no handshake tried: see the certificates");
        })?;
        return handshake(look, tcp, host, tls, &place);
    }
    plain(look, tcp, &place)
}

fn resolve(look: &mut Look, host: &str, port: u16, place: &str) -> Result<Vec<SocketAddr>, Ended> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match (host, port)
        .to_socket_addrs()
        .map(Iterator::collect::<Vec<_>>)
    {
        Ok(addrs) if !addrs.is_empty() => Ok(addrs),
        other => {
            let why = other
                .err()
                .map_or("no address".to_owned(), |error| error.to_string());
            look.bad(
                &pages::NAME,
                format!("the name {host} is not known"),
                place,
                why,
                format!("correct the name; `getent hosts {host}` asks the same way"),
            );
            Err(Ended)
        }
    }
}

fn connect(look: &mut Look, addrs: &[SocketAddr], place: &str) -> Result<TcpStream, Ended> {
    let mut last = None;
    for addr in addrs {
        match TcpStream::connect_timeout(addr, STEP_TIMEOUT) {
            Ok(tcp) => {
                patience(&tcp, STEP_TIMEOUT);
                look.good(format!("{addr} can be reached"));
                return Ok(tcp);
            }
            Err(error) => last = Some((addr, error)),
        }
    }
    let Some((addr, error)) = last else {
        return Err(Ended);
    };
    let why = format!("connecting to {addr} says: {error}");
    if error.kind() == io::ErrorKind::ConnectionRefused {
        look.bad(
            &pages::REFUSED,
            format!("nobody listens at {addr}"),
            place,
            why,
            "start Redis, or correct the port (6379 plain, 6380 with TLS are usual)",
        );
    } else {
        look.bad(
            &pages::SILENT,
            format!("no way to {addr}"),
            place,
            why,
            "look at the address, the firewall and the tunnel on the way",
        );
    }
    Err(Ended)
}

fn patience(tcp: &TcpStream, patience: Duration) {
    // A socket that is open takes a timeout above zero.
    let _ = tcp.set_read_timeout(Some(patience));
    let _ = tcp.set_write_timeout(Some(patience));
}

/// Whom we trust and who we are; `None` when a file is at fault, which the certificates' group says.
fn client_config(config: &RedisConfig) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &config.ca {
        Some(ca) => {
            for certificate in CertificateDer::pem_file_iter(ca).ok()? {
                roots.add(certificate.ok()?).ok()?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots);
    match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert).ok()?;
            let chain = chain.collect::<Result<Vec<_>, _>>().ok()?;
            let key = PrivateKeyDer::from_pem_file(key).ok()?;
            builder.with_client_auth_cert(chain, key).ok()
        }
        _ => Some(builder.with_no_client_auth()),
    }
}

fn handshake(
    look: &mut Look,
    mut tcp: TcpStream,
    host: &str,
    config: ClientConfig,
    place: &str,
) -> Result<(), Ended> {
    let at = tcp.peer_addr();
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let connection = ServerName::try_from(host.clone())
        .ok()
        .and_then(|name| ClientConnection::new(Arc::new(config), name).ok());
    let Some(mut connection) = connection else {
        look.bad(
            &pages::OTHER_NAME,
            format!("{host} can stand in no certificate"),
            place,
            "it is neither a host name nor an IP address",
            "correct the host in uplink.url",
        );
        return Err(Ended);
    };
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut tcp) {
            let is_plain = at.is_ok_and(speaks_plain_redis);
            no_handshake(look, &error, &host, place, is_plain);
            return Err(Ended);
        }
    }
    let version = connection.protocol_version();
    let version = if version == Some(rustls::ProtocolVersion::TLSv1_3) {
        "1.3"
    } else {
        "1.2"
    };
    // In TLS 1.3 the server judges our certificate after the handshake is over for us.
    let mut stream = StreamOwned::new(connection, tcp);
    match first_answer(&mut stream) {
        Ok(answer) => {
            look.good(format!("TLS {version} with {host}"));
            judge(look, &answer, place)
        }
        Err(error) => {
            no_handshake(look, &error, &host, place, false);
            Err(Ended)
        }
    }
}

fn no_handshake(look: &mut Look, error: &io::Error, host: &str, place: &str, is_plain: bool) {
    let why = error.to_string();
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(reason)) = inner {
        return bad_certificate(look, reason, host, place, &why);
    }
    if is_plain || matches!(inner, Some(rustls::Error::InvalidMessage(_))) {
        return look.bad(
            &pages::PLAIN_PORT,
            "the address says rediss://, and this port speaks without TLS",
            place,
            if is_plain {
                "asked in plain Redis, it answers"
            } else {
                &why
            },
            "use the TLS port of Redis, or redis:// where the way is safe otherwise",
        );
    }
    match inner {
        Some(rustls::Error::AlertReceived(alert)) if is_about_us(*alert) => look.bad(
            &pages::CLIENT_REFUSED,
            "the server does not accept our certificate, or wants one",
            place,
            why,
            "set uplink.cert and uplink.key, issued by the authority that Redis trusts",
        ),
        None if is_silence(error) => look.bad(
            &pages::SILENT,
            format!("{host} does not answer to TLS"),
            place,
            why,
            "look at the port, and at what stands between here and Redis",
        ),
        _ => look.bad(
            &pages::NO_REDIS,
            format!("no TLS with {host}"),
            place,
            why,
            "look at what listens on that port",
        ),
    }
}

fn is_about_us(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::CertificateRequired
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::DecryptError
            | A::HandshakeFailure
    )
}

fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn bad_certificate(look: &mut Look, reason: &CertificateError, host: &str, place: &str, why: &str) {
    use CertificateError as C;
    match reason {
        C::NotValidForName | C::NotValidForNameContext { .. } => look.bad(
            &pages::OTHER_NAME,
            format!("the server's certificate is not for {host}"),
            place,
            why,
            "use a name that the certificate holds, or issue one with this name",
        ),
        C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
            look.bad(
                &pages::SERVER_EXPIRED,
                "the server's certificate is expired or not yet valid",
                place,
                why,
                "renew Redis's certificate; if it ought to be valid, look at this clock",
            );
        }
        _ => look.bad(
            &pages::OTHER_CA,
            "the server's certificate is not signed by the authority in uplink.ca",
            place,
            why,
            "set uplink.ca to the authority that signed Redis's certificate",
        ),
    }
}

fn plain(look: &mut Look, mut tcp: TcpStream, place: &str) -> Result<(), Ended> {
    let at = tcp.peer_addr();
    let answer = first_answer(&mut tcp);
    let is_alert = answer
        .as_ref()
        .is_ok_and(|answer| answer.first() == Some(&TLS_ALERT));
    match answer {
        Ok(answer) if !is_alert => judge(look, &answer, place),
        other => {
            let why = match &other {
                Ok(_) => "it answers with a TLS alert".to_owned(),
                Err(error) => error.to_string(),
            };
            if is_alert || at.is_ok_and(speaks_tls) {
                look.bad(
                    &pages::TLS_PORT,
                    "the address says redis://, and this port speaks TLS",
                    place,
                    why,
                    "write rediss:// with two s, and set uplink.ca",
                );
            } else {
                look.bad(
                    &pages::SILENT,
                    "connected, and no answer to PING",
                    place,
                    why,
                    "look at what listens on that port, and whether it hangs",
                );
            }
            Err(Ended)
        }
    }
}

/// Says PING and reads the first line.
fn first_answer(stream: &mut (impl Read + Write)) -> io::Result<Vec<u8>> {
    stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
    stream.flush()?;
    let mut answer = [0; 512];
    match stream.read(&mut answer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => Ok(answer[..read].to_vec()),
    }
}

/// Any line of Redis begins with `+` or `-`; not being logged in yet is no error here.
fn judge(look: &mut Look, answer: &[u8], place: &str) -> Result<(), Ended> {
    let line = String::from_utf8_lossy(answer);
    let line = line.lines().next().unwrap_or_default();
    let word = line
        .trim_start_matches('-')
        .split(' ')
        .next()
        .unwrap_or_default();
    let why = format!("it answered: {line}");
    match (answer.first(), word) {
        (Some(b'+'), _) | (Some(b'-'), "NOAUTH" | "NOPERM") => Ok(()),
        // Reading still works, so there is more to be told.
        (Some(b'-'), "MISCONF") => Ok(()),
        (Some(b'-'), word) => {
            let (page, remedy) = answers::of_code(word);
            look.bad(page, page.title, place, why, remedy);
            Err(Ended)
        }
        _ => {
            look.bad(
                &pages::NO_REDIS,
                "what answers is no Redis",
                place,
                why,
                "look at what listens on that port",
            );
            Err(Ended)
        }
    }
}

fn speaks_plain_redis(at: SocketAddr) -> bool {
    let answer = TcpStream::connect_timeout(&at, SECOND_LOOK).and_then(|mut tcp| {
        patience(&tcp, SECOND_LOOK);
        first_answer(&mut tcp)
    });
    answer.is_ok_and(|answer| matches!(answer.first(), Some(b'+' | b'-')))
}

fn speaks_tls(at: SocketAddr) -> bool {
    let anybody = RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let Ok(config) = config else { return false };
    let config = config.with_root_certificates(anybody).with_no_client_auth();
    let Ok(mut connection) = ClientConnection::new(Arc::new(config), ServerName::from(at.ip()))
    else {
        return false;
    };
    let Ok(mut tcp) = TcpStream::connect_timeout(&at, SECOND_LOOK) else {
        return false;
    };
    patience(&tcp, SECOND_LOOK);
    // Nobody is trusted, so it ends with the server's certificate, or was no TLS at all.
    let Err(error) = connection.complete_io(&mut tcp) else {
        return true;
    };
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))
    )
}
