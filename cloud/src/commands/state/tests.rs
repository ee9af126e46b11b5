//! Every order of events, against a table that refuses what the real one refuses.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const FRESH: Row = Row {
    status: Status::Queued,
    attempt: 0,
    resends: 0,
    idempotent: false,
    expired: false,
};

const NOTHING: Evidence = Evidence {
    standing: Standing::Gone,
    is_silent: false,
    has_moved: false,
    is_overdue: false,
    has_unread_responses: false,
};

fn row(status: Status, attempt: u32) -> Row {
    Row {
        status,
        attempt,
        ..FRESH
    }
}

fn said(status: CommandStatus, reason: &str, attempt: u32) -> CommandResponse {
    CommandResponse {
        cid: String::new(),
        imei: "356307042441013".parse().unwrap(),
        instance: "gw".parse().unwrap(),
        status,
        reason: reason.to_owned(),
        reply: String::new(),
        ts_ms: 0,
        attempt,
    }
}

#[test]
fn every_status_has_one_word_and_knows_whether_it_is_final() {
    for (at, (status, word)) in Status::ALL.into_iter().enumerate() {
        assert_eq!((status.as_str(), Status::parse(word)), (word, Some(status)));
        assert_eq!(status as usize, at, "in the order in which it moves");
    }
    let open: Vec<_> = Status::ALL.iter().filter(|(s, _)| !s.is_final()).collect();
    assert_eq!(open.len(), 3);
    assert_eq!(Status::parse("done"), None);
}

#[test]
fn a_gateway_that_could_not_say_it_gives_it_back_and_a_late_copy_of_that_does_nothing() {
    for reason in MAY_GO_AGAIN {
        let nack = said(CommandStatus::Nack, reason, 1);
        let Heard::Again(change) = on_response(&row(Status::Routed, 1), &nack) else {
            panic!("{reason}");
        };
        assert_eq!((change.to, change.is_resend), (Status::Queued, false));
        for further in [row(Status::Queued, 1), row(Status::Routed, 2)] {
            assert_eq!(on_response(&further, &nack), Heard::Noted, "{further:?}");
        }
    }
    for reason in ["cancelled", "wrong-imei", "too-large", "unreadable"] {
        let nack = said(CommandStatus::Nack, reason, 1);
        let heard = on_response(&row(Status::Routed, 1), &nack);
        assert_eq!(heard, Heard::Forward(Status::Nacked), "{reason}");
    }
}

#[test]
fn statuses_move_forward_and_a_late_reply_still_counts() {
    let sent = said(CommandStatus::Sent, "", 1);
    let forward = Heard::Forward(Status::Sent);
    assert_eq!(on_response(&row(Status::Routed, 1), &sent), forward);
    for status in [Status::Sent, Status::Unknown, Status::Acked] {
        assert_eq!(on_response(&row(status, 1), &sent), Heard::Noted);
    }
    let ack = said(CommandStatus::Ack, "late", 1);
    for status in [
        Status::Sent,
        Status::Unknown,
        Status::Timeout,
        Status::Queued,
    ] {
        let heard = on_response(&row(status, 2), &ack);
        assert_eq!(heard, Heard::Forward(Status::Acked), "{status:?}");
    }
    // An intent that its gateway found without its order.
    let lost = said(CommandStatus::Unknown, "restarted", 0);
    let forward = Heard::Forward(Status::Unknown);
    assert_eq!(on_response(&row(Status::Sent, 3), &lost), forward);
}

#[test]
fn silence_is_unknown_and_never_a_second_time_unless_that_does_no_harm() {
    let silent = Evidence {
        is_silent: true,
        ..NOTHING
    };
    let held = Evidence {
        standing: Standing::Held,
        ..silent
    };
    let sent = row(Status::Sent, 1);
    for (row, evidence) in [(sent, silent), (row(Status::Routed, 1), held)] {
        let Verdict::Write(change) = judge(&row, &evidence) else {
            panic!("{row:?}");
        };
        assert_eq!(
            (change.to, change.reason),
            (Status::Unknown, "gateway-silent")
        );
        let unread = Evidence {
            has_unread_responses: true,
            ..evidence
        };
        assert_eq!(judge(&row, &unread), Verdict::Wait);
    }
    let harmless = Row {
        idempotent: true,
        ..sent
    };
    let to = |row: &Row| match judge(row, &silent) {
        Verdict::Write(change) => (change.to, change.is_resend),
        verdict => panic!("{verdict:?}"),
    };
    assert_eq!(to(&harmless), (Status::Queued, true));
    let spent = Row {
        resends: RESENDS_MAX,
        ..harmless
    };
    let late = Row {
        expired: true,
        ..harmless
    };
    assert_eq!(to(&spent), (Status::Unknown, false));
    assert_eq!(to(&late), (Status::Unknown, false));
}

