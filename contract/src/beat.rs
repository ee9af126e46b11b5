//! Pure: no I/O, no clock.
//!
//! The sign of life of a gateway ([`keys::heartbeat`](crate::keys::heartbeat)), and how it is: what
//! somebody far away wants to know before anything goes wrong, in some sixty bytes twice a minute.
//!
//! Form: its clock in milliseconds since 1970 UTC, then words `name=value`, each of which may be
//! missing: `1790000000000 left=31.2 cert=88.0 used=1048576 max=4294967296 waiting=61`.
//!
//! Invariant: a reader leaves out words that it does not know, and takes the clock alone, which is all
//! that earlier gateways said.

use std::fmt;

/// One of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beat {
    /// Its clock, milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// Days until its spool is full without a link, at the rate of the last two days.
    pub left_days: Option<f64>,
    /// Days until its certificate for Redis ends; below zero: it has ended.
    pub certificate_left_days: Option<f64>,
    /// Bytes of the spool that hold records which are not settled.
    pub spool_used_bytes: Option<u64>,
    /// The most that it may have.
    pub spool_bytes_max: Option<u64>,
    /// Frames that wait in it.
    pub frames_waiting: Option<u64>,
}

impl Beat {
    /// Reads one. `None`: it begins with no time.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut beat = Self {
            at_ms: words.next()?.parse().ok()?,
            ..Self::default()
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let days = || value.parse().ok().filter(|days: &f64| days.is_finite());
            match name {
                "left" => beat.left_days = days(),
                "cert" => beat.certificate_left_days = days(),
                "used" => beat.spool_used_bytes = value.parse().ok(),
                "max" => beat.spool_bytes_max = value.parse().ok(),
                "waiting" => beat.frames_waiting = value.parse().ok(),
                _ => {}
            }
        }
        Some(beat)
    }
}

impl fmt::Display for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at_ms)?;
        for (name, days) in [
            ("left", self.left_days),
            ("cert", self.certificate_left_days),
        ] {
            if let Some(days) = days {
                write!(f, " {name}={days:.1}")?;
            }
        }
        for (name, count) in [
            ("used", self.spool_used_bytes),
            ("max", self.spool_bytes_max),
            ("waiting", self.frames_waiting),
        ] {
            if let Some(count) = count {
                write!(f, " {name}={count}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_and_what_is_not_said_is_not_known() {
        let whole = Beat {
            at_ms: 1_790_000_000_000,
            left_days: Some(31.2),
            certificate_left_days: Some(-0.5),
            spool_used_bytes: Some(1_048_576),
            spool_bytes_max: Some(4_294_967_296),
            frames_waiting: Some(61),
        };
        let text = "1790000000000 left=31.2 cert=-0.5 used=1048576 max=4294967296 waiting=61";
        assert_eq!(whole.to_string(), text);
        assert_eq!(Beat::parse(text), Some(whole.clone()));
        let bare = Beat {
            at_ms: 5,
            ..Beat::default()
        };
        assert_eq!(Beat::parse("5"), Some(bare.clone()));
        assert_eq!(bare.to_string(), "5");
        // Of a later gateway, and one that cannot count.
        assert_eq!(
            Beat::parse("5 mood=good left=NaN used=-1 alone"),
            Some(bare)
        );
        for none in ["", "soon", "-5", "5x left=1"] {
            assert_eq!(Beat::parse(none), None, "{none}");
        }
    }
}
