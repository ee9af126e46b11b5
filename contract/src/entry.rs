//! The telemetry entry: one stream item, one batch of envelopes from one spool.
//!
//! Why the bookkeeping stands beside the payload and not inside: the cloud must know whose
//! positions an entry covers even when the payload cannot be read.
//!
//! Invariants: `a <= z`, at most [`ENVELOPES_MAX`] apart; an entry that does not hold every position
//! of them is of version 2 and names those it holds, so that no reader takes others for its own; an
//! entry of a newer version is recognised before anything else in it is judged.

use std::fmt;

use thiserror::Error;

use crate::envelope::{Coding, ENVELOPES_MAX, Envelope, Payload, PayloadError};
use crate::id::{GatewayId, IdError, SpoolId, SpoolSeq};
use crate::kind::Kind;
use crate::ledger::{self, Gap, GapError};
use crate::settled::{SettledError, SettledRanges};
use crate::version::{ENTRY_VERSION_EXACT, ENTRY_VERSION_WRITTEN, ENTRY_VERSIONS_READ};

/// Names of the fields of an entry, in the order they are written.
pub mod field {
    /// Version of the entry.
    pub const VERSION: &str = "v";
    /// Payload kind.
    pub const KIND: &str = "k";
    /// Gateway id.
    pub const GATEWAY: &str = "gw";
    /// Spool id.
    pub const SPOOL: &str = "sp";
    /// First position inside.
    pub const FIRST: &str = "a";
    /// Last position inside.
    pub const LAST: &str = "z";
    /// Exactly the positions inside; only in version 2.
    pub const POSITIONS: &str = "p";
    /// Nothing below this position will ever be sent (again).
    pub const LOW: &str = "low";
    /// Positions that are lost, with reason.
    pub const GAP: &str = "gap";
    /// AVL records inside.
    pub const RECORDS: &str = "n";
    /// Payload coding.
    pub const CODING: &str = "c";
    /// Payload.
    pub const DATA: &str = "d";
}

/// One stream item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the payload holds.
    pub kind: Kind,
    /// Whose spool.
    pub gateway: GatewayId,
    /// Which opening of it.
    pub spool: SpoolId,
    /// First position inside.
    pub first: SpoolSeq,
    /// Last position inside.
    pub last: SpoolSeq,
    /// Exactly the positions inside, where other entries hold some of those between: `first` is
    /// its lowest, `last` its highest. `None`: every position from `first` to `last` is inside.
    pub exact: Option<SettledRanges>,
    /// Nothing below this will ever be sent (again).
    pub low: SpoolSeq,
    /// Positions lost since the last entry that said so.
    pub gaps: Vec<Gap>,
    /// AVL records inside.
    pub records: u64,
    /// How `data` is coded.
    pub coding: Coding,
    /// The payload: see [`crate::envelope::Payload`].
    pub data: Vec<u8>,
}

