//! Pure: no I/O, no clock.
//!
//! May this IMEI talk? Asked once per login.
//!
//! Invariants: a refusal names what to change to let the tracker in; a denied IMEI stays out in
//! every mode.

use std::collections::HashSet;

use codec::{IMEI_DIGITS, Imei};
use thiserror::Error;

/// IMEIs that may, and IMEIs that may not, whatever the mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImeiList {
    allowed: HashSet<Imei>,
    denied: HashSet<Imei>,
}

/// What happens to who is not on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everybody with a well-formed IMEI may talk.
    Open,
    /// Nobody else may.
    List,
    /// Everybody is put on it while the window is open, nobody afterwards.
    Learn {
        /// Is it?
        is_open: bool,
    },
}

/// What to do about a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it in.
    Accept,
    /// Remember it for good, then let it in.
    Learn,
    /// Send it away.
    Refuse(Refusal),
}

/// Why a tracker was sent away.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Allow the IMEI, or set `access.mode = "open"`.
    #[error("this IMEI is not among the {listed} allowed ones{}", nearest_words(*nearest))]
    NotListed {
        /// How many are.
        listed: usize,
        /// A listed IMEI that differs by one digit or by two neighbours swapped: a misprint?
        nearest: Option<Imei>,
    },
    /// Allow the IMEI, or open the window again.
    #[error(
        "the learn window is closed, and this IMEI is not among the {listed} known ones{}",
        nearest_words(*nearest)
    )]
    WindowClosed {
        /// How many are known.
        listed: usize,
        /// As above.
        nearest: Option<Imei>,
    },
    /// Allow it to let it in again.
    #[error("this IMEI is denied")]
    Denied,
    /// See the log for what is wrong with the file `access.learned`; the tracker comes again.
    #[error("this IMEI is new and could not be remembered")]
    NotRemembered,
}

fn nearest_words(nearest: Option<Imei>) -> String {
    nearest.map_or_else(String::new, |imei| {
        format!("; {imei:?} is, and differs by a misprint")
    })
}

/// A line of the list that is no IMEI.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line} is not an IMEI of 15 digits: {found:?}")]
pub struct ListError {
    /// From 1.
    pub line: usize,
    /// The line.
    pub found: String,
}

/// What one line of a list says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListLine {
    /// Nothing: empty, or only a note behind `#`.
    Blank,
    /// This one may.
    Allow(Imei),
    /// This one may not: `!` in front.
    Deny(Imei),
}

impl ListLine {
    /// Reads a line; `None` when it is neither an IMEI nor blank.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let said = line.split('#').next().unwrap_or_default().trim();
        if said.is_empty() {
            return Some(Self::Blank);
        }
        let line = match said.strip_prefix('!') {
            Some(denied) => Self::Deny(denied.trim().parse().ok()?),
            None => Self::Allow(said.parse().ok()?),
        };
        Some(line)
    }
}

impl ImeiList {
    /// Reads a list: one IMEI a line, with `!` in front of those denied; empty lines and what
    /// follows `#` do not count.
    /// # Errors
    /// [`ListError`] for the first line that is none of this.
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let mut list = Self::default();
        for (index, line) in text.lines().enumerate() {
            let read = ListLine::parse(line).ok_or_else(|| ListError {
                line: index + 1,
                found: line.to_owned(),
            })?;
            match read {
                ListLine::Blank => {}
                ListLine::Allow(imei) => drop(list.allowed.insert(imei)),
                ListLine::Deny(imei) => drop(list.denied.insert(imei)),
            }
        }
        Ok(list)
    }

    /// Both lists in one; what either denies is denied.
    #[must_use]
    pub fn joined(mut self, other: &Self) -> Self {
        self.allowed.extend(&other.allowed);
        self.denied.extend(&other.denied);
        self
    }

    /// How many may talk.
    #[must_use]
    pub fn len(&self) -> usize {
        self.allowed.difference(&self.denied).count()
    }

    /// May nobody?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Is it on the list, and not denied?
    #[must_use]
    pub fn allows(&self, imei: Imei) -> bool {
        self.allowed.contains(&imei) && !self.denies(imei)
    }

    /// Is it denied?
    #[must_use]
    pub fn denies(&self, imei: Imei) -> bool {
        self.denied.contains(&imei)
    }

    /// A listed IMEI that differs by two neighbouring digits swapped or by one digit. Looks up
    /// the 149 possible misprints, so it costs the same for a list of any length.
    #[must_use]
    pub fn nearest(&self, imei: Imei) -> Option<Imei> {
        let digits = imei.to_digits();
        let swapped = (1..IMEI_DIGITS).map(|at| {
            let mut other = digits;
            other.swap(at - 1, at);
            other
        });
        let replaced = (0..IMEI_DIGITS).flat_map(|at| {
            (b'0'..=b'9').map(move |digit| {
                let mut other = digits;
                other[at] = digit;
                other
            })
        });
        let misprints = swapped.chain(replaced).filter(|other| *other != digits);
        let mut misprints = misprints.filter_map(|other| Imei::parse(&other).ok());
        misprints.find(|other| self.allows(*other))
    }
}

