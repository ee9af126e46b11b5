//! The queue of orders against every sequence of events up to a depth, and against long random
//! ones: what is promised about orders holds after every step, and nothing is left when it ends.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use codec::Imei;
use codec::encode::{self, MessageSpec};
use contract::{CommandStatus, Device, Order};
use gateway::downlink::queue::{
    Effect, Now, Queue, REPLY_TIMEOUT, RETRIES_MAX, Reason, Report, WAITING_PER_DEVICE_MAX, Write,
};
use gateway::spool::Intent;
use proptest::prelude::*;

const START_MS: u64 = 1_700_000_000_000;
const LIFETIME: Duration = Duration::from_secs(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A new order: even ones are Codec 12 and sent once, odd ones Codec 14 and idempotent.
    Order,
    /// The last order is read again, as after a reconnect.
    Again,
    Seat,
    Leave,
    LeaveOld,
    /// What the mailbox of a dead connection held is dropped, and says so.
    Dropped,
    Begun,
    NotBegun,
    Written,
    Broken,
    Unwritten,
    Reply12,
    Reply14,
    Refusal14,
    /// The reply timeout passes.
    Wait,
    /// Every order so far expires.
    Expire,
    Cancel,
}

const EVENTS: [Event; 17] = [
    Event::Dropped,
    Event::Order,
    Event::Again,
    Event::Seat,
    Event::Leave,
    Event::LeaveOld,
    Event::Begun,
    Event::NotBegun,
    Event::Written,
    Event::Broken,
    Event::Unwritten,
    Event::Reply12,
    Event::Reply14,
    Event::Refusal14,
    Event::Wait,
    Event::Expire,
    Event::Cancel,
];

/// What the world knows of one order.
#[derive(Clone, Debug, Default)]
struct Known {
    released: u32,
    sent: u32,
    finals: Vec<(CommandStatus, Reason)>,
    late: u32,
    /// Times its bytes may have reached a socket.
    touched: u32,
    idempotent: bool,
}

#[derive(Clone, Debug)]
enum Job {
    Begin(String),
    Finish(String),
}

/// One tracker, its gateway's disk and socket, and everything that was said about its orders.
#[derive(Clone)]
struct World {
    queue: Queue,
    start: Instant,
    passed: Duration,
    imei: Imei,
    orders: Vec<Order>,
    known: BTreeMap<String, Known>,
    epochs: Vec<u64>,
    epoch_next: u64,
    /// For the one thread of the intent log, in this order.
    jobs: VecDeque<Job>,
    to_write: Vec<(String, u64)>,
    in_a_dead_mailbox: Vec<(String, u64)>,
    living: Option<u64>,
    /// Durable and not yet forgotten.
    intents: BTreeSet<String>,
    /// In the order of their first bytes.
    first_touch: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self {
            queue: Queue::new(REPLY_TIMEOUT, Vec::new()),
            start: Instant::now(),
            passed: Duration::ZERO,
            imei: "356307042441013".parse().unwrap(),
            orders: Vec::new(),
            known: BTreeMap::new(),
            epochs: Vec::new(),
            epoch_next: 1,
            jobs: VecDeque::new(),
            to_write: Vec::new(),
            in_a_dead_mailbox: Vec::new(),
            living: None,
            intents: BTreeSet::new(),
            first_touch: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now {
            at: self.start + self.passed,
            wall_ms: START_MS + self.passed.as_millis() as u64,
        }
    }

