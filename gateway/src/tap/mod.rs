//! Frames as they are kept, for whoever wants to watch: the running gateway's end.
//!
//! Invariants: without a watcher a frame costs one comparison; a watcher never slows a tracker, it
//! loses its place instead; at most [`TAPS_MAX`] watch, each with [`FRAMES_MAX`] frames before it.

mod follow;
mod line;

use std::sync::Arc;

use codec::Imei;
use contract::Transport;
use tokio::sync::broadcast::{self, error::RecvError};

pub use follow::{TapArgs, TapError, follow};
pub use line::{Line, Parsed};

/// Watchers at the same time.
pub const TAPS_MAX: usize = 4;

/// Frames that may wait for the slowest watcher.
pub const FRAMES_MAX: usize = 128;

/// One frame that was kept.
#[derive(Debug)]
pub struct TapFrame {
    /// Our clock, milliseconds since 1970.
    pub received_at_ms: u64,
    /// Who sent it.
    pub imei: Imei,
    /// How it came.
    pub transport: Transport,
    /// Codec id … second count.
    pub data: Vec<u8>,
}

/// Where watchers stand.
#[derive(Debug)]
pub struct Taps(broadcast::Sender<Arc<TapFrame>>);

impl Default for Taps {
    fn default() -> Self {
        Self(broadcast::Sender::new(FRAMES_MAX))
    }
}

/// What a watcher gets next.
#[derive(Debug)]
pub enum Next {
    /// A frame.
    Frame(Arc<TapFrame>),
    /// It was too slow and missed so many.
    TooSlow(u64),
    /// There will be no more.
    End,
}

/// One watcher.
pub struct Watcher {
    frames: broadcast::Receiver<Arc<TapFrame>>,
    only: Option<Imei>,
}

impl Taps {
    /// Shows a frame to whoever watches.
    pub fn offer(&self, imei: Imei, data: &[u8], received_at_ms: u64, transport: Transport) {
        if self.0.receiver_count() == 0 {
            return;
        }
        let frame = TapFrame {
            received_at_ms,
            imei,
            transport,
            data: data.to_vec(),
        };
        // The last watcher may have gone just now.
        let _ = self.0.send(Arc::new(frame));
    }

    /// Watches one device or all; `None` when too many watch already.
    #[must_use]
    pub fn watch(&self, only: Option<Imei>) -> Option<Watcher> {
        let frames = self.0.subscribe();
        (self.0.receiver_count() <= TAPS_MAX).then_some(Watcher { frames, only })
    }
}

impl Watcher {
    /// Waits for the next frame.
    pub async fn next(&mut self) -> Next {
        loop {
            match self.frames.recv().await {
                Ok(frame) if self.only.is_none_or(|only| only == frame.imei) => {
                    return Next::Frame(frame);
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => return Next::TooSlow(missed),
                Err(RecvError::Closed) => return Next::End,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn imei(number: u64) -> Imei {
        Imei::from_u64(350_000_000_000_000 + number).unwrap()
    }

    #[tokio::test]
    async fn a_watcher_sees_what_it_asked_for_and_a_slow_one_hears_what_it_missed() {
        let taps = Taps::default();
        taps.offer(imei(1), &[1], 0, Transport::Tcp);
        let mut all = taps.watch(None).unwrap();
        let mut one = taps.watch(Some(imei(2))).unwrap();
        taps.offer(imei(1), &[1], 5, Transport::Tcp);
        taps.offer(imei(2), &[2], 6, Transport::Udp);
        let Next::Frame(frame) = all.next().await else {
            panic!()
        };
        assert_eq!(frame.received_at_ms, 5, "nothing from before");
        let Next::Frame(frame) = one.next().await else {
            panic!()
        };
        assert_eq!((frame.imei, &*frame.data), (imei(2), &[2][..]));
        for _ in 0..=FRAMES_MAX {
            taps.offer(imei(1), &[1], 7, Transport::Tcp);
        }
        let Next::TooSlow(missed) = all.next().await else {
            panic!()
        };
        assert_eq!(missed, 2);
        drop(taps);
        let Next::TooSlow(_) = one.next().await else {
            panic!()
        };
        assert!(matches!(one.next().await, Next::End));
    }

    #[test]
    fn so_many_may_watch_and_no_more() {
        let taps = Taps::default();
        let mut watchers: Vec<_> = (0..TAPS_MAX).map(|_| taps.watch(None).unwrap()).collect();
        assert!(taps.watch(None).is_none());
        watchers.pop();
        assert!(taps.watch(None).is_some());
    }
}
