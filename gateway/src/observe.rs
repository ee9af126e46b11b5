//! Pure: no I/O, no clock.
//!
//! From figures taken every second to the events they mean: the link went or came back, the spool
//! fills, storage failed, positions were lost.
//!
//! Why from the outside: the parts that send and keep need not know that anybody watches, and the
//! same figures stand on the page, so the words and the numbers agree.
//!
//! Invariant: a state that stays is told once.

use std::time::{Duration, Instant};

use crate::events::Kind;

/// The spool is nearly full above, and has room again below, of a hundred.
const NEARLY_FULL_PERCENT: u64 = 80;
const ROOM_PERCENT: u64 = 70;

/// A starting gateway may take so long to reach Redis before anybody is told.
const CONNECT_GRACE: Duration = Duration::from_secs(10);

/// The figures of one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When.
    pub now: Instant,
    /// Does Redis take entries?
    pub is_connected: bool,
    /// Envelopes that wait to be stored.
    pub backlog: u64,
    /// Bytes of the spool in use.
    pub used_bytes: u64,
    /// Its cap.
    pub bytes_max: u64,
    /// Did storage fail for good?
    pub has_failed: bool,
    /// Good frames that could not be kept, so far.
    pub frames_not_kept: u64,
    /// Envelopes lost, so far.
    pub envelopes_lost: u64,
    /// For `Kind::SpoolNearlyFull`.
    pub days_left: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Connecting(Instant),
    Up,
    Down(Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fill {
    Room,
    NearlyFull,
    Full,
}

/// What was told already.
#[derive(Debug)]
pub struct Observer {
    link: Link,
    fill: Fill,
    has_failed: bool,
    frames_not_kept: u64,
    envelopes_lost: u64,
}

impl Observer {
    /// A gateway that started at `now`. What was lost before is told as one event.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            link: Link::Connecting(now),
            fill: Fill::Room,
            has_failed: false,
            frames_not_kept: 0,
            envelopes_lost: 0,
        }
    }

    /// What is worth telling about this moment.
    pub fn observe(&mut self, sample: &Sample) -> Vec<(Kind, String)> {
        let mut told = Vec::new();
        told.extend(self.link(sample));
        told.extend(self.fill(sample));
        if sample.has_failed && !self.has_failed {
            told.push((
                Kind::StorageFailed,
                "storage failed: nothing is kept or acknowledged until a restart; see to the disk"
                    .to_owned(),
            ));
        }
        self.has_failed = sample.has_failed;
        self.frames_not_kept = sample.frames_not_kept;
        let lost = sample.envelopes_lost.saturating_sub(self.envelopes_lost);
        if lost > 0 {
            told.push((
                Kind::Gap,
                format!("gap in the spool: {lost} frames are lost and reported to the cloud"),
            ));
        }
        self.envelopes_lost = sample.envelopes_lost;
        told
    }

    fn link(&mut self, sample: &Sample) -> Option<(Kind, String)> {
        let now = sample.now;
        let waiting = waiting(sample.backlog);
        let (link, told) = match (self.link, sample.is_connected) {
            (Link::Connecting(_), true) => {
                (Link::Up, Some((Kind::LinkBack, "uplink connected".into())))
            }
            (Link::Connecting(since), false) if now.duration_since(since) >= CONNECT_GRACE => (
                Link::Down(since),
                Some((
                    Kind::LinkLost,
                    format!("no uplink since the start; {waiting} in the spool"),
                )),
            ),
            (Link::Up, false) => (
                Link::Down(now),
                Some((
                    Kind::LinkLost,
                    format!("uplink lost; {waiting} in the spool"),
                )),
            ),
            (Link::Down(since), true) => (
                Link::Up,
                Some((
                    Kind::LinkBack,
                    format!(
                        "uplink back after {}; {waiting}, on its way now",
                        in_words(now.duration_since(since))
                    ),
                )),
            ),
            (same, _) => (same, None),
        };
        self.link = link;
        told
    }

    fn fill(&mut self, sample: &Sample) -> Option<(Kind, String)> {
        let percent = sample.used_bytes.saturating_mul(100) / sample.bytes_max.max(1);
        let refused = sample.frames_not_kept > self.frames_not_kept && !sample.has_failed;
        let fill = match self.fill {
            _ if refused && percent >= ROOM_PERCENT => Fill::Full,
            _ if percent < ROOM_PERCENT => Fill::Room,
            fill if percent >= NEARLY_FULL_PERCENT => fill.max(Fill::NearlyFull),
            fill => fill,
        };
        let told = match fill {
            _ if fill == self.fill => None,
            Fill::Full => Some((
                Kind::SpoolFull,
                "spool is full: frames are not acknowledged, trackers keep them and try again"
                    .to_owned(),
            )),
            Fill::NearlyFull => {
                let days = sample.days_left.map_or_else(String::new, |days| {
                    format!(": {days:.1} days left without a link")
                });
                Some((
                    Kind::SpoolNearlyFull,
                    format!("spool is {percent} % full{days}"),
                ))
            }
            Fill::Room => Some((
                Kind::SpoolRoom,
                format!("spool has room again: {percent} % full"),
            )),
        };
        self.fill = fill;
        told
    }
}

