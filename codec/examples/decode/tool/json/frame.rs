//! The TCP frame: lengths, checksum, and what of them is known when it is rejected.

use codec::frame::HEADER_BYTES;
use codec::{Cut, Expect, Frame, RefuseReason};

use super::{Object, Problem, body, hex_number};

/// Describes a frame whose checksum holds.
pub(crate) fn describe(
    frame: &Frame<'_>,
    object: &mut Object,
    issues: &mut Vec<String>,
) -> Result<(), Problem> {
    object.insert("kind".into(), "tcp".into());
    object.insert("data_length".into(), frame.data().len().into());
    object.insert("crc".into(), hex_number(frame.crc().into(), 8));
    object.insert("crc_calc".into(), hex_number(frame.crc().into(), 4));
    object.insert("crc_ok".into(), true.into());
    object.insert(
        "codec".into(),
        hex_number(frame.codec_id().as_byte().into(), 2),
    );
    object.insert("count1".into(), frame.first_count().into());
    if let Err(problem) = body::describe(frame.data(), object, issues) {
        object.insert("consumed".into(), frame.consumed().into());
        return Err(problem.behind(HEADER_BYTES).knowing(std::mem::take(object)));
    }
    if let Some(ack) = frame.ack() {
        object.insert("ack_hex".into(), hex::encode(ack).into());
    }
    Ok(())
}

/// Tells what is wrong with input that is neither a login nor a frame.
pub(crate) fn rejected(cut: Cut<'_>, expect: Expect, input: &[u8]) -> Problem {
    let mut known = Object::new();
    let data_length = input
        .first_chunk::<HEADER_BYTES>()
        .filter(|header| header.starts_with(&[0; 4]))
        .map(|&[_, _, _, _, a, b, c, d]| u32::from_be_bytes([a, b, c, d]));
    if let Some(length) = data_length {
        known.insert("data_length".into(), length.into());
    }
    let problem = match cut {
        Cut::Refuse {
            offset,
            reason,
            consumed,
        } => {
            let RefuseReason::Crc { stated, computed } = reason else {
                return Problem::new("frame", offset, reason.to_string()).knowing(known);
            };
            known.insert("crc".into(), hex_number(stated.into(), 8));
            known.insert("crc_calc".into(), hex_number(computed.into(), 4));
            known.insert("crc_ok".into(), false.into());
            known.insert("consumed".into(), consumed.into());
            known.insert("codec".into(), hex_number(input[HEADER_BYTES].into(), 2));
            known.insert("count1".into(), input[HEADER_BYTES + 1].into());
            Problem::new(reason.stage(), offset, reason.to_string())
        }
        Cut::Close { offset, reason } => Problem::new(reason.stage(), offset, reason.to_string()),
        Cut::NeedMore { needed } => {
            known.insert("needed".into(), needed.into());
            let stage = match expect {
                Expect::Login => "login",
                Expect::Frame if data_length.is_some() => "data",
                Expect::Frame => "header",
            };
            let text = format!("incomplete: needs {needed} bytes, has {}", input.len());
            Problem::new(stage, input.len(), text)
        }
        // Not reached: pings are skipped before, logins and frames are described.
        Cut::Ping | Cut::Login(_) | Cut::Frame(_) => {
            Problem::new("frame", 0, "nothing is wrong".to_owned())
        }
    };
    problem.knowing(known)
}
