//! One code's page, how it is declared and how it looks on a terminal.
//!
//! Pure: no I/O, no clock.

use std::fmt::Write as _;

/// One code's page.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// `E-RED-004`, `W-CRT-101`: kind, area of three letters, number of three digits.
    pub code: &'static str,
    /// Exit code of a command that ends because of this, 1 to 4; 0 for warnings.
    pub exit: u8,
    /// What is the matter, in one line.
    pub title: &'static str,
    /// Why it happens and how to mend it, in one paragraph.
    pub text: &'static str,
}

impl Page {
    /// Does it keep the program from its work?
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.exit != 0
    }

    /// As `PROGRAM explain CODE` prints it, folded at 88 characters.
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

/// Declares the pages of one area as public constants, `NAME = code, exit, title, text;` each, and
/// `ALL`, which lists them for the module above.
#[macro_export]
macro_rules! pages {
    ($($name:ident = $code:literal, $exit:literal, $title:literal, $text:literal;)*) => {
        $(
            #[doc = concat!($code, ": ", $title)]
            pub const $name: $crate::Page = $crate::Page {
                code: $code,
                exit: $exit,
                title: $title,
                text: $text,
            };
        )*
        pub(super) const ALL: &[$crate::Page] = &[$($name),*];
    };
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
mod tests {
    use super::*;

    #[test]
    fn lines_hold_88_characters_and_no_fewer_than_they_could() {
        let full = "é".repeat(WIDTH - 2);
        assert_eq!(folded(&format!("{full} a b")), format!("{full} a\nb"));
        let long = "x".repeat(WIDTH + 1);
        assert_eq!(folded(&format!("a {long}  b")), format!("a\n{long}\nb"));
        assert_eq!(folded(""), "");
    }

    #[test]
    fn a_page_names_the_exit_code_of_an_error_only() {
        let page = |exit| Page {
            code: "E-RED-004",
            exit,
            title: "a title",
            text: "a text",
        };
        assert_eq!(
            page(3).text(),
            "E-RED-004  a title\n\na text\n\nCommands that end because of it exit with 3.\n"
        );
        assert_eq!(page(0).text(), "E-RED-004  a title\n\na text\n");
    }
}
