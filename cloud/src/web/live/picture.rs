//! Pure: no I/O, no clock.
//!
//! What listeners were told, and what is new to them.
//!
//! Why a comparison and no clock or counter of rows: rows are committed in another order than they
//! are written, by several processes, and a row that was passed over would never be told. The table
//! of newest positions has one row for each device, so comparing all of it is cheap and misses nothing.
//!
//! Invariant: whoever takes the whole picture and then every event behind its number knows what a
//! listener from the beginning knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::super::devices::Latest;

/// Positions in one event of a picture.
const CHUNK: usize = 1_000;

/// Bytes of events that are kept for those who come back. A picture is no larger than that for ten
/// thousand devices, and then the picture is the shorter way.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Which record is a device's newest: by its clock, its bytes, and when it came.
pub(super) type Mark = (DateTime<Utc>, i32, DateTime<Utc>);

/// Some positions that changed, as they are sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// From 1.
    pub(super) number: u64,
    /// `id:`, `event:` and `data:` with the blank line behind them.
    pub(super) text: String,
}

#[derive(Debug)]
struct Known {
    mark: Mark,
    /// As JSON.
    text: Arc<str>,
}

/// What is known.
#[derive(Debug)]
pub(super) struct Picture {
    epoch: String,
    known: BTreeMap<i32, Known>,
    kept: VecDeque<Arc<Event>>,
    kept_bytes: usize,
    /// Of the newest event.
    number: u64,
}

impl Picture {
    /// Nothing is known. `epoch` tells the numbers of this process from those of others.
    pub(super) fn new(epoch: String) -> Self {
        Self {
            epoch,
            known: BTreeMap::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            number: 0,
        }
    }

    /// Devices whose newest record is another than it was. Those that are gone are forgotten.
    pub(super) fn changed(&mut self, marks: &[(i32, Mark)]) -> Vec<i32> {
        let there: BTreeSet<i32> = marks.iter().map(|(device, _)| *device).collect();
        self.known.retain(|device, _| there.contains(device));
        let is_new = |device: &i32, mark: &Mark| {
            self.known
                .get(device)
                .is_none_or(|known| known.mark != *mark)
        };
        let changed = marks.iter().filter(|(device, mark)| is_new(device, mark));
        changed.map(|(device, _)| *device).collect()
    }

    /// Takes positions in and makes an event of what is new in them. `None`: nothing is.
    pub(super) fn take(&mut self, rows: &[Latest]) -> Option<Arc<Event>> {
        let mut news = Vec::new();
        for row in rows {
            let mark = (row.fix_time, row.record_hash, row.received_at);
            let text: Arc<str> = row.to_json().to_string().into();
            let known = Known {
                mark,
                text: text.clone(),
            };
            let before = self.known.insert(row.device_id, known);
            if before.is_none_or(|before| before.mark != mark) {
                news.push(text);
            }
        }
        if news.is_empty() {
            return None;
        }
        let number = self.number + 1;
        let news: Vec<&str> = news.iter().map(|it| &**it).collect();
        let text = event(Some(&self.id(number)), "positions", &news);
        self.number = number;
        let event = Arc::new(Event { number, text });
        self.kept_bytes += event.text.len();
        self.kept.push_back(event.clone());
        while self.kept_bytes > KEPT_BYTES_MAX
            && let Some(old) = self.kept.pop_front()
        {
            self.kept_bytes -= old.text.len();
        }
        Some(event)
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.epoch)
    }

    /// Everything, in events of at most [`CHUNK`] positions; the last one has the id.
    pub(super) fn whole(&self) -> Vec<String> {
        let all: Vec<&str> = self.known.values().map(|it| &*it.text).collect();
        let mut chunks: Vec<&[&str]> = all.chunks(CHUNK).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let last = chunks.len() - 1;
        let id = self.id(self.number);
        let told = chunks.iter().enumerate().map(|(at, chunk)| {
            let id = (at == last).then_some(id.as_str());
            event(id, "picture", chunk)
        });
        told.collect()
    }

    /// What came after the event with this id. `None`: not all of it is kept any more, or it is
    /// another process' id.
    pub(super) fn since(&self, id: &str) -> Option<Vec<Arc<Event>>> {
        let (epoch, number) = id.rsplit_once('-')?;
        let number: u64 = number.parse().ok()?;
        if epoch != self.epoch || number > self.number {
            return None;
        }
        let oldest = self.kept.front().map_or(self.number + 1, |it| it.number);
        if number + 1 < oldest {
            return None;
        }
        let missed = self.kept.iter().filter(|event| event.number > number);
        Some(missed.cloned().collect())
    }
}

