//! One tracker's behaviour as a machine without sockets and without a clock.
//!
//! The shell feeds it time, bytes and news about the connection, and does what [`Output`]
//! says. Invariants: a frame leaves memory only for the exact count it asked for; frames go
//! out in order, one at a time; whatever was not acknowledged is sent again, the same bytes,
//! on the next connection.
//! Source: PROTOCOL, TCP session (wiki "Codec", communication with server).

use std::collections::VecDeque;
use std::sync::Arc;

use codec::{Imei, encode, login};

use super::dice::Dice;
use super::drive::Drive;
use super::frame::Frame;
use super::replay::Replay;

/// A device's memory: when it is full, the device pauses its journey instead of forgetting.
/// A real one holds thousands of records.
const MEMORY_RECORDS_MAX: u64 = 5_000;

/// Where frames come from.
#[derive(Debug)]
pub(super) enum Source {
    Drive(Box<Drive>),
    Replay(Replay),
}

/// What the shell is to do or to count. In the order they come out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Open a connection, then say [`Device::on_connected`] or [`Device::on_closed`].
    Connect,
    /// Write this login.
    Login(Vec<u8>),
    /// Write this frame; `again` if it went out before.
    Frame { frame: Arc<Frame>, again: bool },
    /// Write one 0xFF.
    Ping,
    /// The frame that was out is safe at the server.
    Acked { frame: Arc<Frame>, delay_ms: u64 },
    /// Close the connection.
    Close(Why),
    /// Nothing left to say: end.
    Finished,
}

/// Why a device hung up or lost its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The server said 0x00 or no answer at all to the login.
    Refused,
    /// Another count than was sent.
    WrongCount { count: u32 },
    /// No answer in time.
    Timeout,
    /// Everything said.
    Done,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Offline { retry_at_ms: u64 },
    Connecting,
    AwaitAccept { until_ms: u64 },
    Ready { ping_at_ms: u64 },
    AwaitAck { sent_at_ms: u64, until_ms: u64 },
    Finished,
}

/// Delays in milliseconds of the fleet's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) answer_ms: u64,
    pub(super) ping_after_ms: u64,
    pub(super) backoff_min_ms: u64,
    pub(super) backoff_max_ms: u64,
}

#[derive(Debug)]
pub(super) struct Device {
    imei: Imei,
    source: Source,
    patience: Patience,
    dice: Dice,
    state: State,
    /// Oldest first; the front may be out.
    memory: VecDeque<Arc<Frame>>,
    memory_records: u64,
    front_was_sent: bool,
    answer: Vec<u8>,
    failures: u32,
    producing: bool,
    outputs: VecDeque<Output>,
}

impl Device {
    /// A device that connects for the first time at `first_at_ms`.
    pub(super) fn new(
        imei: Imei,
        source: Source,
        patience: Patience,
        seed: u64,
        first_at_ms: u64,
    ) -> Device {
        Device {
            imei,
            source,
            patience,
            dice: Dice::new(seed, imei.as_u64(), 3),
            state: State::Offline {
                retry_at_ms: first_at_ms,
            },
            memory: VecDeque::new(),
            memory_records: 0,
            front_was_sent: false,
            answer: Vec::new(),
            failures: 0,
            producing: true,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do; call until `None`.
    pub(super) fn poll(&mut self, now_ms: u64) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.produce(now_ms);
        let nothing_to_come = !self.producing || self.replay_is_over();
        match self.state {
            State::Offline { .. } if nothing_to_come && self.memory.is_empty() => {
                self.state = State::Finished;
                Some(Output::Finished)
            }
            State::Offline { retry_at_ms } if now_ms >= retry_at_ms => {
                self.state = State::Connecting;
                Some(Output::Connect)
            }
            State::AwaitAccept { until_ms } if now_ms >= until_ms => {
                Some(self.hang_up(now_ms, Why::Refused))
            }
            State::AwaitAck { until_ms, .. } if now_ms >= until_ms => {
                Some(self.hang_up(now_ms, Why::Timeout))
            }
            State::Ready { ping_at_ms } => self.poll_ready(now_ms, ping_at_ms, nothing_to_come),
            _ => None,
        }
    }

    fn poll_ready(
        &mut self,
        now_ms: u64,
        ping_at_ms: u64,
        nothing_to_come: bool,
    ) -> Option<Output> {
        if let Some(frame) = self.memory.front().cloned() {
            let again = std::mem::replace(&mut self.front_was_sent, true);
            if frame.ack.is_none() {
                // Messages get no answer: sent is all a device ever knows about them.
                self.forget_front();
                self.be_ready(now_ms);
            } else {
                self.answer.clear();
                self.state = State::AwaitAck {
                    sent_at_ms: now_ms,
                    until_ms: now_ms + self.patience.answer_ms,
                };
            }
            return Some(Output::Frame { frame, again });
        }
        if nothing_to_come {
            self.state = State::Offline {
                retry_at_ms: now_ms,
            };
            return Some(Output::Close(Why::Done));
        }
        if now_ms >= ping_at_ms {
            self.be_ready(now_ms);
            return Some(Output::Ping);
        }
        None
    }

    /// When to call [`Device::poll`] again if nothing else happens.
    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        let due = if self.producing && self.memory_records < MEMORY_RECORDS_MAX {
            match &self.source {
                Source::Drive(drive) => Some(drive.due_ms()),
                Source::Replay(replay) => replay.due_ms(),
            }
        } else {
            None
        };
        let own = match self.state {
            State::Offline { retry_at_ms } => Some(retry_at_ms),
            State::AwaitAccept { until_ms } | State::AwaitAck { until_ms, .. } => Some(until_ms),
            State::Ready { ping_at_ms } => Some(ping_at_ms),
            State::Connecting | State::Finished => None,
        };
        due.into_iter().chain(own).min()
    }

