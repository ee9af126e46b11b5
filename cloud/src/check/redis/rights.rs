//! Which commands this user may give, found out without changing anything.
//!
//! Invariant: nothing is written. Each right is probed with a command that Redis refuses for its
//! arguments, or that finds nothing to do, after it has looked at rights, role, memory and disk:
//! `XADD … 0-0` can never append, half a pair can never be set, nothing is older than id 0.

use ::redis::{Cmd, cmd};
use contract::{GatewayId, keys};

use crate::config::{Config, SensorConfig};
use crate::stream::pattern::{beginning, matches};
use crate::stream::{Link, RedisFailure};

/// What is asked for, as an operator would name it, and the rule that it takes.
#[derive(Debug)]
pub struct Probe {
    what: String,
    rule: String,
    command: Cmd,
}

/// What Redis refused before it looked at the arguments.
#[derive(Clone, Debug, Default)]
pub struct Refusal {
    /// Command and key.
    pub what: String,
    /// The rule that allows it.
    pub rule: String,
    /// `NOPERM`, `OOM`, `MISCONF`…
    pub code: String,
    /// The answer in full.
    pub answer: String,
}

/// An id that is none.
const NO_ID: &str = "no-id";

impl Probe {
    /// `words`: the command, with its subcommand. `key` may be empty.
    pub(super) fn new(words: &str, key: &str, rest: &[&str]) -> Self {
        let mut command = Cmd::new();
        for word in words.split(' ') {
            command.arg(word);
        }
        if !key.is_empty() {
            command.arg(key);
        }
        command.arg(rest);
        let verb = words.to_lowercase().replace(' ', "|");
        Self {
            what: format!("{words} {key}").trim_end().to_owned(),
            rule: format!("{} +{verb}", pattern(key)).trim_start().to_owned(),
            command,
        }
    }
}

/// The keys of the contract that one rule should cover.
fn pattern(key: &str) -> String {
    for family in ["telemetry:", "floor:", "commands:", "dead-letter:"] {
        if key.starts_with(family) {
            return format!("~{family}*");
        }
    }
    match key {
        "" => String::new(),
        key if key.starts_with("instance:heartbeat:") => "%R~instance:heartbeat:*".to_owned(),
        key => format!("~{key}"),
    }
}

/// No gateway has this name; its keys never exist.
fn nobody() -> GatewayId {
    GatewayId::new("nobody.check").expect("letters and a dot")
}

/// `XREADGROUP` as `cloud run` gives it, at an id that is none.
fn read_group(stream: &str, group: &str, consumer: &str) -> Probe {
    let mut command = cmd("XREADGROUP");
    command.arg(&[
        "GROUP", group, consumer, "COUNT", "1", "STREAMS", stream, NO_ID,
    ]);
    Probe {
        what: format!("XREADGROUP {stream}"),
        rule: format!("{} +xreadgroup", pattern(stream)),
        command,
    }
}

/// What reading, acknowledging, claiming and trimming one stream takes.
fn of_stream(stream: &str, group: &str, consumer: &str) -> Vec<Probe> {
    vec![
        read_group(stream, group, consumer),
        Probe::new("XACK", stream, &[group, "0-0"]),
        Probe::new("XPENDING", stream, &[group]),
        Probe::new("XCLAIM", stream, &[group, consumer, "0", NO_ID]),
        Probe::new("XRANGE", stream, &["0-0", "0-0"]),
        Probe::new("XTRIM", stream, &["MINID", "0"]),
        Probe::new("XGROUP CREATE", stream, &[group, NO_ID]),
        Probe::new("XINFO STREAM", stream, &[]),
        Probe::new("XINFO GROUPS", stream, &[]),
    ]
}

