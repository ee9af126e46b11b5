//! Pure: no I/O, no clock.
//!
//! One finding, and how it is shown.
//!
//! Invariant: whether it is good or bad is said by a sign and, for what is bad, a code.

use serde_json::{Value, json};

use crate::explain::Page;

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Good,
    /// Could not be looked at, for a reason that is said elsewhere.
    Skipped,
    /// Works, and could be better.
    Odd,
    /// Will not work, or puts data at risk.
    Bad,
}

impl Mark {
    fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Skipped => "·",
            Self::Odd => "!",
            Self::Bad => "✗",
        }
    }

    /// `ok`, `skipped`, `warning`, `failed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Skipped => "skipped",
            Self::Odd => "warning",
            Self::Bad => "failed",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `settings`, `web`, `redis`, `stream`, `sensors`, `database` or `commands`.
    pub part: &'static str,
    /// How it stands.
    pub mark: Mark,
    /// The page of what is not good.
    pub page: Option<&'static Page>,
    /// What was seen, and where.
    pub text: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

impl Finding {
    /// Its part in the exit code.
    #[must_use]
    pub fn exit(&self) -> u8 {
        self.page.map_or(0, |page| page.exit)
    }

    /// A line, and one more with what to do.
    #[must_use]
    pub fn to_text(&self) -> String {
        let sign = self.mark.sign();
        let code = self
            .page
            .map_or(String::new(), |page| format!("{}  ", page.code));
        let mut text = format!("{:9} {sign} {code}{}\n", self.part, self.text);
        if !self.remedy.is_empty() {
            text.push_str(&format!("{:9}   do  {}\n", "", self.remedy));
        }
        text
    }

    /// The same for machines: `code`, `part`, `mark`, `text`, `remedy`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "code": self.page.map(|page| page.code),
            "part": self.part,
            "mark": self.mark.as_str(),
            "text": self.text,
            "remedy": self.remedy,
        })
    }
}

/// What was found in one part.
#[derive(Debug)]
pub struct Look {
    part: &'static str,
    /// In the order looked at.
    pub findings: Vec<Finding>,
}

impl Look {
    /// Nothing looked at yet.
    #[must_use]
    pub fn new(part: &'static str) -> Self {
        Self {
            part,
            findings: Vec::new(),
        }
    }

    fn add(&mut self, mark: Mark, page: Option<&'static Page>, text: String, remedy: String) {
        self.findings.push(Finding {
            part: self.part,
            mark,
            page,
            text,
            remedy,
        });
    }

    /// As it should be.
    pub fn good(&mut self, text: impl Into<String>) {
        self.add(Mark::Good, None, text.into(), String::new());
    }

    /// Could not be looked at, for a reason that is said elsewhere.
    pub fn skipped(&mut self, text: impl Into<String>) {
        self.add(Mark::Skipped, None, text.into(), String::new());
    }

    /// Not good: what and where, and what to do.
    pub fn bad(&mut self, page: &'static Page, text: impl Into<String>, remedy: impl Into<String>) {
        let mark = if page.is_error() {
            Mark::Bad
        } else {
            Mark::Odd
        };
        self.add(mark, Some(page), text.into(), remedy.into());
    }

    /// Codes of what is not good, in order.
    #[cfg(test)]
    pub(crate) fn codes(&self) -> Vec<&'static str> {
        let pages = self.findings.iter().filter_map(|finding| finding.page);
        pages.map(|page| page.code).collect()
    }
}
