//! The session against every order of events up to a depth, then against long random ones.
//!
//! A model that knows only the rules, not the states, says after every event what may be heard:
//! an ACK for each frame that was kept and wants one, in order, never before its receipt, and
//! nothing after the end.

#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use contract::Lane;
use gateway::session::{Effect, Refusal, Reply, Session, SessionLimits};
use gateway::spool::{Append, Durable, FullPolicy, Spool, SpoolConfig};
use proptest::prelude::*;

const IMEI: &str = "356307042441013";
/// Wiki "Codec", Codec 8 example 1: one record, priority High.
const FRAME_1: &str = "000000000000003608010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E0000000000000000010000C7CF";
/// Wiki "Codec", Codec 8 example 3: two records.
const FRAME_2: &str = "000000000000004308020000016B40D57B480100000000000000000000000000000001010101000000000000016B40D5C198010000000000000000000000000000000101010101000000020000252C";
/// Wiki "Codec", Codec 12: a command response.
const FRAME_12: &str = "00000000000000370C01060000002F4449313A31204449323A30204449333A302041494E313A302041494E323A313639323420444F313A3020444F323A3101000066E3";

/// What can happen to a session. The tracker's words are put behind what is pending; the rest
/// is what the shell does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happens {
    Login,
    NoImei,
    Frame1,
    Frame2,
    Message,
    /// The first half of [`Happens::Frame1`]; the other half is whatever comes.
    Half,
    OtherHalf,
    Damaged,
    Ping,
    Garbage,
    Accepted,
    Refused,
    Durable1,
    Durable2,
    /// The clock moves past every limit.
    Timeout,
}

use Happens::{
    Accepted, Damaged, Durable1, Durable2, Frame1, Frame2, Garbage, Half, Login, Message, NoImei,
    OtherHalf, Ping, Refused, Timeout,
};

const ALL: [Happens; 15] = [
    Login, NoImei, Frame1, Frame2, Message, Half, OtherHalf, Damaged, Ping, Garbage, Accepted,
    Refused, Durable1, Durable2, Timeout,
];

fn bytes_of(happens: Happens) -> Option<Vec<u8>> {
    let frame = |text: &str| hex::decode(text).unwrap();
    Some(match happens {
        Login => [&[0, 15], IMEI.as_bytes()].concat(),
        NoImei => [&[0, 15], &b"35630704244101X"[..]].concat(),
        Frame1 => frame(FRAME_1),
        Frame2 => frame(FRAME_2),
        Message => frame(FRAME_12),
        Half => frame(FRAME_1)[..30].to_vec(),
        OtherHalf => frame(FRAME_1)[30..].to_vec(),
        Damaged => {
            let mut bytes = frame(FRAME_1);
            bytes[20] ^= 1;
            bytes
        }
        Ping => vec![0xFF],
        Garbage => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        Accepted | Refused | Durable1 | Durable2 | Timeout => return None,
    })
}

/// Receipts only come from a real spool; two of them serve all orders.
fn receipts() -> &'static [Durable; 2] {
    static RECEIPTS: OnceLock<[Durable; 2]> = OnceLock::new();
    RECEIPTS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let config = SpoolConfig {
            dir: dir.path().to_owned(),
            gateway: contract::GatewayId::new("test").unwrap(),
            bytes_max: 64 << 20,
            full: FullPolicy::Refuse,
            commit_interval_min: Duration::ZERO,
        };
        let spool = Spool::open(config, [1, 2, 3]).unwrap().0;
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        [1, 2].map(|record_count| {
            let append = Append {
                kind: contract::Kind::Teltonika,
                device: contract::Device::Text("t".into()),
                transport: contract::Transport::Tcp,
                lane: Lane::Normal,
                received_at_ms: 0,
                record_count,
                panic: false,
                bytes: vec![1],
            };
            runtime.block_on(spool.append(append)).unwrap()
        })
    })
}

fn limits() -> SessionLimits {
    SessionLimits {
        handshake_timeout: Duration::from_secs(30),
        frame_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(600),
        codec: codec::Limits::default(),
    }
}

/// What the session waits for, as the effects tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Bytes,
    Verdict,
    Receipt { wants_ack: bool, records: u32 },
    Nothing,
}

