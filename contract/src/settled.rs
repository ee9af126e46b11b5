//! Settled positions of one spool: what the database holds, as ranges.
//!
//! Why ranges and not one number: the database does not need order, so a later batch may be
//! committed before an earlier one. Everything up to the low edge may be forgotten by the gateway; a hole behind it
//! is what the gateway may have to send again.
//!
//! Invariants: ranges are ascending, do not touch and do not overlap; only ever grows.

use std::fmt;

use thiserror::Error;

use crate::id::SpoolSeq;

/// Ranges written into one floor field at most. Dropping the highest costs a resend, never data.
pub const RANGES_MAX: usize = 64;

/// The text was not `1-5000,5010-5020`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("settled ranges {found:?} are not ascending `first-last` pairs separated by commas")]
pub struct SettledError {
    /// The text as found.
    pub found: String,
}

/// A set of positions within one spool.
///
/// ```
/// use contract::SettledRanges;
/// let mut settled = SettledRanges::parse("1-5000,5010-5020").unwrap();
/// assert_eq!(settled.low_edge(), 5000);
/// settled.insert(5001, 5009);
/// assert_eq!(settled.to_string(), "1-5020");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettledRanges {
    ranges: Vec<(u64, u64)>,
}

impl SettledRanges {
    /// Nothing settled.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Adds `first..=last`. Positions start at 1; an empty or zero range changes nothing.
    pub fn insert(&mut self, first: u64, last: u64) {
        if first == 0 || first > last {
            return;
        }
        // Everything that touches the new range melts into it.
        let from = self
            .ranges
            .partition_point(|&(_, end)| end.saturating_add(1) < first);
        let to = self
            .ranges
            .partition_point(|&(start, _)| start <= last.saturating_add(1));
        let melted = self.ranges[from..to]
            .iter()
            .fold((first, last), |m, r| (m.0.min(r.0), m.1.max(r.1)));
        self.ranges.splice(from..to, [melted]);
    }

    /// Adds every range of `other`.
    pub fn merge(&mut self, other: &Self) {
        for &(first, last) in &other.ranges {
            self.insert(first, last);
        }
    }

    /// Is this position settled?
    #[must_use]
    pub fn contains(&self, seq: SpoolSeq) -> bool {
        self.contains_all(seq.get(), seq.get())
    }

    /// Is every position of `first..=last` settled?
    #[must_use]
    pub fn contains_all(&self, first: u64, last: u64) -> bool {
        let at = self.ranges.partition_point(|&(_, end)| end < first);
        self.ranges
            .get(at)
            .is_some_and(|&(start, end)| start <= first && last <= end)
    }

    /// Everything from 1 up to here is settled; 0 when nothing is.
    #[must_use]
    pub fn low_edge(&self) -> u64 {
        match self.ranges.first() {
            Some(&(1, end)) => end,
            _ => 0,
        }
    }

    /// Highest settled position; 0 when nothing is.
    #[must_use]
    pub fn high_edge(&self) -> u64 {
        self.ranges.last().map_or(0, |&(_, end)| end)
    }

    /// Nothing settled at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, ascending, as inclusive pairs.
    #[must_use]
    pub fn as_slice(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// The positions from the lowest to the highest that are not in here.
    #[must_use]
    pub fn holes(&self) -> Self {
        let between = |pair: &[(u64, u64)]| (pair[0].1 + 1, pair[1].0 - 1);
        Self {
            ranges: self.ranges.windows(2).map(between).collect(),
        }
    }

    /// The positions in here that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut ranges = Vec::new();
        for &(first, last) in &self.ranges {
            let at = other.ranges.partition_point(|&(_, end)| end < first);
            // Where what is left of this range begins; nothing when all of it is covered.
            let mut from = Some(first);
            for &(start, end) in other.ranges[at..].iter().take_while(|r| r.0 <= last) {
                let Some(open) = from else { break };
                if start > open {
                    ranges.push((open, start - 1));
                }
                from = (end < last).then(|| end + 1);
            }
            ranges.extend(from.map(|from| (from, last)));
        }
        Self { ranges }
    }

    /// How many positions.
    #[must_use]
    pub fn count(&self) -> u64 {
        let each = self.ranges.iter().map(|(first, last)| last - first + 1);
        each.fold(0, u64::saturating_add)
    }

