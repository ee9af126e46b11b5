//! How far the segments that were found reach, and which of them holds a position that stands in
//! several.
//!
//! Why headers alone for most: a spool of a gigabyte must open in less than a second. A segment
//! that has a successor under the same key is whole up to where the successor begins, because a
//! successor is only begun when everything before it was acknowledged. Damage inside such a
//! segment is found when it is read.
//!
//! Invariant: nothing is written here.

use std::collections::BTreeMap;
use std::io;

use contract::id::NUMBER_MAX;
use contract::{SettledRanges, SpoolId, SpoolSeq};

use super::scan::{Found, Free, Headed, Tail, patiently};
use crate::cursor::CursorState;
use crate::format::{Commit, FLAG_LAST_OF_SOURCE, HEADER_BYTES, Identity, Kind, SegmentHeader};
use crate::fs::Fs;
use crate::index::{Part, Segment, State, holes, order_of};
use crate::mutant::{Mutant, active};
use crate::shared::body_bytes_max;
use crate::walk::{Step, WINDOW_BYTES_MAX, walk_with_marks};
use crate::{Geometry, pool};

/// How far each segment reaches.
pub(super) fn measure<F: Fs>(
    fs: &F,
    geometry: &Geometry,
    cursor: &CursorState,
    headed: Vec<Headed>,
    found: &mut Found,
) {
    let mut logs: BTreeMap<SpoolId, Vec<Headed>> = BTreeMap::new();
    let mut compacted = Vec::new();
    for h in headed {
        match h.header.kind {
            Kind::Log => logs.entry(h.header.key).or_default().push(h),
            Kind::Compacted => measure_compacted(fs, geometry, &h, found, &mut compacted),
            Kind::Free => found.free.push(h.free()),
        }
    }
    for (key, mut of_key) in logs {
        // A repeated commit stands where it stood: behind it may be a segment that could not be
        // read when it was repeated.
        of_key.sort_by_key(|h| (h.header.order, h.header.id));
        let entry = cursor.entries.get(&key).cloned().unwrap_or_default();
        let (durable_to, closed) = (entry.tail, entry.closed());
        let of_key = prefer_whole(fs, geometry, of_key, found);
        let mut of_key = prefer_originals(fs, geometry, durable_to, of_key, found);
        // A header alone says nothing about the segment before it: its commit may be missing
        // because it was cut, and what it was to repeat stands in that segment.
        while let Some(h) = of_key.last() {
            let is_done = measure_tail(fs, geometry, h, &closed, found);
            if is_done {
                break;
            }
            of_key.pop();
        }
        // A commit that was repeated stands behind a group that was tried later and never kept, so
        // of all later segments the lowest beginning counts.
        let mut begins: Vec<SpoolSeq> = of_key.iter().map(|h| h.header.first).collect();
        for at in (1..begins.len()).rev() {
            begins[at - 1] = begins[at - 1].min(begins[at]);
        }
        for (h, &next) in of_key.iter().zip(begins.iter().skip(1)) {
            if next <= h.header.first {
                // Its first group failed, or was repeated by a later opening.
                found.held.push(h.free());
                continue;
            }
            let part = Part {
                spool: h.header.key,
                first: h.header.first,
                last: SpoolSeq::new(next.get() - 1).unwrap_or(h.header.first),
            };
            let overlaps = |other: &Part| {
                part.spool == other.spool && part.first <= other.last && other.first <= part.last
            };
            if compacted.iter().any(overlaps) {
                // The segment that came after it may be compacted and free by now, or a
                // compaction of this one was not finished: only its commits know how far it goes.
                measure_commits(fs, geometry, h, part.last, found);
            } else {
                found.segments.push(segment(h, vec![part], h.file_bytes));
            }
        }
    }
    prefer_sources(found);
    // Of one place the earlier positions come first.
    let first = |s: &Segment| s.parts.first().map(|part| part.first);
    found.segments.sort_by_key(|s| (s.place, first(s), s.id));
}

