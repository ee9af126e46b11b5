//! Pure: no I/O, no clock.
//!
//! What stands behind the `?` of an address, and in its path.
//!
//! Invariant: nothing is ignored. A parameter that is misspelt, or given twice, is refused: it would
//! otherwise be an answer to another question.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};

use super::problem::Problem;

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Asked(Vec<(String, String)>);

impl Asked {
    /// Reads a query; only `known` names may stand in it.
    /// # Errors
    /// [`Problem::Malformed`].
    pub(super) fn read(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let known = match known {
                    [] => "there are none here".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                };
                return Err(Problem::Malformed(format!(
                    "there is no parameter {name:?}: {known}"
                )));
            }
            if pairs.iter().any(|(found, _)| *found == name) {
                return Err(Problem::Malformed(format!("{name} is there twice")));
            }
            if value.contains('\0') {
                return Err(Problem::Malformed(format!("{name} has a NUL in it")));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    /// As it stands there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A text of at most so many characters; empty is none.
    /// # Errors
    /// [`Problem::Malformed`].
    pub(super) fn text(&self, name: &str, chars_max: usize) -> Result<Option<&str>, Problem> {
        match self.get(name).filter(|text| !text.is_empty()) {
            Some(text) if text.chars().count() > chars_max => Err(Problem::Malformed(format!(
                "{name} has more than {chars_max} characters"
            ))),
            found => Ok(found),
        }
    }

    /// A number.
    /// # Errors
    /// [`Problem::Malformed`].
    pub(super) fn number(
        &self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        number(name, text, range).map(Some)
    }

    /// A moment, RFC 3339 with its zone.
    /// # Errors
    /// [`Problem::Malformed`].
    pub(super) fn moment(&self, name: &str) -> Result<Option<DateTime<Utc>>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        // A plus sign that nobody escaped has become a blank.
        let read = DateTime::parse_from_rfc3339(&text.replace(' ', "+"));
        let read = read.map(|moment| moment.to_utc()).ok();
        let fits = read.filter(|moment| (FIRST_S..=LAST_S).contains(&moment.timestamp()));
        fits.map(Some).ok_or_else(|| {
            Problem::Malformed(format!("{name} is no moment such as 2026-11-22T08:00:00Z"))
        })
    }
}

/// 0001-01-01 and 9999-12-31, as RFC 3339 has them.
const FIRST_S: i64 = -62_135_596_800;
const LAST_S: i64 = 253_402_300_799;

/// A number as digits, with a sign perhaps.
fn number(name: &str, text: &str, range: RangeInclusive<i64>) -> Result<i64, Problem> {
    let read = text.parse::<i64>().ok();
    read.filter(|number| range.contains(number)).ok_or_else(|| {
        Problem::Malformed(format!(
            "{name} is no number from {} to {}",
            range.start(),
            range.end()
        ))
    })
}

/// Largest id that a program that counts in doubles can hold.
pub(super) const ID_MAX: i64 = 9_007_199_254_740_991;

/// The id of a device in a path.
/// # Errors
/// [`Problem::Malformed`].
pub(super) fn device(text: &str) -> Result<i32, Problem> {
    let id = number("the id of a device", text, 1..=i64::from(i32::MAX))?;
    Ok(i32::try_from(id).unwrap_or(i32::MAX))
}

/// The id of a dead letter in a path.
/// # Errors
/// [`Problem::Malformed`].
pub(super) fn letter(text: &str) -> Result<i64, Problem> {
    number("the id of a dead letter", text, 1..=ID_MAX)
}

/// A span of time, the end not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// First moment.
    pub(super) from: DateTime<Utc>,
    /// Behind the last one.
    pub(super) to: DateTime<Utc>,
}

/// Longest span.
const DAYS_MAX: i64 = 31;

impl Span {
    /// `from` and `to`; the last 24 hours where nothing is said.
    /// # Errors
    /// [`Problem::Malformed`].
    pub(super) fn read(asked: &Asked, now: DateTime<Utc>) -> Result<Self, Problem> {
        let to = asked.moment("to")?.unwrap_or(now);
        let from = match asked.moment("from")? {
            Some(from) => from,
            None => to - chrono::Duration::hours(24),
        };
        if from >= to {
            return Err(Problem::Malformed("from is not before to".to_owned()));
        }
        if to - from > chrono::Duration::days(DAYS_MAX) {
            return Err(Problem::Malformed(format!(
                "from and to are more than {DAYS_MAX} days apart: ask for parts"
            )));
        }
        Ok(Self { from, to })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(query: &str) -> Result<Asked, Problem> {
        Asked::read(Some(query), &["q", "limit", "from", "to"])
    }

    #[test]
    fn what_is_not_known_or_there_twice_is_refused() {
        assert_eq!(read("q=a%20b").unwrap().text("q", 3), Ok(Some("a b")));
        assert_eq!(read("q=").unwrap().text("q", 3), Ok(None));
        assert_eq!(read("limit=7").unwrap().number("limit", 1..=9), Ok(Some(7)));
        for query in ["Q=a", "q=a&q=b", "q=%00", "=a", "limits=4"] {
            assert!(read(query).is_err(), "{query}");
        }
        assert!(read("q=abcd").unwrap().text("q", 3).is_err());
        for limit in ["0", "10", "a", "", "1.5", "1e0", "99999999999999999999"] {
            let asked = read(&format!("limit={limit}")).unwrap();
            assert!(asked.number("limit", 1..=9).is_err(), "{limit}");
        }
    }

    #[test]
    fn a_span_is_a_day_unless_said_and_a_month_at_most() {
        let now: DateTime<Utc> = "2026-11-22T08:00:00Z".parse().unwrap();
        let span = |query: &str| Span::read(&read(query).unwrap(), now);
        let day = span("").unwrap();
        assert_eq!((day.to, (day.to - day.from).num_hours()), (now, 24));
        let zone = span("from=2026-11-22T09:00:00+02:00").unwrap();
        assert_eq!((now - zone.from).num_minutes(), 60);
        for query in [
            "from=2026-11-22T08:00:00Z",
            "from=2026-11-23T08:00:00Z&to=2026-11-22T08:00:00Z",
            "from=2026-10-01T00:00:00Z",
            "from=yesterday",
            "to=2026-11-22",
            "to=-9999-01-01T00:00:00Z",
        ] {
            assert!(span(query).is_err(), "{query}");
        }
    }

    #[test]
    fn ids_are_numbers_that_a_row_can_have() {
        assert_eq!(device("7"), Ok(7));
        assert_eq!(letter("9007199254740991"), Ok(ID_MAX));
        for text in ["0", "-1", "2147483648", "x", "", "1 "] {
            assert!(device(text).is_err(), "{text}");
        }
    }
}