    /// `false`: nothing like that can happen now.
    fn happens(&mut self, event: Event) -> bool {
        let now = self.now();
        let effects = match event {
            Event::Order => {
                let number = self.orders.len();
                let order = order(number, self.imei, now.wall_ms);
                let known = Known {
                    idempotent: order.idempotent,
                    ..Known::default()
                };
                self.known.insert(order.cid.clone(), known);
                self.orders.push(order.clone());
                self.queue.order(order, entry(number), now)
            }
            Event::Again => {
                let Some(order) = self.orders.last().cloned() else {
                    return false;
                };
                if self.known[&order.cid].released > 0 {
                    return false;
                }
                let before = self.queue.view();
                let effects = self.queue.order(order, entry(self.orders.len() - 1), now);
                assert_eq!(before, self.queue.view());
                assert_eq!(effects, []);
                effects
            }
            Event::Seat => {
                let epoch = self.epoch_next;
                self.epoch_next += 1;
                self.epochs.push(epoch);
                self.living = Some(epoch);
                self.queue.seated(self.imei, epoch, now)
            }
            Event::Leave | Event::LeaveOld => {
                let last = self.epochs.len().checked_sub(1);
                let at = match event {
                    Event::Leave => last,
                    _ => last.and_then(|last| last.checked_sub(1)),
                };
                let Some(at) = at else { return false };
                let epoch = self.epochs.remove(at);
                let effects = self.queue.left(self.imei, epoch, now);
                self.obey(effects);
                let (gone, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.to_write)
                    .into_iter()
                    .partition(|(_, at)| *at == epoch);
                self.to_write = rest;
                self.in_a_dead_mailbox.extend(gone);
                self.living.take_if(|living| *living == epoch);
                Vec::new()
            }
            Event::Dropped => {
                let Some((cid, epoch)) = self.in_a_dead_mailbox.pop() else {
                    return false;
                };
                let before = self.queue.view();
                assert_eq!(self.queue.unwritten(&cid, epoch, now), []);
                assert_eq!(before, self.queue.view(), "it was taken back already");
                Vec::new()
            }
            Event::Begun => {
                let Some(cid) = self.next_to_begin() else {
                    return false;
                };
                self.intents.insert(cid.clone());
                let (write, effects) = self.queue.begun(&cid, cid.clone(), now);
                if let Some(write) = write {
                    self.check_write(&write, now);
                    self.to_write.push((write.cid, write.epoch));
                }
                effects
            }
            Event::NotBegun => {
                let Some(cid) = self.next_to_begin() else {
                    return false;
                };
                self.queue.not_begun(&cid, Reason::Storage, now)
            }
            Event::Written | Event::Broken | Event::Unwritten => {
                if self.to_write.is_empty() {
                    return false;
                }
                let (cid, epoch) = self.to_write.remove(0);
                if event == Event::Unwritten {
                    self.queue.unwritten(&cid, epoch, now)
                } else {
                    let known = self.known.get_mut(&cid).unwrap();
                    known.touched += 1;
                    if known.touched == 1 {
                        self.first_touch.push(cid.clone());
                    }
                    if event == Event::Written {
                        self.queue.written(&cid, epoch, now)
                    } else {
                        self.queue.broken(&cid, epoch, now)
                    }
                }
            }
            Event::Reply12 => {
                self.queue
                    .frame(self.imei, &data(&MessageSpec::response(b"ok")), now)
            }
            Event::Reply14 => {
                let reply = data(&MessageSpec::executed(self.imei, b"ok"));
                self.queue.frame(self.imei, &reply, now)
            }
            Event::Refusal14 => {
                let refusal = data(&MessageSpec::not_executed(self.imei));
                self.queue.frame(self.imei, &refusal, now)
            }
            Event::Wait | Event::Expire => {
                self.passed += if event == Event::Wait {
                    REPLY_TIMEOUT
                } else {
                    LIFETIME
                };
                self.queue.tick(self.now())
            }
            Event::Cancel => match self.orders.last() {
                Some(order) => self.queue.cancel(&order.cid, now).unwrap_or_default(),
                None => return false,
            },
        };
        self.obey(effects);
        self.check();
        true
    }

    /// The next intent to make durable, after what is to be forgotten before it.
    fn next_to_begin(&mut self) -> Option<String> {
        loop {
            match self.jobs.pop_front()? {
                Job::Begin(cid) => return Some(cid),
                Job::Finish(cid) => self.intents.remove(&cid),
            };
        }
    }

    fn check_write(&self, write: &Write<String>, now: Now) {
        assert_eq!(write.receipt, write.cid);
        assert_eq!(Some(write.epoch), self.living);
        assert!(write.expires_ms > now.wall_ms, "not too late");
        let known = &self.known[&write.cid];
        let most = if known.idempotent { RETRIES_MAX } else { 0 };
        assert!(known.touched <= most, "{} was written too often", write.cid);
        assert!(known.finals.is_empty(), "{} is over", write.cid);
    }

