//! What an operator may choose about a spool, and the measures everything is cut to.

use contract::GatewayId;

use crate::SpoolError;

/// Whose spool it is, how large it may grow and what happens when it is full.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who owns it; a directory never changes its owner.
    pub gateway: GatewayId,
    /// Cap of all segments together in bytes, at least [`Geometry::spool_bytes_min`].
    pub bytes_max: u64,
    /// What to do when everything is full of unsettled records.
    pub full: FullPolicy,
    /// Sizes; [`Geometry::for_spool`] unless a test wants small ones.
    pub geometry: Geometry,
}

/// What a full spool does. Configured as `spool.full`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FullPolicy {
    /// `refuse`: acknowledge nothing more of the normal and bulk lanes, so that trackers keep
    /// their records; the last tenth is kept for the high lane.
    #[default]
    Refuse,
    /// `trust-redis`: first recycle what Redis accepted although the database has not committed
    /// it. A Redis that loses it then loses it for good.
    TrustRedis,
    /// `drop-oldest`: give up the oldest segment of the least urgent lane, and say so in a gap.
    DropOldest,
}

/// Sizes in bytes. A spool keeps the segment size it was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// A segment file, header included; a multiple of [`Geometry::BLOCK_BYTES`].
    pub segment_bytes: u64,
    /// A group commit is closed when its envelopes reach this size.
    pub group_bytes_max: usize,
    /// Largest single envelope.
    pub envelope_bytes_max: usize,
}

impl Geometry {
    /// What a file system writes at least, and what a segment header takes.
    pub const BLOCK_BYTES: u64 = 4096;

    /// What storage writes whole or not at all at best: commits never share one.
    pub const SECTOR_BYTES: u64 = 512;

    /// Segments a spool needs at least: one being written in each lane, and the reserved ones (a
    /// spool this small refuses the normal and bulk lanes as soon as one of them needs a second).
    pub const SEGMENTS_MIN: u64 = 8;

    /// 4 MiB segments, smaller ones for a spool under 128 MiB: some are reserved, so few large
    /// ones would leave little to write to. The largest commit still fits in the smallest.
    #[must_use]
    pub const fn for_spool(bytes_max: u64) -> Self {
        let mut segment_bytes: u64 = 4 * 1024 * 1024;
        while segment_bytes > 512 * 1024 && bytes_max / segment_bytes < 32 {
            segment_bytes /= 2;
        }
        Self {
            segment_bytes,
            group_bytes_max: 256 * 1024,
            envelope_bytes_max: 128 * 1024,
        }
    }

    /// Smallest cap that works with these sizes.
    #[must_use]
    pub const fn spool_bytes_min(&self) -> u64 {
        self.segment_bytes * Self::SEGMENTS_MIN
    }

    /// Do the sizes fit one another: blocks, and a largest commit inside a segment?
    pub(crate) fn check(&self, bytes_max: u64) -> Result<(), SpoolError> {
        let commit = (self.group_bytes_max + self.envelope_bytes_max) as u64;
        let fits = self.segment_bytes.is_multiple_of(Self::BLOCK_BYTES)
            && commit + 2 * Self::BLOCK_BYTES <= self.segment_bytes;
        assert!(fits, "sizes are ours, not the operator's: {self:?}");
        if bytes_max < self.spool_bytes_min() {
            return Err(SpoolError::TooSmall {
                bytes_max,
                bytes_min: self.spool_bytes_min(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_small_spool_has_small_segments_and_every_one_fits_a_commit() {
        const MIB: u64 = 1024 * 1024;
        let segments = |bytes_max| bytes_max / Geometry::for_spool(bytes_max).segment_bytes;
        assert_eq!(Geometry::for_spool(1024 * MIB).segment_bytes, 4 * MIB);
        assert_eq!((segments(8 * MIB), segments(64 * MIB)), (16, 32));
        for bytes_max in (4 * MIB..200 * MIB).step_by(100_000) {
            Geometry::for_spool(bytes_max).check(bytes_max).unwrap();
        }
    }
}
