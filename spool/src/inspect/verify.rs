//! What is damaged, also in a spool that is being written.
//!
//! Why more than one look: a segment that is recycled or compacted while it is read looks damaged.
//! Real damage is there at the next look as well, at the same place and with the same positions;
//! a segment that moved on is not.
//!
//! Invariant: what is answered was seen, unchanged, in [`LOOKS`] looks, each with a cursor, headers
//! and commits read anew.

use contract::{Gap, SpoolId};

use super::{Damage, DamageKind, Range, SegmentView, View};
use crate::SpoolError;
use crate::fs::Fs;

/// A writer that takes a segment in every one of so many looks leaves different positions in each.
const LOOKS: u32 = 3;

/// What reading everything brought.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Segments that hold something.
    pub segments: u64,
    /// Commits with a good checksum.
    pub commits: u64,
    /// Positions in the segments.
    pub envelopes: u64,
    /// What is damaged.
    pub damages: Vec<Damage>,
    /// Losses that were found by an opening, or made by it, and are not settled yet.
    pub gaps: Vec<(SpoolId, Gap)>,
}

/// Reads every commit and every envelope of a spool. `look` looks at it anew each time: once when
/// all is well, a few times when something seems to be damaged.
/// # Errors
/// As [`View::open`].
pub fn verify<F: Fs>(
    mut look: impl FnMut() -> Result<View<F>, SpoolError>,
) -> Result<Verified, SpoolError> {
    let mut verified = once(&look()?);
    for _ in 1..LOOKS {
        if verified.damages.is_empty() {
            break;
        }
        let again = once(&look()?);
        verified
            .damages
            .retain(|damage| again.damages.contains(damage));
        verified.gaps = again.gaps;
    }
    Ok(verified)
}

fn once<F: Fs>(view: &View<F>) -> Verified {
    let mut verified = Verified {
        gaps: view.gaps(),
        ..Verified::default()
    };
    let mut nowhere = view.nowhere.clone();
    for mut segment in view.segments() {
        verified.segments += 1;
        verified.commits += segment.commits;
        verified.envelopes += segment.envelopes;
        if let Some(mut damage) = segment.damage.take() {
            let inside = nowhere.extract_if(.., |lost| is_inside(lost, &segment, &damage.what));
            damage.missing.extend(inside);
            verified.damages.push(damage);
        }
    }
    let nowhere = nowhere.into_iter().map(|lost| Damage {
        file: None,
        offset: 0,
        what: DamageKind::Segment,
        missing: vec![lost],
    });
    verified.damages.extend(nowhere);
    verified
}

/// Did these positions stand in this segment? The last segment of an opening is known by what can be
/// read of it alone, so a hole in it is no part of it.
fn is_inside(lost: &Range, segment: &SegmentView, what: &DamageKind) -> bool {
    let (spool, first, last) = lost;
    let of_spool = || segment.positions.iter().filter(|part| part.0 == *spool);
    let begins = of_spool().map(|part| part.1).min();
    let ends = of_spool().map(|part| part.2).max();
    let is_before = *what == DamageKind::Beginning && begins == Some(last.next());
    is_before || (begins.is_some_and(|b| b < *first) && ends.is_some_and(|e| *last < e))
}
