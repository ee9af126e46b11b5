//! Which family a tracker is of, guessed from the ids it sends.
//!
//! Why guess: nothing on the wire says it, and the same id means different things. Why so shy: a
//! wrong family names every value wrongly, while no family means the most common reading. What a
//! person set is kept in another column and always wins.
//!
//! Pure. Invariant: more than one family that fits equally well is no guess.

use std::collections::{BTreeMap, BTreeSet};

use super::dictionary::{FAMILIES, Meaning};

/// Fewer different ids than this say nothing.
pub const IDS_MIN: usize = 5;

/// A guess below this is none.
pub const CONFIDENCE_MIN: f64 = 0.9;

/// How likely a tracker is to send an id its family's documents do not list: newer firmware, gaps in
/// the documents.
const UNDOCUMENTED: f64 = 0.02;

/// Ids each family is documented to send.
#[derive(Clone, Debug)]
pub struct Documented(BTreeMap<&'static str, BTreeSet<u16>>);

impl Documented {
    /// From the dictionary.
    #[must_use]
    pub fn new(meanings: &[Meaning]) -> Self {
        let ids = |family: &str| {
            let knows = |m: &&Meaning| m.families.iter().any(|f| f == family);
            meanings.iter().filter(knows).map(|m| m.io_id).collect()
        };
        Self(FAMILIES.map(|family| (family, ids(family))).into())
    }
}

/// A family, and how sure that is, from [`CONFIDENCE_MIN`] to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// One of [`FAMILIES`].
    pub family: &'static str,
    /// Its share of all that could be.
    pub confidence: f64,
}

/// Guesses from every id a tracker has sent.
#[must_use]
pub fn guess(seen: &BTreeSet<u16>, documented: &Documented) -> Option<Guess> {
    // What no document knows speaks for nobody.
    let known: Vec<u16> = seen
        .iter()
        .filter(|id| documented.0.values().any(|ids| ids.contains(id)))
        .copied()
        .collect();
    if known.len() < IDS_MIN {
        return None;
    }
    let weights = documented.0.iter().map(|(family, ids)| {
        let strangers = known.iter().filter(|id| !ids.contains(id)).count();
        (*family, strangers as f64 * UNDOCUMENTED.ln())
    });
    let weights: Vec<(&'static str, f64)> = weights.collect();
    let best = weights.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let all: f64 = weights.iter().map(|(_, sum)| (sum - best.1).exp()).sum();
    let confidence = 1.0 / all;
    (confidence >= CONFIDENCE_MIN).then_some(Guess {
        family: best.0,
        confidence,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::dictionary::{self, CSV};
    use super::*;

    /// What nearly every tracker sends.
    const USUAL: [u16; 10] = [239, 240, 21, 66, 67, 68, 181, 182, 241, 24];

    fn of(ids: &[u16]) -> Option<&'static str> {
        let documented = Documented::new(&dictionary::read(CSV).unwrap());
        let guess = guess(&ids.iter().copied().collect(), &documented)?;
        assert!((CONFIDENCE_MIN..=1.0).contains(&guess.confidence));
        Some(guess.family)
    }

    fn usual_and(more: &[u16]) -> Vec<u16> {
        [&USUAL[..], more].concat()
    }

    #[test]
    fn ids_of_one_family_alone_are_recognised() {
        assert_eq!(of(&usual_and(&[299, 300, 301])), Some("fmx6"));
        assert_eq!(of(&usual_and(&[1220, 1270, 1331])), Some("fmx150"));
        assert_eq!(of(&[641, 1429, 1430, 1431, 1432, 239, 240]), Some("ft"));
        assert_eq!(of(&[801, 802, 803, 804, 805, 239, 240]), Some("tft"));
    }

    #[test]
    fn one_odd_id_does_not_outweigh_many() {
        // One id of the professional line among many of the other: somebody's firmware.
        let mostly = usual_and(&[1220, 1270, 1331, 1332, 1333, 299]);
        assert_eq!(of(&mostly), Some("fmx150"));
    }

    #[test]
    fn what_fits_several_families_is_no_guess() {
        assert_eq!(of(&USUAL), None);
        assert_eq!(of(&usual_and(&[16, 200, 69, 199])), None);
    }

    #[test]
    fn too_little_is_no_guess() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[299, 300, 301, 302]), None);
        assert_eq!(of(&[65_000, 65_001, 65_002, 65_003, 65_004, 65_005]), None);
    }
}
