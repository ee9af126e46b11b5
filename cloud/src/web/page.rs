//! Pure: no I/O, no clock.
//!
//! Pages of lists, by the key of the last row and never by counting rows.
//!
//! Why: rows come and go while somebody turns pages. What is asked for behind a key is neither left
//! out nor told twice, and the last page costs what the first one does.

use serde_json::{Value, json};

use super::ask::{Asked, ID_MAX};
use super::problem::Problem;

/// Rows of a page when nothing is said.
const LIMIT: i64 = 500;

/// Rows of a page at most.
const LIMIT_MAX: i64 = 5_000;

/// Names of the parameters of a page.
pub(super) const PARAMETERS: [&str; 2] = ["after", "limit"];

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Key of the last row of the page before; `None`: the first page.
    pub(super) after: Option<i64>,
    limit: i64,
}

impl Page {
    /// `after` and `limit`.
    /// # Errors
    /// [`Problem::Malformed`].
    pub(super) fn read(asked: &Asked) -> Result<Self, Problem> {
        let after = match asked.get("after") {
            None => None,
            Some(text) => {
                let number = text.strip_prefix('k').and_then(|it| it.parse::<i64>().ok());
                let known = number.filter(|number| (0..=ID_MAX).contains(number));
                Some(known.ok_or_else(|| {
                    Problem::Malformed("after is not the next of a page before".to_owned())
                })?)
            }
        };
        let limit = asked.number("limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT);
        Ok(Self { after, limit })
    }

    /// Rows to ask the database for: one more than are told, so that the last page is known.
    #[must_use]
    pub(super) fn rows(&self) -> i64 {
        self.limit + 1
    }

    /// The page as it is told, of at most [`Self::rows`] rows.
    #[must_use]
    pub(super) fn told<T>(
        &self,
        mut rows: Vec<T>,
        key: impl Fn(&T) -> i64,
        item: impl Fn(&T) -> Value,
    ) -> Value {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let is_last = rows.len() <= limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| !is_last);
        let next = last.map(|row| format!("k{}", key(row)));
        let items: Vec<Value> = rows.iter().map(item).collect();
        json!({"items": items, "next": next})
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(query: &str) -> Result<Page, Problem> {
        Page::read(&Asked::read(Some(query), &PARAMETERS).unwrap())
    }

    #[test]
    fn next_is_the_key_of_the_last_row_and_none_on_the_last_page() {
        let page = read("limit=2").unwrap();
        assert_eq!((page.after, page.rows()), (None, 3));
        let told = page.told(vec![4, 5, 6], |row| *row, |row| json!(row));
        assert_eq!(told, json!({"items": [4, 5], "next": "k5"}));
        assert_eq!(read("after=k5&limit=2").unwrap().after, Some(5));
        let told = page.told(vec![6, 7], |row| *row, |row| json!(row));
        assert_eq!(told["next"], Value::Null);
        assert_eq!(read("").unwrap().rows(), 501);
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for query in [
            "after=",
            "after=5",
            "after=k",
            "after=k-1",
            "limit=0",
            "limit=5001",
            "after=kx",
        ] {
            assert!(read(query).is_err(), "{query}");
        }
    }
}
