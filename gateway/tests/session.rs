//! The session against every way its bytes can arrive. Receipts come from a real spool, because
//! there is no other place to get one.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use contract::Lane;
use gateway::session::{CloseReason, Effect, Refusal, Reply, Session, SessionLimits};
use gateway::spool::{Append, Durable, Spool, SpoolConfig};

const IMEI: &str = "356307042441013";
/// Wiki "Codec", Codec 8 example 1: one record, priority High.
const FRAME_1: &str = "000000000000003608010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E0000000000000000010000C7CF";
/// Wiki "Codec", Codec 8 example 3: two records.
const FRAME_2: &str = "000000000000004308020000016B40D57B480100000000000000000000000000000001010101000000000000016B40D5C198010000000000000000000000000000000101010101000000020000252C";
/// Wiki "Codec", Codec 12: a command response.
const FRAME_12: &str = "00000000000000370C01060000002F4449313A31204449323A30204449333A302041494E313A302041494E323A313639323420444F313A3020444F323A3101000066E3";

fn limits() -> SessionLimits {
    SessionLimits {
        handshake_timeout: Duration::from_secs(30),
        frame_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(600),
        codec: codec::Limits::default(),
    }
}

fn session(now: Instant) -> Session {
    Session::new(limits(), now)
}

fn login() -> Vec<u8> {
    let mut bytes = vec![0, 15];
    bytes.extend(IMEI.as_bytes());
    bytes
}

struct World {
    spool: Spool,
    runtime: tokio::runtime::Runtime,
    refuse: bool,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = SpoolConfig {
            dir: dir.path().to_owned(),
            gateway: gateway_id(),
            bytes_max: 1 << 30,
            full: gateway::spool::FullPolicy::Refuse,
            commit_interval_min: std::time::Duration::ZERO,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        Self {
            spool: Spool::open(config, [1, 2, 3]).unwrap().0,
            runtime,
            refuse: false,
            _dir: dir,
        }
    }

    fn verdict(&self, _imei: codec::Imei) -> Result<(), Refusal> {
        if self.refuse {
            return Err(Refusal::Denied);
        }
        Ok(())
    }

    fn receipt(&self, record_count: u32) -> Durable {
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
        self.runtime.block_on(self.spool.append(append)).unwrap()
    }

    /// Feeds `parts` one after another; returns what the tracker hears and what was kept.
    fn talk(
        &self,
        session: &mut Session,
        parts: &[&[u8]],
        now: Instant,
    ) -> (Vec<u8>, Vec<Vec<u8>>, Option<CloseReason>) {
        let (mut said, mut kept, mut pending) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            pending.extend_from_slice(part);
            let mut rest: &[u8] = &pending;
            loop {
                let mut effect = session.on_bytes(&mut rest, now);
                if let Some(Effect::Ask(imei)) = effect {
                    assert!(
                        session.on_bytes(&mut rest, now).is_none(),
                        "nothing is read before the verdict"
                    );
                    effect = session.on_verdict(self.verdict(imei));
                }
                let reply = match effect {
                    None | Some(Effect::Ask(_)) => break,
                    Some(Effect::Send(reply)) => Some(reply),
                    Some(Effect::Keep(keep)) => {
                        kept.push(keep.data.to_vec());
                        let receipt = self.receipt(keep.record_count);
                        assert!(
                            session.on_bytes(&mut rest, now).is_none(),
                            "nothing is read before the receipt"
                        );
                        session.on_durable(&receipt)
                    }
                    Some(Effect::Close(reply, reason)) => {
                        said.extend(reply.iter().flat_map(bytes_of));
                        return (said, kept, Some(reason));
                    }
                };
                said.extend(reply.iter().flat_map(bytes_of));
            }
            pending = rest.to_vec();
        }
        (said, kept, None)
    }
}

/// Logs in.
fn admit(session: &mut Session, now: Instant) {
    let login = login();
    let asked = session.on_bytes(&mut login.as_slice(), now);
    assert!(matches!(asked, Some(Effect::Ask(_))));
    let answer = session.on_verdict(Ok(()));
    assert!(matches!(answer, Some(Effect::Send(Reply::Accept))));
}

fn bytes_of(reply: &Reply) -> Vec<u8> {
    let (bytes, length) = reply.to_bytes();
    bytes[..length].to_vec()
}

fn gateway_id() -> contract::GatewayId {
    contract::GatewayId::new("test").unwrap()
}

