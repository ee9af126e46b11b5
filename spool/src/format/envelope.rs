//! Pure: no I/O, no clock.
//!
//! One kept frame with its circumstances, as it stands in a commit.

use codec::Imei;
use contract::envelope::DEVICE_TEXT_BYTES_MAX;
use contract::{Device, Envelope, Kind, Lane, SpoolSeq, Transport};

use super::Cursor;
use crate::Append;

const FIXED_BYTES: usize = 8 + 1 + 1 + 1 + 1 + 4;

/// Bytes that `append` takes in a commit.
pub(crate) fn bytes(append: &Append) -> usize {
    let device = match &append.device {
        Device::Imei(_) => 8,
        Device::Text(text) => 2 + text.len(),
    };
    4 + FIXED_BYTES + device + append.bytes.len()
}

/// May it be kept at all: its size, the length of its device's name, and a kind with a number?
pub(crate) fn fits(append: &Append, envelope_bytes_max: usize) -> bool {
    let name_fits = match &append.device {
        Device::Imei(_) => true,
        Device::Text(text) => text.len() <= DEVICE_TEXT_BYTES_MAX,
    };
    name_fits && append.kind.as_u8().is_some() && bytes(append) <= envelope_bytes_max
}

pub(crate) fn encode(out: &mut Vec<u8>, append: &Append) {
    let bytes = u32::try_from(bytes(append) - 4).expect("`fits` keeps it far below 4 GiB");
    out.extend(bytes.to_le_bytes());
    out.extend(append.received_at_ms.to_le_bytes());
    out.extend([append.transport.as_u8(), append.lane.as_u8()]);
    let kind = append.kind.as_u8();
    let kind = kind.expect("`fits` refuses a kind without a number");
    match &append.device {
        Device::Imei(imei) => {
            out.extend([0, kind]);
            out.extend(append.record_count.to_le_bytes());
            out.extend(imei.as_u64().to_le_bytes());
        }
        Device::Text(text) => {
            out.extend([1, kind]);
            out.extend(append.record_count.to_le_bytes());
            let length = u16::try_from(text.len()).expect("`fits` refuses longer names");
            out.extend(length.to_le_bytes());
            out.extend(text.as_bytes());
        }
    }
    out.extend(&append.bytes);
}

/// One envelope, and what its bytes are.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    pub(crate) envelope: Envelope<'a>,
    pub(crate) kind: Kind,
}

/// The envelopes of one commit in order; ends early at one that cannot be read.
pub(crate) struct Envelopes<'a> {
    rest: Cursor<'a>,
    seq: SpoolSeq,
}

impl<'a> Envelopes<'a> {
    pub(crate) fn new(raw: &'a [u8], first: SpoolSeq) -> Self {
        Self {
            rest: Cursor(raw),
            seq: first,
        }
    }

    fn read(&mut self) -> Option<Read<'a>> {
        let bytes = usize::try_from(self.rest.u32()?).ok()?;
        let mut inner = Cursor(self.rest.take(bytes)?);
        let received_at_ms = inner.u64()?;
        let [transport, lane, device_kind, kind] = inner.array()?;
        let record_count = inner.u32()?;
        let device = match device_kind {
            0 => Device::Imei(Imei::from_u64(inner.u64()?)?),
            1 => {
                let length = inner.array().map(u16::from_le_bytes)?;
                let text = std::str::from_utf8(inner.take(usize::from(length))?).ok()?;
                Device::Text(text.to_owned())
            }
            _ => return None,
        };
        Some(Read {
            envelope: Envelope {
                seq: self.seq,
                received_at_ms,
                device,
                transport: Transport::from_u8(transport),
                lane: Lane::from_u8(lane),
                record_count,
                bytes: inner.0,
            },
            kind: Kind::from_u8(kind),
        })
    }
}

impl<'a> Iterator for Envelopes<'a> {
    type Item = Read<'a>;

    fn next(&mut self) -> Option<Read<'a>> {
        let read = self.read()?;
        self.seq = self.seq.next();
        Some(read)
    }
}
