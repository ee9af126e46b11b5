//! Which node of a Redis Cluster has which key, and what a node's refusal tells us to do. Asks nobody.
//!
//! Why not the client's own cluster connection: it sends a command again after a broken connection,
//! and an order must never be written twice; and all its users share one connection to a node, so a
//! read that blocks holds up everybody. Here only what a node says it has *not* done is sent again.
//!
//! Invariant: [`Step`] comes only from answers after which the command was certainly not executed.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use redis::cluster_routing::Slot;
use redis::{Arg, Cmd, RedisError, Value};

/// Host and port of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Name or IP address, without brackets.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// Reads `host:port` as MOVED and ASK write it; without a host it is that of `asked`.
    fn read(text: &str, asked: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Self::of(host, port.parse().ok()?, asked)
    }

    fn of(host: &str, port: u16, asked: &Self) -> Option<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // `?`: the node knows that the other one has a name, and not which.
        let host = match host {
            "?" => return None,
            "" => asked.host.clone(),
            host => host.into(),
        };
        Some(Self { host, port })
    }
}

/// Who has which slot, as one node knew it and as refusals have corrected it since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots(HashMap<Slot, Address>);

impl Slots {
    /// Reads the answer of `asked` to `CLUSTER SLOTS`. What cannot be read is left out: a refusal
    /// will tell.
    #[must_use]
    pub fn read(answer: &Value, asked: &Address) -> Self {
        let mut slots = HashMap::new();
        for range in array(answer) {
            let [first, last, master, ..] = array(range) else {
                continue;
            };
            let (Some(first), Some(last), [host, port, ..]) =
                (number(first), number(last), array(master))
            else {
                continue;
            };
            let host = match host {
                Value::BulkString(host) => std::str::from_utf8(host).unwrap_or("?"),
                Value::SimpleString(host) => host,
                _ => "",
            };
            let Some(address) = number(port).and_then(|port| Address::of(host, port, asked)) else {
                continue;
            };
            let range = (first..=last).filter_map(Slot::new);
            slots.extend(range.map(|slot| (slot, address.clone())));
        }
        Self(slots)
    }

    /// Who has this key; `None`: nobody that we know of.
    #[must_use]
    pub fn of_key(&self, key: &[u8]) -> Option<&Address> {
        self.0.get(&Slot::for_key(key))
    }

    /// Every node that has a slot.
    #[must_use]
    pub fn masters(&self) -> BTreeSet<Address> {
        self.0.values().cloned().collect()
    }

    /// A node said who has this slot now.
    pub fn correct(&mut self, slot: u16, address: Address) {
        if let Some(slot) = Slot::new(slot) {
            self.0.insert(slot, address);
        }
    }
}

/// What to do with a command that was not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send it there; the slot lives there from now on.
    Moved {
        /// The slot.
        slot: u16,
        /// Where.
        to: Address,
    },
    /// Send it there this time, behind `ASKING`: its slot is on the way.
    Ask {
        /// Where.
        to: Address,
    },
    /// Send it again in a moment: some of its keys are here and some there.
    Again,
}

impl Step {
    /// What `asked` tells us with `error`; `None`: nothing that can be done at once.
    #[must_use]
    pub fn after(error: &RedisError, asked: &Address) -> Option<Self> {
        let redirect = || {
            let (address, slot) = error.redirect_node()?;
            Some((slot, Address::read(address, asked)?))
        };
        match error.code()? {
            "MOVED" => redirect().map(|(slot, to)| Self::Moved { slot, to }),
            "ASK" => redirect().map(|(_, to)| Self::Ask { to }),
            "TRYAGAIN" => Some(Self::Again),
            _ => None,
        }
    }
}

/// The key that decides where a command goes; `None`: it has none, and any node will do. Of the
/// commands of this program, all keys are in one slot.
#[must_use]
pub fn key_of(command: &Cmd) -> Option<&[u8]> {
    let mut words = command.args_iter().filter_map(|word| match word {
        Arg::Simple(word) => Some(word),
        _ => None,
    });
    let name = words.next()?.to_ascii_uppercase();
    match name.as_slice() {
        b"PING" | b"TIME" | b"INFO" | b"SCAN" | b"CLUSTER" | b"CONFIG" | b"ACL" => None,
        b"XGROUP" | b"XINFO" => words.nth(1),
        b"EVAL" => words.nth(2),
        b"XREADGROUP" => {
            words.find(|word| word.eq_ignore_ascii_case(b"STREAMS"))?;
            words.next()
        }
        _ => words.next(),
    }
}

fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use redis::cmd;

    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address {
            host: host.into(),
            port,
        }
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), text("40-hex")]);
        let replica = Value::Array(vec![text("10.0.0.9"), Value::Int(6_399), text("40-hex")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node, replica])
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn error(reply: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{reply}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn every_key_has_the_master_of_its_slot() {
        let answer = Value::Array(vec![
            range(0, 5_460, text("10.0.0.1"), 6_379),
            range(5_461, 10_922, text("fe80::1"), 6_380),
            range(10_923, 16_383, Value::Nil, 6_381),
            Value::Int(3),
        ]);
        let asked = address("redis.example", 6_379);
        let mut slots = Slots::read(&answer, &asked);
        // Slots as CRC-16/XMODEM in Python tells them.
        for (key, slot, host) in [
            ("contract", 5_161, "10.0.0.1"),
            ("telemetry:teltonika", 1_830, "10.0.0.1"),
            ("telemetry:teltonika:1", 7_379, "fe80::1"),
            ("telemetry:teltonika:3", 15_505, "redis.example"),
            ("connections:registry", 1_337, "10.0.0.1"),
            ("{connections:registry}:epoch", 1_337, "10.0.0.1"),
        ] {
            let at = Slot::for_key(key);
            assert_eq!(Slot::new(slot), Some(at), "{key}");
            let found = slots.of_key(key.as_bytes()).unwrap();
            assert_eq!(&*found.host, host, "{key}");
        }
        assert_eq!(slots.masters().len(), 3);
        slots.correct(1_830, address("10.0.0.7", 1));
        let found = slots.of_key(b"telemetry:teltonika").unwrap();
        assert_eq!(found, &address("10.0.0.7", 1));
        assert_eq!(slots.masters().len(), 4);
        slots.correct(16_384, asked);
        assert_eq!(slots.masters().len(), 4, "there is no such slot");
    }

    #[test]
    fn a_refusal_says_where_to_go() {
        let asked = address("10.0.0.1", 6_379);
        let after = |reply: &str| Step::after(&error(reply), &asked);
        let moved = |host, port| {
            let to = address(host, port);
            Some(Step::Moved { slot: 3_999, to })
        };
        assert_eq!(after("MOVED 3999 10.0.0.2:6381"), moved("10.0.0.2", 6_381));
        assert_eq!(after("MOVED 3999 :6381"), moved("10.0.0.1", 6_381));
        assert_eq!(after("MOVED 3999 fe80::1:6381"), moved("fe80::1", 6_381));
        assert_eq!(after("MOVED 3999 ?:6381"), None);
        let to = address("node-b.example", 6_381);
        let ask = after("ASK 3999 node-b.example:6381");
        assert_eq!(ask, Some(Step::Ask { to }));
        let again = after("TRYAGAIN Multiple keys request during rehashing of slot");
        assert_eq!(again, Some(Step::Again));
        for other in [
            "CLUSTERDOWN Hash slot not served",
            "UNBLOCKED the stream key no longer exists",
            "NOGROUP No such key",
            "MASTERDOWN Link with MASTER is down",
            "OOM command not allowed when used memory > 'maxmemory'.",
        ] {
            assert_eq!(after(other), None, "{other}");
        }
        let broken = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(Step::after(&broken, &asked), None);
    }

    #[test]
    fn a_command_goes_where_its_key_is() {
        let key = |words: &[&str]| {
            let mut command = cmd(words[0]);
            command.arg(&words[1..]);
            key_of(&command).map(|key| String::from_utf8(key.to_vec()).unwrap())
        };
        for words in [
            &["XACK", "s", "g", "1-1"][..],
            &["xpending", "s", "g"],
            &["XRANGE", "s", "-", "+"],
            &["XCLAIM", "s", "g", "c", "0", "1-1"],
            &["XTRIM", "s", "MINID", "~", "1"],
            &["XADD", "s", "*", "f", "v"],
            &["XINFO", "GROUPS", "s"],
            &["XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"],
            &[
                "XREADGROUP",
                "GROUP",
                "g",
                "c",
                "BLOCK",
                "1",
                "STREAMS",
                "s",
                ">",
            ],
            &["EVAL", "return 1", "2", "s", "{s}:epoch", "x"],
            &["HSET", "s", "f", "v"],
            &["HSCAN", "s", "0"],
        ] {
            assert_eq!(key(words).as_deref(), Some("s"), "{words:?}");
        }
        for words in [
            &["TIME"][..],
            &["SCAN", "0"],
            &["INFO", "memory"],
            &["PING"],
        ] {
            assert_eq!(key(words), None, "{words:?}");
        }
    }
}
