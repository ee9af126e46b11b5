//! Bytes for people: sixteen on a line, with a caret under the one that matters.
//!
//! Pure: no I/O, no clock.

use std::fmt::Write as _;

/// Bytes on a line.
const LINE: usize = 16;

/// Lines shown before and behind the caret when there are more than fit.
const AROUND: usize = 4;

/// Lines shown at most, of what has no caret.
const LINES_MAX: usize = 16;

/// Offset, hexadecimal, text; the byte at `caret` marked below, with `note` beside it. Of long bytes
/// the beginning and the surroundings of the caret; `whole`: all of it.
#[must_use]
pub(super) fn dump(bytes: &[u8], caret: Option<usize>, note: &str, whole: bool) -> String {
    let mut out = String::new();
    // A caret behind the last byte stands for "more was expected here".
    let lines = bytes.len().div_ceil(LINE).max(1);
    let lines = caret.map_or(lines, |at| lines.max(at.min(bytes.len()) / LINE + 1));
    let at_line = caret.map(|at| at.min(bytes.len()) / LINE);
    let mut left_out = 0;
    for line in 0..lines {
        let near = at_line.is_some_and(|at| line.abs_diff(at) <= AROUND);
        let beginning = match at_line {
            Some(_) => line < 2,
            None => line < LINES_MAX,
        };
        if !(whole || near || beginning) {
            left_out += 1;
            continue;
        }
        told_left_out(&mut out, &mut left_out);
        row(&mut out, bytes, line);
        if at_line == Some(line) {
            let column = caret.unwrap_or(0).min(bytes.len()) % LINE;
            let _ = writeln!(out, "        {}^^ {note}", "   ".repeat(column));
        }
    }
    told_left_out(&mut out, &mut left_out);
    out
}

fn told_left_out(out: &mut String, lines: &mut usize) {
    if *lines > 0 {
        let _ = writeln!(out, "   ...  {} bytes not shown (--whole)", *lines * LINE);
        *lines = 0;
    }
}

fn row(out: &mut String, bytes: &[u8], line: usize) {
    let from = (line * LINE).min(bytes.len());
    let row = &bytes[from..bytes.len().min(from + LINE)];
    let hexadecimal: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
    let text: String = row
        .iter()
        .map(|byte| match byte {
            0x20..=0x7E => char::from(*byte),
            _ => '.',
        })
        .collect();
    let _ = writeln!(out, "{from:06}  {:47}  {text}", hexadecimal.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_its_byte() {
        let shown = dump(b"\x08\x01AB", Some(2), "here", false);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("000000  08 01 41 42"), "{shown}");
        assert!(lines[0].ends_with("..AB"));
        assert_eq!(lines[0].find("41"), lines[1].find("^^"));
        assert!(lines[1].ends_with("here"));
        // Behind the last byte, also when a line ends there.
        let full = dump(&[0; 16], Some(16), "more", false);
        assert_eq!(full.lines().count(), 3, "{full}");
        assert!(
            full.lines()
                .nth(2)
                .is_some_and(|l| l.trim_start().starts_with("^^ more"))
        );
        assert!(dump(&[], Some(0), "nothing", false).contains("^^ nothing"));
    }

    #[test]
    fn long_ones_are_cut_around_the_caret_and_say_so() {
        let bytes = vec![7; 4_000];
        let shown = dump(&bytes, Some(2_000), "x", false);
        assert_eq!(shown.lines().count(), 2 + 1 + 9 + 1 + 1, "{shown}");
        assert!(shown.contains("002000  "));
        let hidden: usize = shown
            .lines()
            .filter(|line| line.contains("not shown"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok())
            .sum();
        assert_eq!(hidden / 16 + 11, 250);
        assert_eq!(dump(&bytes, None, "", false).lines().count(), 17);
        assert_eq!(dump(&bytes, Some(2_000), "x", true).lines().count(), 251);
    }
}