    fn obey(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Begin(intent) => self.jobs.push_back(Job::Begin(intent.cid)),
                Effect::Release(_) => unreachable!("no order came twice with two entries"),
                Effect::Report(report) => self.note(report),
            }
        }
    }

    fn note(&mut self, report: Report) {
        let known = self.known.get_mut(&report.cid).unwrap();
        let is_first = known.sent == 0 && known.finals.is_empty();
        assert_eq!(report.entry.is_some(), is_first, "{report:?}");
        known.released += u32::from(report.entry.is_some());
        if report.settles {
            self.jobs.push_back(Job::Finish(report.cid.clone()));
        }
        if let Some(entry) = &report.entry {
            self.queue.released(entry);
        }
        let never_touched = known.touched == 0;
        match (report.status, report.reason) {
            (CommandStatus::Sent, _) => known.sent += 1,
            (_, Reason::Late) => known.late += 1,
            (status, reason) => {
                let said_untouched = match status {
                    CommandStatus::Expired => true,
                    CommandStatus::Nack => !matches!(reason, Reason::WrongImei | Reason::Ambiguous),
                    _ => false,
                };
                assert_eq!(said_untouched, never_touched, "{report:?}");
                known.finals.push((status, reason));
            }
        }
    }

    /// Holds after every step.
    fn check(&self) {
        assert_eq!(self.queue.is_here(self.imei), self.living.is_some());
        let view = self.queue.view();
        let on_the_way = view.iter().filter(|order| order.state != "waiting");
        assert!(on_the_way.count() <= 1, "{view:?}");
        let (waiting, others) = self.queue.counts();
        assert_eq!(waiting + others, view.len());
        for (cid, known) in &self.known {
            assert!(known.finals.len() <= 1, "{cid}: {known:?}");
            assert!(known.sent <= 1 && known.released <= 1, "{cid}: {known:?}");
            let is_at_a_desk = view.iter().any(|order| order.cid == *cid);
            assert_eq!(is_at_a_desk, known.finals.is_empty(), "{cid}: {known:?}");
        }
        assert!(self.first_touch.is_sorted(), "first come, first served");
        if waiting > 0 {
            assert!(
                others == 1 && self.living.is_some(),
                "nobody waits for nothing"
            );
        }
    }

    /// Ends everything: no order without an outcome, no intent without an end.
    fn end(mut self) {
        let now = self.now();
        let effects = self.queue.stop(now);
        self.living = None;
        self.obey(effects);
        while self.happens(Event::Begun) || self.happens(Event::Unwritten) {}
        let rest = self.queue.tick(Now {
            at: now.at + Duration::from_secs(3600),
            ..now
        });
        self.obey(rest);
        self.check();
        for (cid, known) in &self.known {
            assert_eq!(
                (known.finals.len(), known.released),
                (1, 1),
                "{cid}: {known:?}"
            );
        }
        assert_eq!(self.intents, BTreeSet::new(), "an intent nobody finishes");
        assert_eq!(self.queue.view(), []);
        assert!(
            self.queue.deadline(now).is_none(),
            "something is remembered"
        );
    }
}

fn order(number: usize, imei: Imei, now_ms: u64) -> Order {
    Order {
        cid: format!("{number:04}"),
        imei,
        codec: if number.is_multiple_of(2) { 12 } else { 14 },
        payload: "getinfo".to_owned(),
        created_ms: now_ms,
        expires_ms: now_ms + LIFETIME.as_millis() as u64,
        attempt: 1,
        idempotent: number % 2 == 1,
    }
}

fn entry(number: usize) -> String {
    format!("{number}-0")
}

fn data(message: &MessageSpec<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    encode::message_frame(message, &mut frame).unwrap();
    frame[8..frame.len() - 4].to_vec()
}

/// Every continuation of `world` by up to `depth` events; gives how many there are.
fn explore(world: &World, depth: usize) -> u64 {
    world.clone().end();
    if depth == 0 {
        return 1;
    }
    let mut count = 1;
    for event in EVENTS {
        let mut next = world.clone();
        if next.happens(event) {
            count += explore(&next, depth - 1);
        }
    }
    count
}

