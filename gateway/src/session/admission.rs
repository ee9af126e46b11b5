//! Pure: no I/O, no clock.
//!
//! May this IMEI talk? Asked once per login.
//!
//! Invariant: a refusal names what to change to let the tracker in.

use std::collections::HashSet;

use codec::Imei;
use thiserror::Error;

/// Who may log in.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Everybody with a well-formed IMEI.
    Open,
    /// Only these.
    List(HashSet<Imei>),
}

/// Why a tracker was sent away.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Add the IMEI to the file `access.list`, or set `access.mode = "open"`.
    #[error("this IMEI is not among the {listed} of access.list")]
    NotListed {
        /// How many are.
        listed: usize,
    },
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

impl Admission {
    /// Reads a list: one IMEI a line; empty lines and what follows `#` do not count.
    /// # Errors
    /// [`ListError`] for the first line that is neither.
    pub fn from_list(text: &str) -> Result<Self, ListError> {
        let mut imeis = HashSet::new();
        for (index, line) in text.lines().enumerate() {
            let imei = line.split('#').next().unwrap_or_default().trim();
            if imei.is_empty() {
                continue;
            }
            imeis.insert(imei.parse().map_err(|_| ListError {
                line: index + 1,
                found: line.to_owned(),
            })?);
        }
        Ok(Self::List(imeis))
    }

    /// # Errors
    /// [`Refusal`] with what would have to change.
    pub fn decide(&self, imei: Imei) -> Result<(), Refusal> {
        match self {
            Self::Open => Ok(()),
            Self::List(imeis) if imeis.contains(&imei) => Ok(()),
            Self::List(imeis) => Err(Refusal::NotListed {
                listed: imeis.len(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_lets_in_who_is_on_it() {
        let list = "# depot\n356307042441013 # van\n\n";
        let admission = Admission::from_list(list).unwrap();
        assert!(admission.decide("356307042441013".parse().unwrap()).is_ok());
        let refusal = admission.decide("123456789012345".parse().unwrap());
        assert_eq!(refusal, Err(Refusal::NotListed { listed: 1 }));
        assert!(
            Admission::Open
                .decide("123456789012345".parse().unwrap())
                .is_ok()
        );
    }

    #[test]
    fn a_line_that_is_no_imei_is_named() {
        let error = Admission::from_list("356307042441013\n35630704\n").unwrap_err();
        assert_eq!((error.line, error.found.as_str()), (2, "35630704"));
    }
}
