//! Names of the things that cross the backhaul: gateways, spools and positions in a spool.
//!
//! Why newtypes: a spool sequence number handed over as a stream id would compile as `u64` and
//! release data that nobody stored.
//!
//! Invariants: a `GatewayId` can stand in a Redis key as it is; a `SpoolId` and a `SpoolSeq` and
//! their successors fit a signed 64-bit column; a `SpoolSeq` counts from 1 within one `SpoolId` and
//! is never used for two payloads.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Highest spool id and position: one bit below what a signed 64-bit column holds, so that a range
/// that ends here still has an end behind it.
pub const NUMBER_MAX: u64 = (1 << 62) - 1;

/// Longest gateway id, in bytes.
pub const GATEWAY_ID_BYTES_MAX: usize = 64;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// Not a usable gateway id: choose another.
    #[error(
        "gateway id {found:?} is not usable: give 1 to {GATEWAY_ID_BYTES_MAX} letters, digits, '.', '_' or '-'"
    )]
    Gateway {
        /// The text as found.
        found: String,
    },
    /// Not a spool id: 16 hexadecimal digits, not zero, first digit below 4.
    #[error("spool id {found:?} is not 16 hexadecimal digits from 1 to 3fffffffffffffff")]
    Spool {
        /// The text as found.
        found: String,
    },
    /// Not a position in a spool: a number from 1 to [`NUMBER_MAX`].
    #[error("spool sequence number {found:?} is not a number from 1 to {NUMBER_MAX}")]
    Seq {
        /// The text as found.
        found: String,
    },
}

/// Who sends: the founding documents' `instance_id`, config `gateway.id`, entry field `gw`.
/// 1 to 64 bytes of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayId(String);

impl GatewayId {
    /// # Errors
    /// [`IdError::Gateway`] when empty, too long, or with a character that could bend a Redis key.
    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        let fits = !text.is_empty() && text.len() <= GATEWAY_ID_BYTES_MAX;
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if fits && plain {
            Ok(Self(text))
        } else {
            Err(IdError::Gateway { found: text })
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for GatewayId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

/// One opening of one spool: random, minted at every open, so a sequence number is never used
/// twice for different data. 1 to [`NUMBER_MAX`]; text form is 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpoolId(u64);

impl SpoolId {
    /// Makes an id from random bits: the two highest are cleared, zero becomes one.
    #[must_use]
    pub fn from_random(bits: u64) -> Self {
        Self((bits & NUMBER_MAX).max(1))
    }

    /// # Errors
    /// [`IdError::Spool`] for zero and for anything above [`NUMBER_MAX`].
    pub fn from_u64(value: u64) -> Result<Self, IdError> {
        let id = Self::from_random(value);
        if id.0 == value {
            Ok(id)
        } else {
            Err(IdError::Spool {
                found: format!("{value:016x}"),
            })
        }
    }

    /// 1 to [`NUMBER_MAX`].
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for SpoolId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.len() == 16
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        digits
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten()
            .and_then(|value| Self::from_u64(value).ok())
            .ok_or_else(|| IdError::Spool {
                found: text.to_owned(),
            })
    }
}

/// Position of an envelope in its spool, from 1, within one [`SpoolId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpoolSeq(u64);

impl SpoolSeq {
    /// The first position of every spool.
    pub const FIRST: Self = Self(1);

    /// # Errors
    /// [`IdError::Seq`] for zero and for anything above [`NUMBER_MAX`].
    pub fn new(value: u64) -> Result<Self, IdError> {
        if value == 0 || value > NUMBER_MAX {
            return Err(IdError::Seq {
                found: value.to_string(),
            });
        }
        Ok(Self(value))
    }

    /// 1 to [`NUMBER_MAX`].
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for SpoolSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for SpoolSeq {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse().ok())
            .flatten()
            .and_then(|value| Self::new(value).ok())
            .ok_or_else(|| IdError::Seq {
                found: text.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn gateway_ids_cannot_bend_a_key() {
        for good in ["a", "depot-vilnius-1", "GW_7.eu", &"x".repeat(64)] {
            assert_eq!(GatewayId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a:b", "{a}", "a*", "ä", "a b", &"x".repeat(65)] {
            assert!(GatewayId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spool_ids_fit_a_signed_column() {
        for bits in [0, 1, u64::MAX, 1 << 63, 42] {
            let id = SpoolId::from_random(bits);
            assert!(id.as_u64() > 0 && i64::try_from(id.as_u64()).is_ok());
            assert_eq!(id.to_string().parse::<SpoolId>().unwrap(), id);
        }
        for bad in [
            "",
            "0000000000000000",
            "4000000000000000",
            "000000000000000G",
            "1",
            "+00000000000000f",
        ] {
            assert!(bad.parse::<SpoolId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sequence_numbers_start_at_one() {
        assert!(SpoolSeq::new(0).is_err());
        assert!(SpoolSeq::new(u64::MAX).is_err());
        assert!(SpoolSeq::new(NUMBER_MAX).is_ok() && SpoolSeq::new(NUMBER_MAX + 1).is_err());
        assert_eq!(SpoolSeq::FIRST.next().get(), 2);
        assert!("".parse::<SpoolSeq>().is_err() && "+1".parse::<SpoolSeq>().is_err());
    }
}
