//! What a Redis user may do: the rules of a gateway and of the cloud, word by word.
//!
//! Why here: the cloud prints them and gives them to new gateways, every end-to-end test runs with
//! them, and both sides' key names are what they are made of. Rights written down twice drift, and
//! the first to notice is a box that nobody visits.
//!
//! Invariants: nothing but what the program on that side asks for; a gateway can append to telemetry
//! and never read it, and of what belongs to one gateway it reaches its own alone; the words keep a
//! user's passwords as they are and take every other right away first.
//!
//! What an ACL cannot forbid: `XADD … MAXLEN 1` on a stream one may append to, and a value in
//! `connections:registry` that names somebody else's tracker.

use thiserror::Error;

use crate::id::GatewayId;
use crate::keys;

/// The user of the cloud, unless somebody prefers another name.
pub const PROCESSOR: &str = "processor";

/// A user for people who administer: may do everything.
pub const ADMIN: &str = "admin";

/// Names that no gateway's user may have.
pub const RESERVED: [&str; 3] = ["default", ADMIN, PROCESSOR];

/// The administrator's rules.
pub const ADMIN_WORDS: [&str; 3] = ["~*", "&*", "+@all"];

/// Every telemetry stream that carries the default name or one beside it.
const TELEMETRY: &str = "telemetry:";

/// Connecting, and what every client of ours says on the way.
const CONNECT: [&str; 9] = [
    "+ping",
    "+hello",
    "+auth",
    "+client|setname",
    "+client|id",
    "+info",
    "+wait",
    "+multi",
    "+exec",
];

const SCRIPTS: [&str; 3] = ["+eval", "+evalsha", "+script|load"];

const OF_GATEWAY: [&str; 12] = [
    "+xadd",
    "+xreadgroup",
    "+xack",
    "+xautoclaim",
    "+xgroup|create",
    "+set",
    "+get",
    "+hset",
    "+hget",
    "+hmget",
    "+hgetall",
    "+hdel",
];

const OF_CLOUD: [&str; 29] = [
    "+config|get",
    "+time",
    "+xreadgroup",
    "+xack",
    "+xautoclaim",
    "+xclaim",
    "+xpending",
    "+xrange",
    "+xlen",
    "+xtrim",
    "+xadd",
    "+xdel",
    "+xinfo",
    "+xgroup|create",
    "+xgroup|createconsumer",
    "+xgroup|delconsumer",
    "+xgroup|setid",
    "+scan",
    "+type",
    "+exists",
    "+get",
    "+mget",
    "+hset",
    "+hget",
    "+hmget",
    "+hgetall",
    "+hdel",
    "+hscan",
    "+del",
];

/// A cluster's client asks where which slot is, and for what is on its way to another node.
const IN_CLUSTER: [&str; 2] = ["+cluster|slots", "+asking"];

/// A name that cannot stand in a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{found:?} cannot stand in a rule of Redis: it is empty or has a space or a control character"
)]
pub struct AccessError {
    /// As given.
    pub found: String,
}

/// Key patterns of telemetry streams, as they stand behind `~`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streams(Vec<String>);

impl Default for Streams {
    fn default() -> Self {
        Self(vec![format!("{TELEMETRY}*")])
    }
}

impl Streams {
    /// The patterns of these streams and their shards. Names below `telemetry:` share one pattern.
    /// # Errors
    /// [`AccessError`] for a name that cannot stand in a rule.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, AccessError> {
        let mut streams = Self(Vec::new());
        for name in names {
            if name.starts_with(TELEMETRY) {
                streams.add(format!("{TELEMETRY}*"))?;
            } else {
                let plain = escaped(name);
                streams.add(plain.clone())?;
                streams.add(format!("{plain}:*"))?;
            }
        }
        Ok(streams)
    }

    /// Also whatever matches this pattern, which is a pattern of Redis already.
    /// # Errors
    /// [`AccessError`].
    pub fn matching(mut self, pattern: &str) -> Result<Self, AccessError> {
        self.add(pattern.to_owned())?;
        Ok(self)
    }

    fn add(&mut self, pattern: String) -> Result<(), AccessError> {
        let fits = |c: char| !c.is_whitespace() && !c.is_control();
        if pattern.is_empty() || !pattern.chars().all(fits) {
            return Err(AccessError { found: pattern });
        }
        if !self.0.contains(&pattern) {
            self.0.push(pattern);
        }
        Ok(())
    }

    fn with<'a>(&'a self, before: &'a str) -> impl Iterator<Item = String> + 'a {
        self.0
            .iter()
            .map(move |pattern| format!("{before}{pattern}"))
    }
}

/// A name as a pattern that matches it alone.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn owned<'a>(words: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = String> {
    words
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

/// The rules of a gateway's user, behind its name and its passwords.
#[must_use]
pub fn gateway(id: &GatewayId, streams: &Streams, in_cluster: bool) -> Vec<String> {
    let mut words = vec!["resetchannels".to_owned()];
    words.extend(streams.with("%W~"));
    words.extend([
        format!("%R~{}", keys::floor(id)),
        format!("%R~{}", keys::CONTRACT),
        format!("~{}", keys::commands_outbound(id)),
        format!("%W~{}", keys::COMMAND_RESPONSES),
        format!("~{}", keys::CONNECTIONS),
        format!("~{}", keys::CONNECTION_EPOCHS),
        format!("~{}", keys::heartbeat(id)),
        "-@all".to_owned(),
    ]);
    words.extend(owned(CONNECT.into_iter().chain(SCRIPTS).chain(OF_GATEWAY)));
    if in_cluster {
        words.extend(IN_CLUSTER.map(str::to_owned));
    }
    // A selector of its own: how the groups stand may be read, what is in the stream may not.
    let mut selector: Vec<String> = streams.with("%R~").collect();
    // Not `xinfo|stream`: that shows the first and the last entry, which are others' telemetry.
    selector.extend(owned(["+xinfo|groups"]));
    words.push(format!("({})", selector.join(" ")));
    words
}

