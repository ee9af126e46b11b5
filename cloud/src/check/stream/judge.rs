//! Pure: no I/O, no clock.
//!
//! What was seen of the streams, judged.
//!
//! Invariant: a loss is told before its cause is guessed at, and what nobody reads before what has
//! not arrived.

use contract::version::{ENTRY_VERSIONS_READ, VersionsRead};

use crate::batch::StreamId;
use crate::check::Look;
use crate::config::StreamConfig;
use crate::explain::stream as pages;
use crate::stream::GroupState;
use crate::stream::loss::{Counts, Trims};

/// A consumer that asked for nothing for longer is not reading: a read waits one second.
const SILENT_MS: u64 = 60_000;

/// Ours stands still when another stream is this much newer.
const STILL_MS: u64 = 60_000;

/// What came to another stream so lately is on its way now.
const LATELY_MS: u64 = 3_600_000;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Field `reads` of the contract.
    pub(super) contract: Option<String>,
    /// The clock of Redis.
    pub(super) now_ms: u64,
    /// Those that are read.
    pub(super) streams: Vec<StreamFacts>,
    /// Those with entries that are not.
    pub(super) others: Vec<Other>,
    /// With a heartbeat.
    pub(super) gateways: Vec<String>,
}

/// What lies under the name of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Stream,
    Missing,
    Foreign,
}

/// One stream that is read.
#[derive(Debug, Default)]
pub(super) struct StreamFacts {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Items ever added.
    pub(super) added: u64,
    pub(super) length: u64,
    pub(super) first: Option<StreamId>,
    /// At a second look; `None`: not looked again, or empty by then.
    pub(super) first_later: Option<StreamId>,
    /// Newest id ever.
    pub(super) newest: Option<StreamId>,
    /// Newest id that was deleted one by one.
    pub(super) deleted: Option<StreamId>,
    /// Field `v` of the newest entry.
    pub(super) newest_version: Option<String>,
    pub(super) group: Option<GroupState>,
    pub(super) oldest_pending: Option<StreamId>,
    pub(super) consumers: Vec<Consumer>,
}

/// One consumer of the group.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) pending: u64,
    pub(super) idle_ms: u64,
}

/// A stream that is not read.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) newest_ms: u64,
}

const NOTHING: StreamId = StreamId::at_ms(0);

impl StreamFacts {
    /// Something was removed, and what is left is younger than anything we would remove.
    pub(super) fn is_trimmed_young(&self, keep_from_ms: u64) -> bool {
        self.added > self.length && self.first.is_some_and(|first| first.ms() > keep_from_ms)
    }

    /// As the group stands; one that has read nothing has read nought.
    fn counts(&self, group: &GroupState) -> Counts {
        let read = group.entries_read;
        Counts {
            added: self.added,
            length: self.length,
            first: self.first,
            read: read.or((group.last_delivered == NOTHING).then_some(0)),
            last_delivered: group.last_delivered,
        }
    }
}

pub(super) fn judge(facts: &Facts, config: &StreamConfig, look: &mut Look) {
    contract(facts.contract.as_deref(), look);
    for stream in &facts.streams {
        one(stream, config, look);
    }
    arrivals(facts, look);
}

fn contract(reads: Option<&str>, look: &mut Look) {
    let ours = VersionsRead::ours();
    match reads {
        None => look.bad(
            &pages::NO_CONTRACT,
            "the hash contract is not there",
            "start `cloud run`, which publishes it",
        ),
        Some(reads) if VersionsRead::parse(reads).as_ref() == Some(&ours) => {
            look.good(format!("contract published: entries of version {ours} are read"));
        }
        Some(reads) => look.bad(
            &pages::OTHER_CONTRACT,
            format!("contract says that entries of version {reads} are read, and this program reads {ours}"),
            "run one version of the cloud everywhere, the newest",
        ),
    }
}

