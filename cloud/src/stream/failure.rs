//! What keeps us from talking to Redis, said with where and what to do.
//!
//! Invariant: no text made here holds a password.

use redis::{ErrorKind, RedisError};
use thiserror::Error;

/// Redis said no, or nothing.
#[derive(Debug, Error)]
pub enum RedisFailure {
    /// Correct `redis.url`.
    #[error("redis.url is not a Redis URL: {url}")]
    Url {
        /// Without its password.
        url: String,
        /// Why.
        #[source]
        source: RedisError,
    },
    /// Correct `redis.cert`, `redis.key` or `redis.ca`.
    #[error("cannot read {path}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificates are not usable.
    #[error("certificates for {url} are not usable")]
    Tls {
        /// Without its password.
        url: String,
        /// Why.
        #[source]
        source: RedisError,
    },
    /// Try again.
    #[error("cannot reach Redis at {url}")]
    Unreachable {
        /// Without its password.
        url: String,
        /// Why.
        #[source]
        source: RedisError,
    },
    /// It answered with an error.
    #[error("Redis at {url} refused {doing}{}", advice(.source))]
    Refused {
        /// Without its password.
        url: String,
        /// What was tried.
        doing: &'static str,
        /// The answer.
        #[source]
        source: RedisError,
    },
}

impl RedisFailure {
    /// Says where an error happened.
    #[must_use]
    pub fn new(url: String, doing: &'static str, source: RedisError) -> Self {
        let answered = source.code().is_some() || source.kind() == ErrorKind::AuthenticationFailed;
        if answered {
            Self::Refused { url, doing, source }
        } else {
            Self::Unreachable { url, source }
        }
    }

    /// The first word of Redis' answer: `NOGROUP`, `OOM`…
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { source, .. } | Self::Unreachable { source, .. } => source.code(),
            _ => None,
        }
    }

    /// There is no key of that name.
    #[must_use]
    pub fn is_no_such_stream(&self) -> bool {
        let Self::Refused { source, .. } = self else {
            return false;
        };
        let text = source.to_string();
        text.contains("no such key") || text.contains("requires the key to exist")
    }

    /// This node is not, or no longer, the one to ask: look for the right one before the next try.
    #[must_use]
    pub(super) fn is_wrong_node(&self) -> bool {
        let codes = ["READONLY", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN"];
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { source, .. } => source.code().is_some_and(|code| codes.contains(&code)),
            _ => false,
        }
    }
}

/// What an operator can do about an answer; measured on Redis 7.0.
fn advice(error: &RedisError) -> &'static str {
    match error.code() {
        Some("OOM") => ": its memory is full; raise maxmemory (policy noeviction)",
        Some("MISCONF") => ": it cannot save to disk; look at its disk, `dir` and log",
        Some("READONLY") => ": it is a replica; point redis.url at the master",
        Some("LOADING") => ": it is still loading its data",
        Some("NOPERM") => ": this user may not; extend its ACL",
        Some("WRONGPASS" | "NOAUTH") => ": wrong or missing password in redis.url",
        Some("MOVED" | "ASK" | "CROSSSLOT") => {
            ": it is a node of a cluster; set redis.cluster = true, and let its user do +cluster|slots +asking"
        }
        Some("CLUSTERDOWN" | "MASTERDOWN") => {
            ": part of the cluster is down; bring the missing masters back"
        }
        Some("TRYAGAIN") => ": keys of one slot are on their way to another node; it passes",
        Some("NOREPLICAS") => ": it misses replicas (min-replicas-to-write)",
        Some("ERR")
            if error
                .detail()
                .is_some_and(|text| text.contains("cluster support")) =>
        {
            ": it is one server and no cluster; set redis.cluster = false, and one address in redis.url"
        }
        _ => "",
    }
}
