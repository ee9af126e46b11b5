//! Ours against nom-teltonika 0.3 on the same bytes, in one run: `./dev bench codec`.
//!
//! Method: the thread's CPU clock, because wall time on a shared machine is off by factors;
//! samples of at least 2 ms, ours and the peer's turn by turn, the median of the ratios. A
//! neighbour on the other half of the core still takes its share, and more from us than from
//! a peer that spends its time waiting for look-ups: the same build gave 0.54 and 0.59 for
//! `read-all` of (a) within a minute. `cargo bench -p codec --bench peers -- a` measures one
//! input.
//!
//! Rows: `crc-table` is what `crc` costs without feature `std`; `validate` cuts the frame and
//! walks its data field; `read-all` adds every field and every IO value, with `for_each`,
//! which goes through the elements a group at a time; `read-loops` is the same with a `for`
//! loop; `owned` is an owned value made and dropped. `memcpy` is the floor.
//!
//! # What was measured on the way
//!
//! rustc 1.95, fat LTO, EPYC of the Genoa class, nanoseconds for (a) / (b):
//!
//! | | validate | read-all |
//! |---|---|---|
//! | nom-teltonika 0.3.0 | 71 / 892 | 98 / 1340 |
//! | ours, records and elements by nom parsers (same checksum) | 50 / 477 | 178 / 2280 |
//! | ours, by hand | 41 / 268 | 55 / 534 |
//!
//! So nom cost 210 ns in the walk over (b), and in the iterators it was most of the time:
//! a parser that returns `IResult` for each of 125 elements keeps their state in memory. In
//! the walk and the iterators there is none left. Where a record does not fit it is read
//! again by nom, field by field, for the place of the error; messages, datagrams and Codec 7
//! are read by nom alone, for they are few and small.
//!
//! # Instructions
//!
//! Fewer neighbours still: `--one-shot ours|peer ROW INPUT TIMES` does nothing but repeat one
//! row, and the difference of two counts is the cost of one call:
//!
//! ```text
//! BENCH=$(ls -t target/release/deps/peers-* | grep -v '[.]d$' | head -1)
//! for TIMES in 1000 3000; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!         $BENCH --one-shot ours read-all b $TIMES 2>&1 | grep Collected
//! done
//! ```
//!
//! Ours / nom-teltonika, x86-64: validate (a) 508 / 640, (b) 2107 / 7581; read-all (a)
//! 836 / 1244, (b) 7808 / 16653; owned (a) 1293 / 2413, (b) 10120 / 36651; checksum by table
//! 302 / 346 and 3069 / 3661, folded (b) 753.
#![allow(missing_docs, clippy::print_stdout)]

mod inputs;
mod rows;

use std::hint::black_box;
use std::process::ExitCode;

use inputs::Input;
use rows::Work;
use rustix::time::{ClockId, clock_gettime};

/// A sample must be long beside the clock's own cost and step.
const SAMPLE_NS_MIN: u64 = 2_000_000;
/// Odd, so that there is a middle one.
const SAMPLES: usize = 101;

struct Row {
    name: &'static str,
    ours: Work,
    peer: Option<Work>,
    /// Ours / peer, by input; none where nothing was promised.
    target: fn(&str) -> Option<f64>,
}

