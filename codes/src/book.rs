//! All pages of one program: found by what was typed, listed, printed for the documentation.
//!
//! Pure: no I/O, no clock.

use std::fmt::Write as _;

use crate::Page;

/// All pages of one program. Programs hold it in a `static`.
#[derive(Clone, Copy, Debug)]
pub struct Book {
    /// The command that prints a page with `explain CODE`: `gateway`.
    pub program: &'static str,
    /// Heading of the documentation page: `Codes`.
    pub title: &'static str,
    /// What the documentation page says after its first sentence, as Markdown in one paragraph.
    pub about: &'static str,
    /// Name and pages of every area, in the order in which `PROGRAM check` goes through them.
    pub areas: &'static [(&'static str, &'static [Page])],
}

impl Book {
    /// Every page.
    pub fn pages(&self) -> impl Iterator<Item = &'static Page> + use<> {
        self.areas.iter().flat_map(|(_, pages)| pages.iter())
    }

    /// The page of a code, however it was typed: `e-red-004`, `RED-004` and `E-RED-4` are understood.
    #[must_use]
    pub fn page(&self, typed: &str) -> Option<&'static Page> {
        let meant = normal(typed);
        let exact = self.pages().find(|page| normal(page.code) == meant);
        exact.or_else(|| {
            self.pages()
                .find(|page| normal(page.code).get(1..) == Some(meant.as_str()))
        })
    }

    /// The pages of the area that was typed, for whoever mistyped the rest.
    #[must_use]
    pub fn near(&self, typed: &str) -> Vec<&'static Page> {
        let typed = typed.to_ascii_uppercase();
        let area = |page: &&Page| page.code.get(2..5).is_some_and(|area| typed.contains(area));
        self.pages().filter(area).collect()
    }

    /// One line for every code, below its area.
    #[must_use]
    pub fn list(&self) -> String {
        let mut text = String::new();
        for (area, pages) in self.areas {
            let _ = writeln!(text, "{area}");
            for page in *pages {
                let _ = writeln!(text, "  {}  {}", page.code, page.title);
            }
        }
        text
    }

    /// The documentation page: a heading, what it is about, one table for each area.
    #[must_use]
    pub fn markdown(&self) -> String {
        let Self {
            program,
            title,
            about,
            areas,
        } = self;
        let mut text = format!(
            "# {title}\n\nEvery error and warning of the {program} with a code, as \
             `{program} explain CODE` prints it. {about}\n"
        );
        for (area, pages) in *areas {
            let _ = writeln!(
                text,
                "\n## {area}\n\n| Code | What | Why, and what to do | Exit |\n|---|---|---|---|"
            );
            for page in *pages {
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
}

fn normal(code: &str) -> String {
    let code = code.trim().to_ascii_uppercase();
    let parts = code.split('-').map(|part| match part.parse::<u32>() {
        Ok(number) => format!("{number:03}"),
        Err(_) => part.to_owned(),
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    // Programs publish their pages, a test has nobody to publish them to.
    #![allow(unreachable_pub)]
    use super::*;

    mod wheel {
        crate::pages! {
            STILL = "E-WHL-004", 3, "the wheel stands still", "The brook is dry.";
            SLOW = "W-WHL-104", 0, "the wheel is slow", "There is weed in the brook.";
        }
    }

    mod stone {
        crate::pages! {
            CRACKED = "E-STN-004", 1, "the stone is cracked", "Buy another.";
        }
    }

    static BOOK: Book = Book {
        program: "mill",
        title: "Codes of the mill",
        about: "`E` stops it.",
        areas: &[("Wheel", wheel::ALL), ("Stone", stone::ALL)],
    };

    #[test]
    fn codes_are_found_however_they_are_typed() {
        for typed in ["E-WHL-004", "e-whl-004", "E-WHL-4", " whl-004 ", "whl-4"] {
            let found = BOOK.page(typed).map(|page| page.code);
            assert_eq!(found, Some("E-WHL-004"), "{typed}");
        }
        let found = BOOK.page("stn-4").map(|page| page.code);
        assert_eq!(found, Some("E-STN-004"));
        for typed in ["", "E", "E-WHL-999", "W-WHL-004", "004", "E-RED-004"] {
            assert!(BOOK.page(typed).is_none(), "{typed}");
        }
    }

    #[test]
    fn whoever_mistypes_the_number_is_told_the_codes_of_the_area() {
        let near = BOOK.near("e-whl-999");
        let near: Vec<&str> = near.iter().map(|page| page.code).collect();
        assert_eq!(near, ["E-WHL-004", "W-WHL-104"]);
        assert!(BOOK.near("E-XYZ-001").is_empty());
    }

    #[test]
    fn list_and_documentation_go_through_the_areas_in_order() {
        assert_eq!(
            BOOK.list(),
            "Wheel\n  E-WHL-004  the wheel stands still\n  W-WHL-104  the wheel is slow\n\
             Stone\n  E-STN-004  the stone is cracked\n"
        );
        let head = "| Code | What | Why, and what to do | Exit |\n|---|---|---|---|";
        assert_eq!(
            BOOK.markdown(),
            format!(
                "# Codes of the mill\n\n\
                 Every error and warning of the mill with a code, as `mill explain CODE` prints it. \
                 `E` stops it.\n\
                 \n## Wheel\n\n{head}\n\
                 | `E-WHL-004` | the wheel stands still | The brook is dry. | 3 |\n\
                 | `W-WHL-104` | the wheel is slow | There is weed in the brook. | – |\n\
                 \n## Stone\n\n{head}\n\
                 | `E-STN-004` | the stone is cracked | Buy another. | 1 |\n"
            )
        );
    }
}