/// Puts segments with a torn header aside while what they hold stands in a whole one. Nobody was ever told
/// that it is durable there, and its place is not known: where a last commit was to be repeated and could
/// not be written, the torn copy would count as newer than the one that could.
fn prefer_whole<F: Fs>(
    fs: &F,
    geometry: &Geometry,
    of_key: Vec<Headed>,
    found: &mut Found,
) -> Vec<Headed> {
    let reaches = |h: &Headed| {
        let mut last = None;
        let walked = walk_whole(fs, geometry, h, |commit, _| last = Some(commit.last));
        walked.ok().and(last)
    };
    let (whole, torn): (Vec<_>, Vec<_>) = of_key.iter().partition(|h| !h.is_torn);
    let is_spare = |torn: &&Headed| {
        let firsts = whole.iter().map(|h| h.header.first);
        let nearest = firsts.filter(|first| *first <= torn.header.first).max();
        let mut beside = whole.iter().filter(|h| Some(h.header.first) == nearest);
        reaches(torn).is_some_and(|last| beside.any(|h| reaches(h) >= Some(last)))
    };
    let spare: Vec<u64> = torn.into_iter().filter(is_spare).map(|h| h.slot).collect();
    let (spare, kept) = of_key.into_iter().partition(|h| spare.contains(&h.slot));
    let spare: Vec<Headed> = spare;
    found.held.extend(spare.iter().map(Headed::free));
    kept
}

/// Puts copies of a last commit aside while the commit can be read where its own writer put it. If it
/// was ever acknowledged there, it is durable there; of a copy that is known only when the cursor says
/// that the key was durable to its end.
fn prefer_originals<F: Fs>(
    fs: &F,
    geometry: &Geometry,
    durable_to: u64,
    of_key: Vec<Headed>,
    found: &mut Found,
) -> Vec<Headed> {
    let last_place = of_key.last().map(|h| h.header.order);
    let mut kept: Vec<Headed> = Vec::with_capacity(of_key.len());
    for h in of_key {
        let original = kept.last().filter(|o| o.header.order == h.header.order);
        let is_proven = Some(h.header.order) == last_place && durable_to >= h.header.first.get();
        let is_spare = original.is_some_and(|original| {
            original.header.id == original.header.order
                && !is_proven
                && holds(fs, geometry, original, h.header.first)
                && !active(Mutant::TrustCopyOfFailedSync)
        });
        if is_spare {
            found.held.push(h.free());
        } else {
            kept.push(h);
        }
    }
    kept
}

/// Can a commit that begins at `first` be read in this segment?
fn holds<F: Fs>(fs: &F, geometry: &Geometry, h: &Headed, first: SpoolSeq) -> bool {
    let mut holds = false;
    let walked = walk_whole(fs, geometry, h, |commit, _| holds |= commit.first == first);
    walked.is_ok() && holds
}

/// Takes out of the compacted segments what a source still holds, or a later compacted segment (the
/// source was there when that was written, so the earlier group may be in memory alone), and frees
/// those that hold nothing else.
fn prefer_sources(found: &mut Found) {
    let mut there: BTreeMap<SpoolId, SettledRanges> = BTreeMap::new();
    let note = |there: &mut BTreeMap<SpoolId, SettledRanges>, part: &Part| {
        let ranges = there.entry(part.spool).or_default();
        ranges.insert(part.first.get(), part.last.get());
    };
    let logs = found.segments.iter().filter(|s| s.kind == Kind::Log);
    let logs = logs.filter(|_| !active(Mutant::TrustPartOfGroup));
    logs.flat_map(|s| &s.parts)
        .for_each(|part| note(&mut there, part));
    let compacted = found
        .segments
        .iter_mut()
        .filter(|s| s.kind == Kind::Compacted);
    let mut newest_first: Vec<_> = compacted.collect();
    newest_first.sort_by_key(|s| std::cmp::Reverse(s.id));
    for segment in newest_first {
        let none = SettledRanges::new();
        let left = segment.parts.iter().flat_map(|part| {
            let elsewhere = there.get(&part.spool).unwrap_or(&none);
            part.cut(holes(elsewhere, part.first.get(), part.last.get()))
        });
        let left: Vec<_> = left.collect();
        segment.shadows = segment.parts.iter().map(|part| part.spool).collect();
        left.iter().for_each(|part| note(&mut there, part));
        segment.parts = left;
    }
    let emptied = found.segments.extract_if(.., |s| s.parts.is_empty());
    let free = emptied.map(|s| Free {
        slot: s.slot,
        header: SegmentHeader {
            // Its groups must never be found again.
            kind: Kind::Free,
            lane: s.lane,
            key: s.key,
            id: s.id,
            order: s.place,
            first: SpoolSeq::FIRST,
        },
        file_bytes: s.file_bytes,
    });
    let free: Vec<_> = free.collect();
    found.free.extend(free);
}

