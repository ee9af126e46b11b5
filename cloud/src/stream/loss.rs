//! Pure.
//!
//! Did somebody trim away what the group had not read?
//!
//! Why by counting: MAXLEN and a trim beyond the group leave no other trace. What was ever added,
//! less what is still there, is what was removed; of that the group should have read everything.
//!
//! Invariant: a loss is told once. Redis before 8 goes on counting it for ever, so only what is new
//! since the last look counts; at the first look it is new when it lies right before what we read
//! next.

use crate::batch::StreamId;

/// What Redis says of a stream and of our group, the stream asked first: what is read in between
/// only makes a loss look smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Items ever added.
    pub added: u64,
    /// Items in the stream.
    pub length: u64,
    /// The oldest of them.
    pub first: Option<StreamId>,
    /// Items the group has read; `None` when Redis cannot tell.
    pub read: Option<u64>,
    /// The last of them.
    pub last_delivered: StreamId,
}

/// What was seen of one stream so far.
#[derive(Debug, Default)]
pub struct Trims {
    seen: Option<u64>,
}

impl Trims {
    /// Items lost since the last look.
    pub fn look(&mut self, counts: &Counts) -> u64 {
        let Some(read) = counts.read else {
            return 0;
        };
        let removed = counts.added.saturating_sub(counts.length);
        let lost = removed.saturating_sub(read);
        let fresh = match self.seen {
            Some(seen) => lost.saturating_sub(seen),
            None if counts
                .first
                .is_none_or(|first| first > counts.last_delivered) =>
            {
                lost
            }
            None => 0,
        };
        self.seen = Some(lost);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(added: u64, length: u64, read: u64) -> Counts {
        // Ids are numbers from 1, the oldest are removed first.
        let first = (length > 0).then(|| StreamId::at_ms(added - length + 1));
        Counts {
            added,
            length,
            first,
            read: Some(read),
            last_delivered: StreamId::at_ms(read),
        }
    }

    #[test]
    fn trimming_what_was_read_is_no_loss() {
        let mut trims = Trims::default();
        assert_eq!(trims.look(&counts(100, 40, 60)), 0);
        assert_eq!(trims.look(&counts(100, 0, 100)), 0);
        assert_eq!(trims.look(&counts(150, 50, 100)), 0);
    }

    #[test]
    fn what_nobody_read_is_told_once() {
        let mut trims = Trims::default();
        assert_eq!(trims.look(&counts(100, 100, 0)), 0);
        assert_eq!(trims.look(&counts(100, 10, 0)), 90);
        assert_eq!(trims.look(&counts(100, 10, 0)), 0);
        // Read on behind the loss: Redis 7 counts it for ever.
        let mut behind = counts(100, 10, 10);
        behind.last_delivered = StreamId::at_ms(100);
        assert_eq!(trims.look(&behind), 0);
        behind.added = 130;
        assert_eq!(trims.look(&behind), 30);
    }

    #[test]
    fn a_loss_before_we_came_is_told_when_it_is_ahead_of_us() {
        assert_eq!(Trims::default().look(&counts(100, 10, 0)), 90);
        assert_eq!(Trims::default().look(&counts(100, 0, 0)), 100);
        // Behind us: told by whoever read over it.
        let mut old = counts(100, 10, 10);
        old.last_delivered = StreamId::at_ms(100);
        assert_eq!(Trims::default().look(&old), 0);
    }

    #[test]
    fn the_unknown_says_nothing() {
        let mut trims = Trims::default();
        let unknown = Counts {
            read: None,
            ..counts(100, 10, 0)
        };
        assert_eq!(trims.look(&unknown), 0);
        assert_eq!(trims.look(&counts(100, 10, 0)), 90);
    }
}
