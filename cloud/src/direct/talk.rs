//! Pure: no I/O, no clock.
//!
//! What a gateway may say here, and how what it asks is worded in an answer.
//!
//! Why so little: the uplink appends entries, asks what is settled, and asks whether anything is left
//! to do. Whoever asks for more took us for a Redis, and is told so.

use contract::{GatewayId, SpoolId, direct, keys, version};

use super::resp::{Reply, Words};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The greeting.
    Greet(Vec<u8>),
    /// Something every client says and we have no use for: who it is, a sign of life.
    Chat,
    /// What stands in the hash `contract` under these names.
    Contract {
        /// Names of fields.
        fields: Vec<String>,
        /// One name and no list.
        single: bool,
    },
    /// What is settled of these spools.
    Floor {
        /// Whose.
        gateway: GatewayId,
        /// Openings; `None` for what is no id of one.
        spools: Vec<Option<SpoolId>>,
    },
    /// An entry.
    Add {
        /// Where it would stand in Redis.
        stream: String,
        /// Names and values.
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// Is there anything left to do?
    Standing,
    /// We are no Redis.
    Unknown(String),
}

impl Request {
    /// Understands the words of one request.
    #[must_use]
    pub fn read(words: Words) -> Self {
        let text = |at: usize| words.get(at).map(|word| String::from_utf8_lossy(word));
        let verb = text(0).unwrap_or_default().to_ascii_uppercase();
        let about = text(1).unwrap_or_default().into_owned();
        let names = || words[2..].iter().map(|word| String::from_utf8_lossy(word));
        match (verb.as_str(), words.len()) {
            ("AUTH", 2 | 3) => Self::Greet(words[words.len() - 1].clone()),
            ("CLIENT" | "PING", _) => Self::Chat,
            ("SET", 3..) if about.starts_with(HEARTBEAT) => Self::Chat,
            ("HGET" | "HMGET", 3..) if about == keys::CONTRACT => Self::Contract {
                fields: names().map(Into::into).collect(),
                single: verb == "HGET",
            },
            ("HMGET", 3..) => match about.strip_prefix(FLOOR).map(str::parse) {
                Some(Ok(gateway)) => Self::Floor {
                    gateway,
                    spools: names().map(|name| name.parse().ok()).collect(),
                },
                _ => Self::Unknown(verb),
            },
            ("XINFO", 3) if about.eq_ignore_ascii_case("GROUPS") => Self::Standing,
            ("XADD", 5..) if words.len() % 2 == 1 && words[2] == b"*" => {
                let mut rest = words.into_iter().skip(3);
                let mut fields = Vec::new();
                while let (Some(name), Some(value)) = (rest.next(), rest.next()) {
                    fields.push((name, value));
                }
                Self::Add {
                    stream: about,
                    fields,
                }
            }
            _ => Self::Unknown(verb),
        }
    }
}

/// Beginnings of the keys that [`keys::heartbeat`] and [`keys::floor`] make; a test compares.
const HEARTBEAT: &str = "instance:heartbeat:";
const FLOOR: &str = "floor:";

/// Does the greeting fit?
#[must_use]
pub fn greeted(word: &[u8]) -> Reply {
    if word == direct::GREETING.as_bytes() {
        Reply::Okay
    } else {
        let greeting = direct::GREETING;
        Reply::Refused(format!(
            "WRONGPASS this is a cloud that takes entries itself and no Redis: a gateway whose uplink.url begins with unix: greets it with {greeting}"
        ))
    }
}

/// Before the greeting.
#[must_use]
pub fn not_greeted() -> Reply {
    let scheme = direct::SCHEME;
    Reply::Refused(format!(
        "NOAUTH this is a cloud that takes entries itself and no Redis: write {scheme}/path in uplink.url of a gateway"
    ))
}

/// Anything beyond what is spoken here.
#[must_use]
pub fn unknown(verb: &str) -> Reply {
    let verb: String = verb.chars().take(40).collect();
    Reply::Refused(format!(
        "ERR unknown command '{verb}': this is a cloud that takes entries itself and no Redis"
    ))
}

