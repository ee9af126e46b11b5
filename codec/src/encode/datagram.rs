//! Both directions of the UDP channel.

use super::{Count, EncodeError, RecordSpec, avl::write_avl};
use crate::codec_id::AvlCodec;
use crate::datagram::{TYPE_CHANNEL_ACK, TYPE_PLAIN};
use crate::imei::{IMEI_DIGITS, Imei};
use crate::sink::Sink;

/// What a datagram has in front of its data field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramSpec {
    /// Devices were only ever seen to send 0xCAFE.
    pub packet_id: u16,
    /// [`TYPE_PLAIN`] in every datagram seen.
    pub packet_type: u8,
    /// What the device recognises the answer by.
    pub avl_packet_id: u8,
    /// Who sends it.
    pub imei: Imei,
}

/// Writes a datagram around a data field that is already there (codec id to second
/// count), which is not looked at.
///
/// # Errors
/// [`EncodeError::TooLong`] above the 65 535 bytes that the length can say, before
/// anything is written; [`EncodeError::Full`].
pub fn datagram(head: &DatagramSpec, data: &[u8], sink: &mut impl Sink) -> Result<(), EncodeError> {
    write(head, &|sink| Ok(sink.put(data)?), sink)
}

/// Writes a datagram of AVL records.
///
/// # Errors
/// [`EncodeError`] naming what the codec or the length cannot say; then nothing was
/// written.
pub fn avl_datagram(
    head: &DatagramSpec,
    codec: AvlCodec,
    records: &[RecordSpec<'_>],
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    write(head, &|sink| write_avl(codec, records, sink), sink)
}

/// Writes a server's answer: how many records were taken, counted from the first.
/// [`Datagram::answer`](crate::Datagram::answer) gives the one to a datagram at hand.
///
/// # Errors
/// [`EncodeError::Full`].
pub fn datagram_answer(
    packet_id: u16,
    avl_packet_id: u8,
    accepted: u8,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    sink.put(&[0, 5])?;
    sink.put(&packet_id.to_be_bytes())?;
    Ok(sink.put(&[TYPE_PLAIN, avl_packet_id, accepted])?)
}

/// Writes the acknowledgement of a datagram of packet type 0, in either direction.
///
/// # Errors
/// [`EncodeError::Full`].
pub fn channel_ack(packet_id: u16, sink: &mut impl Sink) -> Result<(), EncodeError> {
    sink.put(&[0, 3])?;
    sink.put(&packet_id.to_be_bytes())?;
    Ok(sink.put(&[TYPE_CHANNEL_ACK])?)
}

// Packet id, type, AVL packet id, length of the identity, identity.
const HEAD_BYTES: usize = 6 + IMEI_DIGITS;

fn write(
    head: &DatagramSpec,
    body: super::Body<'_>,
    sink: &mut dyn Sink,
) -> Result<(), EncodeError> {
    let mut count = Count { bytes: HEAD_BYTES };
    body(&mut count)?;
    let bytes = count.bytes;
    let length = u16::try_from(bytes).map_err(|_| EncodeError::TooLong { bytes })?;
    sink.put(&length.to_be_bytes())?;
    sink.put(&head.packet_id.to_be_bytes())?;
    sink.put(&[head.packet_type, head.avl_packet_id])?;
    sink.put(&(IMEI_DIGITS as u16).to_be_bytes())?;
    sink.put(&head.imei.to_digits())?;
    body(sink)
}
