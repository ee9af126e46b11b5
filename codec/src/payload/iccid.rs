//! The SIM card's number, which trackers send as two numbers of eight bytes.
//!
//! Elements 11 and 14 of FMB devices hold the front and the rest of the digits, each as a
//! number: zeros that the rest begins with are lost on the way and must be put back, which
//! only works for whoever knows how many digits the rest has. Source: wiki, FMB AVL ids.

use core::fmt;

/// The number of a SIM card: up to twenty decimal digits (ITU-T E.118; cards of twenty
/// exist).
///
/// `Debug` shows the last four digits only. The check digit is not verified.
///
/// ```
/// use codec::payload::Iccid;
///
/// let iccid = Iccid::from_halves(8_937_001_000, 42, 9).expect("nineteen digits");
/// assert_eq!(iccid.to_string(), "8937001000000000042");
/// assert_eq!(format!("{iccid:?}"), "Iccid(…0042)");
/// // The rest has more digits than it should: the halves are cut elsewhere.
/// assert_eq!(Iccid::from_halves(8_937_001_000, 1_234_567_890, 9), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iccid(u128);

const ICCID_DIGITS_MAX: u32 = 20;

impl Iccid {
    /// Puts both halves together, the second filled up to `rest_digits` with zeros in
    /// front. `None` if it has more digits than that, if the first is 0 (no card), or if
    /// there are more than twenty digits in all.
    #[must_use]
    pub fn from_halves(first: u64, rest: u64, rest_digits: u8) -> Option<Iccid> {
        let shift = 10u128.checked_pow(u32::from(rest_digits))?;
        if first == 0 || u128::from(rest) >= shift {
            return None;
        }
        let iccid = Iccid(u128::from(first).checked_mul(shift)? + u128::from(rest));
        (iccid.digits() <= ICCID_DIGITS_MAX).then_some(iccid)
    }

    /// How many digits there are, 1 to 20.
    #[must_use]
    pub const fn digits(&self) -> u32 {
        self.0.ilog10() + 1
    }
}

impl fmt::Display for Iccid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Iccid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iccid(…{:04})", self.0 % 10_000)
    }
}
