//! One file in the three readings the rules judge: as it stands, without comments and insides of
//! literals, and without test modules.
//!
//! Invariant: all readings have the same line ends, so an offset in any of them names one line.

/// Pure by place. Any other file joins by saying so: see [`PURE_MARK`].
const PURE_PLACES: &[&str] = &[
    "codec/src/",
    "contract/src/",
    "settings/src/",
    "gateway/src/session/",
    "gateway/src/session.rs",
    "spool/src/format/",
    "cloud/src/decode/",
    "cloud/src/decode.rs",
    "cloud/src/normalise/",
    "cloud/src/normalise.rs",
];

pub(super) const PURE_MARK: &str = "//! Pure: no I/O, no clock.";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) rule: &'static str,
    pub(super) text: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{}:{}: {}: {}",
            self.path, self.line, self.rule, self.text
        )
    }
}

/// One file in three readings of equal length in lines.
pub(super) struct Source {
    pub(super) path: String,
    /// As it stands.
    pub(super) text: String,
    /// Without comments and insides of strings; empty for anything but Rust.
    pub(super) code: String,
    /// `code` without `#[cfg(test)]` modules.
    pub(super) shipped: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let rust = path.ends_with(".rs");
        let code = if rust { code_only(text) } else { String::new() };
        let shipped = match is_test_file(path) {
            true => String::new(),
            false => without_test_modules(&code),
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            shipped,
            code,
        }
    }

    /// A file that consists of tests: `tests/` beside `src`, or a test module in a file of its own.
    pub(super) fn is_test(&self) -> bool {
        let inner = self.path.split_once('/').map_or("", |(_, inner)| inner);
        inner.starts_with("tests/") || inner.ends_with("/tests.rs") || inner.contains("/tests/")
    }

    pub(super) fn is_shipped(&self) -> bool {
        let inner = self.path.split_once('/').map_or("", |(_, inner)| inner);
        inner.starts_with("src/") && self.path.ends_with(".rs") && !self.is_test()
    }

    pub(super) fn is_pure(&self) -> bool {
        let by_place = PURE_PLACES.iter().any(|place| self.path.starts_with(place));
        let mut header = self.text.lines().take_while(|line| line.starts_with("//!"));
        self.is_shipped() && (by_place || header.any(|line| line.trim_end() == PURE_MARK))
    }

    /// `offset` counts in `self.text`, `self.code` or `self.shipped`: all have the same line ends.
    pub(super) fn finding(&self, reading: &str, offset: usize, rule: &'static str) -> Finding {
        let line = reading[..offset].matches('\n').count();
        let text = self.text.lines().nth(line).unwrap_or("").trim();
        Finding {
            path: self.path.clone(),
            line: line + 1,
            rule,
            text: text.to_owned(),
        }
    }
}

pub(super) fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `needle` stands as a whole word: `redis` in `redis::Client`, not in `redis_key`.
pub(super) fn words<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(needle)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = text[..*at].chars().next_back();
            let after = text[at + needle.len()..].chars().next();
            let runs_on_left = needle.starts_with(is_ident) && before.is_some_and(is_ident);
            let runs_on_right = needle.ends_with(is_ident) && after.is_some_and(is_ident);
            !runs_on_left && !runs_on_right
        })
}

/// Blanks comments and the insides of literals; keeps line ends and quotes.
pub(super) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let start = i;
        let starts_word = start == 0 || !is_ident(at(start - 1));
        let end = match at(i) {
            '/' if at(i + 1) == '/' => line_end(&chars, i),
            '/' if at(i + 1) == '*' => block_comment_end(&chars, i),
            '"' => string_end(&chars, i + 1),
            'r' if starts_word || (start > 0 && matches!(at(start - 1), 'b' | 'c')) => {
                raw_string_end(&chars, i + 1).unwrap_or(i)
            }
            '\'' if at(i + 1) == '\\' => 1 + find(&chars, i + 3, '\''),
            '\'' if at(i + 2) == '\'' => i + 3,
            _ => i,
        };
        if end == start {
            out.push(at(i));
            i += 1;
            continue;
        }
        let quoted = at(start) != '/';
        for (index, c) in chars.iter().enumerate().take(end).skip(start) {
            let edge = quoted && (index == start || index + 1 == end);
            out.push(if *c == '\n' || edge { *c } else { ' ' });
        }
        i = end;
    }
    out
}

fn find(chars: &[char], from: usize, wanted: char) -> usize {
    let found = chars.iter().skip(from).position(|c| *c == wanted);
    found.map_or(chars.len() - 1, |found| from + found)
}

fn line_end(chars: &[char], from: usize) -> usize {
    let found = chars.iter().skip(from).position(|c| *c == '\n');
    found.map_or(chars.len(), |found| from + found)
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let (mut depth, mut i) = (0, from);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut i: usize) -> usize {
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// `from` stands behind the `r`. `None` when no raw string begins here (`r#type`, `render`).
fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars.iter().skip(from).take_while(|c| **c == '#').count();
    if chars.get(from + hashes) != Some(&'"') {
        return None;
    }
    let mut i = from + hashes + 1;
    loop {
        i = find(chars, i, '"') + 1;
        let closing = chars.iter().skip(i).take_while(|c| **c == '#').count();
        if closing >= hashes || i >= chars.len() {
            return Some((i + hashes).min(chars.len()));
        }
    }
}

/// A test module in a file of its own, as its parent declares with `#[cfg(test)] mod name;`.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// Blanks `#[cfg(test)] mod name { … }`, also with `pub(crate)`, as rooms lend test data. Expects blanked code, where braces pair.
fn without_test_modules(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    for (at, _) in code.match_indices(MARK) {
        let item = code[at + MARK.len()..].trim_start();
        let item = item.strip_prefix("pub(crate) ").unwrap_or(item);
        if !item.starts_with("mod ") {
            continue;
        }
        let Some(open) = code[at..].find(['{', ';']).map(|open| at + open) else {
            continue;
        };
        if code[open..].starts_with('{') {
            let end = closing_brace(code, open);
            let blank = |c: char| {
                if c == '\n' {
                    "\n".into()
                } else {
                    " ".repeat(c.len_utf8())
                }
            };
            let blanked: String = code[at..end].chars().map(blank).collect();
            out.replace_range(at..end, &blanked);
        }
    }
    out
}

/// Behind the brace that closes the one at `open`.
pub(super) fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}
