//! Switches that break the spool on purpose, to prove that the tests would notice.
//!
//! Compiled out unless the feature `sim` is on; then each thread has its own switch, off at first.

#![cfg_attr(not(feature = "sim"), allow(dead_code, unreachable_pub))]

/// One way to lose data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// Receipts leave before the sync.
    AckBeforeSync,
    /// A segment is recycled before the cursor that allows it is durable.
    RecycleBeforeCursor,
    /// Commits are believed without their checksum.
    NoCrc,
    /// The cursor is always written to the same slot.
    SingleCursorSlot,
    /// After a failed sync the same file is synced again and believed.
    RetryFailedSync,
    /// The directory is not synced after a file was made.
    NoDirSync,
    /// What was read is noted as settled.
    CursorAheadOfDownstream,
    /// Opening believes what it reads, without making it durable first.
    TrustPageCacheOnOpen,
    /// A segment that still holds unsettled data gets a new header.
    HeaderSupersedesData,
    /// A new file is used although the directory could not be synced.
    TrustFileOfFailedDirSync,
    /// A file that an earlier process made is used although no header proves it.
    TrustHeaderlessFile,
    /// A segment is free as soon as a copy of it can be read, durable or not.
    TrustCopyOfFailedSync,
    /// Segment ids go on from the highest that can be seen, and of two segments with one id only
    /// one is believed.
    ReuseSegmentIds,
    /// A failed group's positions are given to the next group.
    ReuseSeqsOfFailedGroup,
    /// A segment is free before the sync of what was compacted from it.
    FreeSourceBeforeSync,
    /// Only one copy of a source's header says that it is free.
    FreeSourceOnce,
    /// Of a group of compacted blocks counts what there is, and its source does not.
    TrustPartOfGroup,
    /// Segments are compacted in any order and after failures too.
    CompactAnything,
    /// What a segment that cannot be read may be a copy of is free.
    TrustUnreadableTail,
    /// A repeated commit takes its place behind everything its key wrote.
    RepeatAsNewest,
    /// A spool that the cursor has forgotten is new when it is found again while something cannot
    /// be read.
    ForgetForgotten,
}

impl Mutant {
    /// Every one.
    pub const ALL: [Self; 21] = [
        Self::AckBeforeSync,
        Self::RecycleBeforeCursor,
        Self::NoCrc,
        Self::SingleCursorSlot,
        Self::RetryFailedSync,
        Self::NoDirSync,
        Self::CursorAheadOfDownstream,
        Self::TrustPageCacheOnOpen,
        Self::HeaderSupersedesData,
        Self::TrustFileOfFailedDirSync,
        Self::TrustHeaderlessFile,
        Self::TrustCopyOfFailedSync,
        Self::ReuseSegmentIds,
        Self::ReuseSeqsOfFailedGroup,
        Self::FreeSourceBeforeSync,
        Self::FreeSourceOnce,
        Self::TrustPartOfGroup,
        Self::CompactAnything,
        Self::TrustUnreadableTail,
        Self::RepeatAsNewest,
        Self::ForgetForgotten,
    ];
}

#[cfg(feature = "sim")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Switches one mutant on for this thread, or all off.
#[cfg(feature = "sim")]
pub fn set(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

/// Is it on in this thread?
#[cfg(feature = "sim")]
#[must_use]
pub fn active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Never, in what we ship.
#[cfg(not(feature = "sim"))]
pub(crate) const fn active(_: Mutant) -> bool {
    false
}
