//! One finding, and how it is shown.
//!
//! Invariant: whether it is good or bad is said by a sign and, for what is bad, a code; colour only
//! repeats it.

use serde_json::{Value, json};

use crate::explain::Page;

/// Good, worth a look, or wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Good,
    /// Not looked at.
    Skipped,
    /// Works, but not as one would wish.
    Warning,
    /// Does not work.
    Error,
}

impl Level {
    fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Skipped => "·",
            Self::Warning => "!",
            Self::Error => "×",
        }
    }

    /// `ok`, `skipped`, `warning`, `error`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// SGR parameters of ECMA-48.
    fn colour(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Skipped => "2",
            Self::Warning => "33",
            Self::Error => "1;31",
        }
    }
}

/// What was found about one thing.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `settings`, `spool`, `board`, `listen`, `certificates`, `redis`, `clock`, `offline`.
    pub group: &'static str,
    /// How it is.
    pub level: Level,
    /// The page of what is not good.
    pub page: Option<&'static Page>,
    /// What is the matter.
    pub what: String,
    /// The setting, file or address.
    pub place: String,
    /// What we saw.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    /// Its part in the exit code.
    #[must_use]
    pub fn exit(&self) -> u8 {
        self.page.map_or(0, |page| page.exit)
    }

    /// A line, and three more when it is not good.
    #[must_use]
    pub fn text(&self, colour: bool) -> String {
        let sign = self.level.sign();
        let sign = if colour {
            format!("\u{1b}[{}m{sign}\u{1b}[0m", self.level.colour())
        } else {
            sign.to_owned()
        };
        let code = self
            .page
            .map_or(String::new(), |page| format!("{}  ", page.code));
        let mut text = format!("{:<13}{sign} {code}{}\n", self.group, self.what);
        for (name, part) in [
            ("where", &self.place),
            ("why", &self.why),
            ("do", &self.remedy),
        ] {
            if !part.is_empty() {
                let part = part.trim_end().replace('\n', "\n                      ");
                text.push_str(&format!("               {name:<7}{part}\n"));
            }
        }
        text
    }

    /// One object.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "group": self.group,
            "level": self.level.as_str(),
            "code": self.page.map(|page| page.code),
            "what": self.what,
            "where": self.place,
            "why": self.why,
            "do": self.remedy,
        })
    }
}

/// The findings of one group.
#[derive(Debug)]
pub struct Look {
    group: &'static str,
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
}

impl Look {
    /// None yet.
    #[must_use]
    pub fn new(group: &'static str) -> Self {
        Self {
            group,
            findings: Vec::new(),
        }
    }

    fn add(&mut self, level: Level, page: Option<&'static Page>, what: String) -> &mut Finding {
        self.findings.push(Finding {
            group: self.group,
            level,
            page,
            what,
            place: String::new(),
            why: String::new(),
            remedy: String::new(),
        });
        self.findings.last_mut().expect("one was pushed")
    }

    /// As it should be.
    pub fn good(&mut self, what: impl Into<String>) {
        self.add(Level::Good, None, what.into());
    }

    /// Could not be looked at, for a reason that is said elsewhere.
    pub fn skipped(&mut self, what: impl Into<String>) {
        self.add(Level::Skipped, None, what.into());
    }

    /// Not good: what, where, why we think so, what to do.
    pub fn bad(
        &mut self,
        page: &'static Page,
        what: impl Into<String>,
        place: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let level = if page.is_error() {
            Level::Error
        } else {
            Level::Warning
        };
        let finding = self.add(level, Some(page), what.into());
        finding.place = place.into();
        finding.why = why.into();
        finding.remedy = remedy.into();
    }

    /// Is there an error among them?
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.level == Level::Error)
    }
}
