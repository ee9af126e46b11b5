//! The envelope: one frame of one tracker with what the gateway knows about it, and the payload
//! that carries many of them.
//!
//! Why MsgPack arrays and not fields per record: measured on Redis 7.0, flat fields cost 27 times
//! the Redis CPU and 3 times the memory of packed entries.
//!
//! Wire form: a MsgPack array of envelopes, each the fixed array
//! `[seq, received_at_ms, device, transport, lane, record_count, bytes]`; `device` is an integer
//! (IMEI) or text. Version 1, frozen in `golden/`.
//!
//! Invariant: `bytes` leave exactly as they came; what the tracker said is never rewritten.

use std::fmt;

use codec::Imei;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::id::{IdError, SpoolSeq};

/// Envelopes in one payload at most (also the longest distance from field `a` to field `z`).
pub const ENVELOPES_MAX: usize = 512;

/// Largest payload as it stands in the entry (field `d`), in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// Largest payload after decompression, in bytes: far above what a batch reaches (it is closed at
/// 64 KiB of frames), and small enough that a forged entry cannot fill the reader's memory.
pub const PAYLOAD_OPENED_BYTES_MAX: usize = 1024 * 1024;

/// Longest name of a device that has no IMEI, in bytes: it becomes part of a database index.
pub const DEVICE_TEXT_BYTES_MAX: usize = 255;

/// How hard a payload is made smaller. Readers need not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// zstd level 3: 34 bytes a record in a full batch of 64 KiB, half a millisecond for it.
    #[default]
    Quick,
    /// zstd level 15: an eighth smaller, 20 to 60 milliseconds for a full batch. The levels
    /// between gain little.
    Thorough,
}

impl Effort {
    fn level(self) -> i32 {
        match self {
            Self::Quick => 3,
            Self::Thorough => 15,
        }
    }
}

/// How the payload is coded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `mp`: MsgPack.
    MsgPack,
    /// `mp+zstd`: MsgPack inside zstd.
    MsgPackZstd,
    /// A coding of a later version.
    Other(String),
}

impl Coding {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::MsgPack => "mp",
            Self::MsgPackZstd => "mp+zstd",
            Self::Other(word) => word,
        }
    }

    pub(crate) fn from_word(word: &str) -> Self {
        match word {
            "mp" => Self::MsgPack,
            "mp+zstd" => Self::MsgPackZstd,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who spoke.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// A tracker with an IMEI.
    Imei(Imei),
    /// Anything else, by its name of at most [`DEVICE_TEXT_BYTES_MAX`] bytes.
    Text(String),
}

/// The full name; use `Debug` in logs.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Imei(imei) => imei.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Shortened like [`Imei`]'s.
impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Imei(imei) => imei.fmt(f),
            Self::Text(text) => {
                let tail: String = text.chars().rev().take(4).collect();
                write!(f, "Text(…{})", tail.chars().rev().collect::<String>())
            }
        }
    }
}

/// How the bytes reached the gateway. Unknown numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// UDP.
    Udp,
    /// TCP inside TLS.
    Tls,
    /// A request to the HTTP door.
    Http,
    /// A wire: RS-232.
    Serial,
    /// A number this build does not know.
    Other(u8),
}

impl Transport {
    /// The number on the wire.
    #[must_use]
    pub fn as_u8(self) -> u8 {
        match self {
            Self::Tcp => 0,
            Self::Udp => 1,
            Self::Tls => 2,
            Self::Http => 3,
            Self::Serial => 4,
            Self::Other(number) => number,
        }
    }

    /// Reads the number on the wire.
    #[must_use]
    pub fn from_u8(number: u8) -> Self {
        match number {
            0 => Self::Tcp,
            1 => Self::Udp,
            2 => Self::Tls,
            3 => Self::Http,
            4 => Self::Serial,
            other => Self::Other(other),
        }
    }
}

/// How urgent a frame is to us; the founding documents' queue classes 1, 2 and 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Class 1: AVL priority High or Panic.
    High,
    /// Class 2: everything a tracker says day by day, and what we cannot read.
    Normal,
    /// Class 3: backfill and uploads.
    Bulk,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Bulk];

    /// The class on the wire: 1, 2 or 3.
    #[must_use]
    pub fn as_u8(self) -> u8 {
        match self {
            Self::High => 1,
            Self::Normal => 2,
            Self::Bulk => 3,
        }
    }

    /// The lane's word, as people read it: `high`, `normal` or `bulk`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }

    /// Reads a class; an unknown one is treated as normal, since a lane only orders work.
    #[must_use]
    pub fn from_u8(class: u8) -> Self {
        match class {
            1 => Self::High,
            3 => Self::Bulk,
            _ => Self::Normal,
        }
    }
}