/// A shell that obeys, and checks every step against the rules.
struct Shell {
    session: Session,
    now: Instant,
    pending: Vec<u8>,
    waits: Waits,
    is_admitted: bool,
    /// Bytes kept, to be compared with bytes sent.
    kept: Vec<Vec<u8>>,
    said: Vec<u8>,
}

impl Shell {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(limits(), now),
            now,
            pending: Vec::new(),
            waits: Waits::Bytes,
            is_admitted: false,
            kept: Vec::new(),
            said: Vec::new(),
        }
    }

    fn happen(&mut self, happens: Happens) {
        if let Some(bytes) = bytes_of(happens) {
            self.pending.extend(bytes);
            self.session.on_read(self.now);
            self.feed();
        } else {
            match happens {
                Accepted => self.verdict(Ok(())),
                Refused => self.verdict(Err(Refusal::Denied)),
                Durable1 => self.durable(&receipts()[0]),
                Durable2 => self.durable(&receipts()[1]),
                Timeout => self.timeout(),
                _ => unreachable!("has bytes"),
            }
        }
        if self.waits != Waits::Bytes {
            let mut rest = self.pending.as_slice();
            assert!(
                self.session.on_bytes(&mut rest, self.now).is_none(),
                "it waits for {:?}, and yet it reads",
                self.waits
            );
            assert_eq!(rest.len(), self.pending.len(), "and takes nothing");
        }
        if matches!(happens, Frame1 | Frame2 | Message | Half | OtherHalf) && !self.is_admitted {
            assert!(self.kept.is_empty(), "kept before the login");
        }
        assert_eq!(
            self.session.imei().is_some(),
            self.is_admitted && self.waits != Waits::Nothing
        );
    }

    fn feed(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        while let Some(effect) = self.session.on_bytes(&mut rest, self.now) {
            assert_eq!(self.waits, Waits::Bytes, "{effect:?}");
            self.obey(effect);
        }
        self.pending = rest.to_vec();
    }

    fn obey(&mut self, effect: Effect<'_>) {
        match effect {
            Effect::Ask(imei) => {
                assert!(!self.is_admitted, "asked twice");
                assert_eq!(imei, IMEI.parse().unwrap());
                self.waits = Waits::Verdict;
            }
            Effect::Send(reply) => {
                assert!(
                    !matches!(reply, Reply::Ack(_)),
                    "an ACK without its receipt"
                );
                if reply == Reply::Accept {
                    self.is_admitted = true;
                }
                assert!(self.is_admitted, "{reply:?} to a stranger");
                self.say(&reply);
            }
            Effect::Keep(keep) => {
                assert!(self.is_admitted, "kept for a stranger");
                let wants_ack = keep.data[0] != 12;
                let records = keep.record_count;
                self.kept.push(keep.data.to_vec());
                self.waits = Waits::Receipt { wants_ack, records };
            }
            Effect::Close(reply, _) => {
                if let Some(reply) = reply {
                    assert_eq!(reply, Reply::Refuse);
                    assert!(!self.is_admitted);
                    self.say(&reply);
                }
                self.waits = Waits::Nothing;
            }
        }
    }

    fn verdict(&mut self, verdict: Result<(), Refusal>) {
        let was_asked = self.waits == Waits::Verdict;
        let effect = self.session.on_verdict(verdict);
        assert_eq!(effect.is_some(), was_asked, "{effect:?}");
        if let Some(effect) = effect {
            self.waits = Waits::Bytes;
            self.obey(effect);
            self.feed();
        }
    }

    fn durable(&mut self, receipt: &Durable) {
        let reply = self.session.on_durable(receipt);
        match self.waits {
            Waits::Receipt { wants_ack, .. } => {
                assert_eq!(reply.is_some(), wants_ack, "{reply:?}");
                self.waits = Waits::Bytes;
                if let Some(reply) = reply {
                    let count = receipt.record_count().to_be_bytes();
                    assert_eq!(reply.to_bytes(), (count, 4), "the receipt's count");
                    self.say(&reply);
                }
                self.feed();
            }
            _ => assert_eq!(reply, None, "an ACK for nothing"),
        }
    }

    fn timeout(&mut self) {
        if self.now < self.session.deadline() {
            assert!(self.session.on_timeout(self.now).is_none(), "too early");
        }
        self.now = self.now.max(self.session.deadline());
        let effect = self.session.on_timeout(self.now);
        let may_end = self.waits == Waits::Bytes;
        assert_eq!(effect.is_some(), may_end, "{effect:?}");
        if let Some(effect) = effect {
            assert!(matches!(effect, Effect::Close(None, _)), "{effect:?}");
            self.waits = Waits::Nothing;
        }
    }

    fn say(&mut self, reply: &Reply) {
        assert_ne!(self.waits, Waits::Nothing, "speaks after the end");
        let (bytes, length) = reply.to_bytes();
        self.said.extend(&bytes[..length]);
    }
}

