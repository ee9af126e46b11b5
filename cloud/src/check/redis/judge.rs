//! Pure: no I/O, no clock.
//!
//! What Redis said of itself, judged.
//!
//! Invariant: what keeps everything else from working is told first, because the first line that
//! failed is what people read.

use std::collections::BTreeMap;

use super::pages;
use super::rights::Refusal;
use crate::check::Look;
use crate::explain::Page;

const VERSION_MIN: u32 = 7;

/// Above this share of maxmemory it is time to look.
const MEMORY_MUCH: f64 = 0.75;

/// What was seen of one Redis.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) url: String,
    pub(super) is_loopback: bool,
    pub(super) is_tls: bool,
    /// Number of the database.
    pub(super) number: i64,
    /// `INFO`; `None`: not allowed.
    pub(super) info: Option<BTreeMap<String, String>>,
    /// `CONFIG GET` of where it listens; `None`: not allowed.
    pub(super) settings: Option<BTreeMap<String, String>>,
    pub(super) keys: Keys,
    /// `None`: it is on another machine.
    pub(super) host: Option<Host>,
    pub(super) refusals: Vec<Refusal>,
}

/// Whose keys are here.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) looked_at: usize,
    pub(super) is_complete: bool,
    pub(super) foreign: usize,
    pub(super) examples: Vec<String>,
}

/// Files of the kernel; `None`: cannot be read.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) huge_pages: Option<String>,
    pub(super) overcommit: Option<String>,
}

pub(super) fn judge(facts: &Facts, look: &mut Look) {
    match &facts.info {
        Some(info) => {
            version(facts, info, look);
            role(facts, info, look);
        }
        None => look.bad(
            &pages::NO_INFO,
            format!("INFO is not allowed at {}", facts.url),
            "ACL SETUSER … +info",
        ),
    }
    states(facts, look);
    if let Some(info) = &facts.info {
        files(facts, info, look);
        memory(info, look);
        others(facts, info, look);
    }
    rights(facts, look);
    way(facts, look);
    if let Some(host) = &facts.host {
        kernel(host, look);
    }
}

fn version(facts: &Facts, info: &BTreeMap<String, String>, look: &mut Look) {
    let spoken = info.get("redis_version").map_or("unknown", String::as_str);
    let name = match info.get("valkey_version") {
        Some(version) => format!("Valkey {version} (speaks as Redis {spoken})"),
        None => format!("Redis {spoken}"),
    };
    let major: Option<u32> = spoken.split('.').next().and_then(|text| text.parse().ok());
    if major.is_some_and(|major| major >= VERSION_MIN) {
        look.good(format!("{name} at {}", facts.url));
    } else {
        look.bad(
            &pages::OLD,
            format!("{name} at {}", facts.url),
            "install Redis 7.0 or newer, or Valkey",
        );
    }
}

fn role(facts: &Facts, info: &BTreeMap<String, String>, look: &mut Look) {
    if info.get("role").is_some_and(|role| role == "slave") {
        let master = info.get("master_host").map_or("?", String::as_str);
        let port = info.get("master_port").map_or("?", String::as_str);
        look.bad(
            &pages::REPLICA,
            format!("{} is a replica of {master}:{port}", facts.url),
            "point redis.url at the master",
        );
    }
}

/// States in which Redis refuses us whatever our rights are, as it answered to harmless probes.
fn states(facts: &Facts, look: &mut Look) {
    let table: [(&str, &Page, &str); 7] = [
        (
            "MISCONF",
            &pages::MISCONF,
            "look at its disk, its `dir` and its log; BGSAVE tries again",
        ),
        (
            "OOM",
            &pages::FULL,
            "see `cloud status`, or raise maxmemory",
        ),
        (
            "NOREPLICAS",
            &pages::FEW_REPLICAS,
            "bring the replicas back, or lower min-replicas-to-write",
        ),
        ("MOVED", &pages::CLUSTER, CLUSTER_REMEDY),
        ("ASK", &pages::CLUSTER, CLUSTER_REMEDY),
        ("CROSSSLOT", &pages::CLUSTER, CLUSTER_REMEDY),
        ("CLUSTERDOWN", &pages::CLUSTER, CLUSTER_REMEDY),
    ];
    for (code, page, remedy) in table {
        let refused = facts.refusals.iter().find(|refusal| refusal.code == code);
        if let Some(refusal) = refused {
            look.bad(
                page,
                format!("{} is refused: {}", refusal.what, refusal.answer),
                remedy,
            );
        }
    }
}

const CLUSTER_REMEDY: &str = "read it as a cluster, or bring the missing masters back";

