//! What we may do once we are in, and whether this Redis is one to trust records to.
//!
//! Invariant: nothing is written. Each right is probed with a command that Redis refuses for its
//! arguments after it has looked at rights, role, memory and disk: `XADD … 0-0` can never append
//! (the id must be greater), `SET … PX 0` can never set (the expiry is invalid). So the refusal we
//! hope for is the plain `ERR`.

use contract::version::{self, VersionsRead};
use contract::{GatewayId, keys};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, RedisError, RedisResult, Value, cmd};

use super::{Clocks, answers};
use crate::check::Look;
use crate::clock;
use crate::explain::redis as pages;
use crate::uplink::Link;

const VERSION_MIN: u32 = 7;

/// Above this share of maxmemory it is time to look.
const MEMORY_MUCH: f64 = 0.75;

/// What we may do with the streams, and with what is said beside them. In a cluster each question
/// goes to the node that has its key.
pub(super) async fn look(
    look: &mut Look,
    redis: &mut Link,
    gateway: &GatewayId,
    streams: &[String],
) {
    for stream in streams {
        append(look, redis, stream).await;
    }
    others(look, redis, gateway, streams).await;
    contract(look, redis).await;
    for stream in streams {
        read(look, redis, stream).await;
    }
}

pub(super) async fn ask(
    redis: &mut (impl ConnectionLike + Send),
    command: &Cmd,
) -> RedisResult<Value> {
    command.query_async(redis).await
}

/// Did Redis get as far as the arguments?
fn is_refused_for_arguments(error: &RedisError) -> bool {
    error.code().is_none_or(|code| code == "ERR")
}

/// One line of INFO.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut values = info
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    values.next().map(str::trim)
}

/// Is this Redis one to trust records to? `has_roles`: a replica is a mistake, as it is not in a
/// cluster, where the client finds the masters. Returns both clocks when Redis told.
pub(super) async fn info(
    look: &mut Look,
    redis: &mut MultiplexedConnection,
    has_roles: bool,
) -> Option<Clocks> {
    let asked_ms = clock::now_ms();
    let info: RedisResult<String> = cmd("INFO").query_async(redis).await;
    let ours_ms = u64::midpoint(asked_ms, clock::now_ms());
    let info = match info {
        Ok(info) => info,
        Err(error) => {
            look.bad(
                &pages::NO_INFO,
                "the Redis user may not ask for INFO",
                "INFO",
                error.to_string(),
                "allow +info, to have version, memory and persistence looked at",
            );
            return None;
        }
    };
    version(look, &info, has_roles);
    memory(look, &info);
    let logs = field(&info, "aof_enabled") == Some("1");
    let saves = field(&info, "rdb_saves").is_some_and(|saves| saves != "0");
    if !logs && !saves {
        look.bad(
            &pages::NO_FILE,
            "Redis has no append-only file and has saved no snapshot",
            "INFO persistence",
            "aof_enabled is 0",
            "appendonly yes, appendfsync everysec",
        );
    }
    let theirs_us: u64 = field(&info, "server_time_usec")?.parse().ok()?;
    Some((ours_ms, theirs_us / 1000))
}

fn version(look: &mut Look, info: &str, has_roles: bool) {
    let (name, version) = match field(info, "valkey_version") {
        Some(version) => ("Valkey", version),
        None => ("Redis", field(info, "redis_version").unwrap_or_default()),
    };
    let major: u32 = version
        .split('.')
        .next()
        .unwrap_or_default()
        .parse()
        .unwrap_or(0);
    if major < VERSION_MIN {
        look.bad(
            &pages::OLD,
            format!("{name} {version} is too old"),
            "INFO server",
            format!("{VERSION_MIN}.0 is the oldest that works"),
            "upgrade Redis",
        );
    } else {
        look.good(format!("{name} {version}"));
    }
    if has_roles && field(info, "role") == Some("slave") {
        let master = field(info, "master_host").unwrap_or("not named");
        look.bad(
            &pages::REPLICA,
            "this Redis is a replica",
            "INFO replication",
            format!("role:slave, its master is {master}"),
            "point uplink.url at the master",
        );
    }
}

fn memory(look: &mut Look, info: &str) {
    let bytes = |name| field(info, name).and_then(|value| value.parse::<f64>().ok());
    let policy = field(info, "maxmemory_policy").unwrap_or("noeviction");
    if policy != "noeviction" {
        look.bad(
            &pages::EVICTION,
            format!("maxmemory-policy is {policy}: whole streams and groups can vanish"),
            "INFO memory",
            "at the limit Redis deletes keys to make room",
            "CONFIG SET maxmemory-policy noeviction",
        );
    }
    let (Some(used), Some(max)) = (bytes("used_memory"), bytes("maxmemory")) else {
        return;
    };
    if max > 0.0 && used < max && used / max > MEMORY_MUCH {
        look.bad(
            &pages::ALMOST_FULL,
            format!("Redis has used {:.0} % of its memory", used / max * 100.0),
            "INFO memory",
            format!("{used:.0} of {max:.0} bytes"),
            "see whether the cloud processor keeps up, or raise maxmemory",
        );
    }
}