fn run(events: &[Happens]) -> Shell {
    let mut shell = Shell::new();
    for happens in events {
        shell.happen(*happens);
    }
    shell
}

/// All 15^4 orders, from the beginning, from a tracker that is logged in, and while a frame waits
/// for its receipt.
#[test]
fn every_order_of_four_events_keeps_the_rules() {
    const DEPTH: usize = 4;
    let starts = [&[][..], &[Login, Accepted], &[Login, Accepted, Frame1]];
    let (mut orders, mut heard) = (0u64, 0u64);
    let mut digits = [0usize; DEPTH];
    loop {
        let events = digits.map(|digit| ALL[digit]);
        for before in starts {
            let events = [before, &events[..]].concat();
            let outcome = std::panic::catch_unwind(|| run(&events));
            let shell = outcome.unwrap_or_else(|_| panic!("broken by {events:?}"));
            orders += 1;
            heard += shell.said.len() as u64;
        }
        let Some(at) = digits.iter().rposition(|digit| digit + 1 < ALL.len()) else {
            break;
        };
        digits[at] += 1;
        digits[at + 1..].fill(0);
    }
    assert_eq!(orders, 3 * 15u64.pow(DEPTH as u32));
    assert!(heard > orders, "most of them get to speak: {heard}");
}

#[test]
fn a_conversation_that_goes_well_is_heard_to_its_end() {
    let frames = [
        Half, OtherHalf, Durable1, Ping, Frame2, Message, Damaged, Frame1,
    ];
    let events = [
        &[Login, Accepted][..],
        &frames,
        &[Durable2, Durable1, Durable1],
    ]
    .concat();
    let shell = run(&events);
    let expected = [
        &[1u8][..],
        &[0, 0, 0, 1], // the frame in two halves
        &[0, 0, 0, 2],
        &[0, 0, 0, 0], // damaged; the message before it is not answered
        &[0, 0, 0, 1],
    ];
    assert_eq!(shell.said, expected.concat());
    assert_eq!(shell.kept.len(), 4);
    assert!(shell.pending.is_empty());
}

fn events() -> impl Strategy<Value = Vec<Happens>> {
    let one = prop_oneof![
        // What goes well most of the time, or no order would last.
        6 => prop::sample::select(&[Frame1, Frame2, Message, Damaged, Ping, Accepted][..]),
        6 => prop::sample::select(&[Durable1, Durable2][..]),
        1 => prop::sample::select(&ALL[..]),
    ];
    prop::collection::vec(one, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn long_orders_keep_the_rules(events in events()) {
        run(&[&[Login, Accepted], &events[..]].concat());
    }

    /// The same words in other portions are answered the same.
    #[test]
    fn portions_do_not_matter(
        words in prop::collection::vec(
            prop::sample::select(&[Frame1, Frame2, Message, Damaged, Ping][..]), 1..12),
        cuts in prop::collection::vec(1usize..90, 1..40),
    ) {
        let stream: Vec<u8> = words.iter().filter_map(|word| bytes_of(*word)).flatten().collect();
        let answers = |portions: Vec<&[u8]>| {
            let mut shell = run(&[Login, Accepted]);
            for portion in portions {
                shell.pending.extend(portion);
                shell.feed();
                while let Waits::Receipt { records, .. } = shell.waits {
                    shell.durable(&receipts()[usize::from(records == 2)]);
                }
            }
            (shell.said, shell.kept)
        };
        let (mut portions, mut rest, mut cut) = (Vec::new(), stream.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (portion, more) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
            portions.push(portion);
            rest = more;
        }
        prop_assert_eq!(answers(portions), answers(vec![&stream]));
    }
}
