//! Looking at a spool without touching it, stopped or running.
//!
//! Invariant: nothing is written and no lock is taken. A spool that is being written changes while
//! one looks: a segment that was recycled meanwhile shows fewer commits than its header promised,
//! so what one look calls damage proves nothing alone; [`verify`] looks again.

mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{Gap, GatewayId, Lane, SpoolId, SpoolSeq};

use crate::cursor;
use crate::format::envelope::{Envelopes, Read};
use crate::format::{Commit, FLAG_ZSTD, HEADER_BYTES, Kind, commit};
use crate::fs::{Fs, FsFile};
use crate::index::{Index, Segment, holes};
use crate::open::{find_losses, owner, scan, settle_forgotten};
use crate::walk::{Step, WINDOW_BYTES_MAX, Walked, walk};
use crate::{Geometry, Position, SpoolError, Stored, pool, quarantine, shared};

pub use verify::{Verified, verify};

/// First and last position of a run.
pub type Range = (SpoolId, SpoolSeq, SpoolSeq);

/// Positions that were seen.
type There = BTreeMap<SpoolId, contract::SettledRanges>;

/// A spool as it was when one looked.
pub struct View<F: Fs> {
    fs: F,
    geometry: Geometry,
    owner: Option<GatewayId>,
    cursor_generation: u64,
    index: Index,
    segments: Vec<Segment>,
    /// Slots whose header or first commit is damaged.
    damaged: Vec<u64>,
    /// Acknowledged, not settled, and in no segment.
    nowhere: Vec<Range>,
    free: u64,
    file_bytes: u64,
    strangers: Vec<String>,
    quarantine: Vec<String>,
}

/// What `stat` says.
#[derive(Clone, Debug, Default)]
pub struct Stat {
    /// Whose spool it is.
    pub owner: Option<GatewayId>,
    /// Bytes of all segment files.
    pub file_bytes: u64,
    /// Bytes of segments that hold something unsettled.
    pub used_bytes: u64,
    /// Segments with something unsettled, with settled content only, and with nothing.
    pub segments: [u64; 3],
    /// Compacted segments among them.
    pub compacted: u64,
    /// In the order of [`Lane::ALL`].
    pub lanes: [LaneStat; 3],
    /// Losses that are not settled yet.
    pub gaps: Vec<(SpoolId, Gap)>,
    /// Openings and lanes with something here.
    pub spools: Vec<SpoolId>,
    /// Copies of damaged segments.
    pub quarantine: Vec<String>,
    /// Files named like segments that are none.
    pub strangers: Vec<String>,
    /// Generation of the cursor; 0 without one.
    pub cursor_generation: u64,
}

/// What waits unsettled in one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStat {
    /// AVL records, by the count that each frame claims.
    pub records: u64,
    /// Frames.
    pub envelopes: u64,
    /// Bytes of frames.
    pub bytes: u64,
    /// Gateway clock of the oldest, milliseconds since 1970 UTC.
    pub oldest_received_at_ms: Option<u64>,
}

/// What `ls` says of one segment.
#[derive(Clone, Debug)]
pub struct SegmentView {
    /// The file's name.
    pub file: String,
    /// Written as it came, or compacted.
    pub is_compacted: bool,
    /// Its lane.
    pub lane: Lane,
    /// The opening and lane that wrote it.
    pub key: SpoolId,
    /// Its number, and its place in the order of the lane.
    pub id: u64,
    /// See `id`.
    pub order: u64,
    /// First and last position of each run.
    pub positions: Vec<Range>,
    /// Commits that can be read.
    pub commits: u64,
    /// Bytes up to the end of the last commit.
    pub used_bytes: u64,
    /// Positions, and how many of them are settled or lost.
    pub envelopes: u64,
    /// See `envelopes`.
    pub closed: u64,
    /// What is wrong with it.
    pub damage: Option<Damage>,
}

