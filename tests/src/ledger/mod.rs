//! The oracle: is every record that was ACKed in the database, once?
//!
//! It compares the trackers' truth with the tables record by record. Invariants: it believes
//! no counter of ours; it reads everything in one snapshot, so a table that is being written
//! to cannot confuse it; it never keeps more than some devices' records in memory.

mod compare;
mod read;

#[cfg(test)]
mod oracle_tests;

use std::fmt;

pub use compare::compare;

use crate::fleet::RecordKey;

/// How many missing records are named; the rest are counted.
const LOST_NAMED_MAX: usize = 20;

/// What the comparison found. All numbers are AVL records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Sent at least once.
    pub sent: u64,
    /// The server said OK to.
    pub acked: u64,
    /// Of those sent, in `positions`.
    pub stored: u64,
    /// Of those sent, in `positions_quarantine`.
    pub quarantined: u64,
    /// Of those sent, in the database without having been ACKed: allowed, the ACK was lost.
    pub stored_unacked: u64,
    /// Rows too many: copies of a record beyond the first, over both tables. Must be 0.
    pub duplicates: u64,
    /// What `dead_letters` holds, of any device.
    pub dead: u64,
    /// ACKed and found nowhere but in the dead letters: not lost, but not readable either.
    pub acked_dead: u64,
    /// ACKed and nowhere in the database. Must be 0.
    pub lost_count: u64,
    /// The first of them.
    pub lost: Vec<Lost>,
    /// Rows that no tracker of this truth ever sent.
    pub phantoms: u64,
    /// All rows of `positions`.
    pub rows: u64,
}

/// A record that was ACKed and is not in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Of the device.
    pub imei: u64,
    /// Of the record.
    pub key: RecordKey,
}

impl Ledger {
    /// Nothing ACKed is missing or unreadable, nothing is there twice, nothing was made up.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let all_here = self.lost_count == 0 && self.acked_dead == 0;
        all_here && self.duplicates == 0 && self.phantoms == 0
    }
}

impl fmt::Display for Lost {
    /// The last four digits of the IMEI tell devices of a test apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordKey {
            fix_time_ms,
            record_hash,
        } = self.key;
        let time = i64::try_from(fix_time_ms)
            .ok()
            .and_then(chrono::DateTime::from_timestamp_millis);
        let time = time.map_or_else(|| format!("{fix_time_ms} ms"), |time| time.to_rfc3339());
        write!(f, "…{:04} {time} hash {record_hash}", self.imei % 10_000)
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("sent", self.sent, "by the trackers, each record once"),
            ("ACKed", self.acked, "the gateway said OK"),
            ("stored", self.stored, "rows in positions"),
            (
                "quarantined",
                self.quarantined,
                "rows in positions_quarantine",
            ),
            ("duplicates", self.duplicates, "rows too many"),
            ("dead", self.dead, "in dead_letters"),
            ("lost", self.lost_count, "ACKed and nowhere in the database"),
        ];
        for (name, count, meaning) in lines {
            writeln!(f, "  {name:<12}{count:>12}  {meaning}")?;
        }
        if self.stored_unacked > 0 {
            writeln!(
                f,
                "  {:<12}{:>12}  stored, their ACK never arrived",
                "unACKed", self.stored_unacked
            )?;
        }
        if self.phantoms > 0 {
            writeln!(
                f,
                "  {:<12}{:>12}  rows nobody sent",
                "phantoms", self.phantoms
            )?;
        }
        for lost in &self.lost {
            writeln!(f, "    lost {lost}")?;
        }
        let unnamed = self.lost_count.saturating_sub(self.lost.len() as u64);
        if unnamed > 0 {
            writeln!(f, "    and {unnamed} more")?;
        }
        Ok(())
    }
}
