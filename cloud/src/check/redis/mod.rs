//! The Redis that carries the streams: the way to it, what it is, and what we may do there.

mod judge;
pub mod rights;
mod way;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ::redis::{ConnectionAddr, IntoConnectionInfo as _, cmd};
use contract::keys;

use super::Look;
use super::scan::scan;
use crate::config::{Config, StreamConfig};
use crate::explain::redis as pages;
use crate::stream::pattern::matches;
use crate::stream::{Link, RedisFailure, finder};
use judge::{Facts, Host, Keys};

/// Keys looked at to see whether others live here.
const KEYS_MAX: usize = 20_000;
/// Foreign keys named.
const EXAMPLES: usize = 3;

/// The findings, and whether Redis can be asked more.
pub(super) async fn look(link: &Link, config: &Config) -> (Look, bool) {
    let mut look = Look::new("redis");
    let facts = match facts(link, config).await {
        Ok(facts) => facts,
        Err(failure) => {
            way::told(&mut look, &failure, &config.redis).await;
            return (look, false);
        }
    };
    judge::judge(&facts, &mut look);
    (look, true)
}

async fn facts(link: &Link, config: &Config) -> Result<Facts, RedisFailure> {
    let info = match link.ask::<String>("INFO", &cmd("INFO")).await {
        Ok(info) => Some(fields(&info)),
        Err(failure) if failure.code() == Some("NOPERM") => None,
        Err(failure) => return Err(failure),
    };
    let mut get = cmd("CONFIG");
    get.arg(&["GET", "bind", "protected-mode", "port", "tls-port"]);
    let settings = match link
        .ask::<BTreeMap<String, String>>("CONFIG GET", &get)
        .await
    {
        Ok(settings) => Some(settings),
        Err(failure @ RedisFailure::Unreachable { .. }) => return Err(failure),
        // Managed services do not know the command at all.
        Err(_) => None,
    };
    let (is_loopback, is_tls, number) = place(&config.redis.url).await;
    Ok(Facts {
        url: link.url().to_owned(),
        is_loopback,
        is_tls,
        number,
        info,
        settings,
        keys: keys(link, &config.stream).await?,
        host: is_loopback.then(host),
        refusals: rights::refused(link, &rights::needed(config)).await?,
    })
}

/// `INFO`: every field of every section.
fn fields(info: &str) -> BTreeMap<String, String> {
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Is it on this machine, over TLS, and which number has the database?
async fn place(url: &str) -> (bool, bool, i64) {
    let Ok(info) = url.into_connection_info() else {
        return (false, false, 0);
    };
    let number = info.redis_settings().db();
    let (host, port, is_tls) = match info.addr() {
        ConnectionAddr::Tcp(host, port) => (host, *port, false),
        ConnectionAddr::TcpTls { host, port, .. } => (host, *port, true),
        // A socket file.
        _ => return (true, false, number),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => match tokio::net::lookup_host((host, port)).await {
            Ok(addrs) => {
                let addrs: Vec<_> = addrs.collect();
                !addrs.is_empty() && addrs.iter().all(|addr| addr.ip().is_loopback())
            }
            Err(_) => false,
        },
    };
    (is_loopback, is_tls, number)
}

/// What the kernel says; a container on this machine has the same one.
fn host() -> Host {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    Host {
        huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled"),
        overcommit: read("/proc/sys/vm/overcommit_memory"),
    }
}

/// Whose keys are here? Not more than [`KEYS_MAX`] are looked at.
async fn keys(link: &Link, config: &StreamConfig) -> Result<Keys, RedisFailure> {
    let found = match finder::find(link, config).await {
        Ok(found) => found,
        Err(failure) if failure.code() == Some("NOPERM") => return Ok(Keys::default()),
        Err(failure) => return Err(failure),
    };
    let read: Vec<&str> = found.iter().map(|stream| &*stream.name).collect();
    let all = match scan(link, "*", None, KEYS_MAX).await {
        Err(failure) if failure.code() == Some("NOPERM") => return Ok(Keys::default()),
        all => all?,
    };
    let is_foreign = |key: &&String| !is_ours(key, config) && !read.contains(&key.as_str());
    let foreign: Vec<&String> = all.keys.iter().filter(is_foreign).collect();
    Ok(Keys {
        looked_at: all.keys.len(),
        is_complete: all.is_complete,
        foreign: foreign.len(),
        examples: foreign
            .iter()
            .take(EXAMPLES)
            .map(|key| (*key).clone())
            .collect(),
    })
}

/// Does the contract, or the configuration, know a key of this name?
fn is_ours(key: &str, config: &StreamConfig) -> bool {
    const BEGINNINGS: [&str; 5] = [
        "telemetry:",
        "floor:",
        "commands:",
        "instance:heartbeat:",
        "dead-letter:",
    ];
    let exact = [
        keys::CONTRACT,
        keys::CONNECTIONS,
        keys::CONNECTION_EPOCHS,
        config.dead_letter.as_deref().unwrap_or(keys::CONTRACT),
    ];
    let sensors = config.not_pattern.as_deref();
    exact.contains(&key)
        || sensors.is_some_and(|pattern| matches(pattern, key))
        || BEGINNINGS
            .iter()
            .any(|beginning| key.starts_with(beginning))
        || config
            .names
            .iter()
            .any(|name| key == name || keys::is_shard_of(key, name))
}