/// Takes what the commits of a segment say for what it holds. Whatever a compacted segment says,
/// the source counts while it is there: nobody knows whether the group that was to take its place
/// is on the disk.
fn measure_commits<F: Fs>(
    fs: &F,
    geometry: &Geometry,
    h: &Headed,
    last: SpoolSeq,
    found: &mut Found,
) {
    let mut parts = Vec::new();
    // What the next segment repeats counts there.
    let walked = walk_whole(fs, geometry, h, |commit, _| {
        if commit.last <= last {
            push(&mut parts, commit);
        }
    });
    match walked {
        Ok(_) if parts.is_empty() => found.free.push(h.free()),
        Ok((end, _)) => {
            let mut segment = segment(h, parts, end);
            segment.judged = true;
            found.segments.push(segment);
        }
        Err(source) => {
            tracing::error!(file = pool::name(h.slot), %source, "segment cannot be read; it is left alone until the next start");
            found.is_partial = true;
            found.strangers.push(pool::name(h.slot));
        }
    }
}

/// Searches the end of a key's last segment; false when nothing stands in it. What is missing of what
/// the cursor calls `closed` is no damage: its segment was about to be recycled.
fn measure_tail<F: Fs>(
    fs: &F,
    geometry: &Geometry,
    h: &Headed,
    closed: &SettledRanges,
    found: &mut Found,
) -> bool {
    let (mut parts, mut first_missing, mut last) = (Vec::new(), false, None);
    let walked = walk_whole(fs, geometry, h, |commit, end| {
        first_missing |= parts.is_empty() && commit.first > h.header.first;
        push(&mut parts, commit);
        last = Some(Tail {
            id: h.header.id,
            offset: end - commit.len_bytes() as u64,
            len_bytes: commit.len_bytes(),
            part: Part {
                spool: commit.spool,
                first: commit.first,
                last: commit.last,
            },
        });
    });
    let (end, skipped) = match walked {
        Ok(walked) => walked,
        Err(source) => {
            tracing::error!(file = pool::name(h.slot), %source, "segment cannot be read; it is left alone until the next start");
            found.is_partial = true;
            found.strangers.push(pool::name(h.slot));
            found.blind.push(Part {
                spool: h.header.key,
                first: h.header.first,
                last: SpoolSeq::new(NUMBER_MAX).unwrap_or(h.header.first),
            });
            return true;
        }
    };
    if parts.is_empty() {
        found.free.push(h.free());
        return false;
    }
    let mut there = SettledRanges::new();
    for part in &parts {
        there.insert(part.first.get(), part.last.get());
    }
    let missing = holes(&there, h.header.first.get(), there.high_edge());
    let is_missed = |&(first, last): &(u64, u64)| !closed.contains_all(first, last);
    let nobody_misses_it = !missing.is_empty() && !missing.iter().any(is_missed);
    if (skipped || first_missing) && !nobody_misses_it {
        found.damaged.push((h.slot, h.header.id, h.header.key));
    }
    let mut segment = segment(h, parts, end);
    segment.judged = true;
    found.segments.push(segment);
    found.tails.extend(last);
    true
}

/// What a segment that was held back holds.
pub(super) enum Held {
    /// Something, with its last commit.
    Something(Segment, Tail),
    /// No commit.
    Nothing,
    /// It cannot be read now; what it holds may be all there is.
    Unreadable,
}