/// What to do about a login of `imei`.
#[must_use]
pub fn decide(mode: Mode, list: &ImeiList, imei: Imei) -> Verdict {
    if list.denies(imei) {
        return Verdict::Refuse(Refusal::Denied);
    }
    if list.allows(imei) {
        return Verdict::Accept;
    }
    let listed = list.len();
    match mode {
        Mode::Open => Verdict::Accept,
        Mode::Learn { is_open: true } => Verdict::Learn,
        Mode::List => Verdict::Refuse(Refusal::NotListed {
            listed,
            nearest: list.nearest(imei),
        }),
        Mode::Learn { is_open: false } => Verdict::Refuse(Refusal::WindowClosed {
            listed,
            nearest: list.nearest(imei),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIST: &str = "# depot\n356307042441013 # van\n\n!352093081452251\n";

    fn imei(digits: &str) -> Imei {
        digits.parse().unwrap()
    }

    fn judge(mode: Mode, digits: &str) -> Verdict {
        decide(mode, &ImeiList::parse(LIST).unwrap(), imei(digits))
    }

    #[test]
    fn every_mode_decides_about_listed_denied_and_unknown() {
        let (listed, denied) = ("356307042441013", "352093081452251");
        let unknown = "123456789012345";
        let no = |refusal| Verdict::Refuse(refusal);
        let (one, none) = (1, None);
        let table = [
            (Mode::Open, Verdict::Accept),
            (
                Mode::List,
                no(Refusal::NotListed {
                    listed: one,
                    nearest: none,
                }),
            ),
            (Mode::Learn { is_open: true }, Verdict::Learn),
            (
                Mode::Learn { is_open: false },
                no(Refusal::WindowClosed {
                    listed: one,
                    nearest: none,
                }),
            ),
        ];
        for (mode, of_unknown) in table {
            assert_eq!(judge(mode, listed), Verdict::Accept, "{mode:?}");
            assert_eq!(judge(mode, denied), no(Refusal::Denied), "{mode:?}");
            assert_eq!(judge(mode, unknown), of_unknown, "{mode:?}");
        }
    }

    #[test]
    fn a_misprint_of_a_listed_imei_is_named() {
        let nearest = |digits: &str| match judge(Mode::List, digits) {
            Verdict::Refuse(Refusal::NotListed { nearest, .. }) => nearest,
            other => panic!("{other:?}"),
        };
        let listed = Some(imei("356307042441013"));
        assert_eq!(nearest("536307042441013"), listed, "first two swapped");
        assert_eq!(nearest("356307042441031"), listed, "last two swapped");
        assert_eq!(nearest("356307042441019"), listed, "last digit");
        assert_eq!(nearest("956307042441013"), listed, "first digit");
        assert_eq!(nearest("356307042441109"), None, "two digits");
        assert_eq!(nearest("352093081452250"), None, "near a denied one");
        let refusal = Refusal::NotListed {
            listed: 1,
            nearest: listed,
        };
        assert!(refusal.to_string().contains("Imei(…1013)"), "{refusal}");
    }

    #[test]
    fn a_line_that_is_no_imei_is_named() {
        for bad in ["35630704", "!35630704", "!", "356307042441013 van"] {
            let error = ImeiList::parse(&format!("356307042441013\n{bad}\n")).unwrap_err();
            assert_eq!((error.line, error.found.as_str()), (2, bad));
        }
    }

    #[test]
    fn what_one_of_two_lists_denies_is_denied() {
        let list = ImeiList::parse("352093081452251\n123456789012345\n").unwrap();
        let both = list.joined(&ImeiList::parse(LIST).unwrap());
        assert_eq!(both.len(), 2);
        assert!(!both.allows(imei("352093081452251")));
    }
}