    /// The connection stands.
    pub(super) fn on_connected(&mut self, now_ms: u64) {
        let mut bytes = Vec::new();
        encode::login(self.imei, &mut bytes).expect("a Vec has room");
        self.outputs.push_back(Output::Login(bytes));
        self.answer.clear();
        self.state = State::AwaitAccept {
            until_ms: now_ms + self.patience.answer_ms,
        };
    }

    /// The server said something.
    pub(super) fn on_bytes(&mut self, now_ms: u64, bytes: &[u8]) {
        for byte in bytes {
            match self.state {
                State::AwaitAccept { .. } if *byte == login::ACCEPT => self.be_ready(now_ms),
                State::AwaitAccept { .. } => {
                    let output = self.hang_up(now_ms, Why::Refused);
                    self.outputs.push_back(output);
                }
                State::AwaitAck { sent_at_ms, .. } => {
                    self.answer.push(*byte);
                    if let Some(count) = self.answer.first_chunk::<4>() {
                        self.on_ack(now_ms, sent_at_ms, u32::from_be_bytes(*count));
                    }
                }
                // Commands are for later; whatever else comes unasked is not for us.
                _ => {}
            }
        }
    }

    fn on_ack(&mut self, now_ms: u64, sent_at_ms: u64, count: u32) {
        self.answer.clear();
        let expected = self
            .memory
            .front()
            .and_then(|frame| frame.ack)
            .map(u32::from);
        if expected != Some(count) {
            let output = self.hang_up(now_ms, Why::WrongCount { count });
            self.outputs.push_back(output);
            return;
        }
        self.failures = 0;
        self.be_ready(now_ms);
        if let Some(frame) = self.forget_front() {
            let delay_ms = now_ms.saturating_sub(sent_at_ms);
            self.outputs.push_back(Output::Acked { frame, delay_ms });
        }
    }

    /// The connection is gone, or never came to be.
    pub(super) fn on_closed(&mut self, now_ms: u64) {
        if !matches!(self.state, State::Offline { .. } | State::Finished) {
            self.go_offline(now_ms);
        }
    }

    /// No new records; what is in memory is still sent.
    pub(super) fn stop_producing(&mut self) {
        if !std::mem::replace(&mut self.producing, false) {
            return;
        }
        if let Source::Drive(drive) = &mut self.source
            && let Some(frame) = drive.finish()
        {
            self.keep(frame);
        }
    }

    /// Records in memory: not sent yet, or not acknowledged.
    pub(super) fn waiting_records(&self) -> u64 {
        self.memory_records
    }

    /// The server accepted the login of this connection.
    pub(super) fn is_logged_in(&self) -> bool {
        matches!(self.state, State::Ready { .. } | State::AwaitAck { .. })
    }

    fn produce(&mut self, now_ms: u64) {
        while self.producing && self.memory_records < MEMORY_RECORDS_MAX {
            let frame = match &mut self.source {
                Source::Drive(drive) => drive.take(now_ms),
                Source::Replay(replay) => replay.take(now_ms),
            };
            match frame {
                Some(frame) => self.keep(frame),
                None => return,
            }
        }
    }