/// Why a stream item is not an entry we can read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// Leave it pending for a newer reader and raise an alarm.
    #[error("entry version {version} is newer than this reader, which knows {}-{}", ENTRY_VERSIONS_READ.start(), ENTRY_VERSIONS_READ.end())]
    Newer {
        /// Field `v`.
        version: u32,
    },
    /// A field is not there.
    #[error("entry has no field {field:?}")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field does not hold what it should.
    #[error("entry field {field:?} is {found:?}")]
    Bad {
        /// Its name.
        field: &'static str,
        /// The first bytes of it.
        found: String,
    },
    /// `a` and `z` do not make a range of at most 512 positions.
    #[error("entry claims the positions {first} to {last}")]
    Range {
        /// Field `a`.
        first: SpoolSeq,
        /// Field `z`.
        last: SpoolSeq,
    },
    /// Field `p` is unreadable.
    #[error("entry field \"p\" is unreadable")]
    Positions(#[from] SettledError),
    /// Field `p` does not begin at `a` or does not end at `z`.
    #[error("entry names the positions {positions}, and {first} to {last} as its first and last")]
    Ends {
        /// Field `p`.
        positions: String,
        /// Field `a`.
        first: SpoolSeq,
        /// Field `z`.
        last: SpoolSeq,
    },
    /// Gateway, spool or position is no such thing.
    #[error("entry field {field:?} is no id")]
    Id {
        /// Its name.
        field: &'static str,
        /// Why.
        #[source]
        source: IdError,
    },
    /// Field `gap` is unreadable.
    #[error("entry field \"gap\" is unreadable")]
    Gap(#[from] GapError),
}

impl EntryError {
    /// Should a newer reader have it (leave it pending), or can nobody read it (dead letter)?
    #[must_use]
    pub fn is_for_a_newer_reader(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }
}

impl Entry {
    /// The entry of envelopes that are neighbours in one spool, in their order: what a gateway sends
    /// when nothing is missing between them. Nothing is said to be settled yet (`low` is 1).
    /// # Errors
    /// [`PayloadError::Empty`] without envelopes; otherwise as [`Payload::pack`].
    pub fn of_neighbours(
        gateway: GatewayId,
        spool: SpoolId,
        envelopes: &[Envelope<'_>],
        coding: Coding,
    ) -> Result<Self, PayloadError> {
        let (Some(first), Some(last)) = (envelopes.first(), envelopes.last()) else {
            return Err(PayloadError::Empty);
        };
        Ok(Self {
            kind: Kind::Teltonika,
            gateway,
            spool,
            first: first.seq,
            last: last.seq,
            exact: None,
            low: SpoolSeq::FIRST,
            gaps: Vec::new(),
            records: envelopes.iter().map(|e| u64::from(e.record_count)).sum(),
            data: Payload::pack(envelopes, &coding)?,
            coding,
        })
    }

    /// Exactly the positions inside.
    #[must_use]
    pub fn positions(&self) -> SettledRanges {
        self.exact.clone().unwrap_or_else(|| {
            let mut whole = SettledRanges::new();
            whole.insert(self.first.get(), self.last.get());
            whole
        })
    }

    /// The fields as they go to `XADD`, in wire order.
    #[must_use]
    pub fn to_fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let text = |value: &dyn fmt::Display| value.to_string().into_bytes();
        let version = match self.exact {
            Some(_) => ENTRY_VERSION_EXACT,
            None => ENTRY_VERSION_WRITTEN,
        };
        let mut fields = vec![
            (field::VERSION, text(&version)),
            (field::KIND, text(&self.kind.as_str())),
            (field::GATEWAY, text(&self.gateway)),
            (field::SPOOL, text(&self.spool)),
            (field::FIRST, text(&self.first)),
            (field::LAST, text(&self.last)),
        ];
        if let Some(exact) = &self.exact {
            fields.push((field::POSITIONS, exact.to_full_text().into_bytes()));
        }
        fields.push((field::LOW, text(&self.low)));
        if !self.gaps.is_empty() {
            fields.push((field::GAP, ledger::gaps_to_text(&self.gaps).into_bytes()));
        }
        fields.extend([
            (field::RECORDS, text(&self.records)),
            (field::CODING, text(&self.coding)),
            (field::DATA, self.data.clone()),
        ]);
        fields
    }

    /// Reads the fields of a stream item. Fields we do not know are left alone.
    /// # Errors
    /// [`EntryError::Newer`] before any other judgement; otherwise the first thing that is wrong.
    pub fn from_fields<'a>(
        fields: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, EntryError> {
        let fields: Vec<(&str, &[u8])> = fields.into_iter().collect();
        let fields = Fields(&fields);
        let version: u64 = fields.number(field::VERSION)?;
        let version = u32::try_from(version).unwrap_or(u32::MAX);
        if version > *ENTRY_VERSIONS_READ.end() {
            return Err(EntryError::Newer { version });
        }
        if !ENTRY_VERSIONS_READ.contains(&version) {
            return Err(fields.bad(field::VERSION));
        }
        let entry = Self {
            kind: Kind::from_word(fields.text(field::KIND)?),
            gateway: fields.id(field::GATEWAY)?,
            spool: fields.id(field::SPOOL)?,
            first: fields.id(field::FIRST)?,
            last: fields.id(field::LAST)?,
            exact: match version {
                ENTRY_VERSION_EXACT => Some(SettledRanges::parse(fields.text(field::POSITIONS)?)?),
                _ => None,
            },
            low: fields.id(field::LOW)?,
            gaps: match fields.get(field::GAP) {
                Some(_) => ledger::gaps_from_text(fields.text(field::GAP)?)?,
                None => Vec::new(),
            },
            records: fields
                .number(field::RECORDS)
                .ok()
                .filter(|n| *n <= ledger::RECORDS_MAX)
                .ok_or_else(|| match fields.get(field::RECORDS) {
                    Some(_) => fields.bad(field::RECORDS),
                    None => EntryError::Missing {
                        field: field::RECORDS,
                    },
                })?,
            coding: Coding::from_word(fields.text(field::CODING)?),
            data: fields.required(field::DATA)?.to_vec(),
        };
        if entry.low > entry.first {
            return Err(fields.bad(field::LOW));
        }
        let span = entry.last.get().checked_sub(entry.first.get());
        if span.is_none_or(|span| span >= ENVELOPES_MAX as u64) {
            return Err(EntryError::Range {
                first: entry.first,
                last: entry.last,
            });
        }
        if let Some(exact) = &entry.exact {
            let lowest = exact.as_slice().first().map(|range| range.0);
            let ends = (lowest, exact.high_edge());
            if ends != (Some(entry.first.get()), entry.last.get()) {
                return Err(EntryError::Ends {
                    positions: exact.to_string(),
                    first: entry.first,
                    last: entry.last,
                });
            }
        }
        Ok(entry)
    }
}

/// Reading by name, with the name in every error.
struct Fields<'f, 'a>(&'f [(&'a str, &'a [u8])]);

impl<'a> Fields<'_, 'a> {
    fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| *value)
    }

    fn required(&self, field: &'static str) -> Result<&'a [u8], EntryError> {
        if self.0.iter().filter(|(name, _)| *name == field).count() > 1 {
            return Err(self.bad(field));
        }
        self.get(field).ok_or(EntryError::Missing { field })
    }

    fn bad(&self, field: &'static str) -> EntryError {
        let found = self.get(field).unwrap_or_default();
        EntryError::Bad {
            field,
            found: String::from_utf8_lossy(&found[..found.len().min(80)]).into_owned(),
        }
    }

    fn text(&self, field: &'static str) -> Result<&'a str, EntryError> {
        std::str::from_utf8(self.required(field)?).map_err(|_| self.bad(field))
    }

    fn number<T: std::str::FromStr>(&self, field: &'static str) -> Result<T, EntryError> {
        let text = self.text(field)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.ok_or_else(|| self.bad(field))
    }

    fn id<T: std::str::FromStr<Err = IdError>>(
        &self,
        field: &'static str,
    ) -> Result<T, EntryError> {
        let text = self.text(field)?;
        text.parse()
            .map_err(|source| EntryError::Id { field, source })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn entry() -> Entry {
        Entry {
            kind: Kind::Teltonika,
            gateway: GatewayId::new("depot-1").unwrap(),
            spool: SpoolId::from_u64(0xabc).unwrap(),
            first: SpoolSeq::new(5).unwrap(),
            last: SpoolSeq::new(9).unwrap(),
            exact: None,
            low: SpoolSeq::new(3).unwrap(),
            gaps: vec!["1-2:7:dropped".parse().unwrap()],
            records: 12,
            coding: Coding::MsgPackZstd,
            data: vec![1, 2, 255],
        }
    }

    fn scattered() -> Entry {
        Entry {
            exact: Some(SettledRanges::parse("5-6,9-9").unwrap()),
            ..entry()
        }
    }

    fn read(fields: &[(&'static str, Vec<u8>)]) -> Result<Entry, EntryError> {
        Entry::from_fields(fields.iter().map(|(name, value)| (*name, value.as_slice())))
    }

    #[test]
    fn fields_round_trip_in_any_order_with_strangers_between() {
        let mut fields = entry().to_fields();
        assert_eq!(read(&fields).unwrap(), entry());
        fields.reverse();
        fields.insert(0, ("later", b"?".to_vec()));
        assert_eq!(read(&fields).unwrap(), entry());
        let mut fields = scattered().to_fields();
        assert_eq!(read(&fields).unwrap(), scattered());
        fields.reverse();
        assert_eq!(read(&fields).unwrap(), scattered());
    }

    #[test]
    fn an_entry_with_holes_is_none_for_a_reader_of_version_1() {
        let version = |entry: Entry| entry.to_fields().swap_remove(0).1;
        assert_eq!(version(entry()), b"1");
        assert_eq!(version(scattered()), b"2");
        assert!(
            entry()
                .to_fields()
                .iter()
                .all(|(name, _)| *name != field::POSITIONS)
        );
        assert_eq!(entry().positions().to_string(), "5-9");
        assert_eq!(scattered().positions().to_string(), "5-6,9-9");
    }

    #[test]
    fn named_positions_begin_and_end_where_the_entry_does() {
        let with = |text: &str| {
            let swap = |(n, v): (&'static str, Vec<u8>)| match n {
                field::POSITIONS => (n, text.into()),
                _ => (n, v),
            };
            read(
                &scattered()
                    .to_fields()
                    .into_iter()
                    .map(swap)
                    .collect::<Vec<_>>(),
            )
        };
        assert!(with("5-5,9-9").is_ok());
        for text in ["", "6-9", "5-8", "4-9", "5-10", "5-6,9-10", "1-1,5-9"] {
            assert!(
                matches!(with(text), Err(EntryError::Ends { .. })),
                "{text:?}"
            );
        }
        for text in ["9-5", "5", "5-9,7-9"] {
            assert!(
                matches!(with(text), Err(EntryError::Positions(_))),
                "{text:?}"
            );
        }
    }

    proptest! {
        /// Every set of positions that fits an entry comes back exactly, however many runs it has.
        #[test]
        fn any_positions_round_trip(inside in proptest::collection::btree_set(1_u64..=512, 1..300)) {
            let mut exact = SettledRanges::new();
            inside.iter().for_each(|&seq| exact.insert(seq, seq));
            let seq = |number: Option<&u64>| SpoolSeq::new(*number.unwrap()).unwrap();
            let entry = Entry {
                first: seq(inside.first()),
                last: seq(inside.last()),
                low: SpoolSeq::FIRST,
                exact: Some(exact),
                ..entry()
            };
            let again = read(&entry.to_fields()).unwrap();
            for number in 1..=513 {
                let number_inside = again.positions().contains(SpoolSeq::new(number).unwrap());
                prop_assert_eq!(number_inside, inside.contains(&number));
            }
            prop_assert_eq!(again, entry);
        }
    }

    #[test]
    fn every_missing_field_is_named() {
        for (name, _) in scattered().to_fields() {
            let fields: Vec<_> = scattered()
                .to_fields()
                .into_iter()
                .filter(|(n, _)| *n != name)
                .collect();
            if name == field::GAP {
                assert!(read(&fields).unwrap().gaps.is_empty());
            } else {
                assert_eq!(
                    read(&fields),
                    Err(EntryError::Missing { field: name }),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn every_field_that_is_nonsense_is_named() {
        for (name, _) in scattered().to_fields() {
            if matches!(name, field::KIND | field::CODING | field::DATA) {
                continue; // any word is a kind or a coding, any bytes are a payload
            }
            let fields: Vec<_> = scattered()
                .to_fields()
                .into_iter()
                .map(|(n, v)| {
                    if n == name {
                        (n, b"?!\xff".to_vec())
                    } else {
                        (n, v)
                    }
                })
                .collect();
            let error = read(&fields).unwrap_err();
            assert!(
                error.to_string().contains(&format!("{name:?}")),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn a_doubled_field_a_signed_number_and_a_low_above_the_range_are_refused() {
        let mut doubled = entry().to_fields();
        doubled.push((field::FIRST, b"6".to_vec()));
        assert!(matches!(
            read(&doubled),
            Err(EntryError::Bad {
                field: field::FIRST,
                ..
            })
        ));
        for (name, text) in [(field::RECORDS, "+5"), (field::LOW, "6")] {
            let swap =
                |(n, v): (&'static str, Vec<u8>)| if n == name { (n, text.into()) } else { (n, v) };
            let fields: Vec<_> = entry().to_fields().into_iter().map(swap).collect();
            assert!(
                matches!(read(&fields), Err(EntryError::Bad { .. })),
                "{name}"
            );
        }
        let far = [(field::VERSION, b"99999999999".to_vec())];
        assert!(read(&far).unwrap_err().is_for_a_newer_reader());
    }

    #[test]
    fn a_newer_version_wins_over_every_other_fault() {
        let fields = [(field::VERSION, b"3".to_vec())];
        let error = read(&fields).unwrap_err();
        assert!(error.is_for_a_newer_reader());
        assert!(
            !read(&[(field::VERSION, b"0".to_vec())])
                .unwrap_err()
                .is_for_a_newer_reader()
        );
    }

    #[test]
    fn ranges_are_checked() {
        for (first, last) in [(9, 5), (1, 513), (1, crate::id::NUMBER_MAX)] {
            let mut wrong = Entry {
                low: SpoolSeq::FIRST,
                ..entry()
            };
            (wrong.first, wrong.last) =
                (SpoolSeq::new(first).unwrap(), SpoolSeq::new(last).unwrap());
            assert!(
                matches!(read(&wrong.to_fields()), Err(EntryError::Range { .. })),
                "{first}-{last}"
            );
        }
        let mut widest = Entry {
            low: SpoolSeq::FIRST,
            ..entry()
        };
        (widest.first, widest.last) = (SpoolSeq::new(1).unwrap(), SpoolSeq::new(512).unwrap());
        assert!(read(&widest.to_fields()).is_ok());
    }
}
