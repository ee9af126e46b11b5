//! Pure: no I/O, no clock.
//!
//! Patterns of keys as Redis reads them in `SCAN … MATCH`.
//!
//! Why here as well: Redis tells what matches now, and only we can tell beforehand whether one
//! pattern takes what belongs to another reader.
//!
//! Source: `stringmatchlen` in `util.c` of Redis.

/// Does `key` match? `*` any bytes, `?` one byte, `[a-c]` and `[^a]` one of a class, `\x` x itself.
#[must_use]
pub fn matches(pattern: &str, key: &str) -> bool {
    let (mut pattern, mut key) = (pattern.as_bytes(), key.as_bytes());
    // Behind the last star: what must follow it, and from where on that was tried.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some((b'*', behind)) = pattern.split_first() {
            again = Some((behind, key));
            pattern = behind;
            continue;
        }
        let next = match key.split_first() {
            None if pattern.is_empty() => return true,
            Some((byte, rest)) => one(pattern, *byte).map(|pattern| (pattern, rest)),
            None => None,
        };
        (pattern, key) = match (next, again) {
            (Some(next), _) => next,
            (None, Some((behind, [_, from @ ..]))) => {
                again = Some((behind, from));
                (behind, from)
            }
            _ => return false,
        };
    }
}

/// What is left of the pattern when its first part, which is no star, fits this byte.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'\\', literal, rest @ ..] => (*literal == byte).then_some(rest),
        [b'[', b'^', class @ ..] => {
            let (fits, rest) = in_class(class, byte);
            (!fits).then_some(rest)
        }
        [b'[', class @ ..] => {
            let (fits, rest) = in_class(class, byte);
            fits.then_some(rest)
        }
        [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

/// Is the byte in it, and what stands behind its bracket. One that does not close ends with the pattern.
fn in_class(mut class: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut fits = false;
    loop {
        class = match class {
            [] => return (fits, class),
            [b']', rest @ ..] => return (fits, rest),
            [b'\\', literal, rest @ ..] => {
                fits |= *literal == byte;
                rest
            }
            [low, b'-', high, rest @ ..] => {
                fits |= (*low.min(high)..=*low.max(high)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                fits |= *literal == byte;
                rest
            }
        };
    }
}

/// The text with which every match begins.
#[must_use]
pub fn beginning(pattern: &str) -> String {
    let mut text = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '*' | '?' | '[' => break,
            '\\' => text.extend(letters.next()),
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_redis_says_they_match() {
        let cases = [
            ("mqtt_stream:*", "mqtt_stream:d:t", true),
            ("mqtt_stream:*", "mqtt_stream:", true),
            ("mqtt_stream:*", "mqtt_stream", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*:t", "a:b:t", true),
            ("*:t", "a:b:tt", false),
            ("a*b*c", "a__b__b_c", true),
            ("a*b*c", "a__c__b", false),
            ("[a-c]x", "bx", true),
            ("[c-a]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]x", "x", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            (r"[\]]", "]", true),
            ("[ab", "b", true),
            ("***", "x", true),
        ];
        for (pattern, key, fits) in cases {
            assert_eq!(matches(pattern, key), fits, "{pattern} {key}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let key = "a".repeat(10_000);
        assert!(!matches("*a*a*a*a*a*a*a*a*b", &key));
    }

    #[test]
    fn a_pattern_begins_with_what_is_plain() {
        for (pattern, text) in [
            ("mqtt_stream:*", "mqtt_stream:"),
            ("*", ""),
            (r"a\*b?c", "a*b"),
            ("plain", "plain"),
        ] {
            assert_eq!(beginning(pattern), text);
        }
    }
}