fn waiting(frames: u64) -> String {
    match frames {
        0 => "nothing waits".to_owned(),
        1 => "1 frame waits".to_owned(),
        frames => format!("{frames} frames wait"),
    }
}

/// A duration as one says it: `40 s`, `12 min`, `3 h 20 min`, `2 d 4 h`.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} min"),
        3_600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    struct Play {
        zero: Instant,
        observer: Observer,
        sample: Sample,
    }

    impl Play {
        fn new() -> Self {
            let zero = Instant::now();
            let now = zero + START;
            Self {
                zero,
                observer: Observer::new(now),
                sample: Sample {
                    now,
                    is_connected: false,
                    backlog: 0,
                    used_bytes: 0,
                    bytes_max: 1_000,
                    has_failed: false,
                    frames_not_kept: 0,
                    envelopes_lost: 0,
                    days_left: None,
                },
            }
        }

        fn at(&mut self, seconds: u64, change: impl FnOnce(&mut Sample)) -> Vec<String> {
            self.sample.now = self.zero + START + Duration::from_secs(seconds);
            change(&mut self.sample);
            let told = self.observer.observe(&self.sample);
            let again = self.observer.observe(&self.sample);
            assert!(again.is_empty(), "told twice: {again:?}");
            told.into_iter()
                .map(|(kind, text)| format!("{} {text}", kind.code()))
                .collect()
        }
    }

    #[test]
    fn a_lost_link_is_told_with_how_long_and_what_waited() {
        let mut play = Play::new();
        assert!(play.at(9, |_| {}).is_empty(), "still connecting");
        let told = play.at(11, |_| {});
        assert_eq!(
            told,
            ["link-lost no uplink since the start; nothing waits in the spool"]
        );
        let told = play.at(71, |s| (s.is_connected, s.backlog) = (true, 61));
        assert_eq!(
            told,
            ["link-back uplink back after 1 min; 61 frames wait, on its way now"]
        );
        let told = play.at(100, |s| (s.is_connected, s.backlog) = (false, 1));
        assert_eq!(told, ["link-lost uplink lost; 1 frame waits in the spool"]);
        let told = play.at(100 + 2 * 86_400 + 4 * 3_600, |s| s.is_connected = true);
        assert_eq!(
            told,
            ["link-back uplink back after 2 d 4 h; 1 frame waits, on its way now"]
        );
    }

    #[test]
    fn a_link_that_comes_up_at_once_was_never_lost() {
        let told = Play::new().at(1, |s| s.is_connected = true);
        assert_eq!(told, ["link-back uplink connected"]);
    }

    #[test]
    fn the_spool_fills_is_full_and_has_room_again() {
        let mut play = Play::new();
        assert!(play.at(1, |s| s.used_bytes = 799).is_empty());
        let told = play.at(2, |s| (s.used_bytes, s.days_left) = (800, Some(1.25)));
        assert_eq!(
            told,
            ["spool-nearly-full spool is 80 % full: 1.2 days left without a link"]
        );
        assert!(
            play.at(3, |s| s.used_bytes = 750).is_empty(),
            "no to and fro"
        );
        assert!(play.at(4, |s| s.used_bytes = 900).is_empty());
        let told = play.at(5, |s| s.frames_not_kept = 3);
        assert!(
            told.len() == 1 && told[0].starts_with("spool-full "),
            "{told:?}"
        );
        assert!(play.at(6, |s| s.frames_not_kept = 9).is_empty());
        let told = play.at(7, |s| s.used_bytes = 699);
        assert_eq!(told, ["spool-room spool has room again: 69 % full"]);
        // A frame that was not kept for another reason says nothing about the space.
        assert!(play.at(8, |s| s.frames_not_kept = 10).is_empty());
    }

    #[test]
    fn losses_are_told_as_they_come() {
        let mut play = Play::new();
        let told = play.at(1, |s| (s.envelopes_lost, s.has_failed) = (4, true));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("storage-failed "));
        assert_eq!(
            told[1],
            "gap gap in the spool: 4 frames are lost and reported to the cloud"
        );
        let told = play.at(2, |s| s.envelopes_lost = 6);
        assert_eq!(
            told,
            ["gap gap in the spool: 2 frames are lost and reported to the cloud"]
        );
    }
}
