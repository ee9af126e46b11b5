//! What each stable code of the cloud means and what to do, without a network.
//!
//! Why codes: words change with the release and the language of the reader, a code can be looked
//! up, counted and told on the telephone. Their digits tell errors (`E-…`, from 001) from warnings
//! (`W-…`, from 101). Their areas are none of the gateway's, so that one code never means two things.
//!
//! Invariants: a code never changes its meaning and is never used again; every finding with a code
//! is made from its page, so that no code is without one; `docs/codes-cloud.md` is [`markdown`].

pub mod commands;
pub mod database;
pub mod redis;
pub mod running;
pub mod settings;
pub mod stream;

use std::fmt::Write as _;

/// One code's page.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// `E-RDS-004`, `W-STR-101`.
    pub code: &'static str,
    /// Exit code of a command that ends because of this; 0 for warnings.
    pub exit: u8,
    /// What is the matter, in one line.
    pub title: &'static str,
    /// Why it happens and how to mend it.
    pub text: &'static str,
}

impl Page {
    /// Does it keep the cloud from its work?
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.exit != 0
    }

    /// As `cloud explain CODE` prints it, folded at 88 characters.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}  {}\n\n{}\n", self.code, self.title, folded(self.text));
        if self.is_error() {
            let _ = writeln!(
                text,
                "\nCommands that end because of it exit with {}.",
                self.exit
            );
        }
        text
    }
}

/// Declares an area's pages as constants and lists them.
macro_rules! declare {
    ($($name:ident = $code:literal, $exit:literal, $title:literal, $text:literal;)*) => {
        $(
            #[doc = concat!($code, ": ", $title)]
            pub const $name: $crate::explain::Page = $crate::explain::Page {
                code: $code,
                exit: $exit,
                title: $title,
                text: $text,
            };
        )*
        pub(super) const ALL: &[$crate::explain::Page] = &[$($name),*];
    };
}
use declare;

/// The areas in the order in which `cloud check` goes through them.
const AREAS: [(&str, &[Page]); 6] = [
    ("Settings", settings::ALL),
    ("Redis", redis::ALL),
    ("Streams", stream::ALL),
    ("Database", database::ALL),
    ("Commands", commands::ALL),
    ("A running processor", running::ALL),
];

/// Every page.
pub fn pages() -> impl Iterator<Item = &'static Page> {
    AREAS.iter().flat_map(|(_, pages)| pages.iter())
}

/// The page of a code, however it was typed: `e-rds-004`, `RDS-004` and `E-RDS-4` are understood.
#[must_use]
pub fn page(typed: &str) -> Option<&'static Page> {
    let meant = normal(typed);
    let exact = pages().find(|page| normal(page.code) == meant);
    exact.or_else(|| pages().find(|page| normal(page.code).get(1..) == Some(meant.as_str())))
}

/// The codes of the area that was typed, for whoever mistyped the rest.
#[must_use]
pub fn near(typed: &str) -> Vec<&'static Page> {
    let typed = typed.to_ascii_uppercase();
    let area = |page: &Page| page.code.get(2..5).is_some_and(|area| typed.contains(area));
    pages().filter(|page| area(page)).collect()
}

fn normal(code: &str) -> String {
    let code = code.trim().to_ascii_uppercase();
    let parts = code.split('-').map(|part| match part.parse::<u32>() {
        Ok(number) => format!("{number:03}"),
        Err(_) => part.to_owned(),
    });
    parts.collect()
}

/// One line for every code.
#[must_use]
pub fn list() -> String {
    let mut text = String::new();
    for (area, pages) in AREAS {
        let _ = writeln!(text, "{area}");
        for page in pages {
            let _ = writeln!(text, "  {}  {}", page.code, page.title);
        }
    }
    text
}

/// The page `docs/codes-cloud.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = "# Codes of the cloud\n\n\
        Every error and warning of the cloud with a code, as `cloud explain CODE` prints it. \
        `E` keeps it from its work, `W` is worth a look. The gateway's are [others](codes.md). Made \
        by `UPDATE_DOCS=1 cargo test -p cloud explain`; a test compares.\n"
        .to_owned();
    for (area, pages) in AREAS {
        let _ = writeln!(
            text,
            "\n## {area}\n\n| Code | What | Why, and what to do | Exit |\n|---|---|---|---|"
        );
        for page in pages {
            let exit = if page.is_error() {
                page.exit.to_string()
            } else {
                "–".to_owned()
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {exit} |",
                page.code, page.title, page.text
            );
        }
    }
    text
}

const WIDTH: usize = 88;

fn folded(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("it begins with one");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