async fn append(look: &mut Look, redis: &mut Link, stream: &str) {
    // Wrong for its kind, told by a command that reads; without the right to it XADD will tell.
    if let Err(error) = ask(redis, cmd("XINFO").arg("GROUPS").arg(stream)).await
        && error.code() == Some("WRONGTYPE")
    {
        let (page, remedy) = answers::of_code("WRONGTYPE");
        let what = format!("{stream} is no stream");
        return look.bad(
            page,
            what,
            format!("key {stream}"),
            error.to_string(),
            remedy,
        );
    }
    let probe = ask(
        redis,
        cmd("XADD").arg(&[stream, "NOMKSTREAM", "0-0", "v", "0"]),
    )
    .await;
    match probe {
        Err(error) if is_refused_for_arguments(&error) => {
            look.good(format!("may XADD {stream}"));
        }
        Err(error) => {
            let (page, remedy) = answers::refusal(&error);
            // Already told with the name of the master.
            if page.code == pages::REPLICA.code && look.has_errors() {
                return;
            }
            let what = format!("no entry can be appended: {}", page.title);
            look.bad(
                page,
                what,
                format!("XADD {stream}"),
                error.to_string(),
                remedy,
            );
        }
        Ok(_) => look.skipped("XADD answered in a way that is not understood"),
    }
}

async fn others(look: &mut Look, redis: &mut Link, gateway: &GatewayId, streams: &[String]) {
    let heartbeat = keys::heartbeat(gateway);
    let floor = keys::floor(gateway);
    let mut probes = vec![
        (
            "SET",
            cmd("SET").arg(&[&heartbeat, "0", "PX", "0"]).to_owned(),
            heartbeat.clone(),
        ),
        (
            "HMGET",
            cmd("HMGET").arg(&[&floor, "0"]).to_owned(),
            floor.clone(),
        ),
    ];
    for stream in streams {
        let groups = cmd("XINFO").arg(&["GROUPS", stream]).to_owned();
        probes.push(("XINFO GROUPS", groups, stream.clone()));
    }
    for (name, probe, key) in probes {
        if let Err(error) = ask(redis, &probe).await
            && error.code() == Some("NOPERM")
        {
            let remedy = format!("give the user the right to {name} {key}");
            let what = format!("the Redis user may not {name} {key}");
            look.bad(
                &pages::RIGHTS,
                what,
                format!("{name} {key}"),
                error.to_string(),
                remedy,
            );
        }
    }
}

pub(super) async fn contract(look: &mut Look, redis: &mut Link) {
    let reads: RedisResult<Option<String>> = cmd("HGET")
        .arg(keys::CONTRACT)
        .arg(version::FIELD_READS)
        .query_async(redis)
        .await;
    let place = format!("HGET {} {}", keys::CONTRACT, version::FIELD_READS);
    let ours = version::ENTRY_VERSION_WRITTEN;
    match reads {
        Ok(Some(text)) => match VersionsRead::parse(&text) {
            Some(reads) if !reads.contains(ours) => look.bad(
                &pages::CONTRACT,
                format!("the cloud reads entry versions {reads}, this gateway writes {ours}"),
                place,
                "published by the cloud",
                "update the cloud first, or go back to an older gateway",
            ),
            Some(reads) => look.good(format!(
                "the cloud reads {reads}, this gateway writes {ours}"
            )),
            None => look.skipped(format!("the cloud's contract {text:?} is not understood")),
        },
        Ok(None) => look.bad(
            &pages::NO_CONTRACT,
            "no cloud processor has published the contract",
            place,
            "the hash is not there",
            "start the cloud; entries wait in the stream meanwhile",
        ),
        Err(error) if error.code() == Some("NOPERM") => {
            let what = "the Redis user may not read the contract";
            let remedy = "give the user %R~contract and +hget";
            look.bad(&pages::RIGHTS, what, place, error.to_string(), remedy);
        }
        Err(error) => look.skipped(format!("contract not read: {error}")),
    }
}

async fn read(look: &mut Look, redis: &mut Link, stream: &str) {
    // From the end to the beginning: empty, whatever is in there.
    match ask(redis, cmd("XRANGE").arg(&[stream, "+", "-"])).await {
        Err(error) if error.code() == Some("NOPERM") => {
            look.good(format!("may not read {stream}, as it should be"));
        }
        Err(_) => {}
        Ok(_) => look.bad(
            &pages::MAY_READ,
            format!("the Redis user may read {stream}"),
            format!("XRANGE {stream}"),
            "a gateway only appends",
            "give it a user of its own with %W~telemetry:* (see docs/gateway.md)",
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_are_judged_by_their_first_number() {
        for (info, wanted) in [
            ("redis_version:6.2.14", Some("E-RED-011")),
            ("redis_version:7.0.15", None),
            ("redis_version:10.0.0", None),
            // Valkey says the version of Redis it can stand in for as well.
            ("redis_version:7.2.4\r\nvalkey_version:8.1.0", None),
            ("", Some("E-RED-011")),
        ] {
            let mut look = Look::new("redis");
            version(&mut look, info, true);
            let found = look.findings[0].page.map(|page| page.code);
            assert_eq!(found, wanted, "{info}");
        }
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let info = "used_memory_rss:5\r\nused_memory:7\r\n";
        assert_eq!(field(info, "used_memory"), Some("7"));
        assert_eq!(field(info, "memory"), None);
    }
}
