//! When a session lets something else be said to its tracker, byte by byte.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use gateway::session::{Effect, Session, SessionLimits};
use gateway::spool::{Append, FullPolicy, Spool, SpoolConfig};

/// Wiki "Codec", Codec 8 example 1: one record.
const FRAME: &str = "000000000000003608010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E0000000000000000010000C7CF";

#[test]
fn a_command_may_stand_between_frames_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig {
        dir: dir.path().to_owned(),
        gateway: "test".parse().unwrap(),
        bytes_max: 1 << 26,
        full: FullPolicy::Refuse,
        commit_interval_min: Duration::ZERO,
    };
    let (spool, _) = Spool::open(config, [1, 2, 3]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let append = Append {
        kind: contract::Kind::Teltonika,
        device: contract::Device::Text("t".into()),
        transport: contract::Transport::Tcp,
        lane: contract::Lane::Normal,
        received_at_ms: 0,
        record_count: 1,
        panic: false,
        bytes: vec![1],
    };
    let receipt = runtime.block_on(spool.append(append)).unwrap();

    let limits = SessionLimits {
        handshake_timeout: Duration::from_secs(30),
        frame_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(600),
        codec: codec::Limits::default(),
    };
    let now = Instant::now();
    let mut session = Session::new(limits, now);
    // Login, ping, frame, frame: where a command may stand, as offsets of the bytes before it.
    let mut bytes = vec![0, 15];
    bytes.extend(b"356307042441013");
    let logged_in = bytes.len();
    bytes.push(0xFF);
    let mut allowed = vec![logged_in, logged_in + 1];
    for _ in 0..2 {
        bytes.extend(hex::decode(FRAME).unwrap());
        allowed.push(bytes.len());
    }
    let mut taken = 0;
    for arrived in 0..=bytes.len() {
        let mut rest = &bytes[taken..arrived];
        while let Some(effect) = session.on_bytes(&mut rest, now) {
            if matches!(effect, Effect::Ask(_)) {
                assert!(!session.may_command(), "byte {arrived}: nobody yet");
                assert!(session.on_verdict(Ok(())).is_some());
            }
            if matches!(effect, Effect::Keep(_)) {
                assert!(!session.may_command(), "byte {arrived}: no receipt yet");
                assert!(session.on_durable(&receipt).is_some());
            }
        }
        taken = arrived - rest.len();
        let may = session.may_command();
        assert_eq!(may, allowed.contains(&arrived), "byte {arrived}");
    }
    assert!(session.on_timeout(now + Duration::from_secs(600)).is_some());
    assert!(!session.may_command(), "nothing is said to who has gone");
}
