//! What keeps a [`Book`] true: questions that each program's tests ask about their own book.
//!
//! Why here and not behind a feature: a feature for tests would have every program built twice. No
//! program calls this, so nothing of it is linked.
//!
//! Invariants: only [`sources`] and [`kept`] touch files; every other answer is a list of what is
//! wrong, empty if nothing is.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Book, Page};

/// A Rust source file.
#[derive(Clone, Debug)]
pub struct Source {
    /// As it was found: the directory that was asked for, and what is below.
    pub path: PathBuf,
    /// The whole file.
    pub text: String,
}

impl Source {
    /// Where the tests in it begin: at once in a file of tests, with the first test module in one
    /// that ships (its path goes through `src`).
    fn tests(&self) -> &str {
        let ships = self.has_part("src");
        let from = ships.then(|| self.text.find("#[cfg(test)]").unwrap_or(self.text.len()));
        &self.text[from.unwrap_or(0)..]
    }

    fn has_part(&self, name: &str) -> bool {
        self.path.components().any(|part| part.as_os_str() == name)
    }

    /// Does it lie in the directory that declares the pages?
    fn declares(&self) -> bool {
        self.path
            .parent()
            .is_some_and(|dir| dir.ends_with("explain"))
    }
}

/// Every `.rs` file below these directories, however deep.
///
/// # Errors
/// A directory or file cannot be read.
pub fn sources(dirs: &[PathBuf]) -> io::Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut left = dirs.to_vec();
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = std::fs::read_to_string(&path)?;
                found.push(Source { path, text });
            }
        }
    }
    Ok(found)
}

/// `E-ABC-123` and `W-ABC-123` in a text.
#[must_use]
pub fn codes_in(text: &str) -> BTreeSet<String> {
    let is_code = |code: &&[u8]| {
        matches!(code[0], b'E' | b'W')
            && code[1] == b'-'
            && code[2..5].iter().all(u8::is_ascii_uppercase)
            && code[5] == b'-'
            && code[6..9].iter().all(u8::is_ascii_digit)
    };
    let found = text.as_bytes().windows(9).filter(is_code);
    found
        .map(|code| code.iter().copied().map(char::from).collect())
        .collect()
}

/// The codes that have a page.
#[must_use]
pub fn codes_of(book: &Book) -> BTreeSet<String> {
    book.pages().map(|page| page.code.to_owned()).collect()
}

/// Pages that break a rule, and codes with two pages.
#[must_use]
pub fn malformed(book: &Book) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for page in book.pages() {
        if !seen.insert(page.code) {
            wrong.push(format!("{} has two pages", page.code));
        }
        let complaint = complaint(page);
        wrong.extend(complaint.map(|complaint| format!("{}: {complaint}", page.code)));
    }
    wrong
}

fn complaint(page: &Page) -> Option<&'static str> {
    let is_code = page.code.len() == 9 && codes_in(page.code).contains(page.code);
    if !is_code {
        return Some("no code");
    }
    if page.code.starts_with('E') != page.is_error() {
        return Some("errors have an exit code, warnings have none");
    }
    if page.code.starts_with('W') != (&page.code[6..] > "100") {
        return Some("warnings begin at 101, errors stay below");
    }
    if page.exit > 4 {
        return Some("exit codes end at 4");
    }
    if page.text.len() <= 80 {
        return Some("too short to help anybody");
    }
    let has_bar = page.text.contains('|') || page.title.contains('|');
    has_bar.then_some("a bar would end its cell in the documentation")
}

/// Pages whose constant nothing uses: codes nobody can ever see.
///
/// A page of `explain/redis.rs` is used as `pages::NAME` by a file that imports `redis as …` or
/// lies below a directory `redis`.
#[must_use]
pub fn unused(book: &Book, program: &[Source]) -> Vec<String> {
    let (pages, users): (Vec<&Source>, Vec<&Source>) =
        program.iter().partition(|source| source.declares());
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in pages {
        let area = source.path.file_stem().and_then(|stem| stem.to_str());
        let area = area.unwrap_or_default();
        let imported = format!("{area} as ");
        let users: Vec<_> = users
            .iter()
            .filter(|user| user.text.contains(&imported) || user.has_part(area))
            .collect();
        for name in constants(&source.text) {
            seen += 1;
            let used = format!("pages::{name}");
            if !users.iter().any(|user| has_word(&user.text, &used)) {
                wrong.push(format!(
                    "{name} of {} is used nowhere",
                    source.path.display()
                ));
            }
        }
    }
    let pages = book.pages().count();
    if seen != pages {
        wrong.push(format!("{seen} constants were found for {pages} pages"));
    }
    wrong
}

/// The names that a file gives its pages.
fn constants(text: &str) -> impl Iterator<Item = &str> {
    let names = text
        .lines()
        .filter_map(|line| line.trim().split_once(" = \""));
    names
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
}

fn has_word(text: &str, word: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    text.match_indices(word)
        .any(|(at, it)| !goes_on(&text[at + it.len()..]))
}