fn one(stream: &StreamFacts, config: &StreamConfig, look: &mut Look) {
    let (name, group) = (&stream.name, &config.group);
    match stream.kind {
        Kind::Missing => {
            look.good(format!(
                "{name} is not there yet; it comes with its first entry"
            ));
            return;
        }
        Kind::Foreign => {
            look.bad(
                &pages::NO_STREAM,
                format!("{name} is no stream"),
                "rename that key, or set stream.name here and uplink.stream at the gateways",
            );
            return;
        }
        Kind::Stream => {}
    }
    let version = stream.newest_version.as_deref();
    if let Some(newer) = version.filter(|text| {
        let number: Option<u32> = text.parse().ok();
        number.is_some_and(|number| number > *ENTRY_VERSIONS_READ.end())
    }) {
        look.bad(
            &pages::NEWER,
            format!(
                "the newest entry of {name} is of version {newer}, and this program reads up to {}",
                ENTRY_VERSIONS_READ.end()
            ),
            "update this processor; the entries wait",
        );
    }
    let Some(state) = &stream.group else {
        look.bad(
            &pages::NO_GROUP,
            format!("{name} has {} entries and no group {group}", stream.length),
            "start `cloud run`, which creates it at 0",
        );
        return;
    };
    let before = look.findings.len();
    losses(stream, state, config, look);
    readers(stream, state, config, look);
    if look.findings.len() == before {
        let lag = state
            .lag
            .map_or_else(|| "unknown".to_owned(), |lag| lag.to_string());
        look.good(format!(
            "{name}, group {group}: lag {lag}, pending {}",
            state.pending
        ));
    }
}

fn losses(stream: &StreamFacts, state: &GroupState, config: &StreamConfig, look: &mut Look) {
    let (name, group) = (&stream.name, &config.group);
    let is_behind = stream
        .first
        .is_some_and(|first| first <= state.last_delivered);
    let was_set = state.entries_read.is_none() && state.last_delivered > NOTHING;
    if was_set && is_behind && stream.deleted.is_none_or(|deleted| deleted == NOTHING) {
        look.bad(
            &pages::SKIPPED,
            format!(
                "group {group} of {name} stands at {}, and has read nothing before it",
                state.last_delivered
            ),
            format!("XGROUP SETID {name} {group} 0"),
        );
    }
    let counts = stream.counts(state);
    let lost = counts
        .added
        .saturating_sub(counts.length)
        .saturating_sub(counts.read.unwrap_or(u64::MAX));
    let ahead = Trims::default().look(&counts);
    if ahead > 0 {
        look.bad(
            &pages::TRIM_LOSS,
            format!("{ahead} entries of {name} were trimmed before group {group} read them"),
            "find who writes with MAXLEN or runs XTRIM or XDEL, and stop it; gateways send again",
        );
    } else if lost > 0 {
        look.bad(
            &pages::OLD_LOSS,
            format!("{lost} entries of {name} were trimmed before group {group} read them, some time ago"),
            "see that nobody uses MAXLEN or XTRIM; gateways have sent again what they kept",
        );
    }
    let pending_gone = stream
        .oldest_pending
        .filter(|pending| stream.first.is_none_or(|first| first > *pending));
    if let Some(pending) = pending_gone {
        look.bad(
            &pages::TRIMMED,
            format!("entry {pending} of {name} is pending and gone"),
            "find who writes with MAXLEN or runs XTRIM or XDEL, and stop it",
        );
    } else if let (Some(first), Some(later)) = (stream.first, stream.first_later)
        && later > first
    {
        look.bad(
            &pages::TRIMMED,
            format!(
                "entry {first} of {name} vanished while we looked, although stream.keep is {:?}",
                config.keep
            ),
            "find who writes with MAXLEN or runs XTRIM, and stop it",
        );
    }
}