/// Looks once more at a segment that was held back, because the later one is gone.
pub(super) fn measure_held<F: Fs>(fs: &F, geometry: &Geometry, held: &Free) -> Held {
    let mut found = Found::default();
    let headed = Headed {
        slot: held.slot,
        header: held.header,
        file_bytes: held.file_bytes,
        is_torn: false,
    };
    measure_tail(fs, geometry, &headed, &SettledRanges::new(), &mut found);
    match found.segments.pop().zip(found.tails.pop()) {
        Some((segment, tail)) => Held::Something(segment, tail),
        None if found.is_partial => Held::Unreadable,
        None => Held::Nothing,
    }
}

/// Of a compacted segment counts what a whole group of blocks holds; what stands behind the last
/// whole group was never relied on, its sources are still there.
fn measure_compacted<F: Fs>(
    fs: &F,
    geometry: &Geometry,
    h: &Headed,
    found: &mut Found,
    compacted: &mut Vec<Part>,
) {
    let (mut whole, mut group, mut end) = (Vec::new(), Vec::new(), HEADER_BYTES as u64);
    let mut ends_nothing = false;
    let walked = walk_whole(fs, geometry, h, |commit, commit_end| {
        if commit.is_end_mark() {
            ends_nothing |= whole.is_empty() && group.is_empty();
        } else {
            push(&mut group, commit);
        }
        let is_end = commit.is_end_mark() || commit.flags & FLAG_LAST_OF_SOURCE != 0;
        if is_end || active(Mutant::TrustPartOfGroup) {
            whole.append(&mut group);
            end = commit_end;
        }
    });
    if let Err(source) = &walked {
        tracing::error!(file = pool::name(h.slot), %source, "segment cannot be read; it is left alone until the next start");
        found.is_partial = true;
        found.strangers.push(pool::name(h.slot));
    } else if whole.is_empty() {
        if ends_nothing {
            // Its only block is damaged.
            found.damaged.push((h.slot, h.header.id, h.header.key));
        }
        found.free.push(h.free());
    } else {
        compacted.extend(whole.iter().copied());
        let mut segment = segment(h, whole, end);
        segment.judged = true;
        found.segments.push(segment);
    }
}

/// Visits every commit with its end; answers the end of the last one and whether a damaged place
/// lies before it.
fn walk_whole<F: Fs>(
    fs: &F,
    geometry: &Geometry,
    h: &Headed,
    mut visit: impl FnMut(&Commit<'_>, u64),
) -> io::Result<(u64, bool)> {
    let identity = Identity {
        key: h.header.key,
        segment: h.header.id,
        body_bytes_max: body_bytes_max(geometry),
    };
    let file = patiently(|| fs.open(&pool::name(h.slot)))?;
    let range = (HEADER_BYTES as u64, h.file_bytes);
    let walked = walk_with_marks(&file, &identity, range, WINDOW_BYTES_MAX, |at, commit| {
        visit(commit, at + commit.len_bytes() as u64);
        Step::On
    })?;
    Ok((walked.end, walked.skipped))
}

/// Adds the positions of a commit to those before it.
fn push(parts: &mut Vec<Part>, commit: &Commit<'_>) {
    match parts.last_mut() {
        Some(last) if last.spool == commit.spool && last.last.next() == commit.first => {
            last.last = commit.last;
        }
        _ => parts.push(Part {
            spool: commit.spool,
            first: commit.first,
            last: commit.last,
        }),
    }
}

fn segment(h: &Headed, parts: Vec<Part>, durable_bytes: u64) -> Segment {
    Segment {
        id: h.header.id,
        order: order_of(h.header.order),
        place: h.header.order,
        kind: h.header.kind,
        lane: h.header.lane,
        key: h.header.key,
        slot: h.slot,
        state: State::Sealed,
        parts,
        durable_bytes,
        file_bytes: h.file_bytes,
        judged: false,
        shadows: Vec::new(),
    }
}