#[test]
fn every_order_of_events_keeps_the_promises() {
    // From nothing, and from the states that take long to reach.
    let starts: [(&[Event], usize); 5] = [
        (&[], 5),
        (&[Event::Seat, Event::Order, Event::Order], 4),
        (&[Event::Seat, Event::Order, Event::Order, Event::Begun], 4),
        (
            &[
                Event::Seat,
                Event::Order,
                Event::Order,
                Event::Begun,
                Event::Written,
                Event::Wait,
            ],
            4,
        ),
        (
            &[
                Event::Seat,
                Event::Order,
                Event::Order,
                Event::Order,
                Event::Begun,
                Event::Written,
                Event::Reply12,
                Event::Begun,
                Event::Written,
                Event::Wait,
                Event::Begun,
                Event::Written,
            ],
            4,
        ),
    ];
    let mut sequences = 0;
    for (events, depth) in starts {
        let mut world = World::new();
        for event in events {
            assert!(world.happens(*event), "{event:?} of {events:?}");
        }
        sequences += explore(&world, depth);
    }
    assert!(sequences > 50_000, "only {sequences} sequences");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn long_stories_keep_the_promises(story in prop::collection::vec(0..EVENTS.len(), 0..120)) {
        let mut world = World::new();
        for event in story {
            world.happens(EVENTS[event]);
        }
        world.end();
    }
}

fn outcome(effects: &[Effect]) -> Vec<(&str, CommandStatus, Reason)> {
    let reports = effects.iter().filter_map(|effect| match effect {
        Effect::Report(report) => Some((report.cid.as_str(), report.status, report.reason)),
        _ => None,
    });
    reports.collect()
}

#[test]
fn too_many_orders_are_turned_away() {
    let mut world = World::new();
    world.happens(Event::Seat);
    // One is on its way, the others wait.
    for _ in 0..=WAITING_PER_DEVICE_MAX {
        world.happens(Event::Order);
    }
    assert!(world.known.values().all(|known| known.finals.is_empty()));
    world.happens(Event::Order);
    let last = world.known.values().next_back().unwrap();
    assert_eq!(last.finals, [(CommandStatus::Nack, Reason::Busy)]);
    world.end();
}

#[test]
fn an_idempotent_order_is_tried_four_times_in_all() {
    let mut world = World::new();
    for event in [
        Event::Seat,
        Event::Order,
        Event::Cancel,
        Event::NotBegun,
        Event::Order,
    ] {
        world.happens(event);
    }
    for _ in 0..=RETRIES_MAX {
        assert!(world.happens(Event::Begun) && world.happens(Event::Written));
        world.happens(Event::Wait);
    }
    let known = &world.known["0001"];
    assert_eq!(known.finals, [(CommandStatus::Timeout, Reason::None)]);
    assert_eq!((known.touched, known.sent), (RETRIES_MAX + 1, 1));
    world.happens(Event::Reply14);
    assert_eq!(world.known["0001"].late, 1);
    world.end();
}

#[test]
fn a_reply_that_may_belong_to_an_older_command_says_so() {
    let mut world = World::new();
    let now = world.now();
    world.queue.seated(world.imei, 1, now);
    let mut next = |number: usize| {
        world
            .queue
            .order(order(number, world.imei, now.wall_ms), entry(number), now);
        let cid = format!("{number:04}");
        world.queue.begun(&cid, (), now);
        world.queue.written(&cid, 1, now);
    };
    next(0);
    let later = Now {
        at: now.at + REPLY_TIMEOUT,
        ..now
    };
    assert_eq!(
        outcome(&world.queue.tick(later)),
        [("0000", CommandStatus::Timeout, Reason::None)]
    );
    let mut next = |number: usize| {
        world
            .queue
            .order(order(number, world.imei, now.wall_ms), entry(number), later);
        let cid = format!("{number:04}");
        world.queue.begun(&cid, (), later);
        world.queue.written(&cid, 1, later);
    };
    next(2);
    let reply = data(&MessageSpec::response(b"ok"));
    assert_eq!(
        outcome(&world.queue.frame(world.imei, &reply, later)),
        [("0002", CommandStatus::Ack, Reason::Ambiguous)]
    );
    // Nothing is left to explain a second one.
    assert_eq!(world.queue.frame(world.imei, &reply, later), []);
}

#[test]
fn a_reply_for_another_tracker_is_nobodys() {
    let mut world = World::new();
    let now = world.now();
    world.queue.seated(world.imei, 1, now);
    world
        .queue
        .order(order(1, world.imei, now.wall_ms), entry(1), now);
    world.queue.begun("0001", (), now);
    world.queue.written("0001", 1, now);
    let other: Imei = "352093081452251".parse().unwrap();
    let foreign = data(&MessageSpec::executed(other, b"ok"));
    assert_eq!(world.queue.frame(world.imei, &foreign, now), []);
    let codec12 = data(&MessageSpec::response(b"ok"));
    assert_eq!(world.queue.frame(world.imei, &codec12, now), []);
    // The refusal in the manufacturer's example names another IMEI, too.
    let refusal = data(&MessageSpec::not_executed(other));
    assert_eq!(
        outcome(&world.queue.frame(world.imei, &refusal, now)),
        [("0001", CommandStatus::Nack, Reason::WrongImei)]
    );
}

