//! What keeps the uplink from sending: one name, one sentence and one remedy for each cause.
//!
//! Why a list: an operator searches for the word that stands in `/status`, in the log, in the
//! metric and in the documentation, so it has to be the same word in all four.
//!
//! Invariant: a cause is told from what Redis, TLS or the system said, never from how long it took.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};
use rustls::{AlertDescription, CertificateError, Error as TlsError};

type Shared = Arc<dyn Error + Send + Sync>;

/// Why nothing goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `OOM`.
    Memory,
    /// `MISCONF`.
    Disk,
    /// `READONLY`.
    Replica,
    /// `LOADING`.
    Loading,
    /// `NOREPLICAS`.
    NoReplicas,
    /// `NOPERM`.
    Rights,
    /// `WRONGPASS`, `NOAUTH`.
    Login,
    /// `MOVED`, `ASK`, `CROSSSLOT`.
    Cluster,
    /// `CLUSTERDOWN`, `MASTERDOWN`, no connection to a node.
    ClusterDown,
    /// No answer in time.
    Timeout,
    /// Nobody listens there.
    Refused,
    /// The host name means nothing, or no way leads there.
    NoRoute,
    /// The connection was cut.
    Closed,
    /// The other side does not speak TLS.
    NotTls,
    /// The server's certificate has ended.
    ServerExpired,
    /// The server's certificate begins later than our clock.
    Clock,
    /// The server's certificate is signed by nobody we trust.
    WrongCa,
    /// The server's certificate is for another name.
    WrongName,
    /// Our certificate has ended.
    OursExpired,
    /// The server does not know who signed our certificate.
    OursUnknown,
    /// The server wants a certificate and we have none.
    OursMissing,
    /// A certificate file cannot be read or used.
    Files,
    /// The cloud does not read what we write.
    Contract,
    /// The spool cannot be read.
    Spool,
    /// Anything else.
    Other,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 25] = [
        Self::Memory,
        Self::Disk,
        Self::Replica,
        Self::Loading,
        Self::NoReplicas,
        Self::Rights,
        Self::Login,
        Self::Cluster,
        Self::ClusterDown,
        Self::Timeout,
        Self::Refused,
        Self::NoRoute,
        Self::Closed,
        Self::NotTls,
        Self::ServerExpired,
        Self::Clock,
        Self::WrongCa,
        Self::WrongName,
        Self::OursExpired,
        Self::OursUnknown,
        Self::OursMissing,
        Self::Files,
        Self::Contract,
        Self::Spool,
        Self::Other,
    ];

    /// The word for it in the metric, in `/status` and in the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.texts().0
    }

    /// What is the matter.
    #[must_use]
    pub const fn words(self) -> &'static str {
        self.texts().1
    }

    /// What to do about it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        self.texts().2
    }

    const fn texts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Memory => (
                "oom",
                "Redis is at maxmemory",
                "see that the cloud processor reads, or give Redis more memory",
            ),
            Self::Disk => (
                "misconf",
                "Redis cannot write to its disk and takes nothing",
                "free space on Redis' disk or mend its permissions",
            ),
            Self::Replica => (
                "readonly",
                "this Redis is a replica",
                "point uplink.url at the master",
            ),
            Self::Loading => (
                "loading",
                "Redis is loading its data",
                "nothing: it ends by itself",
            ),
            Self::NoReplicas => (
                "noreplicas",
                "Redis has fewer replicas than min-replicas-to-write asks for",
                "bring its replicas back",
            ),
            Self::Rights => (
                "noperm",
                "the Redis user may not do this",
                "give it the rights that docs/gateway.md lists",
            ),
            Self::Login => (
                "wrongpass",
                "Redis does not accept the user or its password",
                "correct user and password in uplink.url, or mend the user in Redis",
            ),
            Self::Cluster => (
                "moved",
                "this Redis is a node of a cluster",
                "set uplink.cluster = true",
            ),
            Self::ClusterDown => (
                "clusterdown",
                "part of the Redis cluster is down",
                "bring the missing masters back",
            ),
            Self::Timeout => (
                "timeout",
                "Redis does not answer in time",
                "look at the network and at Redis' load; a slow link needs a longer uplink.response_timeout",
            ),
            Self::Refused => (
                "refused",
                "nobody listens at the address of uplink.url",
                "start Redis, or the cloud behind a unix: address, or correct uplink.url",
            ),
            Self::NoRoute => (
                "no-route",
                "the host of uplink.url cannot be reached",
                "look at the network, at DNS and at the host name in uplink.url",
            ),
            Self::Closed => (
                "closed",
                "the connection was cut",
                "nothing when it passes; otherwise look at Redis' log and at what lies between",
            ),
            Self::NotTls => (
                "not-tls",
                "the port of uplink.url does not speak TLS",
                "use Redis' tls-port, or redis:// in uplink.url",
            ),
            Self::ServerExpired => (
                "server-certificate-expired",
                "Redis' certificate has expired",
                "renew it on the server; if it has not expired, set this machine's clock",
            ),
            Self::Clock => (
                "clock",
                "Redis' certificate is not valid yet",
                "set this machine's clock (NTP)",
            ),
            Self::WrongCa => (
                "wrong-ca",
                "Redis' certificate is signed by nobody we trust",
                "put the authority that signed it into uplink.ca",
            ),
            Self::WrongName => (
                "wrong-name",
                "Redis' certificate is for another host name",
                "write the name that stands in the certificate into uplink.url",
            ),
            Self::OursExpired => (
                "our-certificate-expired",
                "our certificate has expired",
                "put a renewed one into uplink.cert and uplink.key; it is used without a restart",
            ),
            Self::OursUnknown => (
                "our-certificate-unknown",
                "Redis does not trust our certificate",
                "let the authority that Redis trusts sign uplink.cert",
            ),
            Self::OursMissing => (
                "our-certificate-missing",
                "Redis asks for a certificate and there is none",
                "set uplink.cert and uplink.key",
            ),
            Self::Files => (
                "certificate-files",
                "a certificate file cannot be used",
                "mend the file that is named; it is read again at the next attempt",
            ),
            Self::Contract => (
                "contract",
                "the cloud does not read what this gateway writes",
                "update the cloud first",
            ),
            Self::Spool => (
                "spool",
                "the spool cannot be read",
                "look at the disk of spool.dir",
            ),
            Self::Other => (
                "other",
                "Redis answers with an error",
                "read the error; it is tried again by itself",
            ),
        }
    }

    /// What this error comes from.
    #[must_use]
    pub fn of(error: &RedisError) -> Self {
        if let Some(cause) = error.code().and_then(Self::of_code) {
            return cause;
        }
        match error.kind() {
            ErrorKind::AuthenticationFailed => return Self::Login,
            ErrorKind::ClusterConnectionNotFound => return Self::ClusterDown,
            ErrorKind::InvalidClientConfig => return Self::Files,
            _ => {}
        }
        // The client keeps what it wraps in a shared box, which is an error of its own type.
        let source = error.source();
        let shared = source.and_then(|source| source.downcast_ref::<Shared>());
        let io = shared.and_then(|shared| shared.downcast_ref::<io::Error>());
        io.map_or(Self::Other, Self::of_io)
    }

    fn of_code(code: &str) -> Option<Self> {
        Some(match code {
            "OOM" => Self::Memory,
            "MISCONF" => Self::Disk,
            "READONLY" => Self::Replica,
            "LOADING" => Self::Loading,
            "NOREPLICAS" => Self::NoReplicas,
            "NOPERM" => Self::Rights,
            "WRONGPASS" | "NOAUTH" => Self::Login,
            "MOVED" | "ASK" | "CROSSSLOT" => Self::Cluster,
            "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" => Self::ClusterDown,
            _ => return None,
        })
    }

    fn of_io(error: &io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<TlsError>()) {
            return Self::of_tls(tls);
        }
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout,
            // A socket file that is not there has nobody behind it.
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Self::Refused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => Self::NoRoute,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected => Self::Closed,
            // What the resolver says has no kind of its own.
            _ if error.to_string().contains("lookup address") => Self::NoRoute,
            _ => Self::Other,
        }
    }

    /// What TLS says is either about the server's certificate (our finding) or, as an alert, about
    /// ours (the server's finding).
    fn of_tls(error: &TlsError) -> Self {
        match error {
            TlsError::InvalidCertificate(found) => match found {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::ServerExpired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::Clock
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                _ => Self::WrongCa,
            },
            TlsError::AlertReceived(alert) => match alert {
                AlertDescription::CertificateExpired => Self::OursExpired,
                AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
                    Self::OursMissing
                }
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError => Self::OursUnknown,
                _ => Self::Closed,
            },
            TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. } => Self::NotTls,
            TlsError::InconsistentKeys(_) | TlsError::NoCertificatesPresented => Self::Files,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    fn tls(error: TlsError) -> RedisError {
        io::Error::new(io::ErrorKind::InvalidData, error).into()
    }

    #[test]
    fn every_cause_has_its_own_name_words_and_remedy() {
        let names: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
        let words: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.words()).collect();
        let remedies: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.remedy()).collect();
        let count = Cause::ALL.len();
        assert_eq!(
            (names.len(), words.len(), remedies.len()),
            (count, count, count)
        );
        let is_word = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(names.iter().all(is_word), "{names:?}");
    }

    #[test]
    fn what_redis_says_has_its_cause() {
        // Error replies as Redis 7.0 words them.
        let replies = [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Cause::Memory,
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                Cause::Disk,
            ),
            (
                "READONLY You can't write against a read only replica.",
                Cause::Replica,
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                Cause::Loading,
            ),
            (
                "NOREPLICAS Not enough good replicas to write.",
                Cause::NoReplicas,
            ),
            (
                "NOPERM this user has no permissions to run the 'xadd' command",
                Cause::Rights,
            ),
            ("NOAUTH Authentication required.", Cause::Login),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                Cause::Login,
            ),
            ("MOVED 3999 127.0.0.1:6381", Cause::Cluster),
            ("ASK 3999 127.0.0.1:6381", Cause::Cluster),
            (
                "CROSSSLOT Keys in request don't hash to the same slot",
                Cause::Cluster,
            ),
            ("CLUSTERDOWN The cluster is down", Cause::ClusterDown),
            ("ERR syntax error", Cause::Other),
        ];
        for (reply, cause) in replies {
            let value = redis::parse_redis_value(format!("-{reply}\r\n").as_bytes()).unwrap();
            let error = value.extract_error().unwrap_err();
            assert_eq!(Cause::of(&error), cause, "{reply}");
        }
    }

    #[test]
    fn what_tls_and_the_system_say_has_its_cause() {
        let of = |error: CertificateError| Cause::of(&tls(TlsError::InvalidCertificate(error)));
        assert_eq!(of(CertificateError::Expired), Cause::ServerExpired);
        assert_eq!(of(CertificateError::NotValidYet), Cause::Clock);
        assert_eq!(of(CertificateError::UnknownIssuer), Cause::WrongCa);
        assert_eq!(of(CertificateError::NotValidForName), Cause::WrongName);
        let of = |alert| Cause::of(&tls(TlsError::AlertReceived(alert)));
        assert_eq!(of(AlertDescription::CertificateExpired), Cause::OursExpired);
        assert_eq!(of(AlertDescription::UnknownCA), Cause::OursUnknown);
        assert_eq!(
            of(AlertDescription::CertificateRequired),
            Cause::OursMissing
        );
        let of = |kind: io::ErrorKind| Cause::of(&io::Error::from(kind).into());
        assert_eq!(of(io::ErrorKind::TimedOut), Cause::Timeout);
        assert_eq!(of(io::ErrorKind::ConnectionRefused), Cause::Refused);
        assert_eq!(of(io::ErrorKind::NotFound), Cause::Refused);
        assert_eq!(of(io::ErrorKind::HostUnreachable), Cause::NoRoute);
        assert_eq!(of(io::ErrorKind::BrokenPipe), Cause::Closed);
    }
}
