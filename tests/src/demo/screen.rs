//! One screen that is drawn over itself on a terminal; elsewhere a line every five seconds.
//!
//! Invariants: a frame is written in one piece and every line clears its own rest, so nothing
//! flickers; no line is wider than [`COLUMNS`], so nothing wraps and the way back up is
//! known; without a terminal there is not one escape sequence.

use std::fmt::{Display, Write as _};
use std::io::{IsTerminal, Write as _, stderr};
use std::time::Duration;

use serde_json::Value;

use super::numbers::Numbers;

/// Narrower than any terminal people use.
const COLUMNS: usize = 78;

/// Standard error, as people see it.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    colour: bool,
    /// Lines of the last frame, still on the screen.
    drawn: usize,
}

impl Screen {
    pub(super) fn new(no_color: bool) -> Screen {
        let terminal = stderr().is_terminal();
        // https://no-color.org: set and not empty.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen {
            terminal,
            colour: terminal && !no_color && !unwanted,
            drawn: 0,
        }
    }

    pub(super) fn period(&self) -> Duration {
        if self.terminal {
            Duration::from_millis(500)
        } else {
            Duration::from_secs(5)
        }
    }

    /// A line (or some) that stays.
    pub(super) fn say(&mut self, text: &str) {
        self.drawn = 0;
        // A screen that is gone is no reason to stop.
        let _ = writeln!(stderr().lock(), "demo: {text}");
    }

    /// A part of some starts: a bar that is drawn over itself, or a line.
    pub(super) fn starts<T: PartialEq + Display>(&mut self, parts: &[T], part: &T) {
        let before = parts.iter().take_while(|one| *one != part).count();
        let text = bar(before, parts.len()) + &format!(" starting {part}");
        let mut out = stderr().lock();
        let _ = match self.terminal {
            true => write!(out, "\r\x1b[K {text}").and_then(|()| out.flush()),
            false => writeln!(out, "demo: {text}"),
        };
    }

    /// The bar goes.
    pub(super) fn started(&mut self) {
        if self.terminal {
            let _ = write!(stderr().lock(), "\r\x1b[K");
        }
    }

    pub(super) fn draw(&mut self, numbers: &Numbers, passed: Duration, of: Option<Duration>) {
        let text = if self.terminal {
            let lines = lines(numbers, passed, of);
            let frame = frame(&lines, self.drawn, self.colour);
            self.drawn = lines.len();
            frame
        } else {
            one_line(numbers, passed) + "\n"
        };
        let mut out = stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// `done` of `all`, as wide whatever they are.
fn bar(done: usize, all: usize) -> String {
    const CELLS: usize = 20;
    let full = (done * CELLS).checked_div(all).unwrap_or(CELLS);
    let (full, rest) = ("#".repeat(full), ".".repeat(CELLS - full));
    format!("[{full}{rest}] {done} of {all}")
}

fn frame(lines: &[(&str, String)], drawn: usize, colour: bool) -> String {
    let mut frame = String::new();
    if drawn > 0 {
        let _ = write!(frame, "\x1b[{drawn}A\r");
    }
    for (name, text) in lines {
        let text: String = text.chars().take(COLUMNS - 12).collect();
        let (bold, plain) = if colour {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        };
        let _ = writeln!(frame, " {bold}{name:<10}{plain} {text}\x1b[K");
    }
    frame
}

fn lines(n: &Numbers, passed: Duration, of: Option<Duration>) -> Vec<(&'static str, String)> {
    let fleet = &n.fleet;
    let clock = match of {
        Some(of) => format!("{} of {}", mm_ss(passed), mm_ss(of)),
        None => format!("{}   Ctrl-C ends it", mm_ss(passed)),
    };
    vec![
        ("Milepost", clock),
        (
            "trackers",
            format!(
                "{} of {} connected   refused {}   reconnects {}",
                fleet.connected, fleet.devices, fleet.refused, fleet.reconnects
            ),
        ),
        (
            "ACKed",
            format!(
                "{} records   {:.0}/s   p50 {} ms   p99 {} ms   waiting {}",
                fleet.acked,
                n.acked_per_s,
                fleet.ack_delay_p50_ms,
                fleet.ack_delay_p99_ms,
                fleet.waiting
            ),
        ),
        (
            "spool",
            format!(
                "backlog {}   {} of {}",
                field(&n.gateway, "/spool/backlog"),
                bytes(&n.gateway, "/spool/used_bytes"),
                bytes(&n.gateway, "/spool/bytes_max")
            ),
        ),
        (
            "uplink",
            match text(&n.gateway, "/uplink/trouble") {
                Some(trouble) => trouble,
                None => format!(
                    "sent {} records in {} entries   resent {}",
                    field(&n.gateway, "/uplink/records_sent"),
                    field(&n.gateway, "/uplink/entries_sent"),
                    field(&n.gateway, "/uplink/envelopes_resent")
                ),
            },
        ),
        (
            "stream",
            match text(&n.cloud, "/trouble") {
                Some(trouble) => trouble,
                None => format!(
                    "lag {} entries   pending {}",
                    field(&n.cloud, "/lag_entries"),
                    field(&n.cloud, "/pending_entries")
                ),
            },
        ),
        ("rows", format!("{}   {:.0}/s", known(n.rows), n.rows_per_s)),
        ("delay", delay(n)),
    ]
}

fn one_line(n: &Numbers, passed: Duration) -> String {
    let mut line = format!(
        "{}  trackers {}/{}  ACKed {} ({:.0}/s)  backlog {}  lag {}  rows {}  delay {}",
        mm_ss(passed),
        n.fleet.connected,
        n.fleet.devices,
        n.fleet.acked,
        n.acked_per_s,
        field(&n.gateway, "/spool/backlog"),
        field(&n.cloud, "/lag_entries"),
        known(n.rows),
        delay(n),
    );
    for (who, trouble) in [
        ("uplink", text(&n.gateway, "/uplink/trouble")),
        ("cloud", text(&n.cloud, "/trouble")),
    ] {
        if let Some(trouble) = trouble {
            let _ = write!(line, "\n       {who}: {trouble}");
        }
    }
    line
}

fn delay(n: &Numbers) -> String {
    match n.delay_ms {
        Some((p50, p99)) => format!("p50 {p50} ms   p99 {p99} ms   receipt to row"),
        None => "-".to_owned(),
    }
}

fn mm_ss(time: Duration) -> String {
    format!("{:02}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// A dash for what nobody told us: a zero would be a claim.
fn known(value: Option<i64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn field(status: &Option<Value>, path: &str) -> String {
    known(
        status
            .as_ref()
            .and_then(|status| status.pointer(path))
            .and_then(Value::as_i64),
    )
}

fn text(status: &Option<Value>, path: &str) -> Option<String> {
    let Some(status) = status else {
        return Some("does not answer".to_owned());
    };
    Some(status.pointer(path)?.as_str()?.to_owned())
}

fn bytes(status: &Option<Value>, path: &str) -> String {
    let bytes = status
        .as_ref()
        .and_then(|status| status.pointer(path))
        .and_then(Value::as_f64);
    bytes.map_or_else(
        || "-".to_owned(),
        |bytes| format!("{:.1} MiB", bytes / f64::from(1 << 20)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::FleetStats;

    fn numbers() -> Numbers {
        Numbers {
            fleet: FleetStats {
                acked: u64::MAX,
                devices: u64::MAX,
                ..FleetStats::default()
            },
            gateway: Some(serde_json::json!({
                "spool": { "backlog": 12, "used_bytes": 1_310_720, "bytes_max": 268_435_456 },
                "uplink": { "trouble": "x".repeat(300) },
            })),
            cloud: None,
            rows: Some(-1),
            delay_ms: Some((310, 612)),
            ..Numbers::default()
        }
    }

    #[test]
    fn no_line_wraps_and_the_way_up_is_as_long_as_the_frame() {
        let lines = lines(&numbers(), Duration::from_secs(61), None);
        let text = frame(&lines, lines.len(), false);
        assert_eq!(text.matches('\n').count(), lines.len());
        assert!(text.starts_with(&format!("\x1b[{}A\r", lines.len())));
        for line in text.lines() {
            let shown = line.replace("\x1b[K", "").replace("\x1b[8A\r", "");
            assert!(shown.chars().count() <= COLUMNS, "{shown}");
        }
        assert!(!text.contains("\x1b[1m") && frame(&lines, 0, true).contains("\x1b[1m"));
    }

    #[test]
    fn a_bar_fills_and_keeps_its_width() {
        assert_eq!(bar(0, 4), "[....................] 0 of 4");
        assert_eq!(bar(3, 4), "[###############.....] 3 of 4");
        assert_eq!(bar(4, 4), "[####################] 4 of 4");
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_trouble_is_said() {
        let text = frame(&lines(&numbers(), Duration::from_secs(61), None), 0, false);
        for part in [
            "01:01",
            "backlog 12",
            "1.2 MiB of 256.0 MiB",
            "xxx",
            "does not answer",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let line = one_line(&numbers(), Duration::from_secs(5));
        assert!(
            line.contains("lag -  rows -1") && !line.contains('\x1b'),
            "{line}"
        );
    }
}
