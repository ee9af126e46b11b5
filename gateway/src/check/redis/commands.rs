//! What the way of commands needs in Redis: the gateway's own stream, the answers, the registry.
//!
//! Invariant: as beside, nothing is written. `SCRIPT LOAD` gets a text that is no script, `EVALSHA`
//! a digest that nobody has, a group and an entry get an id that is none, `HSET` gets half a pair,
//! and `HDEL` a field that no IMEI can be.

use contract::{GatewayId, keys};
use redis::{Cmd, cmd};

use super::rights::ask;
use crate::check::Look;
use crate::explain::redis as pages;
use crate::uplink::Link;

/// No script has this digest.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000";

/// What is asked for, as an operator would name it, and the rights that it takes.
struct Probe {
    what: String,
    takes: String,
    command: Cmd,
}

impl Probe {
    fn new(words: &str, key: &str, takes: &str, rest: &[&str]) -> Self {
        let mut command = Cmd::new();
        for word in words.split(' ') {
            command.arg(word);
        }
        if !key.is_empty() {
            command.arg(key);
        }
        command.arg(rest);
        let key_and_space = if key.is_empty() { "" } else { " " };
        Self {
            what: format!("{words}{key_and_space}{key}"),
            takes: takes.to_owned(),
            command,
        }
    }
}

fn probes(gateway: &GatewayId) -> Vec<Probe> {
    let orders = keys::commands_outbound(gateway);
    let group = keys::GROUP_GATEWAY;
    let own = format!("~{orders}");
    let (registry, epochs) = (keys::CONNECTIONS, keys::CONNECTION_EPOCHS);
    let mut all = vec![
        Probe::new(
            "XGROUP CREATE",
            &orders,
            &format!("{own} +xgroup|create"),
            &[group, "no-id"],
        ),
        Probe {
            what: format!("XREADGROUP {orders}"),
            takes: format!("{own} +xreadgroup"),
            command: cmd("XREADGROUP")
                .arg(&["GROUP", group, gateway.as_str(), "STREAMS"])
                .arg(&[&*orders, "no-id"])
                .to_owned(),
        },
        Probe::new("XACK", &orders, &format!("{own} +xack"), &[group, "no-id"]),
        Probe::new(
            "XADD",
            keys::COMMAND_RESPONSES,
            &format!("%W~{} +xadd", keys::COMMAND_RESPONSES),
            &["NOMKSTREAM", "0-0", "v", "0"],
        ),
        Probe::new("SCRIPT LOAD", "", "+script|load", &["no script ("]),
        Probe {
            what: format!("EVALSHA on {registry} and {epochs}"),
            takes: format!("~{registry} ~{epochs} +evalsha"),
            command: cmd("EVALSHA")
                .arg(&[NO_DIGEST, "2", registry, epochs])
                .to_owned(),
        },
    ];
    for key in [registry, epochs] {
        let own = format!("~{key}");
        let takes = |verb: &str| format!("{own} +{verb}");
        all.push(Probe::new("HSET", key, &takes("hset"), &["0", "0", "0"]));
        all.push(Probe::new("HGET", key, &takes("hget"), &["0"]));
        all.push(Probe::new("HDEL", key, &takes("hdel"), &["0"]));
    }
    all
}

/// Each right that is missing; without any, that all are there.
pub(super) async fn look(look: &mut Look, redis: &mut Link, gateway: &GatewayId) {
    let mut is_all_there = true;
    for probe in probes(gateway) {
        let Err(error) = ask(redis, &probe.command).await else {
            continue;
        };
        // What else may be wrong (memory, disk, role) was told when the stream was looked at.
        if error.code() != Some("NOPERM") {
            continue;
        }
        is_all_there = false;
        look.bad(
            &pages::COMMANDS,
            format!("no commands: the Redis user may not {}", probe.what),
            probe.what,
            error.to_string(),
            format!(
                "give the user {}, or set commands.enabled = false",
                probe.takes
            ),
        );
    }
    if is_all_there {
        let orders = keys::commands_outbound(gateway);
        look.good(format!("may take orders from {orders} and answer them"));
    }
}
