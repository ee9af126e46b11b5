//! Names in the ledger: what may happen to a record, and how a gateway says that some are gone.
//!
//! Why: *received = stored + quarantined + duplicate + dead + dropped + in flight* must balance
//! in AVL records, per spool, and a sum over two programs balances only when both use one name.
//!
//! Invariant: every counter that can lose something has its name here.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::id::SpoolSeq;

/// Records that a tracker was told are safe.
pub const RECEIVED: &str = "received";
/// Records that became a row in `positions`.
pub const STORED: &str = "stored";
/// Records whose device time is impossible; kept in `positions_quarantine`.
pub const QUARANTINED: &str = "quarantined";
/// Records that were there already.
pub const DUPLICATE: &str = "duplicate";
/// Records that could not be read; kept in `dead_letters`.
pub const DEAD: &str = "dead";
/// Records that a gateway had to give up, with a [`GapReason`].
pub const DROPPED: &str = "dropped";

/// More records than any entry or gap can hold: forged numbers must not overflow a sum.
pub const RECORDS_MAX: u64 = 1 << 40;

/// Why a gateway will never send some positions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// `spool.full = "drop-oldest"` made room.
    Dropped,
    /// The spool found the place damaged.
    Corrupt,
    /// A reason of a later version: the records are gone all the same.
    Other(String),
}

impl GapReason {
    /// The word on the wire and in the ledger.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Dropped => "dropped",
            Self::Corrupt => "corrupt",
            Self::Other(word) => word,
        }
    }
}

/// Positions that were acknowledged to trackers and will never arrive: a loss, said aloud.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    /// First position lost.
    pub first: SpoolSeq,
    /// Last position lost.
    pub last: SpoolSeq,
    /// AVL records inside; 0 when the damage hides the number.
    pub records: u64,
    /// Why.
    pub reason: GapReason,
}

/// The text of a gap was not `first-last:records:reason`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("gap {found:?} is not `first-last:records:reason`")]
pub struct GapError {
    /// The text as found.
    pub found: String,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.as_str();
        write!(f, "{}-{}:{}:{reason}", self.first, self.last, self.records)
    }
}

impl FromStr for Gap {
    type Err = GapError;

    fn from_str(text: &str) -> Result<Self, GapError> {
        let read = || {
            let mut parts = text.split(':');
            let (first, last) = parts.next()?.split_once('-')?;
            let records = parts.next()?.parse().ok().filter(|n| *n <= RECORDS_MAX)?;
            let reason = match parts.next()? {
                "dropped" => GapReason::Dropped,
                "corrupt" => GapReason::Corrupt,
                word if word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
                    && !word.is_empty() =>
                {
                    GapReason::Other(word.to_owned())
                }
                _ => return None,
            };
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            let whole = parts.next().is_none() && first <= last;
            whole.then_some(Self {
                first,
                last,
                records,
                reason,
            })
        };
        read().ok_or_else(|| GapError {
            found: text.to_owned(),
        })
    }
}

/// Gaps as one field: comma separated. Empty text means none.
#[must_use]
pub fn gaps_to_text(gaps: &[Gap]) -> String {
    let texts: Vec<String> = gaps.iter().map(Gap::to_string).collect();
    texts.join(",")
}

/// # Errors
/// [`GapError`] with the first part that is not a gap.
pub fn gaps_from_text(text: &str) -> Result<Vec<Gap>, GapError> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(str::parse)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn gaps_round_trip_and_nonsense_is_refused() {
        let text = "7-9:120:dropped,11-11:0:corrupt,12-12:1:of-a-later-version";
        assert_eq!(gaps_to_text(&gaps_from_text(text).unwrap()), text);
        assert!(gaps_from_text("").unwrap().is_empty());
        for bad in [
            "7",
            "7-9",
            "7-9:1",
            "9-7:1:dropped",
            "7-9:1:Lost!",
            "7-9:1:dropped:x",
            "0-1:1:dropped",
            "1-1:1099511627777:dropped",
        ] {
            assert!(bad.parse::<Gap>().is_err(), "{bad}");
        }
    }
}