/// In the form of server-sent events (HTML Living Standard, 9.2.6). JSON has no line ends.
fn event(id: Option<&str>, name: &str, items: &[&str]) -> String {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("{id}event: {name}\ndata: [{}]\n\n", items.join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(device_id: i32, second: i64) -> Latest {
        Latest::at(device_id, DateTime::from_timestamp(second, 0).unwrap())
    }

    fn mark(row: &Latest) -> (i32, Mark) {
        (
            row.device_id,
            (row.fix_time, row.record_hash, row.received_at),
        )
    }

    #[test]
    fn only_what_changed_is_told_and_the_picture_has_it_all() {
        let mut picture = Picture::new("e".to_owned());
        let rows = [row(1, 10), row(2, 10)];
        let marks = rows.each_ref().map(mark);
        assert_eq!(picture.changed(&marks), [1, 2]);
        assert_eq!(picture.take(&rows).unwrap().number, 1);
        assert!(picture.changed(&marks).is_empty());
        assert!(picture.take(&rows).is_none());
        // Later or earlier by the device's clock: another record is another record.
        let moved = row(2, 9);
        let marks = [mark(&rows[0]), mark(&moved)];
        assert_eq!(picture.changed(&marks), [2]);
        let event = picture.take(&[moved]).unwrap();
        assert!(event.text.starts_with("id: e-2\nevent: positions\ndata: ["));
        assert!(event.text.contains("\"device_id\":2") && !event.text.contains("\"device_id\":1"));
        let whole = picture.whole();
        assert_eq!(whole.len(), 1);
        assert!(
            whole[0].starts_with("id: e-2\nevent: picture\n"),
            "{whole:?}"
        );
        assert!(
            picture.changed(&[mark(&rows[0])]).is_empty(),
            "device 2 is gone"
        );
        assert!(!picture.whole()[0].contains("\"device_id\":2"));
    }

    #[test]
    fn a_large_picture_comes_in_pieces_and_only_the_last_has_an_id() {
        let mut picture = Picture::new("e".to_owned());
        assert_eq!(picture.whole(), ["id: e-0\nevent: picture\ndata: []\n\n"]);
        let rows: Vec<Latest> = (1..=2_001).map(|device| row(device, 1)).collect();
        picture.take(&rows).unwrap();
        let whole = picture.whole();
        let with_id: Vec<bool> = whole.iter().map(|it| it.starts_with("id: ")).collect();
        assert_eq!(with_id, [false, false, true]);
        assert_eq!(whole[2].matches("device_id").count(), 1);
    }

    #[test]
    fn whoever_comes_back_gets_what_was_missed_or_learns_that_it_is_gone() {
        let mut picture = Picture::new("e-f".to_owned());
        for second in 1..=3 {
            picture.take(&[row(1, second)]).unwrap();
        }
        let missed = |picture: &Picture, id: &str| {
            let missed = picture.since(id)?;
            Some(missed.iter().map(|it| it.number).collect::<Vec<_>>())
        };
        assert_eq!(missed(&picture, "e-f-1"), Some(vec![2, 3]));
        assert_eq!(missed(&picture, "e-f-3"), Some(vec![]));
        assert_eq!(missed(&picture, "e-f-0"), Some(vec![1, 2, 3]));
        for id in ["e-f-4", "x-1", "e-f-", "", "e-f-x"] {
            assert_eq!(missed(&picture, id), None, "{id}");
        }
        let many: Vec<Latest> = (1..=9_000).map(|device| row(device, 4)).collect();
        for second in 4..=8 {
            let many: Vec<Latest> = many.iter().map(|it| row(it.device_id, second)).collect();
            picture.take(&many).unwrap();
        }
        assert_eq!(missed(&picture, "e-f-1"), None, "too long ago");
        assert!(picture.kept_bytes <= KEPT_BYTES_MAX);
        assert_eq!(missed(&picture, "e-f-7"), Some(vec![8]));
    }
}