fn files(facts: &Facts, info: &BTreeMap<String, String>, look: &mut Look) {
    let is = |field: &str, wanted: &str| info.get(field).is_some_and(|value| value == wanted);
    let has_file = is("aof_enabled", "1");
    let failed = if has_file {
        ["aof_last_write_status", "aof_last_bgrewrite_status"]
            .into_iter()
            .find(|field| is(field, "err"))
    } else {
        Some("rdb_last_bgsave_status").filter(|field| is(field, "err"))
    };
    let is_told = facts
        .refusals
        .iter()
        .any(|refusal| refusal.code == "MISCONF");
    if let Some(field) = failed.filter(|_| !is_told) {
        look.bad(
            &pages::LAST_WRITE,
            format!("{field} is err"),
            "look at its disk, its `dir` and its log; BGREWRITEAOF or BGSAVE tries again",
        );
    }
    if has_file {
        look.good("appendonly yes");
    } else {
        look.bad(
            &pages::NO_FILE,
            "appendonly is no",
            "CONFIG SET appendonly yes, and the same in its file",
        );
    }
}

fn memory(info: &BTreeMap<String, String>, look: &mut Look) {
    let policy = info
        .get("maxmemory_policy")
        .map_or("unknown", String::as_str);
    if policy == "noeviction" {
        look.good("maxmemory-policy noeviction");
    } else {
        look.bad(
            &pages::EVICTION,
            format!("maxmemory-policy is {policy}: whole streams and groups can vanish"),
            "CONFIG SET maxmemory-policy noeviction",
        );
    }
    let number = |field: &str| info.get(field).and_then(|value| value.parse::<f64>().ok());
    match (number("used_memory"), number("maxmemory")) {
        (_, None | Some(0.0)) => look.bad(
            &pages::NO_LIMIT,
            "maxmemory is 0",
            "CONFIG SET maxmemory to about three quarters of the machine",
        ),
        (Some(used), Some(max)) if used / max > MEMORY_MUCH => look.bad(
            &pages::ALMOST_FULL,
            format!("{:.0} % of maxmemory are used", used / max * 100.0),
            "see `cloud lag`, or raise maxmemory",
        ),
        (used, Some(max)) => look.good(format!(
            "{:.0} % of maxmemory {:.0} MiB used",
            used.unwrap_or(0.0) / max * 100.0,
            max / f64::from(1 << 20)
        )),
    }
}

