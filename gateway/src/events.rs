//! What happened lately, in plain words: the last two hundred things an operator would want told.
//!
//! Pure but for the lock around it; the time is an argument. Invariants: at most [`EVENTS_MAX`]
//! events; one that repeats within a minute is counted, not listed again; what concerns one tracker
//! never pushes out what concerns all while there is more of it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use codec::Imei;
use serde_json::{Value, json};

use crate::clock;
use crate::logbook::ImeiStyle;

/// Events remembered.
pub const EVENTS_MAX: usize = 200;

/// Within so long, the same again is the same event.
const REPEAT_MS: u64 = 60_000;

/// Longest text; what a peer says may be part of it.
const TEXT_BYTES_MAX: usize = 300;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The gateway started.
    Started,
    /// It was told to stop.
    Stopping,
    /// It was told to read lists and certificates anew.
    Reload,
    /// One of them was not taken; the one before stays in use.
    ReloadFailed,
    /// A tracker logged in.
    TrackerAccepted,
    /// A tracker was sent away.
    TrackerRefused,
    /// A second connection with its IMEI took a tracker's place.
    TrackerDisplaced,
    /// A frame came with a wrong checksum.
    FrameDamaged,
    /// Redis cannot be reached or does not take entries.
    LinkLost,
    /// It does again.
    LinkBack,
    /// The spool is four fifths full.
    SpoolNearlyFull,
    /// The spool refuses frames.
    SpoolFull,
    /// There is room again.
    SpoolRoom,
    /// Nothing is kept or acknowledged any more.
    StorageFailed,
    /// Positions of the spool are lost.
    Gap,
    /// A certificate ends soon, or has.
    Certificate,
    /// A part of the gateway makes no progress.
    Stuck,
    /// The supply of the box goes.
    PowerFailing,
    /// It is back.
    PowerBack,
    /// A serial line is not there, or cannot be had.
    SerialLost,
    /// It is here.
    SerialBack,
    /// An operator took an order back.
    CommandCancelled,
    /// An operator opened or closed the learn window.
    LearnWindow,
    /// Something else, under the code of whoever notes it.
    Other(&'static str),
}

/// A moment as events are printed with it: `2026-11-21 17:42:07`, UTC.
#[must_use]
pub fn moment(at_ms: u64) -> String {
    clock::utc(at_ms)
}

impl Kind {
    /// The code in `/events`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Reload => "reload",
            Self::ReloadFailed => "reload-failed",
            Self::TrackerAccepted => "tracker-accepted",
            Self::TrackerRefused => "tracker-refused",
            Self::TrackerDisplaced => "tracker-displaced",
            Self::FrameDamaged => "frame-damaged",
            Self::LinkLost => "link-lost",
            Self::LinkBack => "link-back",
            Self::SpoolNearlyFull => "spool-nearly-full",
            Self::SpoolFull => "spool-full",
            Self::SpoolRoom => "spool-room",
            Self::StorageFailed => "storage-failed",
            Self::Gap => "gap",
            Self::Certificate => "certificate",
            Self::Stuck => "stuck",
            Self::PowerFailing => "power-failing",
            Self::PowerBack => "power-back",
            Self::SerialLost => "serial-lost",
            Self::SerialBack => "serial-back",
            Self::CommandCancelled => "command-cancelled",
            Self::LearnWindow => "learn-window",
            Self::Other(code) => code,
        }
    }

    /// Is it worth an operator's attention? Shown in words beside the colour.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::TrackerRefused
                | Self::ReloadFailed
                | Self::FrameDamaged
                | Self::LinkLost
                | Self::SpoolNearlyFull
                | Self::SpoolFull
                | Self::StorageFailed
                | Self::Gap
                | Self::Certificate
                | Self::Stuck
                | Self::PowerFailing
                | Self::SerialLost
        )
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Our clock, milliseconds since 1970; of the last time when it repeated.
    pub at_ms: u64,
    /// What kind.
    pub kind: Kind,
    /// Which tracker, when it is about one.
    pub imei: Option<Imei>,
    /// In words.
    pub text: Cow<'static, str>,
    /// How often it repeated.
    pub times: u32,
}

#[derive(Debug, Default)]
struct Ring(VecDeque<Event>);

