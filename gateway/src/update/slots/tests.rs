//! The record under power cuts at every write.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

/// A disk that may tear a write: so many bytes of the new copy, the rest of the old one.
#[derive(Clone, Debug)]
struct Disk([[u8; COPY_BYTES]; 2]);

impl Disk {
    fn record(&self) -> Record {
        newest([&self.0[0], &self.0[1]])
    }

    fn write(&mut self, record: &Record, bytes: usize) {
        self.0[record.copy()][..bytes].copy_from_slice(&record.bytes()[..bytes]);
    }
}

/// What lies in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Starts and confirms itself.
    Works,
    /// Starts and does not.
    Sick,
    /// Half written.
    Junk,
}

/// A box that is updated, restarted and cut off; `cut` says at which byte of which write.
struct Case {
    disk: Disk,
    slots: [Content; 2],
    cuts: Vec<Option<usize>>,
}

fn index(slot: Slot) -> usize {
    usize::from(slot == Slot::B)
}

impl Case {
    /// `None`: the power went during it.
    fn write(&mut self, record: &Record) -> Option<()> {
        match self.cuts.pop().flatten() {
            None => {
                self.disk.write(record, COPY_BYTES);
                Some(())
            }
            Some(bytes) => {
                self.disk.write(record, bytes.min(COPY_BYTES));
                None
            }
        }
    }

    /// What runs after the power came.
    fn start(&mut self) -> Option<Slot> {
        let start = self.disk.record().start();
        if let Some(first) = &start.first {
            self.write(first)?;
        }
        Some(start.slot)
    }

    fn apply(&mut self, running: Slot, content: Content) -> Option<()> {
        let Ok(record) = self.disk.record().overwriting(running) else {
            return Some(());
        };
        self.write(&record)?;
        let other = index(running.other());
        self.slots[other] = Content::Junk;
        // The power may go while the slot is written, too.
        if self.cuts.pop().flatten().is_some() {
            return None;
        }
        self.slots[other] = content;
        self.write(&record.offered("next"))
    }

    fn confirm(&mut self, running: Slot) -> Option<()> {
        match self.disk.record().confirmed(running) {
            Ok(Some(record)) => self.write(&record),
            _ => Some(()),
        }
    }
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![Just(Content::Works), Just(Content::Sick)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is cut off where: no half-written system is ever started, and two starts later a
    /// system runs that works.
    #[test]
    fn a_box_starts_what_works_whatever_is_cut_off(
        updates in proptest::collection::vec(content(), 1..8),
        cuts in proptest::collection::vec(proptest::option::weighted(0.3, 0..=COPY_BYTES), 60),
    ) {
        let mut case = Case {
            disk: Disk([[0; COPY_BYTES]; 2]),
            slots: [Content::Works, Content::Junk],
            cuts,
        };
        for update in updates {
            let Some(running) = case.start() else { continue };
            let runs = case.slots[index(running)];
            prop_assert_ne!(runs, Content::Junk, "{:?}", case.disk.record());
            if runs == Content::Works && case.confirm(running).is_some() {
                let _ = case.apply(running, update);
            }
        }
        case.cuts.clear();
        let first = case.start().unwrap();
        prop_assert_ne!(case.slots[index(first)], Content::Junk);
        if case.slots[index(first)] == Content::Sick {
            let second = case.start().unwrap();
            prop_assert_eq!(case.slots[index(second)], Content::Works);
        }
    }

    /// Each write at each byte: what is read is the record before or the one after.
    #[test]
    fn a_torn_write_gives_the_record_before_or_the_one_after(
        serial in 0..9_u64, bytes in 0..=COPY_BYTES, begun: bool, version in "[a-z0-9.+~_-]{1,64}",
    ) {
        let mut record = Record { serial, ..Record::default() };
        let mut disk = Disk([[0; COPY_BYTES]; 2]);
        disk.write(&record, COPY_BYTES);
        record = record.next();
        disk.write(&record, COPY_BYTES);
        let mut after = record.offered(&version);
        after.trial = Some(Trial { version, begun });
        disk.write(&after, bytes);
        let read = disk.record();
        prop_assert!(read == record || read == after, "{read:?}");
    }

    #[test]
    fn what_is_written_is_read(
        serial: u64, b: bool, version in "[a-z0-9.+~_-]{1,64}", begun: bool, kept: bool,
    ) {
        let ending = if kept { Ending::Confirmed } else { Ending::RolledBack };
        let record = Record {
            serial,
            good: if b { Slot::B } else { Slot::A },
            trial: Some(Trial { version: version.clone(), begun }),
            last: Some(Last { ending, version }),
        };
        prop_assert_eq!(Record::read(&record.bytes()), Some(record));
    }
}

#[test]
fn a_trial_is_used_up_before_its_system_starts() {
    let offered = Record::default().offered("2");
    let start = offered.start();
    assert_eq!((start.slot, start.otherwise), (Slot::B, Slot::A));
    let begun = start.first.unwrap();
    assert!(begun.on_trial(Slot::B));
    let again = begun.start();
    assert_eq!(again.slot, Slot::A);
    let after = again.first.unwrap();
    assert_eq!(after.last.as_ref().unwrap().ending, Ending::RolledBack);
    assert_eq!(after.start().first, None, "and that is all");
}

#[test]
fn a_trial_that_is_confirmed_is_the_good_one() {
    let begun = Record::default().offered("2").start().first.unwrap();
    assert_eq!(begun.overwriting(Slot::B), Err(Refused::OnTrial));
    let kept = begun.confirmed(Slot::B).unwrap().unwrap();
    assert_eq!((kept.good, kept.start().slot), (Slot::B, Slot::B));
    assert_eq!(
        kept.confirmed(Slot::B),
        Ok(None),
        "once more is nothing new"
    );
    let (running, good) = (Slot::A, Slot::B);
    assert_eq!(
        kept.confirmed(running),
        Err(Refused::Stranger { running, good })
    );
}

#[test]
fn what_waits_for_its_trial_is_dropped_before_its_slot_is_written() {
    let offered = Record::default().offered("2");
    let record = offered.overwriting(Slot::A).unwrap();
    assert_eq!(record.start().slot, Slot::A);
}

#[test]
fn damaged_copies_are_none() {
    let bytes = Record::default().offered("2").bytes();
    assert!(Record::read(&bytes).is_some());
    for at in 0..bytes.iter().position(|byte| *byte == 0).unwrap() {
        let mut damaged = bytes;
        damaged[at] ^= 4;
        assert_eq!(Record::read(&damaged), None, "byte {at}");
    }
    // In the other's place it is somebody's copy of a disk, not ours.
    assert_eq!(newest([&bytes, &[]]), Record::default());
}

#[test]
fn versions_fit_into_a_record() {
    assert!(is_version("0.1.0+20261122.a-b_c~1"));
    for bad in ["", "a b", "a\nb", "é", &"x".repeat(65)] {
        assert!(!is_version(bad), "{bad:?}");
    }
}