/// A damaged or unreadable place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file; `None` when positions are in no file at all.
    pub file: Option<String>,
    /// Byte from which on it is: behind the last whole commit before it.
    pub offset: u64,
    /// What is wrong there.
    pub what: DamageKind,
    /// What is missing there and not settled: acknowledged and lost.
    pub missing: Vec<Range>,
}

/// What is wrong with a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// A commit is not there or its checksum is wrong.
    Commit,
    /// The header or the commit behind it; the rest was found by its key.
    Beginning,
    /// The system does not give the bytes, and says why.
    Unreadable(String),
    /// Its segment is gone.
    Segment,
}

impl<F: Fs> View<F> {
    /// Looks at what is there.
    /// # Errors
    /// [`SpoolError::Open`], [`SpoolError::Newer`], [`SpoolError::OwnerUnreadable`].
    pub fn open(fs: F) -> Result<Self, SpoolError> {
        let owner = owner(&fs)?;
        let geometry = geometry(&fs)?;
        let (state, cursor_generation) =
            cursor::read(&fs).map_err(|source| SpoolError::open(cursor::FILE, source))?;
        let found = scan::scan(&fs, &geometry, &state)?;
        let recovered = || {
            let mut index = Index::of_others(state.clone());
            for segment in &found.segments {
                let _ = index.add_recovered(segment.clone());
            }
            index
        };
        let (index, mut judged) = (recovered(), recovered());
        settle_forgotten(&mut judged, &found, &state);
        if !found.is_partial {
            find_losses(&mut judged, &found, &state);
        }
        let known_gaps = index.gaps();
        let nowhere = judged.gaps().into_iter();
        let nowhere = nowhere.filter(|gap| !known_gaps.contains(gap));
        let nowhere = nowhere.map(|(spool, gap)| (spool, gap.first, gap.last));
        let segments = index.segments().cloned().collect();
        Ok(Self {
            owner,
            cursor_generation,
            nowhere: nowhere.collect(),
            damaged: found.damaged.iter().map(|&(slot, ..)| slot).collect(),
            index,
            segments,
            free: (found.free.len() + found.unproven.len()) as u64,
            file_bytes: found.files * geometry.segment_bytes,
            strangers: found.strangers,
            // The directory is made with the first copy.
            quarantine: fs.list(quarantine::DIR).unwrap_or_default(),
            geometry,
            fs,
        })
    }

    /// Losses that are not settled yet.
    #[must_use]
    pub fn gaps(&self) -> Vec<(SpoolId, Gap)> {
        self.index.gaps()
    }

    /// Counts what waits. Reads every segment that holds something unsettled.
    #[must_use]
    pub fn stat(&self) -> Stat {
        let mut stat = Stat {
            owner: self.owner.clone(),
            file_bytes: self.file_bytes,
            segments: [0, 0, self.free],
            gaps: self.index.gaps(),
            spools: self.index.spools(),
            quarantine: self.quarantine.clone(),
            strangers: self.strangers.clone(),
            cursor_generation: self.cursor_generation,
            ..Stat::default()
        };
        for segment in &self.segments {
            let is_closed = self.index.is_closed(segment);
            stat.segments[usize::from(is_closed)] += 1;
            stat.compacted += u64::from(segment.kind == Kind::Compacted);
            stat.used_bytes += if is_closed { 0 } else { segment.file_bytes };
        }
        let mut note = |stored: Stored| {
            let at = Lane::ALL.iter().position(|&lane| lane == stored.lane);
            let lane = &mut stat.lanes[at.unwrap_or(1)];
            lane.records += u64::from(stored.record_count);
            lane.envelopes += 1;
            lane.bytes += stored.bytes.len() as u64;
            let oldest = lane.oldest_received_at_ms.unwrap_or(u64::MAX);
            lane.oldest_received_at_ms = Some(oldest.min(stored.received_at_ms));
            true
        };
        for lane in Lane::ALL {
            // What cannot be read is what `verify` is for.
            let _ = self.export(lane, false, &mut note);
        }
        stat
    }

