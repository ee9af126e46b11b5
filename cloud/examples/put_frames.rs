//! Puts data fields (codec id to second count, hexadecimal, one per line on stdin) into the stream
//! as a gateway would, to try a processor without trackers:
//!
//! ```text
//! echo 08010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E000000000000000001 |
//!   cargo run -p cloud --example put_frames -- redis://127.0.0.1:6379 bench 00000000000000a1 1 356307042441013
//! ```
//! Arguments: URL, gateway id, spool id (16 hexadecimal digits), first position, IMEI, and
//! optionally the time of reception in milliseconds since 1970.

use std::error::Error;
use std::io::BufRead;
use std::time::{SystemTime, UNIX_EPOCH};

use contract::{Coding, Device, Entry, Envelope, Lane, SpoolSeq, Transport, keys};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, gateway, spool, first, imei, rest @ ..] = arguments.as_slice() else {
        return Err("give: URL GATEWAY SPOOL FIRST_POSITION IMEI [RECEIVED_MS]".into());
    };
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let received_at_ms = match rest.first() {
        Some(text) => text.parse()?,
        None => u64::try_from(now_ms)?,
    };
    let first: SpoolSeq = first.parse()?;
    let lines: Vec<String> = std::io::stdin().lock().lines().collect::<Result<_, _>>()?;
    let frames: Vec<Vec<u8>> = lines.iter().map(hex::decode).collect::<Result<_, _>>()?;
    let device = Device::Imei(imei.parse()?);
    let mut envelopes = Vec::new();
    for (bytes, seq) in frames.iter().zip(first.get()..) {
        envelopes.push(Envelope {
            seq: SpoolSeq::new(seq)?,
            received_at_ms,
            device: device.clone(),
            transport: Transport::Tcp,
            lane: Lane::Normal,
            record_count: bytes.get(1).copied().unwrap_or(0).into(),
            bytes,
        });
    }
    let coding = Coding::MsgPackZstd;
    let entry = Entry::of_neighbours(gateway.parse()?, spool.parse()?, &envelopes, coding)?;
    let last = entry.last;
    let mut add = redis::cmd("XADD");
    add.arg(keys::STREAM_TELTONIKA).arg("*");
    for (name, value) in entry.to_fields() {
        add.arg(name).arg(value);
    }
    let mut connection = redis::Client::open(url.as_str())?.get_connection()?;
    let id: String = add.query(&mut connection)?;
    eprintln!(
        "{id}: {} envelopes, positions {first} to {last}",
        envelopes.len()
    );
    Ok(())
}