impl Ring {
    fn note(&mut self, event: Event) {
        let same = self.0.iter().rposition(|old| {
            (old.kind, old.imei) == (event.kind, event.imei)
                && old.text == event.text
                && event.at_ms.saturating_sub(old.at_ms) < REPEAT_MS
        });
        if let Some(mut old) = same.and_then(|at| self.0.remove(at)) {
            old.at_ms = event.at_ms;
            old.times = old.times.saturating_add(1);
            self.0.push_back(old);
            return;
        }
        if self.0.len() >= EVENTS_MAX {
            let of_trackers = self.0.iter().filter(|old| old.imei.is_some()).count();
            // Half of the room is for either sort, and more when the other does not need it.
            let too_many = of_trackers > EVENTS_MAX / 2;
            let oldest = |old: &Event| old.imei.is_some() == too_many;
            let at = self.0.iter().position(oldest);
            self.0.remove(at.unwrap_or_default());
        }
        self.0.push_back(event);
    }
}

/// The events as every shell holds them.
#[derive(Debug, Default)]
pub struct Events(Mutex<Ring>);

impl Events {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something happened just now. The text names no IMEI; `imei` does.
    pub fn note(&self, kind: Kind, imei: Option<Imei>, text: impl Into<Cow<'static, str>>) {
        let mut text = text.into();
        if text.len() > TEXT_BYTES_MAX {
            let end = text.floor_char_boundary(TEXT_BYTES_MAX);
            text = format!("{}…", &text[..end]).into();
        }
        self.ring().note(Event {
            at_ms: clock::now_ms(),
            kind,
            imei,
            text,
            times: 1,
        });
    }

    /// The last `limit` events, latest first, as `/events` shows them.
    #[must_use]
    pub fn latest(&self, limit: usize, style: ImeiStyle) -> Value {
        let ring = self.ring();
        let events = ring.0.iter().rev().take(limit).map(|event| {
            json!({
                "at_ms": event.at_ms,
                "code": event.kind.code(),
                "trouble": event.kind.is_trouble(),
                "imei": event.imei.map(|imei| style.show(imei).to_string()),
                "text": event.text,
                "times": event.times,
            })
        });
        json!({ "events": events.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(at_ms: u64, kind: Kind, number: Option<u64>) -> Event {
        Event {
            at_ms,
            kind,
            imei: number.map(|n| Imei::from_u64(350_000_000_000_000 + n).unwrap()),
            text: "words".into(),
            times: 1,
        }
    }

    #[test]
    fn the_same_again_is_counted_until_a_minute_passed() {
        let mut ring = Ring::default();
        ring.note(event(0, Kind::FrameDamaged, Some(1)));
        ring.note(event(1, Kind::FrameDamaged, Some(2)));
        ring.note(event(2, Kind::LinkLost, None));
        ring.note(event(59_999, Kind::FrameDamaged, Some(1)));
        let seen: Vec<_> = ring.0.iter().map(|e| (e.at_ms, e.times)).collect();
        assert_eq!(seen, [(1, 1), (2, 1), (59_999, 2)]);
        ring.note(event(59_999 + REPEAT_MS, Kind::FrameDamaged, Some(1)));
        assert_eq!(ring.0.len(), 4);
    }

    #[test]
    fn ten_thousand_logins_do_not_push_out_what_matters() {
        let mut ring = Ring::default();
        ring.note(event(0, Kind::StorageFailed, None));
        for number in 0..10_000 {
            ring.note(event(number, Kind::TrackerAccepted, Some(number)));
            assert!(ring.0.len() <= EVENTS_MAX);
        }
        assert_eq!(ring.0.front().unwrap().kind, Kind::StorageFailed);
        assert_eq!(ring.0.back().unwrap().at_ms, 9_999);
        for number in 0..1_000 {
            ring.note(event(REPEAT_MS * number, Kind::LinkLost, None));
        }
        assert_eq!(ring.0.len(), EVENTS_MAX);
        let trackers = ring.0.iter().filter(|e| e.imei.is_some()).count();
        assert_eq!(trackers, EVENTS_MAX / 2);
    }

    #[test]
    fn long_words_are_cut_between_letters_and_imeis_are_short() {
        let events = Events::default();
        let imei = "356307042441013".parse().unwrap();
        events.note(Kind::TrackerRefused, Some(imei), "€".repeat(1000));
        let shown = events.latest(20, ImeiStyle::Short);
        let shown = &shown["events"][0];
        assert!(shown["text"].as_str().unwrap().len() <= TEXT_BYTES_MAX + '…'.len_utf8());
        assert_eq!(shown["imei"], "35630…013");
        assert_eq!(
            (&shown["trouble"], &shown["code"]),
            (&true.into(), &"tracker-refused".into())
        );
    }
}