/// One frame with its circumstances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Position in the spool that sent it.
    pub seq: SpoolSeq,
    /// Gateway clock at reception, milliseconds since 1970 UTC.
    pub received_at_ms: u64,
    /// Who spoke.
    pub device: Device,
    /// How it came.
    pub transport: Transport,
    /// How urgent.
    pub lane: Lane,
    /// AVL records inside as the frame's first count says; 0 for messages.
    pub record_count: u32,
    /// For kind `teltonika`: the data field, codec id … second count, CRC checked and dropped.
    /// For other kinds see [`crate::Kind`].
    pub bytes: &'a [u8],
}

/// Why a payload could not be packed or read.
#[derive(Debug, Error)]
pub enum PayloadError {
    /// An entry covers the positions of its envelopes: without any it says nothing.
    #[error("an entry without envelopes")]
    Empty,
    /// Make the batch smaller.
    #[error("{envelopes} envelopes in one payload; {ENVELOPES_MAX} is the most")]
    TooMany {
        /// How many there were.
        envelopes: usize,
    },
    /// The payload (as stored or opened) is over its limit.
    #[error("payload of {bytes} bytes; {bytes_max} is the most")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit it broke.
        bytes_max: usize,
    },
    /// A coding of a later version: leave the entry to a reader that knows it.
    #[error("payload coding {coding:?} is newer than this reader")]
    UnknownCoding {
        /// The word in field `c`.
        coding: String,
    },
    /// Not zstd, or cut short, or larger than allowed once opened.
    #[error("payload is not zstd of at most {PAYLOAD_OPENED_BYTES_MAX} bytes")]
    Zstd(#[source] std::io::Error),
    /// Not the MsgPack array of version 1.
    #[error("payload is not a MsgPack array of envelopes")]
    MsgPack(#[source] rmp_serde::decode::Error),
    /// MsgPack refused to write.
    #[error("envelopes could not be packed")]
    Pack(#[source] rmp_serde::encode::Error),
    /// An envelope carries position 0 or one beyond a signed 64-bit number.
    #[error("envelope {index} has an impossible position")]
    Seq {
        /// Which envelope, from 0.
        index: usize,
        /// The position.
        #[source]
        source: IdError,
    },
}

/// A payload out of its compression: owns the bytes that its envelopes point into.
#[derive(Debug)]
pub struct Payload {
    packed: Vec<u8>,
}

impl Payload {
    /// Packs envelopes for field `d`, quickly.
    /// # Errors
    /// As [`Payload::pack_with`].
    pub fn pack(envelopes: &[Envelope<'_>], coding: &Coding) -> Result<Vec<u8>, PayloadError> {
        Self::pack_with(envelopes, coding, Effort::Quick)
    }

    /// Packs envelopes for field `d`.
    /// # Errors
    /// [`PayloadError::TooMany`], [`PayloadError::TooLarge`], [`PayloadError::UnknownCoding`].
    pub fn pack_with(
        envelopes: &[Envelope<'_>],
        coding: &Coding,
        effort: Effort,
    ) -> Result<Vec<u8>, PayloadError> {
        if envelopes.len() > ENVELOPES_MAX {
            return Err(PayloadError::TooMany {
                envelopes: envelopes.len(),
            });
        }
        let wire: Vec<WireEnvelope<'_>> = envelopes.iter().map(WireEnvelope::from).collect();
        let packed = rmp_serde::to_vec(&wire).map_err(PayloadError::Pack)?;
        let packed = match coding {
            Coding::MsgPack => packed,
            Coding::MsgPackZstd => {
                zstd::bulk::compress(&packed, effort.level()).map_err(PayloadError::Zstd)?
            }
            Coding::Other(coding) => {
                return Err(PayloadError::UnknownCoding {
                    coding: coding.clone(),
                });
            }
        };
        within(packed.len(), PAYLOAD_BYTES_MAX)?;
        Ok(packed)
    }

    /// Takes field `d` out of its compression.
    /// # Errors
    /// [`PayloadError::TooLarge`], [`PayloadError::Zstd`], [`PayloadError::UnknownCoding`].
    pub fn open(coding: &Coding, data: &[u8]) -> Result<Self, PayloadError> {
        within(data.len(), PAYLOAD_BYTES_MAX)?;
        let packed = match coding {
            Coding::MsgPack => data.to_vec(),
            Coding::MsgPackZstd => zstd::bulk::decompress(data, PAYLOAD_OPENED_BYTES_MAX)
                .map_err(PayloadError::Zstd)?,
            Coding::Other(coding) => {
                return Err(PayloadError::UnknownCoding {
                    coding: coding.clone(),
                });
            }
        };
        Ok(Self { packed })
    }

    /// The envelopes, pointing into this payload.
    /// # Errors
    /// [`PayloadError::MsgPack`], [`PayloadError::TooMany`], [`PayloadError::Seq`].
    pub fn envelopes(&self) -> Result<Vec<Envelope<'_>>, PayloadError> {
        let wire: Vec<WireEnvelope<'_>> =
            rmp_serde::from_slice(&self.packed).map_err(PayloadError::MsgPack)?;
        if wire.len() > ENVELOPES_MAX {
            return Err(PayloadError::TooMany {
                envelopes: wire.len(),
            });
        }
        wire.into_iter()
            .enumerate()
            .map(|(index, wire)| {
                let seq =
                    SpoolSeq::new(wire.0).map_err(|source| PayloadError::Seq { index, source })?;
                Ok(wire.into_envelope(seq))
            })
            .collect()
    }
}

fn within(bytes: usize, bytes_max: usize) -> Result<(), PayloadError> {
    if bytes > bytes_max {
        return Err(PayloadError::TooLarge { bytes, bytes_max });
    }
    Ok(())
}

/// The fixed array as MsgPack sees it; the order of the fields is the format.
#[derive(Serialize, Deserialize)]
struct WireEnvelope<'a>(
    u64,
    u64,
    WireDevice,
    u8,
    u8,
    u32,
    #[serde(borrow, with = "serde_bytes")] &'a [u8],
);

impl<'a> From<&Envelope<'a>> for WireEnvelope<'a> {
    fn from(envelope: &Envelope<'a>) -> Self {
        Self(
            envelope.seq.get(),
            envelope.received_at_ms,
            WireDevice(envelope.device.clone()),
            envelope.transport.as_u8(),
            envelope.lane.as_u8(),
            envelope.record_count,
            envelope.bytes,
        )
    }
}

impl<'a> WireEnvelope<'a> {
    fn into_envelope(self, seq: SpoolSeq) -> Envelope<'a> {
        Envelope {
            seq,
            received_at_ms: self.1,
            device: self.2.0,
            transport: Transport::from_u8(self.3),
            lane: Lane::from_u8(self.4),
            record_count: self.5,
            bytes: self.6,
        }
    }
}

