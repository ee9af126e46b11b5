//! Why Redis cannot be asked: the client's one error, told apart.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{ConnectionAddr, ErrorKind, IntoConnectionInfo as _, RedisError};
use rustls::CertificateError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::check::Look;
use crate::config::RedisConfig;
use crate::explain::{Page, redis as pages};
use crate::stream::RedisFailure;
use crate::stream::consumer::chained;

type Told = (&'static Page, &'static str);

const OTHER_PORT: Told = (
    &pages::OTHER_PORT,
    "use rediss:// with the port of tls-port, redis:// with the port of port",
);
const SILENT: Told = (
    &pages::SILENT,
    "look at the address, the firewall and the machine of Redis",
);

/// For a second look at a port that did not speak what was expected.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Says what stands in the way.
pub(super) async fn told(look: &mut Look, failure: &RedisFailure, config: &RedisConfig) {
    let (RedisFailure::Unreachable { source, .. } | RedisFailure::Refused { source, .. }) = failure
    else {
        look.bad(&pages::FILE, chained(failure), "correct it");
        return;
    };
    let (page, remedy) = match answered(source) {
        Some(told) => told,
        None => no_answer(source, config).await,
    };
    look.bad(
        page,
        format!("{}: {}", page.title, chained(failure)),
        remedy,
    );
}

/// By the first word of an answer.
fn answered(error: &RedisError) -> Option<Told> {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return Some(LOGIN);
    }
    Some(match error.code()? {
        "WRONGPASS" | "NOAUTH" => LOGIN,
        "NOPERM" => (
            &pages::NO_RIGHT,
            "allow +ping +hello +auth +client|setname +client|id, and +select for a number other than 0",
        ),
        "MISCONF" => (&pages::MISCONF, "look at its disk, its `dir` and its log"),
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => (
            &pages::CLUSTER,
            "read it as a cluster, or bring the missing masters back",
        ),
        "READONLY" => (&pages::REPLICA, "point redis.url at the master"),
        _ => (&pages::UNUSABLE, "look up the answer; its log may say more"),
    })
}

const LOGIN: Told = (
    &pages::LOGIN,
    "correct user and password; `ACL LIST` on the server shows who may log in",
);

async fn no_answer(error: &RedisError, config: &RedisConfig) -> Told {
    if let Some(tls) = io_error(error).and_then(tls_error) {
        return of_tls(tls);
    }
    let text = chained(error);
    if text.contains("lookup address") || text.contains("No address found") {
        return (
            &pages::NAME,
            "correct the host in redis.url; `getent hosts NAME` asks the same way",
        );
    }
    if error.is_connection_refusal() {
        return (
            &pages::REFUSED,
            "start Redis, or correct the port (6379 plain, 6380 with TLS are usual)",
        );
    }
    if let Some(told) = second_look(config).await {
        return told;
    }
    if error.is_timeout() || text.contains("timed out") {
        return SILENT;
    }
    (&pages::UNUSABLE, "look up the answer; its log may say more")
}

fn io_error(error: &RedisError) -> Option<&io::Error> {
    // The client keeps what it wraps behind a shared pointer, which is what `source` returns.
    let shared = error.source()?;
    let shared = shared.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    shared.downcast_ref()
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn of_tls(error: &rustls::Error) -> Told {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (
            &pages::OTHER_NAME,
            "use a name that the certificate holds, or issue one with this name",
        ),
        E::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => (
            &pages::SERVER_EXPIRED,
            "renew Redis's certificate; if it ought to be valid, look at this clock",
        ),
        E::InvalidCertificate(_) => (
            &pages::OTHER_CA,
            "set redis.ca to the authority that signed Redis's certificate",
        ),
        E::AlertReceived(_) => (
            &pages::CLIENT_REFUSED,
            "set redis.cert and redis.key, issued by the authority that Redis trusts",
        ),
        _ => OTHER_PORT,
    }
}

/// Asked in plain Redis, does the port answer as it should not?
async fn second_look(config: &RedisConfig) -> Option<Told> {
    let info = config.url.as_str().into_connection_info().ok()?;
    let (host, port, is_tls) = match info.addr() {
        ConnectionAddr::Tcp(host, port) => (host, *port, false),
        ConnectionAddr::TcpTls { host, port, .. } => (host, *port, true),
        _ => return None,
    };
    let asking = async {
        let mut tcp = TcpStream::connect((host.as_str(), port)).await.ok()?;
        tcp.write_all(b"*1\r\n$4\r\nPING\r\n").await.ok()?;
        let mut first = [0_u8; 1];
        let speaks_redis =
            matches!(tcp.read(&mut first).await, Ok(1)) && matches!(first[0], b'+' | b'-');
        // Otherwise a TLS alert, a greeting in another language, or it hung up.
        Some(speaks_redis)
    };
    let speaks_redis = timeout(SECOND_LOOK, asking).await.ok().flatten()?;
    (speaks_redis == is_tls).then_some(OTHER_PORT)
}