/// The same for a sensor stream that nobody has, where its name can be told from the pattern.
fn of_sensors(sensors: &SensorConfig, group: &str, consumer: &str) -> Vec<Probe> {
    let wanted = &sensors.pattern;
    let key = format!("{}nobody.check:nobody", beginning(wanted));
    if !matches(wanted, &key) {
        return Vec::new();
    }
    let mut probes = of_stream(&key, group, consumer);
    for probe in &mut probes {
        probe.rule = probe
            .rule
            .replacen(&pattern(&key), &format!("~{wanted}"), 1);
    }
    probes
}

/// Everything that storing records takes.
pub(super) fn needed(config: &Config) -> Vec<Probe> {
    let stream = &config.stream;
    let mut all = Vec::new();
    for name in &stream.names {
        all.extend(of_stream(name, &stream.group, &stream.consumer));
        // For a database that went back in time.
        all.push(Probe::new("XGROUP SETID", name, &[&stream.group, NO_ID]));
    }
    if let Some(sensors) = &config.sensors {
        all.extend(of_sensors(sensors, &stream.group, &stream.consumer));
    }
    let floor = keys::floor(&nobody());
    all.extend([
        Probe::new("SCAN", "", &["0", "COUNT", "1"]),
        Probe::new("HSET", keys::CONTRACT, &["0", "0", "0"]),
        Probe::new("HSET", &floor, &["0", "0", "0"]),
        Probe::new("HMGET", &floor, &["0"]),
        Probe::new("HGETALL", &floor, &[]),
        Probe::new("HDEL", &floor, &["0"]),
    ]);
    if let Some(letters) = &stream.dead_letter {
        all.push(Probe::new("XADD", letters, &["0-0", "v", "0"]));
    }
    all
}

/// Everything that commands take.
pub(in crate::check) fn needed_for_commands(config: &Config) -> Vec<Probe> {
    let consumer = &config.stream.consumer;
    let mut all = of_stream(keys::COMMAND_RESPONSES, keys::GROUP_COMMANDS, consumer);
    let orders = keys::commands_outbound(&nobody());
    let mut script = cmd("EVAL");
    script.arg(&["return 0", "2", keys::CONNECTIONS, keys::CONNECTION_EPOCHS]);
    all.extend([
        Probe::new("XADD", &orders, &["NOMKSTREAM", "0-0", "v", "0"]),
        Probe::new("XRANGE", &orders, &["0-0", "0-0"]),
        Probe::new("XTRIM", &orders, &["MINID", "0"]),
        Probe::new("HSCAN", keys::CONNECTIONS, &["0", "COUNT", "1"]),
        Probe::new("HMGET", keys::CONNECTIONS, &["0"]),
        Probe::new("HMGET", keys::CONNECTION_EPOCHS, &["0"]),
        Probe::new("HDEL", keys::CONNECTIONS, &["0"]),
        Probe::new("MGET", &keys::heartbeat(&nobody()), &[]),
        Probe {
            what: format!("EVAL on {} and its epochs", keys::CONNECTIONS),
            rule: format!("~{} ~{} +eval", keys::CONNECTIONS, keys::CONNECTION_EPOCHS),
            command: script,
        },
    ]);
    all
}

/// Those that Redis refuses for another reason than their arguments.
/// # Errors
/// [`RedisFailure::Unreachable`].
pub async fn refused(link: &Link, probes: &[Probe]) -> Result<Vec<Refusal>, RedisFailure> {
    let mut refusals = Vec::new();
    for probe in probes {
        let failure = match link.ask::<::redis::Value>("a probe", &probe.command).await {
            Ok(_) => continue,
            Err(failure @ RedisFailure::Unreachable { .. }) => return Err(failure),
            Err(failure) => failure,
        };
        let code = failure.code().unwrap_or("ERR").to_owned();
        // The arguments, the group and the kind of key are looked at last.
        if ["ERR", "NOGROUP", "WRONGTYPE", "NOSCRIPT"].contains(&code.as_str()) {
            continue;
        }
        let answer = match &failure {
            RedisFailure::Refused { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        refusals.push(Refusal {
            what: probe.what.clone(),
            rule: probe.rule.clone(),
            code,
            answer,
        });
    }
    Ok(refusals)
}
