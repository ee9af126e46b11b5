//! Which versions of the entry this build writes and reads, and the notice the cloud publishes.
//!
//! Why: a gateway on a truck is years older or a week newer than the cloud. It must be able to
//! find out *before* it sends whether its entries will be understood.
//!
//! Invariant: [`ENTRY_VERSION_WRITTEN`] and [`ENTRY_VERSION_EXACT`] lie inside
//! [`ENTRY_VERSIONS_READ`].

use std::fmt;
use std::ops::RangeInclusive;

/// Version of the telemetry entry that this build writes (field `v`): it holds every position
/// from its first to its last.
pub const ENTRY_VERSION_WRITTEN: u32 = 1;

/// Version of an entry that names its positions one by one, because other entries hold some of
/// those between. A reader of version 1 must not touch it: it would take them for this entry's.
pub const ENTRY_VERSION_EXACT: u32 = 2;

/// Versions of the telemetry entry that this build can read.
pub const ENTRY_VERSIONS_READ: RangeInclusive<u32> = 1..=2;

/// Field of the hash `contract`: the entry versions the cloud reads, `first-last`.
pub const FIELD_READS: &str = "reads";

/// Field of the hash `contract`: the version of the orders the cloud writes.
pub const FIELD_WRITES: &str = "writes";

/// Entry versions that the other side says it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionsRead(RangeInclusive<u32>);

impl VersionsRead {
    /// The versions this build reads.
    #[must_use]
    pub fn ours() -> Self {
        Self(ENTRY_VERSIONS_READ)
    }

    /// Reads the text form `first-last` (or one number). `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then_some(Self(first..=last))
    }

    /// Would the other side read an entry of `version`?
    #[must_use]
    pub fn contains(&self, version: u32) -> bool {
        self.0.contains(&version)
    }
}

impl fmt::Display for VersionsRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_we_write_we_read() {
        assert!(ENTRY_VERSIONS_READ.contains(&ENTRY_VERSION_WRITTEN));
        assert!(VersionsRead::ours().contains(ENTRY_VERSION_WRITTEN));
        assert!(VersionsRead::ours().contains(ENTRY_VERSION_EXACT));
    }

    #[test]
    fn notice_text_round_trips() {
        let ours = VersionsRead::ours();
        assert_eq!(VersionsRead::parse(&ours.to_string()), Some(ours));
        assert!(VersionsRead::parse("2").unwrap().contains(2));
        assert!(!VersionsRead::parse("2-4").unwrap().contains(5));
        for bad in ["", "x", "3-2", "1-2-3", "-1"] {
            assert_eq!(VersionsRead::parse(bad), None, "{bad}");
        }
    }
}
