//! How an IMEI is shown to whoever may not need all of it.
//!
//! Why five and three: the first eight digits name the model, the last ones tell devices of one
//! depot apart. `log.imei = "full"` shows everything, on the local pages too.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use codec::Imei;

/// `log.imei`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImeiStyle {
    /// `35630…013`
    #[default]
    Short,
    /// All fifteen digits.
    Full,
}

/// An IMEI ready to be printed.
#[derive(Clone, Copy)]
pub struct Shown(Imei, ImeiStyle);

impl ImeiStyle {
    /// The IMEI in this style.
    #[must_use]
    pub fn show(self, imei: Imei) -> Shown {
        Shown(imei, self)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_digits();
        let digits = std::str::from_utf8(&digits).map_err(|_| fmt::Error)?;
        match self.1 {
            ImeiStyle::Full => f.write_str(digits),
            ImeiStyle::Short => write!(f, "{}…{}", &digits[..5], &digits[12..]),
        }
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The log is one for the process, and so is its style.
static IS_FULL: AtomicBool = AtomicBool::new(false);

pub(super) fn set_style(style: ImeiStyle) {
    IS_FULL.store(style == ImeiStyle::Full, Relaxed);
}

/// For a log line: `imei = %logbook::imei(imei)`.
#[must_use]
pub fn imei(imei: Imei) -> Shown {
    let style = if IS_FULL.load(Relaxed) {
        ImeiStyle::Full
    } else {
        ImeiStyle::Short
    };
    style.show(imei)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn five_digits_and_three_or_all_of_them() {
        let of = "356307042441013".parse().unwrap();
        assert_eq!(ImeiStyle::Short.show(of).to_string(), "35630…013");
        assert_eq!(ImeiStyle::Full.show(of).to_string(), "356307042441013");
        let zeros = "000000000000042".parse().unwrap();
        assert_eq!(ImeiStyle::Short.show(zeros).to_string(), "00000…042");
        assert_eq!(format!("{:?}", imei(of)), "35630…013", "short unless told");
    }
}
