//! The serial lines: which are open, what is the matter with the others, and how much noise came.
//!
//! Invariant: a line is here from the start of the gateway on, plugged in or not.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::text::Text;

/// One line, as `/status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its device.
    pub line: &'static str,
    /// Can it be read now?
    pub open: bool,
    /// How often it was opened.
    pub opens: u64,
    /// Bytes that belonged to no login and no frame.
    pub noise_bytes: u64,
    /// Why it is not open.
    pub trouble: Option<String>,
}

/// All lines.
#[derive(Debug, Default)]
pub struct Lines(Mutex<Vec<Line>>);

impl Lines {
    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Line)) {
        let mut lines = self.lines();
        if let Some(line) = lines.iter_mut().find(|line| line.line == name) {
            change(line);
        }
    }

    /// There is one more.
    pub fn add(&self, line: &'static str) {
        self.lines().push(Line {
            line,
            open: false,
            opens: 0,
            noise_bytes: 0,
            trouble: None,
        });
    }

    /// It can be read from now on. Returns what was the matter before.
    pub fn opened(&self, name: &str) -> Option<String> {
        let mut before = None;
        self.change(name, |line| {
            line.open = true;
            line.opens += 1;
            before = line.trouble.take();
        });
        before
    }

    /// It cannot. `true` when that is new.
    pub fn lost(&self, name: &str, trouble: &str) -> bool {
        let mut is_new = false;
        self.change(name, |line| {
            is_new = line.trouble.as_deref() != Some(trouble);
            line.open = false;
            line.trouble = Some(trouble.to_owned());
        });
        is_new
    }

    /// So many bytes of it belonged to nothing.
    pub fn skipped(&self, name: &str, bytes: u32) {
        if bytes > 0 {
            self.change(name, |line| line.noise_bytes += u64::from(bytes));
        }
    }

    /// All, in the order of the settings.
    #[must_use]
    pub fn status(&self) -> Vec<Line> {
        self.lines().clone()
    }

    /// Appends the Prometheus rows; none without lines.
    pub(super) fn write_prometheus(&self, text: &mut Text) {
        let lines = self.status();
        if lines.is_empty() {
            return;
        }
        type Figure = fn(&Line) -> u64;
        let families: [(_, _, _, Figure); 3] = [
            (
                "serial_open",
                "gauge",
                "1 while the serial line can be read.",
                |line| line.open.into(),
            ),
            (
                "serial_opens_total",
                "counter",
                "How often the serial line was opened.",
                |line| line.opens,
            ),
            (
                "serial_noise_bytes_total",
                "counter",
                "Bytes of the serial line that belonged to no login and no frame.",
                |line| line.noise_bytes,
            ),
        ];
        for (name, kind, help, figure) in families {
            text.head(name, kind, help);
            for line in &lines {
                text.sample(name, &format!("line={:?}", line.line), figure(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_the_matter_is_news_once_and_every_line_has_its_rows() {
        let lines = Lines::default();
        let mut text = Text::default();
        lines.write_prometheus(&mut text);
        assert_eq!(text.into_string(), "");
        lines.add("/dev/ttyS1");
        lines.add("/dev/ttyUSB0");
        assert!(lines.lost("/dev/ttyUSB0", "there is no such device"));
        assert!(!lines.lost("/dev/ttyUSB0", "there is no such device"));
        assert!(lines.lost("/dev/ttyUSB0", "this user may not use it"));
        let before = lines.opened("/dev/ttyUSB0");
        assert_eq!(before.as_deref(), Some("this user may not use it"));
        assert_eq!(lines.opened("/dev/ttyS1"), None);
        assert!(lines.lost("/dev/ttyS1", "there is no such device"));
        lines.skipped("/dev/ttyUSB0", 7);
        lines.skipped("/dev/ttyUSB0", 5);
        let [first, second] = &lines.status()[..] else {
            panic!("two lines");
        };
        assert_eq!((first.open, first.opens, first.noise_bytes), (false, 1, 0));
        assert_eq!(
            (second.open, second.opens, second.noise_bytes),
            (true, 1, 12)
        );
        assert_eq!(second.trouble, None);
        let mut text = Text::default();
        lines.write_prometheus(&mut text);
        let text = text.into_string();
        for row in [
            "serial_open{line=\"/dev/ttyS1\"} 0\n",
            "serial_open{line=\"/dev/ttyUSB0\"} 1\n",
            "serial_opens_total{line=\"/dev/ttyS1\"} 1\n",
            "serial_noise_bytes_total{line=\"/dev/ttyUSB0\"} 12\n",
        ] {
            assert!(text.contains(row), "{row} in {text}");
        }
    }
}