    /// The text form with every range, however many there are.
    #[must_use]
    pub fn to_full_text(&self) -> String {
        let mut text = String::new();
        write_ranges(&self.ranges, &mut text).expect("writing to a string does not fail");
        text
    }

    /// Reads the text form, low edge first. Empty text is an empty set.
    /// # Errors
    /// [`SettledError`] for anything but ascending, disjoint `first-last` pairs.
    pub fn parse(text: &str) -> Result<Self, SettledError> {
        let refuse = || SettledError {
            found: text.chars().take(200).collect(),
        };
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').ok_or_else(refuse)?;
            let first: u64 = first.parse().map_err(|_| refuse())?;
            let last: u64 = last.parse().map_err(|_| refuse())?;
            let above = ranges.last().map_or(0, |&(_, end)| end);
            if first > last || first <= above {
                return Err(refuse());
            }
            if first == above + 1 && above > 0 {
                ranges.last_mut().expect("above > 0 comes from a range").1 = last;
            } else {
                ranges.push((first, last));
            }
        }
        Ok(Self { ranges })
    }
}

/// At most [`RANGES_MAX`] ranges, lowest first.
impl fmt::Display for SettledRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_ranges(&self.ranges[..self.ranges.len().min(RANGES_MAX)], f)
    }
}

fn write_ranges(ranges: &[(u64, u64)], to: &mut impl fmt::Write) -> fmt::Result {
    for (i, (first, last)) in ranges.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(to, "{comma}{first}-{last}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn low_edge_needs_the_first_position() {
        let mut settled = SettledRanges::new();
        settled.insert(2, 9);
        assert_eq!(settled.low_edge(), 0);
        settled.insert(1, 1);
        assert_eq!(settled.low_edge(), 9);
    }

    #[test]
    fn text_is_cut_after_64_ranges_from_the_top() {
        let mut settled = SettledRanges::new();
        for i in 0..100 {
            settled.insert(i * 2 + 1, i * 2 + 1);
        }
        let read = SettledRanges::parse(&settled.to_string()).unwrap();
        assert_eq!(read.as_slice().len(), RANGES_MAX);
        assert_eq!(read.low_edge(), 1);
        assert!(!read.contains_all(199, 199));
        let whole = SettledRanges::parse(&settled.to_full_text()).unwrap();
        assert_eq!(whole, settled);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["1", "x-2", "5-4", "1-5,3-9", "9-10,1-2", "0-1", "1-2;3-4"] {
            assert!(SettledRanges::parse(bad).is_err(), "{bad}");
        }
        assert!(SettledRanges::parse("").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(inserts in proptest::collection::vec((1u64..60, 0u64..12), 0..40)) {
            let (mut ours, mut model) = (SettledRanges::new(), BTreeSet::new());
            for (first, length) in inserts {
                ours.insert(first, first + length);
                model.extend(first..=first + length);
            }
            for seq in 1..80 {
                prop_assert_eq!(ours.contains(SpoolSeq::new(seq).unwrap()), model.contains(&seq));
            }
            for pair in ours.as_slice().windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0);
            }
            let (mut odd, mut even) = (ours.clone(), SettledRanges::new());
            for seq in (2..80).step_by(2) {
                even.insert(seq, seq);
            }
            odd = odd.without(&even);
            for seq in 1..80 {
                let wanted = seq % 2 == 1 && model.contains(&seq);
                prop_assert_eq!(odd.contains(SpoolSeq::new(seq).unwrap()), wanted);
            }
            prop_assert_eq!(ours.count(), model.len() as u64);
            prop_assert!(ours.without(&ours).is_empty());
            prop_assert_eq!(&ours.without(&SettledRanges::new()), &ours);
            let holes = ours.holes();
            for seq in 1..80 {
                let between = ours.high_edge() > seq && model.first().is_some_and(|first| *first < seq);
                let missing = between && !model.contains(&seq);
                prop_assert_eq!(holes.contains(SpoolSeq::new(seq).unwrap()), missing);
            }
            prop_assert_eq!(&SettledRanges::parse(&ours.to_full_text()).unwrap(), &ours);
            let low = (1..).take_while(|seq| model.contains(seq)).last().unwrap_or(0);
            prop_assert_eq!(ours.low_edge(), low);
            if ours.as_slice().len() <= RANGES_MAX {
                prop_assert_eq!(&SettledRanges::parse(&ours.to_string()).unwrap(), &ours);
            }
        }
    }
}