/// The rules of the cloud's user. `dead_letter`: the stream of copies, when it has a name of its own.
/// # Errors
/// [`AccessError`] when that name cannot stand in a rule.
pub fn cloud(
    streams: &Streams,
    dead_letter: Option<&str>,
    in_cluster: bool,
) -> Result<Vec<String>, AccessError> {
    let mut others = Streams(Vec::new());
    others.add(keys::dead_letter_stream("*"))?;
    if let Some(name) = dead_letter.filter(|name| !name.starts_with(&keys::dead_letter_stream("")))
    {
        others.add(escaped(name))?;
    }
    let mut words = vec!["resetchannels".to_owned()];
    words.extend(streams.with("~"));
    words.extend(others.with("~"));
    words.extend([
        format!("~{FLOORS}"),
        format!("~{}", keys::CONTRACT),
        "~commands:*".to_owned(),
        format!("~{}", keys::CONNECTIONS),
        format!("~{}", keys::CONNECTION_EPOCHS),
        format!("%R~{HEARTBEATS}"),
        "-@all".to_owned(),
    ]);
    words.extend(owned(CONNECT.into_iter().chain(SCRIPTS).chain(OF_CLOUD)));
    if in_cluster {
        words.extend(IN_CLUSTER.map(str::to_owned));
    }
    Ok(words)
}

/// [`keys::floor`] of every gateway.
const FLOORS: &str = "floor:*";

/// [`keys::heartbeat`] of every gateway.
const HEARTBEATS: &str = "instance:heartbeat:*";

/// A line of an ACL file. `passwords`: `>password` or `#` and its SHA-256; without one the user
/// exists and cannot log in.
#[must_use]
pub fn file_line(user: &str, passwords: &[String], words: &[String]) -> String {
    let mut line = format!("user {user} on");
    for word in passwords.iter().chain(words) {
        line.push(' ');
        line.push_str(word);
    }
    line
}

/// The words behind `ACL SETUSER`, the user first. Passwords that it has stay valid, every other
/// right goes before the new ones come.
#[must_use]
pub fn setuser(user: &str, passwords: &[String], words: &[String]) -> Vec<String> {
    let mut all: Vec<String> = owned([user, "on", "resetkeys", "clearselectors"]).collect();
    all.extend(passwords.iter().chain(words).cloned());
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(name: &str) -> GatewayId {
        GatewayId::new(name).unwrap()
    }

    #[test]
    fn a_gateway_reaches_its_own_keys_alone() {
        let words = gateway(&id("depot-1"), &Streams::default(), false);
        let others = gateway(&id("depot-2"), &Streams::default(), false);
        let own: Vec<&String> = words.iter().filter(|word| !others.contains(word)).collect();
        assert_eq!(
            own,
            [
                "%R~floor:depot-1",
                "~commands:outbound:depot-1",
                "~instance:heartbeat:depot-1"
            ]
        );
        for word in &words {
            let reads_telemetry =
                word.starts_with("~telemetry") || word.starts_with("%R~telemetry");
            assert!(
                !reads_telemetry && word != "~*" && word != "+@all",
                "{word}"
            );
            assert!(
                !word.contains("xrange") && !word.contains("xread "),
                "{word}"
            );
        }
        assert_eq!(words.last().unwrap(), "(%R~telemetry:* +xinfo|groups)");
    }

    #[test]
    fn another_stream_is_named_and_nothing_beside_it() {
        let streams = Streams::named(["fleet:[a]*", "telemetry:x", "telemetry:y"]).unwrap();
        let words = gateway(&id("a"), &streams, true).join(" ");
        assert!(
            words.contains(r"%W~fleet:\[a\]\* %W~fleet:\[a\]\*:* %W~telemetry:* %R~floor:a"),
            "{words}"
        );
        assert!(words.contains("+cluster|slots"), "{words}");
        let cloud = cloud(&streams.matching("mqtt:*").unwrap(), Some("aside"), false).unwrap();
        let cloud = cloud.join(" ");
        assert!(
            cloud.contains("~mqtt:* ~dead-letter:* ~aside ~floor:*"),
            "{cloud}"
        );
        for bad in ["", "two words", "a\n+@all"] {
            assert_eq!(
                Streams::named([bad]).unwrap_err().found.is_empty(),
                bad.is_empty(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn no_right_is_written_twice() {
        let streams = Streams::default();
        for words in [
            gateway(&id("a"), &streams, true),
            cloud(&streams, None, true).unwrap(),
        ] {
            let mut sorted = words.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!(sorted.len(), words.len(), "{words:?}");
        }
    }

    #[test]
    fn passwords_stand_before_the_rules_and_survive_a_change_of_them() {
        let words = vec!["~*".to_owned()];
        let line = file_line("box", &["#ab".to_owned()], &words);
        assert_eq!(line, "user box on #ab ~*");
        let set = setuser("box", &["#ab".to_owned()], &words).join(" ");
        assert_eq!(set, "box on resetkeys clearselectors #ab ~*");
        assert!(
            !set.contains("reset "),
            "that would take the passwords away"
        );
    }

    #[test]
    fn patterns_cover_the_keys_they_stand_for() {
        let star = |pattern: &str| pattern.trim_end_matches('*').to_owned();
        assert!(keys::floor(&id("a")).starts_with(&star(FLOORS)));
        assert!(keys::heartbeat(&id("a")).starts_with(&star(HEARTBEATS)));
        assert!(keys::stream("x").starts_with(TELEMETRY));
    }
}