/// Codes that no test names. `asking`, the file of the test that asks, does not count.
#[must_use]
pub fn untested(book: &Book, tests: &[Source], asking: &Path) -> Vec<String> {
    let others = tests.iter().filter(|source| !source.path.ends_with(asking));
    let tested: BTreeSet<String> = others.flat_map(|source| codes_in(source.tests())).collect();
    codes_of(book).difference(&tested).cloned().collect()
}

/// What a documentation page says, nothing if there is none; with `UPDATE_DOCS` in the environment
/// it is made anew before.
///
/// # Errors
/// The page cannot be written or read.
pub fn kept(page: &Path, wanted: &str) -> io::Result<String> {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(page, wanted)?;
    }
    match std::fs::read_to_string(page) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "A text that helps: more than eighty bytes of why it happens and of how it is mended again.";

    fn page(code: &'static str, exit: u8, title: &'static str, text: &'static str) -> Page {
        Page {
            code,
            exit,
            title,
            text,
        }
    }

    fn book(pages: Vec<Page>) -> Book {
        Book {
            program: "mill",
            title: "",
            about: "",
            areas: Vec::leak(vec![("", &*Vec::leak(pages))]),
        }
    }

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.into(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn codes_are_found_in_any_text() {
        let found = codes_in("éE-ABC-123 (W-ABC-124), xE-ABC-1234 e-abc-125 E-AB1-126 E-ABC-12x");
        assert_eq!(found.iter().collect::<Vec<_>>(), ["E-ABC-123", "W-ABC-124"]);
        assert!(codes_in("E-ABC").is_empty());
    }

    #[test]
    fn every_rule_of_a_page_is_asked() {
        let good = [
            page("E-ABC-001", 4, "t", LONG),
            page("W-ABC-101", 0, "t", LONG),
        ];
        assert!(malformed(&book(good.to_vec())).is_empty());
        for bad in [
            page("E-ABC-1", 1, "t", LONG),
            page("E-ABC-0011", 1, "t", LONG),
            page("E-ABC-001", 0, "t", LONG),
            page("W-ABC-101", 1, "t", LONG),
            page("W-ABC-100", 0, "t", LONG),
            page("E-ABC-101", 1, "t", LONG),
            page("E-ABC-001", 5, "t", LONG),
            page("E-ABC-001", 1, "t", "short"),
            page("E-ABC-001", 1, "a|b", LONG),
        ] {
            let found = malformed(&book(vec![bad]));
            assert_eq!(found.len(), 1, "{bad:?}: {found:?}");
        }
        let twice = malformed(&book(vec![good[0], good[1], good[0]]));
        assert_eq!(twice, ["E-ABC-001 has two pages"]);
    }

    #[test]
    fn a_page_is_used_by_whoever_names_it_in_its_area() {
        let book = book(vec![page("E-WHL-001", 1, "t", LONG)]);
        let pages = "codes::pages! {\n    STILL = \"E-WHL-001\", 1, \"t\", \"…\";\n}";
        let with = |path: &str, text: &str| {
            unused(
                &book,
                &[
                    source("mill/src/explain/wheel.rs", pages),
                    source(path, text),
                ],
            )
        };
        let import = "use explain::wheel as pages;\n";
        assert!(with("mill/src/a.rs", &format!("{import}f(pages::STILL)")).is_empty());
        assert!(with("mill/src/wheel/a.rs", "f(&pages::STILL);").is_empty());
        for (path, text) in [
            ("mill/src/a.rs", "f(pages::STILL)".to_owned()),
            ("mill/src/stone/a.rs", "f(pages::STILL)".to_owned()),
            ("mill/src/a.rs", format!("{import}f(pages::STILL_HERE)")),
            ("mill/src/a.rs", format!("{import}STILL")),
            ("mill/src/explain/a.rs", format!("{import}pages::STILL")),
        ] {
            assert_eq!(with(path, &text).len(), 1, "{path}: {text}");
        }
        // A page that is listed and declared nowhere would never be asked about.
        assert_eq!(unused(&book, &[]).len(), 1);
    }

    #[test]
    fn a_code_is_tested_where_tests_are() {
        let book = book(vec![page("E-WHL-001", 1, "t", LONG)]);
        let asking = Path::new("explain/tests.rs");
        let with = |path: &str, text: &str| untested(&book, &[source(path, text)], asking);
        assert!(with("tests/tests/a.rs", "E-WHL-001").is_empty());
        assert!(with("mill/src/a.rs", "#[cfg(test)]\nmod tests { \"E-WHL-001\" }").is_empty());
        for (path, text) in [
            ("tests/tests/a.rs", "E-WHL-002"),
            ("mill/src/a.rs", "E-WHL-001"),
            ("mill/src/a.rs", "E-WHL-001\n#[cfg(test)]\nmod tests;"),
            ("tests/explain/tests.rs", "E-WHL-001"),
        ] {
            assert_eq!(with(path, text), ["E-WHL-001"], "{path}: {text}");
        }
    }
}
