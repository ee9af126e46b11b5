//! Pure: no I/O, no clock.
//!
//! What the spool knows about its segments without reading them: which positions they hold, how
//! far they are durable, what is settled.
//!
//! Invariants: segments are in order of their number; a segment is forgotten only when every
//! position in it is settled; `durable_bytes` never reaches past the last synced commit.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use contract::{SettledRanges, SpoolId, SpoolSeq};

use super::Usage;

/// One segment file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Its number.
    pub(crate) number: u64,
    /// Its file.
    pub(crate) path: PathBuf,
    /// The opening that wrote it.
    pub(crate) spool: SpoolId,
    /// First position it holds or will hold.
    pub(crate) first: SpoolSeq,
    /// Last durable position; `None` while empty.
    pub(crate) last: Option<SpoolSeq>,
    /// Bytes up to which every commit is synced.
    pub(crate) durable_bytes: u64,
    /// Bytes the file takes on disk.
    pub(crate) file_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Index {
    segments: BTreeMap<u64, Segment>,
    settled: HashMap<SpoolId, SettledRanges>,
    settled_changed: bool,
    records_durable: u64,
    commits: u64,
}

impl Index {
    pub(crate) fn new(
        segments: Vec<Segment>,
        mut settled: HashMap<SpoolId, SettledRanges>,
    ) -> Self {
        let segments: BTreeMap<u64, Segment> =
            segments.into_iter().map(|s| (s.number, s)).collect();
        settled.retain(|spool, _| segments.values().any(|s| s.spool == *spool));
        Self {
            segments,
            settled,
            settled_changed: false,
            records_durable: 0,
            commits: 0,
        }
    }

    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// A number above every segment there is.
    pub(crate) fn next_number(&self) -> u64 {
        self.segments.keys().next_back().map_or(0, |last| last + 1)
    }

    pub(crate) fn add(&mut self, segment: Segment) {
        self.segments.insert(segment.number, segment);
    }

    /// Notes a synced commit at the end of segment `number`.
    pub(crate) fn committed(
        &mut self,
        number: u64,
        last: SpoolSeq,
        durable_bytes: u64,
        records: u64,
    ) {
        let segment = self.segments.get_mut(&number);
        let segment = segment.expect("the writer only commits to a segment it has added");
        segment.last = Some(last);
        segment.durable_bytes = durable_bytes;
        segment.file_bytes = segment.file_bytes.max(durable_bytes);
        self.records_durable += records;
        self.commits += 1;
    }