fn frame(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

#[test]
fn the_answer_does_not_depend_on_where_the_bytes_are_split() {
    let world = World::new();
    let now = Instant::now();
    let mut stream = vec![0xFF];
    stream.extend(login());
    stream.extend([0xFF]);
    stream.extend(frame(FRAME_1));
    stream.extend([0xFF, 0xFF]);
    stream.extend(frame(FRAME_12));
    stream.extend(frame(FRAME_2));
    let expected_said = [&[1u8][..], &[0, 0, 0, 1], &[0, 0, 0, 2]].concat();
    let expected_kept =
        [frame(FRAME_1), frame(FRAME_12), frame(FRAME_2)].map(|f| f[8..f.len() - 4].to_vec());
    let check = |parts: &[&[u8]], how: &str| {
        let mut session = session(now);
        let (said, kept, closed) = world.talk(&mut session, parts, now);
        assert_eq!(said, expected_said, "{how}");
        assert_eq!(kept, expected_kept, "{how}");
        assert_eq!(closed, None, "{how}");
        assert_eq!(session.imei(), Some(IMEI.parse().unwrap()));
    };
    check(&[&stream], "glued");
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    check(&bytes, "byte by byte");
    for at in 1..stream.len() {
        check(&[&stream[..at], &stream[at..]], &format!("split at {at}"));
    }
}

#[test]
fn a_damaged_frame_is_answered_with_zero_and_the_next_one_is_kept() {
    let world = World::new();
    let now = Instant::now();
    let good = frame(FRAME_1);
    for byte in 8..good.len() {
        let mut bent = good.clone();
        bent[byte] ^= 1;
        let mut session = session(now);
        let (said, kept, closed) = world.talk(&mut session, &[&login(), &bent, &good], now);
        assert_eq!(
            said,
            [&[1u8][..], &[0, 0, 0, 0], &[0, 0, 0, 1]].concat(),
            "byte {byte}"
        );
        assert_eq!((kept.len(), closed), (1, None), "byte {byte}");
    }
}

#[test]
fn every_codec_id_and_priority_with_a_good_checksum_is_kept_and_answered() {
    let world = World::new();
    let now = Instant::now();
    for codec_id in 0..=255u8 {
        let mut data = frame(FRAME_1)[8..62].to_vec();
        data[0] = codec_id;
        data[10] = codec_id; // the priority byte
        let mut bytes = vec![0, 0, 0, 0];
        bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend(&data);
        bytes.extend(u32::from(codec::crc::crc16(&data)).to_be_bytes());
        let mut session = session(now);
        let (said, kept, closed) = world.talk(&mut session, &[&login(), &bytes], now);
        assert_eq!(
            (kept.as_slice(), closed),
            (&[data][..], None),
            "codec {codec_id:#04x}"
        );
        let message = (12..=15).contains(&codec_id);
        let expected: &[u8] = if message { &[1] } else { &[1, 0, 0, 0, 1] };
        assert_eq!(said, expected, "codec {codec_id:#04x}");
    }
}

#[test]
fn urgent_records_take_the_high_lane() {
    let now = Instant::now();
    for (priority, lane, panic) in [
        (0, Lane::Normal, false),
        (1, Lane::High, false),
        (2, Lane::High, true),
        (3, Lane::Normal, false),
    ] {
        let mut data = frame(FRAME_1)[8..62].to_vec();
        data[10] = priority;
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 54];
        bytes.extend(&data);
        bytes.extend(u32::from(codec::crc::crc16(&data)).to_be_bytes());
        let mut session = session(now);
        admit(&mut session, now);
        let mut rest = bytes.as_slice();
        let Some(Effect::Keep(keep)) = session.on_bytes(&mut rest, now) else {
            panic!("frame is kept")
        };
        assert_eq!(
            (keep.lane, keep.panic, keep.record_count),
            (lane, panic, 1),
            "priority {priority}"
        );
    }
}

#[test]
fn bad_logins_are_refused_and_nothing_behind_them_is_read() {
    let world = World::new();
    let now = Instant::now();
    let cases: [(&[u8], &[u8]); 5] = [
        (b"\x00\x0f35630704244101X", &[0]),         // a letter
        (b"\x00\x0e35630704244101", &[0]),          // 14 digits
        (b"\x00\x10 356307042441013", &[0]),        // 16 bytes
        (b"GET / HTTP/1.1\r\n\r\n", &[]),           // not a tracker
        (b"\x00\x00\x00\x00\x00\x00\x00\x36", &[]), // a frame before the login
    ];
    for (bytes, answer) in cases {
        let mut glued = bytes.to_vec();
        glued.extend(login());
        glued.extend(frame(FRAME_1));
        let mut session = session(now);
        let (said, kept, closed) = world.talk(&mut session, &[&glued], now);
        assert_eq!((said.as_slice(), kept.len()), (answer, 0), "{bytes:?}");
        assert!(closed.is_some(), "{bytes:?}");
        assert!(
            session.on_bytes(&mut login().as_slice(), now).is_none(),
            "closed for good"
        );
    }
    let mut session = session(now);
    let world = World {
        refuse: true,
        ..world
    };
    let (said, _, closed) = world.talk(&mut session, &[&login(), &frame(FRAME_1)], now);
    assert_eq!(said, [0]);
    assert!(matches!(closed, Some(CloseReason::Refused { .. })));
}