    fn replay_is_over(&self) -> bool {
        matches!(&self.source, Source::Replay(replay) if replay.frames_left() == 0)
    }

    fn keep(&mut self, frame: Frame) {
        self.memory_records += frame.records();
        self.memory.push_back(Arc::new(frame));
    }

    fn forget_front(&mut self) -> Option<Arc<Frame>> {
        let frame = self.memory.pop_front()?;
        self.memory_records -= frame.records();
        self.front_was_sent = false;
        Some(frame)
    }

    fn be_ready(&mut self, now_ms: u64) {
        let jitter_ms = self.dice.below(self.patience.ping_after_ms);
        self.state = State::Ready {
            ping_at_ms: now_ms + self.patience.ping_after_ms + jitter_ms,
        };
    }

    fn hang_up(&mut self, now_ms: u64, why: Why) -> Output {
        self.go_offline(now_ms);
        Output::Close(why)
    }

    fn go_offline(&mut self, now_ms: u64) {
        let longest_ms = self.patience.backoff_max_ms;
        let doubled_ms = self
            .patience
            .backoff_min_ms
            .saturating_mul(1 << self.failures.min(20));
        let pause_ms = doubled_ms.min(longest_ms).max(1);
        self.failures = self.failures.saturating_add(1);
        // Half fixed, half by chance: a fleet must not come back all at once.
        let retry_at_ms = now_ms + pause_ms / 2 + self.dice.below(pause_ms / 2 + 1);
        self.state = State::Offline { retry_at_ms };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fleet::config::Profile;
    use crate::fleet::drive::DriveSettings;

    const PATIENCE: Patience = Patience {
        answer_ms: 5_000,
        ping_after_ms: 3_000,
        backoff_min_ms: 100,
        backoff_max_ms: 1_000,
    };

    fn device(records_per_frame: u8) -> Device {
        let drive = Drive::new(DriveSettings {
            seed: 1,
            device: 0,
            profile: Profile::Fmb920,
            interval_ms: 1_000,
            records_per_frame,
            start_ms: 1_750_000_000_000,
        });
        let imei = Imei::from_u64(350_000_000_000_001).unwrap();
        Device::new(imei, Source::Drive(Box::new(drive)), PATIENCE, 1, 0)
    }

    fn all(device: &mut Device, now_ms: u64) -> Vec<Output> {
        std::iter::from_fn(|| device.poll(now_ms)).collect()
    }

    /// Logged in at 1000 ms, when the first record is there.
    fn ready(records_per_frame: u8) -> Device {
        let mut device = device(records_per_frame);
        assert_eq!(all(&mut device, 0), [Output::Connect]);
        device.on_connected(1_000);
        let login = all(&mut device, 1_000);
        assert_eq!(login, [Output::Login(b"\x00\x0f350000000000001".to_vec())]);
        device.on_bytes(1_000, &[login::ACCEPT]);
        device
    }

    fn sent(outputs: &[Output]) -> (Arc<Frame>, bool) {
        match outputs {
            [Output::Frame { frame, again }] => (Arc::clone(frame), *again),
            other => panic!("{other:?}"),
        }
    }

    fn reconnect(device: &mut Device, now_ms: u64) -> Vec<Output> {
        assert_eq!(all(device, now_ms), [Output::Connect]);
        device.on_connected(now_ms);
        assert!(matches!(all(device, now_ms)[..], [Output::Login(_)]));
        device.on_bytes(now_ms, &[login::ACCEPT]);
        all(device, now_ms)
    }

    #[test]
    fn sends_one_frame_and_waits_for_its_count_in_any_pieces() {
        let mut device = ready(1);
        let (frame, again) = sent(&all(&mut device, 1_000));
        assert!(!again);
        assert_eq!(all(&mut device, 4_000), [], "the second frame waits");
        assert!(device.waiting_records() > 1);
        for byte in [0, 0, 0] {
            device.on_bytes(4_000, &[byte]);
            assert_eq!(all(&mut device, 4_000), []);
        }
        device.on_bytes(4_100, &[1]);
        let outputs = all(&mut device, 4_100);
        assert_eq!(
            outputs[0],
            Output::Acked {
                frame,
                delay_ms: 3_100
            }
        );
        assert!(!sent(&outputs[1..]).1);
    }

    #[test]
    fn every_other_count_makes_it_send_the_same_bytes_again() {
        for count in [0_u32, 2, 255, 256, 1 << 24, u32::MAX] {
            let mut device = ready(1);
            let (frame, _) = sent(&all(&mut device, 1_000));
            device.on_bytes(1_010, &count.to_be_bytes());
            assert_eq!(
                all(&mut device, 1_010),
                [Output::Close(Why::WrongCount { count })]
            );
            let (repeat, again) = sent(&reconnect(&mut device, 1_110));
            assert_eq!((&repeat, again), (&frame, true));
        }
    }

    #[test]
    fn silence_and_lost_connections_make_it_send_again() {
        let mut device = ready(1);
        let (frame, _) = sent(&all(&mut device, 1_000));
        assert_eq!(all(&mut device, 5_999), []);
        assert_eq!(all(&mut device, 6_000), [Output::Close(Why::Timeout)]);
        assert_eq!(
            sent(&reconnect(&mut device, 6_100)),
            (Arc::clone(&frame), true)
        );
        // Half an answer, then the end: the half must not count in the next connection.
        device.on_bytes(6_110, &[0, 0]);
        device.on_closed(6_120);
        assert_eq!(
            sent(&reconnect(&mut device, 6_400)),
            (Arc::clone(&frame), true)
        );
        device.on_bytes(6_410, &[0, 0]);
        assert!(device.poll(6_410).is_none());
        device.on_bytes(6_411, &[0, 1]);
        assert_eq!(
            device.poll(6_411),
            Some(Output::Acked {
                frame,
                delay_ms: 11
            })
        );
    }

    #[test]
    fn refused_and_unanswered_logins_are_tried_again_ever_more_slowly() {
        for answer in [Some(login::REFUSE), Some(7), None] {
            let mut device = device(1);
            let mut now_ms = 0;
            let mut pauses = Vec::new();
            for _ in 0..8 {
                assert_eq!(all(&mut device, now_ms), [Output::Connect]);
                device.on_connected(now_ms);
                assert!(matches!(all(&mut device, now_ms)[..], [Output::Login(_)]));
                match answer {
                    Some(byte) => device.on_bytes(now_ms, &[byte]),
                    None => now_ms += PATIENCE.answer_ms,
                }
                assert_eq!(all(&mut device, now_ms), [Output::Close(Why::Refused)]);
                let State::Offline { retry_at_ms } = device.state else {
                    panic!()
                };
                assert_eq!(all(&mut device, retry_at_ms - 1), []);
                pauses.push(retry_at_ms - now_ms);
                now_ms = retry_at_ms;
            }
            assert!((50..=100).contains(&pauses[0]), "{pauses:?}");
            assert!((500..=1_000).contains(&pauses[7]), "{pauses:?}");
        }
    }

    #[test]
    fn a_good_answer_makes_it_patient_again() {
        let mut device = ready(1);
        let mut now_ms = 1_000;
        let _ = sent(&all(&mut device, now_ms));
        for _ in 0..8 {
            device.on_closed(now_ms);
            now_ms += PATIENCE.backoff_max_ms;
            let _ = sent(&reconnect(&mut device, now_ms));
        }
        device.on_bytes(now_ms, &[0, 0, 0, 1]);
        let _ = all(&mut device, now_ms);
        device.on_closed(now_ms);
        assert_eq!(
            all(&mut device, now_ms + PATIENCE.backoff_min_ms),
            [Output::Connect]
        );
    }

    #[test]
    fn an_idle_device_pings_and_an_answerless_end_comes_after_the_rest_is_said() {
        let mut device = ready(200);
        assert_eq!(all(&mut device, 3_900), [], "the frame is not full");
        assert_eq!(all(&mut device, 7_000), [Output::Ping]);
        device.stop_producing();
        let (frame, _) = sent(&all(&mut device, 7_100));
        assert_eq!(frame.records(), 7);
        device.on_bytes(7_200, &[0, 0, 0, 7]);
        let outputs = all(&mut device, 7_200);
        assert!(matches!(
            outputs[..],
            [
                Output::Acked { .. },
                Output::Close(Why::Done),
                Output::Finished
            ]
        ));
        assert_eq!(device.waiting_records(), 0);
    }

    #[test]
    fn a_full_memory_pauses_the_journey_and_forgets_nothing() {
        let mut device = ready(50);
        let _ = all(&mut device, 50_000_000);
        let full = device.waiting_records();
        assert!(
            (MEMORY_RECORDS_MAX..MEMORY_RECORDS_MAX + 50).contains(&full),
            "{full}"
        );
        let mut last_ms = 0;
        for frame in &device.memory {
            for key in &frame.keys {
                assert!(key.fix_time_ms > last_ms);
                last_ms = key.fix_time_ms;
            }
        }
    }
}