/// A field of the hash `contract`, as it stands in Redis. `holder` names this process.
#[must_use]
pub fn contract(field: &str, holder: &str) -> Reply {
    match field {
        version::FIELD_READS => Reply::Text(version::VersionsRead::ours().to_string()),
        direct::FIELD_HOLDER => Reply::Text(holder.to_owned()),
        _ => Reply::Nothing,
    }
}

/// The group of processors, as `XINFO GROUPS` tells it: everything was read, `pending` is not
/// committed yet.
#[must_use]
pub fn standing(pending: u64) -> Reply {
    let text = |word: &str| Reply::Text(word.to_owned());
    Reply::List(vec![Reply::List(vec![
        text("name"),
        text(keys::GROUP_PROCESSOR),
        text("pending"),
        Reply::Number(pending),
        text("lag"),
        Reply::Number(0),
    ])])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use redis::streams::StreamInfoGroupsReply;
    use redis::{FromRedisValue as _, parse_redis_value};

    use super::*;

    fn read(text: &str) -> Request {
        Request::read(
            text.split(' ')
                .map(|word| word.as_bytes().to_vec())
                .collect(),
        )
    }

    #[test]
    fn what_an_uplink_says_is_understood() {
        let gateway: GatewayId = "depot-1".parse().unwrap();
        assert_eq!(keys::heartbeat(&gateway), format!("{HEARTBEAT}{gateway}"));
        assert_eq!(keys::floor(&gateway), format!("{FLOOR}{gateway}"));
        let spool = SpoolId::from_u64(0xabc).unwrap();
        assert_eq!(read("AUTH word"), Request::Greet(b"word".to_vec()));
        assert_eq!(read("AUTH user word"), Request::Greet(b"word".to_vec()));
        assert_eq!(read("CLIENT SETINFO LIB-NAME x"), Request::Chat);
        assert_eq!(
            read("SET instance:heartbeat:depot-1 5 EX 90"),
            Request::Chat
        );
        assert_eq!(
            read("hget contract reads"),
            Request::Contract {
                fields: vec!["reads".into()],
                single: true
            }
        );
        assert_eq!(
            read(&format!("HMGET floor:depot-1 {spool} nonsense")),
            Request::Floor {
                gateway,
                spools: vec![Some(spool), None]
            }
        );
        assert_eq!(
            read("XADD telemetry:teltonika * v 1 k teltonika"),
            Request::Add {
                stream: "telemetry:teltonika".into(),
                fields: vec![
                    (b"v".to_vec(), b"1".to_vec()),
                    (b"k".to_vec(), b"teltonika".to_vec())
                ],
            }
        );
        assert_eq!(read("XINFO GROUPS telemetry:teltonika"), Request::Standing);
    }

    #[test]
    fn whoever_wants_a_redis_is_told_that_this_is_none() {
        for said in [
            "",
            "AUTH",
            "GET x",
            "SET x 5",
            "HMGET floor:depot-1",
            "HMGET floor:Not!an!id 1",
            "XADD s * a",
            "XADD s 5-0 a b",
            "XREADGROUP GROUP gateway x",
            "EVALSHA 1",
        ] {
            let verb = said.split(' ').next().unwrap();
            assert_eq!(read(said), Request::Unknown(verb.to_owned()), "{said}");
        }
    }

    #[test]
    fn the_client_reads_the_standing_as_that_of_a_group() {
        let of = |pending| {
            let mut out = Vec::new();
            standing(pending).write(&mut out);
            let value = parse_redis_value(&out).unwrap();
            let groups = StreamInfoGroupsReply::from_redis_value(value).unwrap();
            let group = &groups.groups[0];
            (group.name.clone(), group.pending, group.lag)
        };
        assert_eq!(of(3), (keys::GROUP_PROCESSOR.to_owned(), 3, Some(0)));
        assert_eq!(of(0).1, 0);
    }
}