const ROWS: [Row; 7] = [
    Row {
        name: "memcpy",
        ours: rows::memcpy,
        peer: None,
        target: |_| None,
    },
    Row {
        name: "crc-table",
        ours: rows::crc_table,
        peer: Some(rows::crc_theirs),
        target: |_| None,
    },
    Row {
        name: "crc",
        ours: rows::crc_ours,
        peer: Some(rows::crc_theirs),
        target: |input| (input == "b").then_some(0.50),
    },
    Row {
        name: "validate",
        ours: rows::validate_ours,
        peer: Some(rows::validate_theirs),
        target: |input| match input {
            "a" => Some(0.70),
            "b" => Some(0.50),
            _ => None,
        },
    },
    Row {
        name: "read-all",
        ours: rows::read_ours,
        peer: Some(rows::read_theirs),
        target: |input| match input {
            "a" => Some(0.60),
            "b" => Some(0.50),
            _ => None,
        },
    },
    Row {
        name: "read-loops",
        ours: rows::read_ours_in_loops,
        peer: Some(rows::read_theirs),
        target: |_| None,
    },
    Row {
        name: "owned",
        ours: rows::owned_ours,
        peer: Some(rows::owned_theirs),
        target: |input| (input != "c").then_some(0.50),
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let inputs = inputs::all();
    for input in &inputs {
        for row in &ROWS {
            let Some(peer) = row.peer else { continue };
            for frame in &input.frames {
                assert_eq!(
                    (row.ours)(frame),
                    peer(frame),
                    "{} {}",
                    row.name,
                    input.name
                );
            }
        }
    }
    if arguments.first().is_some_and(|first| first == "--one-shot") {
        return one_shot(&inputs, &arguments[1..]);
    }
    println!(
        "{} samples of at least 2 ms a row, thread CPU time, medians",
        SAMPLES
    );
    let named = |input: &&Input| arguments.iter().any(|argument| argument == input.name);
    let every = !inputs.iter().any(|input| named(&input));
    for input in inputs.iter().filter(|input| every || named(input)) {
        println!(
            "({}) {} frames, {} records, {} bytes",
            input.name,
            input.frames.len(),
            input.records,
            input.bytes()
        );
        for row in &ROWS {
            measure(input, row);
        }
    }
    ExitCode::SUCCESS
}

/// For an instruction counter: the same call again and again, and nothing else that grows.
fn one_shot(inputs: &[Input], arguments: &[String]) -> ExitCode {
    let usage = || {
        println!("usage: --one-shot ours|peer ROW INPUT TIMES");
        ExitCode::from(2)
    };
    let [side, row, input, times] = arguments else {
        return usage();
    };
    let row = ROWS.iter().find(|known| known.name == row);
    let input = inputs.iter().find(|known| known.name == input);
    let (Some(row), Some(input), Ok(times)) = (row, input, times.parse::<u64>()) else {
        return usage();
    };
    let work = match side.as_str() {
        "ours" => row.ours,
        "peer" => row.peer.unwrap_or(row.ours),
        _ => return usage(),
    };
    repeat(input, work, times);
    ExitCode::SUCCESS
}

fn measure(input: &Input, row: &Row) {
    let Some(peer) = row.peer else {
        let ours = middle((0..SAMPLES).map(|_| sample(input, row.ours)).collect());
        println!("  {:10} ours {ours:9.1} ns", row.name);
        return;
    };
    // Turn by turn, so that a neighbour's noise falls on both.
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        let (our, their) = (sample(input, row.ours), sample(input, peer));
        ours.push(our);
        theirs.push(their);
        ratios.push(our / their);
    }
    let ratio = middle(ratios);
    println!(
        "  {:10} ours {:9.1} ns, {:6.2} ns a record; peer {:9.1} ns; {:.2}",
        row.name,
        middle(ours.clone()),
        middle(ours) / input.records as f64,
        middle(theirs),
        ratio
    );
    if let Some(target) = (row.target)(input.name) {
        println!(
            "RATIO codec {}-{} {ratio:.2} <= {target:.2}",
            row.name, input.name
        );
    }
}

/// Nanoseconds for one pass over the input.
fn sample(input: &Input, work: Work) -> f64 {
    let mut times = 64;
    loop {
        let start = cpu_ns();
        repeat(input, work, times);
        let taken = cpu_ns() - start;
        if taken >= SAMPLE_NS_MIN {
            return taken as f64 / times as f64;
        }
        // A little more than what is missing, so that the second try is the last.
        times = times * (SAMPLE_NS_MIN * 5 / 4) / taken.max(1) + 1;
    }
}

fn repeat(input: &Input, work: Work, times: u64) {
    for _ in 0..times {
        for frame in &input.frames {
            black_box(work(black_box(frame)));
        }
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
