//! What opening found, and how full the spool is.

use contract::{Gap, Lane, SpoolId};

/// What opening found.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// The ids of this opening, in the order of [`Lane::ALL`].
    pub spools: [SpoolId; 3],
    /// Segments that hold something of earlier openings.
    pub segments: usize,
    /// Envelopes that wait to be settled.
    pub backlog: u64,
    /// Positions lost to damage or dropped, not settled yet.
    pub gaps: Vec<(SpoolId, Gap)>,
    /// Files that are none of ours; left untouched.
    pub strangers: Vec<String>,
    /// Copies of damaged segments made at this opening.
    pub quarantined: Vec<String>,
}

/// How full the spool is and what it has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of segments that hold unsettled records or are being written.
    pub used_bytes: u64,
    /// Bytes the spool's files take on disk, recyclable segments included.
    pub file_bytes: u64,
    /// The cap.
    pub bytes_max: u64,
    /// Per lane, in the order of [`Lane::ALL`].
    pub lanes: [LaneUsage; 3],
    /// AVL records made durable.
    pub records_durable: u64,
    /// Group commits.
    pub commits: u64,
    /// Syncs of any file or directory.
    pub syncs: u64,
    /// Syncs that a commit waited for; one each, unless a segment failed.
    pub commit_syncs: u64,
    /// Bytes of frames made durable.
    pub payload_bytes: u64,
    /// Bytes written to files for commits, headers and padding.
    pub written_bytes: u64,
    /// Bytes written for cursors, compaction and zero-filling.
    pub upkeep_bytes: u64,
    /// Segments compacted.
    pub segments_compacted: u64,
    /// Envelopes in gaps found or made.
    pub envelopes_lost: u64,
    /// Segments given up after a failed write.
    pub segments_poisoned: u64,
}

impl Usage {
    /// Envelopes not settled yet, all lanes.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.backlog).sum()
    }

    /// The figures of one lane.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> LaneUsage {
        let at = Lane::ALL.iter().position(|&l| l == lane);
        at.map(|at| self.lanes[at]).unwrap_or_default()
    }
}

/// One lane's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneUsage {
    /// Envelopes not settled yet.
    pub backlog: u64,
    /// Segments that hold some of them or are being written.
    pub segments: u64,
}
