//! Which name was probably meant, or none: a wrong suggestion costs more than no suggestion.
//!
//! Invariant: what shares nothing with a key but its table gets no suggestion.

use crate::Key;

/// Share of letters that must survive within one name: `ulr` → `url` has 2/3, `id` → `ip` only 1/2.
const WORD_LIKENESS_MIN: f64 = 0.6;

/// The same for a whole dotted name, stricter because equal tables already look alike.
const NAME_LIKENESS_MIN: f64 = 0.75;

/// The candidate closest to `word`, when it is close.
pub(crate) fn word<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    closest(word, candidates, WORD_LIKENESS_MIN)
}

/// The key closest to a dotted name: in its own table first, then anywhere, then the same last word
/// in another table when only one key has it (`gateway.url` → `uplink.url`).
pub(crate) fn key(name: &str, keys: &[Key]) -> Option<&'static str> {
    let (table, leaf) = split(name);
    let siblings = keys.iter().filter(|key| split(key.name).0 == table);
    let sibling = word(leaf, siblings.clone().map(|key| split(key.name).1));
    if let Some(found) = sibling {
        return siblings
            .map(|key| key.name)
            .find(|name| split(name).1 == found);
    }
    if let Some(found) = closest(name, keys.iter().map(|key| key.name), NAME_LIKENESS_MIN)
        .filter(|found| split(found).0 != table)
    {
        return Some(found);
    }
    let mut same_leaf = keys.iter().filter(|key| split(key.name).1 == leaf);
    match (same_leaf.next(), same_leaf.next()) {
        (Some(only), None) => Some(only.name),
        _ => None,
    }
}

/// The table closest to a dotted table name.
pub(crate) fn table(name: &str, keys: &[Key]) -> Option<&'static str> {
    let tables = keys.iter().flat_map(|key| {
        let dots = key.name.match_indices('.');
        dots.map(|(at, _)| &key.name[..at])
    });
    word(name, tables)
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    likeness_min: f64,
) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(&word, name), name))
        .filter(|(likeness, _)| *likeness >= likeness_min)
        // The first of equals, so that the answer follows the table and not chance.
        .fold(None, |best: Option<(f64, &str)>, next| match best {
            Some(best) if best.0 >= next.0 => Some(best),
            _ => Some(next),
        })
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEYS: &[Key] = &[
        Key::new("gateway.id", ""),
        Key::new("listen.tcp", ""),
        Key::new("listen.udp", ""),
        Key::new("spool.dir", ""),
        Key::new("spool.bytes_max", ""),
        Key::new("uplink.url", ""),
        Key::new("uplink.cert", ""),
        Key::new("uplink.ca", ""),
        Key::new("http.listen", ""),
    ];

    #[test]
    fn slips_of_the_finger_find_their_key() {
        for (typed, meant) in [
            ("uplink.ulr", "uplink.url"),
            ("uplink.ur", "uplink.url"),
            ("uplink.URL", "uplink.url"),
            ("uplink.cret", "uplink.cert"),
            ("spool.byte_max", "spool.bytes_max"),
            ("uplnk.url", "uplink.url"),
            ("uplnk.ulr", "uplink.url"),
            ("sppol.bytes_max", "spool.bytes_max"),
            ("gateway.url", "uplink.url"),
            ("bytes_max", "spool.bytes_max"),
        ] {
            assert_eq!(key(typed, KEYS), Some(meant), "{typed}");
        }
    }

    #[test]
    fn nonsense_gets_no_suggestion() {
        for typed in [
            "uplink.xyzzy",
            "spool.colour",
            "a.b",
            "q",
            "",
            "uplink.",
            "gateway.name",
            "html.lister",
        ] {
            assert_eq!(key(typed, KEYS), None, "{typed}");
        }
        assert_eq!(table("banana", KEYS), None);
        assert_eq!(word("quux", ["open", "list", "learn"]), None);
    }

    #[test]
    fn every_single_slip_in_every_key_is_found() {
        for wanted in KEYS.iter().filter(|key| split(key.name).1.len() >= 3) {
            let start = wanted.name.len() - split(wanted.name).1.len();
            for at in start..wanted.name.len() - 1 {
                let mut letters: Vec<char> = wanted.name.chars().collect();
                letters.swap(at, at + 1);
                let swapped: String = letters.into_iter().collect();
                assert_eq!(key(&swapped, KEYS), Some(wanted.name), "{swapped}");
            }
        }
    }

    #[test]
    fn tables_have_their_own_suggestions() {
        assert_eq!(table("uplnk", KEYS), Some("uplink"));
        assert_eq!(table("Spool", KEYS), Some("spool"));
    }
}