#[test]
fn an_oversized_frame_is_refused_by_its_header_alone() {
    let now = Instant::now();
    for length in [65_524u32, 100_000, u32::MAX] {
        let mut session = session(now);
        admit(&mut session, now);
        let header = [[0; 4], length.to_be_bytes()].concat();
        let effect = session.on_bytes(&mut header.as_slice(), now);
        assert!(
            matches!(effect, Some(Effect::Close(None, CloseReason::Bytes { .. }))),
            "{length}: {effect:?}"
        );
    }
}

#[test]
fn every_kind_of_silence_ends_at_its_own_deadline() {
    let start = Instant::now();
    let second = Duration::from_secs(1);
    // No login, not even with a slow drip of it.
    let mut waiting = session(start);
    for byte in 0..10 {
        waiting.on_read(start + second * byte * 2);
        assert!(
            waiting
                .on_bytes(&mut &login()[..byte as usize], start + second * byte * 2)
                .is_none()
        );
    }
    assert_eq!(waiting.deadline(), start + limits().handshake_timeout);
    assert!(waiting.on_timeout(start + second * 29).is_none());
    assert!(matches!(
        waiting.on_timeout(start + second * 30),
        Some(Effect::Close(None, CloseReason::HandshakeTimeout(_)))
    ));
    // Half a frame, then a drip.
    let mut dripping = session(start);
    admit(&mut dripping, start);
    let bytes = frame(FRAME_1);
    for at in 1..50usize {
        let now = start + second * at as u32;
        dripping.on_read(now);
        assert!(dripping.on_bytes(&mut &bytes[..at], now).is_none());
        assert!(dripping.on_timeout(now).is_none());
    }
    assert_eq!(dripping.deadline(), start + second + limits().frame_timeout);
    assert!(matches!(
        dripping.on_timeout(start + second * 61),
        Some(Effect::Close(None, CloseReason::FrameTimeout(_)))
    ));
    // Nothing at all; a ping counts as life.
    let mut idle = session(start);
    admit(&mut idle, start);
    idle.on_read(start + second * 500);
    idle.on_bytes(&mut [0xFF].as_slice(), start + second * 500);
    assert!(idle.on_timeout(start + second * 1099).is_none());
    assert!(matches!(
        idle.on_timeout(start + second * 1100),
        Some(Effect::Close(None, CloseReason::IdleTimeout(_)))
    ));
}

/// A wire cannot be hung up: what cannot be followed is skipped, half a frame ends with a silence, and
/// a login counts at any time.
#[test]
fn a_wire_goes_on_where_a_connection_ends() {
    let world = World::new();
    let start = Instant::now();
    let mut wire = Session::on_wire(limits(), start);
    let both = [&[0xAA, 0, 0][..], &login(), &frame(FRAME_1)].concat();
    let (said, kept, closed) = world.talk(&mut wire, &[&both], start);
    assert_eq!((said, kept.len(), closed), (vec![1, 0, 0, 0, 1], 1, None));
    assert_eq!(wire.take_skipped(), 3);
    let half = &frame(FRAME_1)[..30];
    let mut rest = half;
    assert!(wire.on_bytes(&mut rest, start).is_none() && rest.len() == half.len());
    assert!(!wire.may_command(), "a frame is arriving");
    let silent = start + gateway::session::wire::SILENCE;
    assert_eq!(wire.deadline(), silent);
    assert!(wire.on_timeout(silent - Duration::from_millis(1)).is_none());
    assert!(wire.on_bytes(&mut rest, silent).is_none() && rest.len() == half.len());
    assert!(wire.on_timeout(silent).is_none(), "nobody is hung up on");
    assert!(wire.on_bytes(&mut rest, silent).is_none() && rest.is_empty());
    assert!(wire.may_command());
    assert_eq!(wire.take_skipped() as usize, half.len());
    assert_eq!(wire.deadline(), start + limits().idle_timeout);
    let (said, kept, closed) = world.talk(&mut wire, &[&login(), &frame(FRAME_2)], silent);
    assert_eq!((said, kept.len(), closed), (vec![1, 0, 0, 0, 2], 1, None));
    let idle = start + limits().idle_timeout;
    let ended = wire.on_timeout(idle);
    assert!(
        matches!(
            ended,
            Some(Effect::Close(None, CloseReason::IdleTimeout(_)))
        ),
        "{ended:?}"
    );
}

#[test]
fn a_wire_with_nothing_but_noise_ends_at_the_handshake() {
    let world = World::new();
    let start = Instant::now();
    let mut wire = Session::on_wire(limits(), start);
    let (said, _, closed) = world.talk(&mut wire, &[&[0x55; 500]], start);
    assert_eq!((said.len(), closed), (0, None));
    let end = start + limits().handshake_timeout;
    wire.on_read(end);
    let ended = wire.on_timeout(end);
    assert!(
        matches!(
            ended,
            Some(Effect::Close(None, CloseReason::HandshakeTimeout(_)))
        ),
        "{ended:?}"
    );
}
