//! What an error of Redis means, as a page and a remedy.

use redis::{ErrorKind, RedisError};

use crate::explain::Page;
use crate::explain::redis as pages;
use crate::uplink::Cause;

/// The page of an error of Redis, and what to do here.
#[must_use]
pub fn refusal(error: &RedisError) -> (&'static Page, &'static str) {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return of_code("WRONGPASS");
    }
    if error.is_timeout() {
        return (
            &pages::SILENT,
            "look at the Redis machine and the way there",
        );
    }
    of_code(error.code().unwrap_or_default())
}

/// By the first word of the answer: `WRONGPASS`, `OOM`, …
pub(super) fn of_code(code: &str) -> (&'static Page, &'static str) {
    match code {
        "WRONGPASS" | "NOAUTH" => (&pages::LOGIN, Cause::Login.remedy()),
        "NOPERM" => (&pages::NO_RIGHT, "give the user %W~telemetry:* and +xadd"),
        "OOM" => (&pages::FULL, Cause::Memory.remedy()),
        "MISCONF" => (&pages::MISCONF, Cause::Disk.remedy()),
        "READONLY" => (&pages::REPLICA, Cause::Replica.remedy()),
        "LOADING" => (&pages::LOADING, Cause::Loading.remedy()),
        "NOREPLICAS" => (&pages::FEW_REPLICAS, Cause::NoReplicas.remedy()),
        "MOVED" | "ASK" | "CROSSSLOT" => (&pages::CLUSTER, Cause::Cluster.remedy()),
        "CLUSTERDOWN" => (&pages::CLUSTER, Cause::ClusterDown.remedy()),
        "WRONGTYPE" => (&pages::NO_STREAM, "rename that key, or set uplink.stream"),
        _ => (
            &pages::UNUSABLE,
            "look up the answer; Redis's log may say more",
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_that_are_hard_to_provoke_have_their_page() {
        for (word, code) in [
            ("LOADING", "E-RED-016"),
            ("CLUSTERDOWN", "E-RED-018"),
            ("MASTERDOWN", "E-RED-024"),
        ] {
            assert_eq!(of_code(word).0.code, code, "{word}");
        }
    }
}
