//! Keeps frames until it is killed and says which: the victim of the test `kill`.
//!
//! Each line it prints is a receipt: `spool seq number`. Whoever reads them may rely on them.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use contract::{Device, GatewayId, Lane, SettledRanges, Transport};
use spool::fs::RealFs;
use spool::{Append, FullPolicy, Geometry, Options, SpoolWriter};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(start)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    match keep(Path::new(&dir), start.parse().unwrap_or(0)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "spool-keeper: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A frame that its number decides: the test makes it again to compare.
fn append(number: u64) -> Append {
    let bytes = 8 + (number.wrapping_mul(0x9e37_79b9) % 3000) as usize;
    let frame = number.to_le_bytes().into_iter().cycle().take(bytes);
    Append {
        kind: contract::Kind::Teltonika,
        device: Device::Text("boat-1".to_owned()),
        transport: Transport::Tcp,
        lane: Lane::ALL[(number % 3) as usize],
        received_at_ms: number,
        record_count: 1,
        panic: false,
        bytes: frame.collect(),
    }
}

fn keep(dir: &Path, start: u64) -> Result<(), Box<dyn std::error::Error>> {
    let geometry = Geometry {
        segment_bytes: 64 * 1024,
        group_bytes_max: 16 * 1024,
        envelope_bytes_max: 8 * 1024,
    };
    let options = Options {
        gateway: GatewayId::new("depot-1")?,
        bytes_max: 64 * geometry.segment_bytes,
        full: FullPolicy::Refuse,
        geometry,
    };
    let random = [start + 1, start + 2, start + 3];
    let (mut writer, _) = SpoolWriter::open(RealFs::locked(dir)?, options, random)?;
    let reader = writer.reader();
    let mut out = io::stdout().lock();
    let mut number = start;
    loop {
        let group: Vec<Append> = (0..1 + number % 7).map(|n| append(number + n)).collect();
        for (n, answer) in writer.commit(&group).into_iter().enumerate() {
            let Ok(durable) = answer else { continue };
            let (spool, seq) = durable.position();
            let number = number + n as u64;
            writeln!(out, "kept {spool} {seq} {number}")?;
            // Half of what is kept is settled: said first, so that the reader knows.
            if number.is_multiple_of(2) {
                writeln!(out, "settled {spool} {seq} {number}")?;
                let mut ranges = SettledRanges::new();
                ranges.insert(seq.get(), seq.get());
                reader.settle(spool, &ranges);
            }
        }
        out.flush()?;
        number += group.len() as u64;
        if number.is_multiple_of(5) {
            reader.write_cursor()?;
        }
        if number.is_multiple_of(3) {
            writer.upkeep()?;
        }
    }
}