#[test]
fn an_unread_order_follows_its_tracker_and_a_read_one_does_not() {
    let moved = |standing| Evidence {
        standing,
        has_moved: true,
        ..NOTHING
    };
    let routed = row(Status::Routed, 1);
    assert_eq!(judge(&routed, &moved(Standing::Unread)), Verdict::Withdraw);
    for standing in [Standing::Held, Standing::Released, Standing::Gone] {
        assert_eq!(
            judge(&routed, &moved(standing)),
            Verdict::Wait,
            "{standing:?}"
        );
    }
    let patient = Evidence {
        standing: Standing::Unread,
        is_overdue: true,
        ..NOTHING
    };
    assert_eq!(judge(&routed, &patient), Verdict::Wait);
}

#[test]
fn a_refused_command_waits_longer_each_time_up_to_a_minute() {
    let pause = |attempt| {
        let change = not_given(&row(Status::Routed, attempt), "busy").unwrap();
        change.retry_after.as_secs()
    };
    let pauses: Vec<u64> = (1..=9).map(pause).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
    assert_eq!(not_given(&row(Status::Sent, 1), "busy"), None);
}

/// The table, two gateways' worth of Redis, and one tracker that counts what it was told.
#[derive(Debug, Default)]
struct World {
    row: Option<Row>,
    /// Committed as routed, the entry not written yet.
    to_give: Vec<u32>,
    /// Entries in the stream, with where they stand.
    entries: Vec<(u32, Standing)>,
    /// What gateways have in hand, whatever happened to the stream.
    in_hand: Vec<u32>,
    /// Said to the tracker, outcome open.
    said: Vec<u32>,
    responses: VecDeque<CommandResponse>,
    old_responses: Vec<CommandResponse>,
    told: u32,
}

impl World {
    fn row(&self) -> Row {
        self.row.unwrap()
    }

    /// As the table's trigger does.
    fn write(&mut self, change: &Change) {
        let row = self.row.as_mut().unwrap();
        if change.to == Status::Queued {
            let unsaid = row.status == Status::Routed && !change.is_resend;
            let harmless = row.idempotent && change.is_resend && row.resends < RESENDS_MAX;
            assert!(
                unsaid || (harmless && !row.status.is_final()),
                "{row:?} {change:?}"
            );
            row.resends += u32::from(change.is_resend);
        } else {
            assert!(change.to >= row.status, "{row:?} {change:?}");
        }
        row.status = change.to;
    }

    fn respond(&mut self, status: CommandStatus, reason: &str, attempt: u32) {
        self.responses.push_back(said(status, reason, attempt));
    }

    fn hear(&mut self, response: &CommandResponse) {
        match on_response(&self.row(), response) {
            Heard::Forward(to) => self.write(&Change::to(to, "")),
            Heard::Again(change) => self.write(&change),
            Heard::Noted => {}
        }
    }

    fn standing(&self) -> Standing {
        let attempt = self.row().attempt;
        let found = self.entries.iter().find(|(of, _)| *of == attempt);
        found.map_or(Standing::Gone, |(_, standing)| *standing)
    }

    fn set(&mut self, attempt: u32, to: Standing) {
        for entry in self.entries.iter_mut().filter(|entry| entry.0 == attempt) {
            entry.1 = to;
        }
    }

    fn judge(&mut self, is_silent: bool, has_moved: bool, is_overdue: bool) {
        let evidence = Evidence {
            standing: self.standing(),
            is_silent,
            has_moved,
            is_overdue,
            has_unread_responses: !self.responses.is_empty(),
        };
        match judge(&self.row(), &evidence) {
            Verdict::Wait => {}
            Verdict::Write(change) => self.write(&change),
            Verdict::Withdraw => {
                let attempt = self.row().attempt;
                self.entries.retain(|(of, _)| *of != attempt);
                let change = withdrawn(&self.row()).unwrap();
                self.write(&change);
            }
        }
    }