fn readers(stream: &StreamFacts, state: &GroupState, config: &StreamConfig, look: &mut Look) {
    let (name, group) = (&stream.name, &config.group);
    let patience = 2 * u64::try_from(config.claim_after.as_millis()).unwrap_or(u64::MAX / 2);
    for consumer in &stream.consumers {
        if consumer.pending > 0 && consumer.idle_ms > patience {
            look.bad(
                &pages::LEFT,
                format!(
                    "{} entries of {name} lie with {}, silent for {} s",
                    consumer.pending,
                    consumer.name,
                    consumer.idle_ms / 1_000
                ),
                "start a processor: it takes them over after stream.claim_after",
            );
        }
    }
    let waits = match state.lag {
        Some(lag) => lag > 0,
        None => stream
            .newest
            .is_some_and(|newest| newest > state.last_delivered),
    };
    if waits && stream.consumers.iter().all(|it| it.idle_ms > SILENT_MS) {
        let lag = state
            .lag
            .map_or_else(|| "some".to_owned(), |lag| lag.to_string());
        look.bad(
            &pages::NOBODY,
            format!("{lag} entries of {name} wait, and nobody reads as group {group}"),
            "start `cloud run`, or see its log",
        );
    }
}

/// Does anything arrive where we read?
fn arrivals(facts: &Facts, look: &mut Look) {
    let newest = facts.streams.iter().filter_map(|stream| stream.newest);
    let ours_ms = newest.map(StreamId::ms).max().unwrap_or(0);
    let names = || {
        let names: Vec<&str> = facts.streams.iter().map(|it| it.name.as_str()).collect();
        names.join(", ")
    };
    for other in &facts.others {
        let Other {
            name,
            length,
            newest_ms,
        } = other;
        let is_lately = newest_ms.saturating_add(LATELY_MS) > facts.now_ms;
        if is_lately && *newest_ms > ours_ms.saturating_add(STILL_MS) {
            let gateways = match facts.gateways.as_slice() {
                [] => String::new(),
                alive => format!("; alive: {}", alive.join(", ")),
            };
            look.bad(
                &pages::DRIFT,
                format!("entries arrive in {name}, and none in {}{gateways}", names()),
                format!("set stream.name to {name}, or uplink.stream at the gateways (REDIS_TELEMETRY_STREAM is both)"),
            );
        } else {
            look.bad(
                &pages::UNREAD,
                format!("{name} has {length} entries and is not read here"),
                "add it to stream.names or set stream.pattern, or delete it",
            );
        }
    }
    let has_any = facts.streams.iter().any(|stream| stream.added > 0);
    if !facts.gateways.is_empty() && !has_any && facts.others.is_empty() {
        look.bad(
            &pages::NOTHING_COMES,
            format!(
                "{} is alive, and {} has never had an entry",
                facts.gateways.join(", "),
                names()
            ),
            "see `gateway status` whether trackers send, and uplink.stream",
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Config, ENV_PREFIX, KEYS};

    fn config() -> StreamConfig {
        let settings = settings::Settings::read(KEYS, ENV_PREFIX, None, []).unwrap();
        Config::new(&settings, "box").unwrap().stream
    }

    /// A stream of `added` entries, ids from 1 s on, of which the last `length` are there, read to
    /// `read`.
    fn stream(added: u64, length: u64, read: u64) -> StreamFacts {
        let at = |number: u64| StreamId::at_ms(number * 1_000);
        StreamFacts {
            name: "telemetry:teltonika".to_owned(),
            added,
            length,
            first: (length > 0).then(|| at(added - length + 1)),
            newest: Some(at(added)),
            group: Some(GroupState {
                name: "processor".to_owned(),
                lag: Some(added - read),
                pending: 0,
                last_delivered: at(read),
                entries_read: Some(read),
            }),
            consumers: vec![Consumer {
                name: "box-0".to_owned(),
                pending: 0,
                idle_ms: 10,
            }],
            ..StreamFacts::default()
        }
    }

    fn codes(change: impl FnOnce(&mut Facts)) -> Vec<&'static str> {
        let mut facts = Facts {
            contract: Some(VersionsRead::ours().to_string()),
            now_ms: 10_000_000,
            streams: vec![stream(10, 4, 8)],
            ..Facts::default()
        };
        change(&mut facts);
        let mut look = Look::new("stream");
        judge(&facts, &config(), &mut look);
        look.codes()
    }

    #[test]
    fn a_stream_that_is_read_and_trimmed_by_us_is_good() {
        assert!(codes(|_| ()).is_empty());
        let empty = codes(|facts| facts.streams[0].kind = Kind::Missing);
        assert!(empty.is_empty());
    }

    #[test]
    fn what_may_be_wrong_with_a_stream() {
        type Change = fn(&mut StreamFacts);
        let rows: &[(&str, Change)] = &[
            ("E-STR-002", |it| it.newest_version = Some("3".to_owned())),
            ("E-STR-003", |it| it.kind = Kind::Foreign),
            ("W-STR-102", |it| it.group = None),
            ("E-STR-004", |it| {
                it.group.as_mut().unwrap().entries_read = None
            }),
            ("E-STR-005", |it| *it = stream(10, 1, 5)),
            // Nothing was ever read, so Redis has no number for it.
            ("E-STR-005", |it| {
                *it = stream(10, 4, 0);
                it.group.as_mut().unwrap().entries_read = None;
            }),
            ("W-STR-103", |it| {
                it.group.as_mut().unwrap().entries_read = Some(3);
            }),
            ("E-STR-006", |it| {
                it.oldest_pending = Some(StreamId::at_ms(1))
            }),
            ("E-STR-006", |it| {
                it.first_later = Some(StreamId::at_ms(8_000))
            }),
            ("W-STR-106", |it| {
                (it.consumers[0].pending, it.consumers[0].idle_ms) = (2, 121_000);
                it.group.as_mut().unwrap().lag = Some(0);
            }),
            ("W-STR-107", |it| it.consumers.clear()),
            ("W-STR-107", |it| {
                it.consumers[0].idle_ms = 61_000;
                it.group.as_mut().unwrap().lag = None;
            }),
        ];
        for (number, (code, change)) in rows.iter().enumerate() {
            let found = codes(|facts| change(&mut facts.streams[0]));
            assert_eq!(found, [*code], "row {number}");
        }
    }

    #[test]
    fn deleted_entries_make_the_count_unknown_and_no_alarm() {
        let found = codes(|facts| {
            facts.streams[0].group.as_mut().unwrap().entries_read = None;
            facts.streams[0].deleted = Some(StreamId::at_ms(7_500));
        });
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn only_a_second_look_at_what_is_young_tells_who_trims() {
        assert!(stream(10, 4, 8).is_trimmed_young(6_999));
        assert!(!stream(10, 4, 8).is_trimmed_young(7_000));
        assert!(!stream(10, 10, 8).is_trimmed_young(0));
    }

    #[test]
    fn the_contract_is_compared() {
        assert_eq!(codes(|facts| facts.contract = None), ["W-STR-101"]);
        for other in ["1-1", "3-4", "no hash"] {
            let found = codes(|facts| facts.contract = Some(other.to_owned()));
            assert_eq!(found, ["E-STR-001"], "{other}");
        }
    }

    #[test]
    fn a_name_that_drifted_is_told_by_what_grows() {
        let other = |newest_ms| Other {
            name: "telemetry:t".to_owned(),
            length: 7,
            newest_ms,
        };
        // Ours got its newest entry at 10 s.
        for (newest_ms, code) in [
            (9_990_000, "E-STR-007"),
            (60_000, "W-STR-104"),
            (6_000_000, "W-STR-104"),
        ] {
            let found = codes(|facts| facts.others = vec![other(newest_ms)]);
            assert_eq!(found, [code], "{newest_ms}");
        }
        let silent = codes(|facts| {
            facts.streams = vec![StreamFacts {
                kind: Kind::Missing,
                ..StreamFacts::default()
            }];
            facts.gateways = vec!["gw-1".to_owned()];
        });
        assert_eq!(silent, ["W-STR-105"]);
    }
}