fn others(facts: &Facts, info: &BTreeMap<String, String>, look: &mut Look) {
    let own = format!("db{}", facts.number);
    let databases: Vec<&str> = info
        .keys()
        .filter(|name| {
            let number = name.strip_prefix("db");
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
        .map(String::as_str)
        .filter(|name| *name != own)
        .collect();
    let keys = &facts.keys;
    let mut seen = Vec::new();
    if keys.foreign > 0 {
        let examples = keys.examples.join(", ");
        let of = if keys.is_complete { "" } else { "at least " };
        seen.push(format!(
            "{of}{} foreign keys such as {examples}",
            keys.foreign
        ));
    }
    if !databases.is_empty() {
        seen.push(format!("keys in {}", databases.join(", ")));
    }
    if seen.is_empty() {
        look.good(format!("no foreign keys among {}", keys.looked_at));
    } else {
        look.bad(
            &pages::FOREIGN,
            seen.join("; "),
            "give the streams a Redis of their own",
        );
    }
}

fn rights(facts: &Facts, look: &mut Look) {
    let mut is_all_there = true;
    for refusal in facts.refusals.iter().filter(|it| it.code == "NOPERM") {
        is_all_there = false;
        look.bad(
            &pages::NO_RIGHT,
            format!("the Redis user may not {}", refusal.what),
            format!("ACL SETUSER … {}", refusal.rule),
        );
    }
    if is_all_there {
        look.good("may read, acknowledge, trim and publish");
    }
}

fn way(facts: &Facts, look: &mut Look) {
    match (facts.is_tls, facts.is_loopback) {
        (true, _) => look.good("TLS"),
        (false, true) => look.good("without TLS, inside this machine"),
        (false, false) => look.bad(
            &pages::PLAIN,
            format!("{} goes to another machine without TLS", facts.url),
            "use rediss://, unless a tunnel or a private network protects the way",
        ),
    }
    let Some(settings) = &facts.settings else {
        look.skipped("bind and protected-mode: CONFIG GET is not allowed");
        return;
    };
    let get = |name: &str| settings.get(name).map_or("", String::as_str);
    let bind = get("bind");
    let is_wide = bind.split_whitespace().next().is_none()
        || bind
            .split_whitespace()
            .any(|at| matches!(at.trim_start_matches('-'), "*" | "0.0.0.0" | "::" | "::*"));
    let is_plain = get("port") != "0" && matches!(get("tls-port"), "" | "0");
    if is_wide && is_plain && get("protected-mode") == "no" {
        look.bad(
            &pages::OPEN,
            format!("bind is {bind:?}, protected-mode no, and there is no tls-port"),
            "CONFIG SET bind to an internal address, or switch TLS on",
        );
    }
}

fn kernel(host: &Host, look: &mut Look) {
    if host
        .huge_pages
        .as_deref()
        .is_some_and(|text| text.contains("[always]"))
    {
        look.bad(
            &pages::HUGE_PAGES,
            "transparent_hugepage/enabled is always on this machine",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        );
    }
    let overcommit = host.overcommit.as_deref().map(str::trim);
    if overcommit.is_some_and(|mode| mode != "1") {
        look.bad(
            &pages::OVERCOMMIT,
            format!("vm.overcommit_memory is {}", overcommit.unwrap_or_default()),
            "sysctl vm.overcommit_memory=1",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(fields: &[(&str, &str)]) -> BTreeMap<String, String> {
        let good = [
            ("redis_version", "7.2.4"),
            ("role", "master"),
            ("maxmemory", "1000"),
            ("used_memory", "100"),
            ("maxmemory_policy", "noeviction"),
            ("aof_enabled", "1"),
            ("aof_last_write_status", "ok"),
        ];
        let all = good.iter().chain(fields);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn facts(fields: &[(&str, &str)]) -> Facts {
        Facts {
            is_loopback: true,
            info: Some(info(fields)),
            settings: Some(info(&[("bind", "127.0.0.1"), ("port", "6379")])),
            ..Facts::default()
        }
    }

    fn judged(facts: &Facts) -> Look {
        let mut look = Look::new("redis");
        judge(facts, &mut look);
        look
    }

    #[test]
    fn what_servers_say_of_themselves() {
        for (fields, code) in [
            (&[("redis_version", "6.2.14")][..], "E-RDS-010"),
            (&[("redis_version", "")], "E-RDS-010"),
            (&[("role", "slave"), ("master_host", "m")], "E-RDS-012"),
            (&[("maxmemory_policy", "volatile-ttl")], "E-RDS-015"),
            (&[("aof_last_write_status", "err")], "E-RDS-018"),
            (&[("aof_last_bgrewrite_status", "err")], "E-RDS-018"),
            (&[("aof_enabled", "0")], "W-RDS-102"),
            (&[("maxmemory", "0")], "W-RDS-103"),
            (&[("used_memory", "760")], "W-RDS-104"),
            (&[("db1", "keys=3")], "W-RDS-105"),
        ] {
            assert_eq!(judged(&facts(fields)).codes(), [code], "{fields:?}");
        }
        assert!(
            judged(&facts(&[
                ("db0", "keys=3"),
                ("rdb_last_bgsave_status", "err")
            ]))
            .codes()
            .is_empty()
        );
    }

    #[test]
    fn valkey_is_recognised() {
        let facts = facts(&[("server_name", "valkey"), ("valkey_version", "8.1.0")]);
        let look = judged(&facts);
        assert!(look.findings[0].text.starts_with("Valkey 8.1.0"));
        assert!(look.codes().is_empty());
    }

    #[test]
    fn the_kernel_counts_where_it_is_the_same() {
        let mut facts = facts(&[]);
        facts.host = Some(Host {
            huge_pages: Some("[always] madvise never".to_owned()),
            overcommit: Some("0\n".to_owned()),
        });
        assert_eq!(judged(&facts).codes(), ["W-RDS-106", "W-RDS-107"]);
        facts.host = Some(Host {
            huge_pages: Some("always [madvise] never".to_owned()),
            overcommit: Some("1\n".to_owned()),
        });
        assert!(judged(&facts).codes().is_empty());
    }

    #[test]
    fn a_port_that_is_open_to_everybody_is_told() {
        let mut facts = facts(&[]);
        facts.is_loopback = false;
        for (bind, protected, tls_port, is_open) in [
            ("", "no", "0", true),
            ("* -::*", "no", "0", true),
            ("0.0.0.0", "no", "0", true),
            ("0.0.0.0", "yes", "0", false),
            ("0.0.0.0", "no", "6380", false),
            ("10.0.0.7", "no", "0", false),
        ] {
            let settings = [
                ("bind", bind),
                ("protected-mode", protected),
                ("port", "6379"),
                ("tls-port", tls_port),
            ];
            facts.settings = Some(info(&settings));
            let codes = judged(&facts).codes();
            assert_eq!(codes.contains(&"W-RDS-108"), is_open, "{settings:?}");
            assert!(codes.contains(&"W-RDS-101"));
        }
    }

    #[test]
    fn a_state_is_told_before_what_follows_from_it() {
        let mut facts = facts(&[("aof_last_write_status", "err")]);
        let refusal = |code: &str| Refusal {
            code: code.to_owned(),
            ..Refusal::default()
        };
        facts.refusals = vec![refusal("MISCONF"), refusal("NOPERM")];
        assert_eq!(judged(&facts).codes(), ["E-RDS-014", "E-RDS-011"]);
        for (code, page) in [
            ("OOM", "E-RDS-013"),
            ("NOREPLICAS", "E-RDS-021"),
            ("CLUSTERDOWN", "E-RDS-016"),
        ] {
            let mut facts = super::tests::facts(&[]);
            facts.refusals = vec![refusal(code)];
            assert_eq!(judged(&facts).codes(), [page]);
        }
        facts.info = None;
        facts.refusals.clear();
        assert_eq!(judged(&facts).codes(), ["W-RDS-109"]);
    }
}
