//! The codec id: the first byte of every data field, which decides how the rest is laid
//! out and what the device expects to hear.
//!
//! Invariant: every one of the 256 bytes has a place here and comes back unchanged.
//! Unknown ids are carried along, because refusing what we cannot read would make the
//! device send it for ever.

use crate::io::IoWidth;

/// What the first byte of a data field announces.
///
/// Make it with [`CodecId::from_byte`]; the named ids never appear as `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodecId {
    /// 0x07: AVL records of the GH3000 family, laid out unlike all others.
    Codec7,
    /// 0x08: AVL records with one-byte IO ids.
    Codec8,
    /// 0x8E, Codec 8 Extended: two-byte IO ids and values of any length.
    Codec8E,
    /// 0x10, Codec 16: two-byte IO ids and a generation type.
    Codec16,
    /// 0x0C: commands and their answers.
    Codec12,
    /// 0x0D: text from the device, with a time.
    Codec13,
    /// 0x0E: commands and answers that name the IMEI.
    Codec14,
    /// 0x0F: serial data from the device, with time and IMEI.
    Codec15,
    /// Any other byte.
    Other(u8),
}

/// The three codecs whose records [`AvlData`](crate::AvlData) reads and this crate writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AvlCodec {
    /// 0x08.
    Codec8,
    /// 0x8E.
    Codec8E,
    /// 0x10.
    Codec16,
}

/// The four layouts of messages that this crate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageCodec {
    /// 0x0C: type and payload.
    Codec12,
    /// 0x0D: a time before the payload.
    Codec13,
    /// 0x0E: an IMEI before the payload.
    Codec14,
    /// 0x0F: a time and an IMEI before the payload.
    Codec15,
}

impl CodecId {
    /// Classifies the byte; never fails.
    #[must_use]
    pub const fn from_byte(byte: u8) -> CodecId {
        match byte {
            0x07 => CodecId::Codec7,
            0x08 => CodecId::Codec8,
            0x8E => CodecId::Codec8E,
            0x10 => CodecId::Codec16,
            0x0C => CodecId::Codec12,
            0x0D => CodecId::Codec13,
            0x0E => CodecId::Codec14,
            0x0F => CodecId::Codec15,
            other => CodecId::Other(other),
        }
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn as_byte(self) -> u8 {
        match self {
            CodecId::Codec7 => 0x07,
            CodecId::Codec8 => 0x08,
            CodecId::Codec8E => 0x8E,
            CodecId::Codec16 => 0x10,
            CodecId::Codec12 => 0x0C,
            CodecId::Codec13 => 0x0D,
            CodecId::Codec14 => 0x0E,
            CodecId::Codec15 => 0x0F,
            CodecId::Other(other) => other,
        }
    }

    /// Which record layout follows, if it is one that [`AvlData`](crate::AvlData) reads.
    /// `None` for Codec 7, whose records [`Codec7Data`](crate::Codec7Data) reads.
    #[must_use]
    pub const fn avl(self) -> Option<AvlCodec> {
        match self {
            CodecId::Codec8 => Some(AvlCodec::Codec8),
            CodecId::Codec8E => Some(AvlCodec::Codec8E),
            CodecId::Codec16 => Some(AvlCodec::Codec16),
            _ => None,
        }
    }

    /// Which message layout follows, if it is one that
    /// [`MessageData`](crate::MessageData) reads.
    #[must_use]
    pub const fn message(self) -> Option<MessageCodec> {
        match self {
            CodecId::Codec12 => Some(MessageCodec::Codec12),
            CodecId::Codec13 => Some(MessageCodec::Codec13),
            CodecId::Codec14 => Some(MessageCodec::Codec14),
            CodecId::Codec15 => Some(MessageCodec::Codec15),
            _ => None,
        }
    }

    /// Whether AVL records follow that [`AvlData`](crate::AvlData) reads (8, 8E, 16).
    #[must_use]
    pub const fn is_avl(self) -> bool {
        self.avl().is_some()
    }

    /// Whether AVL records follow that this crate reads, in whichever view (7, 8, 8E, 16).
    #[must_use]
    pub const fn has_records(self) -> bool {
        self.is_avl() || matches!(self, CodecId::Codec7)
    }

    /// Whether messages follow (12, 13, 14, 15).
    #[must_use]
    pub const fn is_message(self) -> bool {
        self.message().is_some()
    }

    /// Whether the device waits for the four-byte record count.
    ///
    /// Messages get none (a device would take it for a command). Everything else does,
    /// unknown ids included: a data codec we cannot read yet is the likely case, and a
    /// device left without its count repeats the frame for ever.
    #[must_use]
    pub const fn wants_ack(self) -> bool {
        !self.is_message()
    }
}

impl AvlCodec {
    /// The byte on the wire.
    #[must_use]
    pub const fn as_byte(self) -> u8 {
        match self {
            AvlCodec::Codec8 => 0x08,
            AvlCodec::Codec8E => 0x8E,
            AvlCodec::Codec16 => 0x10,
        }
    }

    // IO ids and the event IO id.
    pub(crate) const fn has_wide_ids(self) -> bool {
        !matches!(self, AvlCodec::Codec8)
    }

    // The number of elements in the record and in each group.
    pub(crate) const fn has_wide_counts(self) -> bool {
        matches!(self, AvlCodec::Codec8E)
    }

    pub(crate) const fn has_generation_type(self) -> bool {
        matches!(self, AvlCodec::Codec16)
    }

    pub(crate) const fn has_variable_group(self) -> bool {
        matches!(self, AvlCodec::Codec8E)
    }
}

/// How the bytes of a record lie: by codec, and in Codec 8 by whether a group of 16-byte
/// values follows the four documented ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    Codec8,
    Codec8With16,
    Codec8E,
    Codec16,
}

impl Layout {
    pub(crate) const fn codec(self) -> AvlCodec {
        match self {
            Layout::Codec8 | Layout::Codec8With16 => AvlCodec::Codec8,
            Layout::Codec8E => AvlCodec::Codec8E,
            Layout::Codec16 => AvlCodec::Codec16,
        }
    }

    pub(crate) const fn id_bytes(self) -> usize {
        if self.codec().has_wide_ids() { 2 } else { 1 }
    }

    pub(crate) const fn count_bytes(self) -> usize {
        if self.codec().has_wide_counts() { 2 } else { 1 }
    }

    pub(crate) const fn has_group(self, width: IoWidth) -> bool {
        match width {
            IoWidth::B1 | IoWidth::B2 | IoWidth::B4 | IoWidth::B8 => true,
            IoWidth::B16 => matches!(self, Layout::Codec8With16),
            IoWidth::Variable => self.codec().has_variable_group(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_and_the_classes_do_not_overlap() {
        let (mut avl, mut records, mut messages) = (0, 0, 0);
        for byte in 0..=u8::MAX {
            let id = CodecId::from_byte(byte);
            assert_eq!(id.as_byte(), byte);
            assert!(!(id.has_records() && id.is_message()));
            assert!(id.has_records() || !id.is_avl());
            assert_eq!(id.wants_ack(), !(0x0C..=0x0F).contains(&byte));
            assert_eq!(id.avl().map_or(byte, AvlCodec::as_byte), byte);
            avl += usize::from(id.is_avl());
            records += usize::from(id.has_records());
            messages += usize::from(id.is_message());
        }
        assert_eq!((avl, records, messages), (3, 4, 4));
    }
}