#[test]
fn what_a_restart_finds_is_unknown_and_never_sent() {
    let imei: Imei = "356307042441013".parse().unwrap();
    let intent = |cid: &str| Intent {
        cid: cid.to_owned(),
        device: Device::Imei(imei),
        at_ms: START_MS,
        payload: b"getinfo".to_vec(),
    };
    let now = World::new().now();
    let mut queue = Queue::new(REPLY_TIMEOUT, vec![intent("0001"), intent("0002")]);
    queue.seated(imei, 1, now);
    // Still pending in Redis: released together with its report.
    let effects = queue.order(order(1, imei, now.wall_ms), entry(1), now);
    let [Effect::Report(report)] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert_eq!(report.status, CommandStatus::Unknown);
    assert_eq!(
        (report.entry.as_deref(), report.settles),
        (Some("1-0"), true)
    );
    assert_eq!(
        outcome(&queue.pending_read(now)),
        [("0002", CommandStatus::Unknown, Reason::Restarted)]
    );
    assert_eq!(queue.pending_read(now), []);
    // Delivered once more under another entry, it is only released; as a new attempt of an
    // idempotent order it is run.
    let effects = queue.order(order(1, imei, now.wall_ms), entry(7), now);
    assert_eq!(effects, [Effect::Release(entry(7))]);
    let mut second = order(1, imei, now.wall_ms);
    second.attempt = 2;
    let effects = queue.order(second, entry(8), now);
    assert!(
        matches!(effects.as_slice(), [Effect::Begin(_)]),
        "{effects:?}"
    );
}

#[test]
fn an_order_that_came_twice_runs_once() {
    let mut world = World::new();
    let now = world.now();
    world.queue.seated(world.imei, 1, now);
    let order = order(0, world.imei, now.wall_ms);
    world.queue.order(order.clone(), entry(0), now);
    let twice = world.queue.order(order, entry(1), now);
    assert_eq!(twice, [Effect::Release(entry(1))]);
}

#[test]
fn an_unreadable_order_is_answered_once_if_it_says_whose_it_is() {
    let mut queue = Queue::new(REPLY_TIMEOUT, Vec::new());
    let now = World::new().now();
    let imei = "356307042441013".parse().unwrap();
    let known = Some(("c".to_owned(), imei, 2));
    let effects = queue.unreadable(entry(1), known.clone(), now);
    assert_eq!(
        outcome(&effects),
        [("c", CommandStatus::Nack, Reason::Unreadable)]
    );
    assert_eq!(queue.unreadable(entry(1), known, now), [], "under way");
    assert_eq!(
        queue.unreadable(entry(2), None, now),
        [Effect::Release(entry(2))]
    );
}

#[test]
fn a_reply_of_any_length_and_any_bytes_becomes_a_bounded_text() {
    for length in [0, 1, 16 * 1024, 16 * 1024 + 1, 60_000] {
        let mut world = World::new();
        let now = world.now();
        world.queue.seated(world.imei, 1, now);
        let first = order(0, world.imei, now.wall_ms);
        world.queue.order(first, entry(0), now);
        world.queue.begun("0000", (), now);
        world.queue.written("0000", 1, now);
        let reply = data(&MessageSpec::response(&vec![b'x'; length]));
        let effects = world.queue.frame(world.imei, &reply, now);
        let [Effect::Report(report)] = effects.as_slice() else {
            panic!("{effects:?}");
        };
        assert_eq!(report.reply.len(), length.min(16 * 1024));
    }
    let mut world = World::new();
    for event in [Event::Seat, Event::Order, Event::Begun, Event::Written] {
        assert!(world.happens(event));
    }
    let binary = data(&MessageSpec::response(&[0xFF, 0x00, b'a']));
    let effects = world.queue.frame(world.imei, &binary, world.now());
    assert!(
        matches!(effects.as_slice(), [Effect::Report(report)] if report.reply == "\u{FFFD}\0a")
    );
}