/// An integer or text. An integer that is no IMEI is kept as text: nothing is refused for a name.
struct WireDevice(Device);

impl Serialize for WireDevice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Device::Imei(imei) => serializer.serialize_u64(imei.as_u64()),
            Device::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for WireDevice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DeviceVisitor;
        impl Visitor<'_> for DeviceVisitor {
            type Value = WireDevice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IMEI as integer, or text")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<WireDevice, E> {
                Ok(WireDevice(match Imei::from_u64(number) {
                    Some(imei) => Device::Imei(imei),
                    None => Device::Text(number.to_string()),
                }))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WireDevice, E> {
                if text.len() > DEVICE_TEXT_BYTES_MAX {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(WireDevice(Device::Text(text.to_owned())))
            }
        }
        deserializer.deserialize_any(DeviceVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn envelope(seq: u64, device: Device, bytes: &[u8]) -> Envelope<'_> {
        Envelope {
            seq: SpoolSeq::new(seq).unwrap(),
            received_at_ms: 1_700_000_000_000,
            device,
            transport: Transport::Tcp,
            lane: Lane::High,
            record_count: 2,
            bytes,
        }
    }

    fn imei() -> Device {
        Device::Imei("356307042441013".parse().unwrap())
    }

    #[test]
    fn debug_shortens_names() {
        assert!(!format!("{:?}", imei()).contains("35630704"));
        assert_eq!(
            format!("{:?}", Device::Text("boat-number-7".into())),
            "Text(…er-7)"
        );
        assert_eq!(imei().to_string(), "356307042441013");
    }

    #[test]
    fn a_number_that_is_no_imei_is_kept_as_text() {
        let wire = rmp_serde::to_vec(&[(
            1u64,
            2u64,
            u64::MAX,
            9u8,
            9u8,
            0u32,
            serde_bytes::Bytes::new(b"x"),
        )])
        .unwrap();
        let payload = Payload::open(&Coding::MsgPack, &wire).unwrap();
        let read = payload.envelopes().unwrap();
        assert_eq!(read[0].device, Device::Text(u64::MAX.to_string()));
        assert_eq!(read[0].transport, Transport::Other(9));
        assert_eq!(read[0].lane, Lane::Normal);
    }

    #[test]
    fn a_name_too_long_for_an_index_is_refused() {
        let name = |bytes| Device::Text("n".repeat(bytes));
        for (bytes, fits) in [
            (DEVICE_TEXT_BYTES_MAX, true),
            (DEVICE_TEXT_BYTES_MAX + 1, false),
        ] {
            let packed = Payload::pack(&[envelope(1, name(bytes), b"")], &Coding::MsgPack).unwrap();
            let payload = Payload::open(&Coding::MsgPack, &packed).unwrap();
            assert_eq!(payload.envelopes().is_ok(), fits, "{bytes}");
        }
    }

    #[test]
    fn limits_hold() {
        let one = envelope(1, imei(), b"x");
        let many = vec![one.clone(); ENVELOPES_MAX + 1];
        assert!(matches!(
            Payload::pack(&many, &Coding::MsgPack),
            Err(PayloadError::TooMany { .. })
        ));
        let big = vec![0u8; PAYLOAD_BYTES_MAX];
        let large = [envelope(1, imei(), &big)];
        assert!(matches!(
            Payload::pack(&large, &Coding::MsgPack),
            Err(PayloadError::TooLarge { .. })
        ));
        // A compression bomb stops at the limit instead of filling memory.
        let bomb = zstd::bulk::compress(&vec![0u8; PAYLOAD_OPENED_BYTES_MAX + 1], 3).unwrap();
        assert!(matches!(
            Payload::open(&Coding::MsgPackZstd, &bomb),
            Err(PayloadError::Zstd(_))
        ));
        let zero = rmp_serde::to_vec(&[(
            0u64,
            2u64,
            5u64,
            0u8,
            1u8,
            0u32,
            serde_bytes::Bytes::new(b"x"),
        )])
        .unwrap();
        let payload = Payload::open(&Coding::MsgPack, &zero).unwrap();
        assert!(matches!(
            payload.envelopes(),
            Err(PayloadError::Seq { index: 0, .. })
        ));
    }

    #[test]
    fn every_truncation_is_an_error_and_never_a_panic() {
        let envelopes = [
            envelope(1, imei(), b"abc"),
            envelope(2, Device::Text("x".into()), b""),
        ];
        for coding in [Coding::MsgPack, Coding::MsgPackZstd] {
            let packed = Payload::pack(&envelopes, &coding).unwrap();
            for cut in 0..packed.len() {
                let read = Payload::open(&coding, &packed[..cut]);
                assert!(
                    read.and_then(|p| p.envelopes().map(|_| ())).is_err(),
                    "{coding:?} cut at {cut}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_coding_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            for coding in [Coding::MsgPack, Coding::MsgPackZstd] {
                if let Ok(payload) = Payload::open(&coding, &data) {
                    let _ = payload.envelopes();
                }
            }
        }

        #[test]
        fn what_is_packed_is_read_back(
            rows in proptest::collection::vec((1u64..1 << 61, any::<u64>(), 0u64..=999_999_999_999_999, any::<u8>(), 1u8..4, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..20),
            zstd in any::<bool>(),
        ) {
            let coding = if zstd { Coding::MsgPackZstd } else { Coding::MsgPack };
            let envelopes: Vec<Envelope<'_>> = rows.iter().map(|row| Envelope {
                seq: SpoolSeq::new(row.0).unwrap(),
                received_at_ms: row.1,
                device: Device::Imei(Imei::from_u64(row.2).unwrap()),
                transport: Transport::from_u8(row.3),
                lane: Lane::from_u8(row.4),
                record_count: row.5,
                bytes: &row.6,
            }).collect();
            let packed = Payload::pack(&envelopes, &coding).unwrap();
            let payload = Payload::open(&coding, &packed).unwrap();
            prop_assert_eq!(payload.envelopes().unwrap(), envelopes);
        }
    }
}