    fn route(&mut self) {
        let row = self.row.as_mut().unwrap();
        if row.status == Status::Queued {
            if row.expired {
                row.status = Status::Expired;
                return;
            }
            row.status = Status::Routed;
            row.attempt += 1;
            self.to_give.push(row.attempt);
        }
    }

    /// One event; `dice` chooses within it.
    fn happen(&mut self, event: u8, dice: u8) {
        match event {
            0 | 1 => self.route(),
            2 | 3 => {
                if let Some(attempt) = self.to_give.pop() {
                    self.entries.push((attempt, Standing::Unread));
                }
            }
            // Redis says no, in as many words.
            4 => {
                if let Some(attempt) = self.to_give.pop()
                    && self.row().attempt == attempt
                    && let Some(change) = not_given(&self.row(), "gateway-gone")
                {
                    self.write(&change);
                }
            }
            // The router dies between COMMIT and XADD.
            5 => self.to_give.clear(),
            6 | 7 => {
                let unread = self.entries.iter().find(|(_, s)| *s == Standing::Unread);
                if let Some((attempt, _)) = unread.copied() {
                    self.set(attempt, Standing::Held);
                    self.in_hand.push(attempt);
                }
            }
            8 => {
                if let Some(attempt) = self.in_hand.pop() {
                    self.set(attempt, Standing::Released);
                    let reason = MAY_GO_AGAIN[usize::from(dice) % MAY_GO_AGAIN.len()];
                    self.respond(CommandStatus::Nack, reason, attempt);
                }
            }
            9 | 10 => {
                if let Some(attempt) = self.in_hand.pop() {
                    self.set(attempt, Standing::Released);
                    if self.row().expired {
                        self.respond(CommandStatus::Expired, "", attempt);
                    } else {
                        self.told += 1;
                        self.said.push(attempt);
                        self.respond(CommandStatus::Sent, "", attempt);
                    }
                }
            }
            11 | 12 => {
                if let Some(attempt) = self.said.pop() {
                    let status = [
                        CommandStatus::Ack,
                        CommandStatus::Timeout,
                        CommandStatus::Unknown,
                        CommandStatus::Nack,
                    ][usize::from(dice) % 4];
                    self.respond(status, "wrong-imei", attempt);
                }
            }
            // A gateway dies between its intent and the report.
            13 => {
                if let Some(attempt) = self.in_hand.pop() {
                    self.set(attempt, Standing::Released);
                    self.told += u32::from(dice.is_multiple_of(2));
                    let known = if dice.is_multiple_of(3) { 0 } else { attempt };
                    self.respond(CommandStatus::Unknown, "restarted", known);
                }
            }
            14 => {
                self.entries.clear();
                self.responses.clear();
            }
            15..=17 => {
                if let Some(response) = self.responses.pop_front() {
                    self.hear(&response);
                    self.old_responses.push(response);
                }
            }
            18 => {
                if !self.old_responses.is_empty() {
                    let at = usize::from(dice) % self.old_responses.len();
                    let response = self.old_responses[at].clone();
                    self.hear(&response);
                }
            }
            19 | 20 => self.judge(dice & 1 > 0, dice & 2 > 0, dice & 4 > 0),
            _ => {
                if dice > 200 {
                    self.row.as_mut().unwrap().expired = true;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn told_at_most_once_and_always_at_an_end(
        idempotent: bool,
        events in proptest::collection::vec((0_u8..22, any::<u8>()), 0..120),
    ) {
        let mut world = World {
            row: Some(Row { idempotent, ..FRESH }),
            ..World::default()
        };
        for (event, dice) in events {
            world.happen(event, dice);
            let row = world.row();
            let most = if idempotent { 1 + row.resends } else { 1 };
            prop_assert!(world.told <= most, "told {} times: {row:?}", world.told);
        }
        // From here on nobody acts any more but the clock and the cloud.
        world.row.as_mut().unwrap().expired = true;
        while let Some(response) = world.responses.pop_front() {
            world.hear(&response);
        }
        for _ in 0..3 {
            world.judge(true, false, true);
            world.route();
        }
        prop_assert!(world.row().status.is_final(), "{world:?}");
        // What was slow may still arrive.
        while let Some(attempt) = world.to_give.pop() {
            prop_assert!(idempotent || attempt == world.row().attempt);
        }
    }
}