    /// Every segment that holds something, in the order of lanes.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentView> {
        self.segments.iter().map(|s| self.view(s)).collect()
    }

    /// Whose spool it is; `None` before its first start.
    #[must_use]
    pub fn owner(&self) -> Option<&GatewayId> {
        self.owner.as_ref()
    }

    /// The sizes of its segments; `None` when there are none yet.
    #[must_use]
    pub fn geometry(&self) -> Option<Geometry> {
        (self.file_bytes > 0).then_some(self.geometry)
    }

    /// Bytes of all segment files.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Gives every envelope of a lane, the unsettled ones alone unless `all`, until `visit` says
    /// no. A segment that cannot be read is left out. Answers the unsettled positions that should
    /// be there and were not: damaged, or recycled or compacted while one looked.
    /// # Errors
    /// [`SpoolError::Read`] for the first of those, after everything else was given.
    pub fn export(
        &self,
        lane: Lane,
        all: bool,
        visit: &mut dyn FnMut(Stored) -> bool,
    ) -> Result<Vec<Range>, SpoolError> {
        let (mut failed, mut goes_on) = (None, true);
        let nowhere = self.nowhere.iter();
        let nowhere = nowhere.filter(|(spool, ..)| self.lane_of(*spool) == lane);
        let mut missing: Vec<Range> = nowhere.copied().collect();
        for segment in self.segments.iter().filter(|s| s.lane == lane) {
            if !goes_on || (!all && self.index.is_closed(segment)) {
                continue;
            }
            let mut unpacked = Vec::new();
            let mut there = There::new();
            let walked = self.walk(segment, |offset, commit| {
                let raw = commit.raw(&mut unpacked, self.geometry.envelope_bytes_max);
                let envelopes = Envelopes::new(raw.unwrap_or_default(), commit.first);
                for Read { envelope, kind } in envelopes {
                    let (spool, seq) = (commit.spool, envelope.seq);
                    let ranges = there.entry(spool).or_default();
                    ranges.insert(seq.get(), seq.get());
                    let wanted =
                        segment.holds(spool, seq) && (all || self.index.is_open(spool, seq, seq));
                    if !wanted {
                        continue;
                    }
                    goes_on = visit(Stored {
                        kind,
                        spool,
                        seq,
                        at: Position {
                            order: segment.order,
                            offset,
                        },
                        received_at_ms: envelope.received_at_ms,
                        device: envelope.device,
                        transport: envelope.transport,
                        lane,
                        record_count: envelope.record_count,
                        panic: commit.flags & commit::FLAG_PANIC != 0,
                        bytes: envelope.bytes.to_vec(),
                    });
                    if !goes_on {
                        return Step::StopBehind;
                    }
                }
                Step::On
            });
            if let Err(source) = walked {
                let file = pool::name(segment.slot);
                failed.get_or_insert(SpoolError::Read {
                    file,
                    source: Arc::new(source),
                });
            }
            if goes_on {
                missing.extend(self.open_and_not_in(segment, &there));
            }
        }
        failed.map_or(Ok(missing), Err)
    }

    /// The lane of an opening's spool; the normal one when nothing of it is here.
    fn lane_of(&self, spool: SpoolId) -> Lane {
        let mut segments = self.segments.iter();
        let of = segments.find(|s| s.parts.iter().any(|part| part.spool == spool));
        of.map_or(Lane::Normal, |segment| segment.lane)
    }

    /// The unsettled positions of a segment that are not in `there`.
    fn open_and_not_in(&self, segment: &Segment, there: &There) -> Vec<Range> {
        let none = contract::SettledRanges::new();
        let mut missing = Vec::new();
        for part in &segment.parts {
            let seen = there.get(&part.spool).unwrap_or(&none);
            for (first, last) in self.index.open_within(*part) {
                for (first, last) in holes(seen, first, last) {
                    if let (Ok(first), Ok(last)) = (SpoolSeq::new(first), SpoolSeq::new(last)) {
                        missing.push((part.spool, first, last));
                    }
                }
            }
        }
        missing
    }

    fn walk(
        &self,
        segment: &Segment,
        visit: impl FnMut(u64, &Commit<'_>) -> Step,
    ) -> std::io::Result<Walked> {
        let file = self.fs.open(&pool::name(segment.slot))?;
        let identity = shared::identity(&self.geometry, segment);
        let range = (HEADER_BYTES as u64, segment.durable_bytes);
        walk(&file, &identity, range, WINDOW_BYTES_MAX, visit)
    }

    fn view(&self, segment: &Segment) -> SegmentView {
        let (mut commits, mut used_bytes, mut gap_at) = (0, HEADER_BYTES as u64, None);
        let mut there = There::new();
        let mut unpacked = Vec::new();
        let mut next: Option<(SpoolId, SpoolSeq)> = None;
        let walked = self.walk(segment, |offset, commit| {
            let raw = commit.raw(&mut unpacked, self.geometry.envelope_bytes_max);
            let count = Envelopes::new(raw.unwrap_or_default(), commit.first).count() as u64;
            let is_whole = count == commit.last.get() - commit.first.get() + 1;
            let follows = commit.flags & FLAG_ZSTD != 0
                || next.is_none_or(|next| next == (commit.spool, commit.first));
            if !is_whole || !follows {
                gap_at.get_or_insert(if is_whole { used_bytes } else { offset });
            }
            if is_whole {
                let ranges = there.entry(commit.spool).or_default();
                ranges.insert(commit.first.get(), commit.last.get());
            }
            commits += 1;
            used_bytes = offset + commit.len_bytes() as u64;
            next = Some((commit.spool, commit.last.next()));
            Step::On
        });
        let missing = self.open_and_not_in(segment, &there);
        let mut is_short = false;
        let (mut envelopes, mut open) = (0, 0);
        for part in &segment.parts {
            let none = contract::SettledRanges::new();
            let seen = there.get(&part.spool).unwrap_or(&none);
            is_short |= !holes(seen, part.first.get(), part.last.get()).is_empty();
            envelopes += part.last.get() - part.first.get() + 1;
            let ranges = self.index.open_within(*part).into_iter();
            open += ranges.map(|(first, last)| last - first + 1).sum::<u64>();
        }
        let file = pool::name(segment.slot);
        let what = match walked {
            Err(error) => Some(DamageKind::Unreadable(error.to_string())),
            Ok(_) if is_short || gap_at.is_some() => Some(DamageKind::Commit),
            Ok(_) if self.damaged.contains(&segment.slot) => Some(DamageKind::Beginning),
            Ok(_) => None,
        };
        // Nobody misses what is settled, and a power cut while its segment is taken for new data
        // looks like damage.
        let what = what.filter(|_| !self.index.is_closed(segment));
        SegmentView {
            is_compacted: segment.kind == Kind::Compacted,
            lane: segment.lane,
            key: segment.key,
            id: segment.id,
            order: segment.place,
            positions: segment
                .parts
                .iter()
                .map(|p| (p.spool, p.first, p.last))
                .collect(),
            commits,
            used_bytes,
            envelopes,
            closed: envelopes - open,
            damage: what.map(|what| Damage {
                file: Some(file.clone()),
                offset: match what {
                    DamageKind::Beginning => 0,
                    _ => gap_at.unwrap_or(used_bytes),
                },
                what,
                missing,
            }),
            file,
        }
    }
}

/// The sizes a spool was made with: its files say how large a segment is.
fn geometry<F: Fs>(fs: &F) -> Result<Geometry, SpoolError> {
    let names = fs.list("").map_err(|source| SpoolError::open("", source))?;
    let lengths = names
        .iter()
        .filter(|name| pool::slot_of(name).is_some())
        .filter_map(|name| fs.open(name).ok()?.len_bytes().ok());
    let segment_bytes = lengths.max();
    let usual = Geometry::for_spool(u64::MAX);
    Ok(Geometry {
        segment_bytes: segment_bytes.unwrap_or(usual.segment_bytes),
        ..usual
    })
}