    /// Notes what a failed write may have left behind, so that it counts against the cap.
    pub(crate) fn abandoned(&mut self, number: u64, file_bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.file_bytes = segment.file_bytes.max(file_bytes);
        }
    }

    /// The first segment with this number or a higher one, and whether it is the last there is.
    pub(crate) fn segment_from(&self, number: u64) -> Option<(&Segment, bool)> {
        let mut segments = self.segments.range(number..);
        let (_, segment) = segments.next()?;
        Some((segment, segments.next().is_none()))
    }

    /// Is this segment still known?
    pub(crate) fn holds(&self, number: u64) -> bool {
        self.segments.contains_key(&number)
    }

    /// The openings whose segments are here.
    pub(crate) fn spools(&self) -> Vec<SpoolId> {
        let mut spools: Vec<_> = self.segments.values().map(|s| s.spool).collect();
        spools.dedup();
        spools
    }

    /// Notes positions as settled; what never existed is not believed.
    pub(crate) fn settle(&mut self, spool: SpoolId, ranges: &SettledRanges) {
        let of_spool = self.segments.values().filter(|s| s.spool == spool);
        let Some(last) = of_spool.filter_map(|s| s.last).max() else {
            return; // not ours, long forgotten, or nothing written yet
        };
        let known = self.settled.entry(spool).or_default();
        let before = known.clone();
        for &(first, end) in ranges.as_slice() {
            known.insert(first, end.min(last.get()));
        }
        self.settled_changed |= *known != before;
    }

    #[cfg(test)]
    fn settle_range(&mut self, spool: SpoolId, first: u64, last: u64) {
        let mut ranges = SettledRanges::new();
        ranges.insert(first, last);
        self.settle(spool, &ranges);
    }

    /// The settled positions when they changed since the last call.
    pub(crate) fn settled_changed(&mut self) -> Option<HashMap<SpoolId, SettledRanges>> {
        std::mem::take(&mut self.settled_changed).then(|| self.settled.clone())
    }

    pub(crate) fn is_settled(&self, spool: SpoolId, first: SpoolSeq, last: SpoolSeq) -> bool {
        self.settled
            .get(&spool)
            .is_some_and(|ranges| ranges.contains_all(first.get(), last.get()))
    }

    pub(crate) fn low(&self, spool: SpoolId) -> SpoolSeq {
        let kept_from = self
            .segments
            .values()
            .filter(|s| s.spool == spool)
            .map(|s| s.first.get())
            .min()
            .unwrap_or(1);
        let settled_to = self.settled.get(&spool).map_or(0, SettledRanges::low_edge);
        SpoolSeq::new(kept_from.max(settled_to + 1)).unwrap_or(SpoolSeq::FIRST)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.segments.values().map(|s| s.file_bytes).sum()
    }

    /// Envelopes that are durable and not settled.
    pub(crate) fn backlog(&self) -> u64 {
        let unsettled = |segment: &Segment| {
            let last = segment.last?.get();
            let first = segment.first.get();
            let ranges = self.settled.get(&segment.spool);
            let settled: u64 = ranges
                .map_or(&[][..], SettledRanges::as_slice)
                .iter()
                .map(|&(a, z)| (z.min(last) + 1).saturating_sub(a.max(first)))
                .sum();
            Some((last + 1 - first).saturating_sub(settled))
        };
        self.segments.values().filter_map(unsettled).sum()
    }

    /// Segments that may go, oldest first: everything in them is settled, and none is being written.
    pub(crate) fn releasable(&self, writing: u64) -> Vec<Segment> {
        self.segments
            .values()
            .filter(|s| s.number != writing)
            .filter(|s| {
                s.last
                    .is_none_or(|last| self.is_settled(s.spool, s.first, last))
            })
            .cloned()
            .collect()
    }

    pub(crate) fn forget(&mut self, number: u64) {
        self.segments.remove(&number);
        let segments = &self.segments;
        self.settled
            .retain(|spool, _| segments.values().any(|s| s.spool == *spool));
    }

    pub(crate) fn usage(&self, bytes_max: u64) -> Usage {
        Usage {
            used_bytes: self.used_bytes(),
            bytes_max,
            backlog: self.backlog(),
            records_durable: self.records_durable,
            commits: self.commits,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn segment(number: u64, spool: u64, first: u64, last: u64) -> Segment {
        Segment {
            number,
            path: PathBuf::from(number.to_string()),
            spool: SpoolId::from_random(spool),
            first: SpoolSeq::new(first).unwrap(),
            last: SpoolSeq::new(last).ok(),
            durable_bytes: 100,
            file_bytes: 100,
        }
    }

    #[test]
    fn backlog_low_and_release_follow_what_is_settled() {
        let (old, new) = (SpoolId::from_random(1), SpoolId::from_random(2));
        let mut index = Index::new(
            vec![
                segment(0, 1, 1, 10),
                segment(1, 1, 11, 20),
                segment(2, 2, 1, 5),
            ],
            HashMap::new(),
        );
        assert_eq!((index.backlog(), index.next_number()), (25, 3));
        index.settle_range(old, 3, 12);
        assert_eq!((index.backlog(), index.low(old).get()), (15, 1));
        assert!(index.releasable(2).is_empty(), "1 and 2 are still open");
        index.settle_range(old, 1, 2);
        assert_eq!(index.low(old).get(), 13);
        assert_eq!(
            index
                .releasable(2)
                .iter()
                .map(|s| s.number)
                .collect::<Vec<_>>(),
            [0]
        );
        assert!(index.settled_changed().is_some());
        assert!(index.settled_changed().is_none());
        index.forget(0);
        assert_eq!((index.backlog(), index.low(old).get()), (13, 13));
        index.settle_range(new, 1, 5);
        assert!(
            index.releasable(2).is_empty(),
            "never the one being written"
        );
        // Nothing that never existed is believed.
        index.settle_range(new, 1, u64::MAX);
        index.committed(2, SpoolSeq::new(6).unwrap(), 200, 1);
        assert!(!index.is_settled(new, SpoolSeq::new(6).unwrap(), SpoolSeq::new(6).unwrap()));
        index.settle_range(SpoolId::from_random(9), 1, 5);
        assert!(!index.is_settled(SpoolId::from_random(9), SpoolSeq::FIRST, SpoolSeq::FIRST));
    }
}
