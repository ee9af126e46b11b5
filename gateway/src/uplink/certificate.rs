//! When our certificate ends, and whether its files have changed.
//!
//! Why the contents and not the time of change: a renewal that copies, links or restores files may
//! leave any time behind, and a few kilobytes every half minute cost nothing.
//!
//! Invariant: files that cannot be read count as unchanged: a renewal may be half done.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// What stood in the files; equal when nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of all `files` together; `None` when one cannot be read.
    #[must_use]
    pub fn of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        for file in files {
            std::fs::read(file).ok()?.hash(&mut hasher);
        }
        Some(Self(hasher.finish()))
    }
}

/// From when until when a certificate is valid, in seconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    not_before_s: i64,
    not_after_s: i64,
}

impl Validity {
    /// Of the first certificate in a PEM text, which is ours; the others lead to the authority.
    #[must_use]
    pub fn of_pem(pem: &[u8]) -> Option<Self> {
        let first = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&first).ok()?;
        let validity = certificate.validity();
        Some(Self {
            not_before_s: validity.not_before.timestamp(),
            not_after_s: validity.not_after.timestamp(),
        })
    }

    /// Days until it ends; negative afterwards. A clock that stands before the certificate's first
    /// second is certainly wrong, so that second counts instead.
    #[must_use]
    pub fn left_days(self, now_ms: u64) -> f64 {
        let now_s = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
        let left_s = self
            .not_after_s
            .saturating_sub(now_s.max(self.not_before_s));
        left_s as f64 / 86_400.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn days_are_counted_from_the_later_of_clock_and_first_second() {
        let validity = Validity {
            not_before_s: 10 * 86_400,
            not_after_s: 40 * 86_400,
        };
        let at_day = |day: u64| validity.left_days(day * 86_400_000);
        assert_eq!([at_day(0), at_day(10), at_day(25)], [30.0, 30.0, 15.0]);
        assert_eq!([at_day(40), at_day(41)], [0.0, -1.0]);
        assert!(validity.left_days(u64::MAX) < -1e9, "no overflow");
        assert_eq!(Validity::of_pem(b"no certificate"), None);
        assert_eq!(Validity::of_pem(b""), None);
    }

    #[test]
    fn a_change_shows_and_a_missing_file_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "one").unwrap();
        assert_eq!(Fingerprint::of([a.as_path(), b.as_path()]), None);
        std::fs::write(&b, "two").unwrap();
        let both = || Fingerprint::of([a.as_path(), b.as_path()]);
        let first = both();
        assert_eq!(first, both());
        std::fs::write(&b, "twp").unwrap();
        assert_ne!(first, both());
        std::fs::write(&b, "two").unwrap();
        assert_eq!(first, both());
        // The border between two files counts.
        std::fs::write(&a, "onet").unwrap();
        std::fs::write(&b, "wo").unwrap();
        assert_ne!(first, both());
    }
}
