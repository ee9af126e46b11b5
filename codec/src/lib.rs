//! Teltonika's tracker protocol: what a device says, cut from the stream, checked and read
//! without copying, and what it wants to hear.
//!
//! # The conversation
//!
//! A device opens a TCP connection and says who it is: a length and its IMEI in ASCII. One
//! byte answers, [`login::ACCEPT`] or [`login::REFUSE`]. From then on it sends frames:
//!
//! ```text
//! 00 00 00 00 | length N | codec id · count · … · count | 00 00 CRC-16
//!   preamble     4 bytes    N bytes, the data field         4 bytes
//! ```
//!
//! and waits, after each one, for the number of records that were taken ([`ack`]). If it is
//! the number the device sent, the device forgets them; any other number, or silence, and
//! it sends them again. So two rules govern everything that calls this crate:
//!
//! * Answer only when the records are safe, because the answer is what erases them.
//! * Never answer 0 for content you do not understand, because the device would repeat the
//!   frame for ever and everything behind it would wait. Only a wrong checksum is refused.
//!
//! An idle device may send the single byte `FF`, before the login too; it wants no answer.
//! Commands travel the other way as Codec 12 or 14 messages, and messages get no count.
//!
//! # The layers
//!
//! * [`cut`] looks at lengths and checksums alone and says the caller's next move: read
//!   on, skip a ping, answer a login, keep a frame, refuse it, hang up. This is all a
//!   gateway needs. [`stream::StreamParser`] does the same for bytes that arrive in
//!   pieces, in memory given once, and can find its way back after garbage. [`Datagram`]
//!   is the counterpart of a frame for UDP.
//! * [`AvlData`] (codecs 8, 8 Extended, 16), [`Codec7Data`] and [`MessageData`] (12 to 15)
//!   read a data field. Parsing walks it once; after that the iterators cannot fail.
//!   Everything is a `Copy` view of the caller's bytes, and unknown values are kept, not
//!   rejected.
//! * [`payload`] reads what lies inside IO elements (beacons, sensors, positions, VIN,
//!   fault codes), [`CameraBlock`] what cameras put into Codec 12.
//! * [`encode`] writes all of it into any [`Sink`].
//!
//! What an IO id means, and whether its value has a sign, depends on the model of the
//! device and is decided elsewhere.
//!
//! # A frame of records: Codec 8
//!
//! A record is a time, a priority, a position and numbered values, the IO elements, in
//! groups of one, two, four and eight bytes.
//!
//! ```
//! use codec::{AvlData, Cut, Expect, Limits, Priority};
//!
//! // The first Codec 8 example of the manufacturer's wiki.
//! let input = hex::decode(
//!     "000000000000003608010000016B40D8EA300100000000000000000000000000000001050215030101\
//!      01425E0F01F10000601A014E0000000000000000010000C7CF",
//! )?;
//!
//! // A part of it: how long the input must get.
//! let cut = codec::cut(&input[..20], Expect::Frame, Limits::default());
//! assert_eq!(cut, Cut::NeedMore { needed: 66 });
//!
//! let Cut::Frame(frame) = codec::cut(&input, Expect::Frame, Limits::default()) else {
//!     panic!("the checksum holds");
//! };
//! assert_eq!(frame.ack(), Some([0, 0, 0, 1]));
//!
//! let avl = AvlData::parse(frame.data())?;
//! let record = avl.records().next().expect("its count is 1");
//! assert_eq!(record.timestamp_ms, 1_560_161_086_000);
//! assert_eq!(record.priority, Priority::High);
//! // No satellites, no fix: the coordinates are the last known ones, or 0.
//! assert_eq!((record.satellites, record.longitude_e7), (0, 0));
//!
//! let voltage = record.io().find(|element| element.id == 66).expect("it has five elements");
//! assert_eq!(voltage.as_u64(), Some(24_079));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Some firmware appends a fifth group, of 16-byte values. Nothing announces it, so it is
//! found out: by the record's total and by the bytes coming out even that way only.
//!
//! # Longer ids and longer values: Codec 8 Extended
//!
//! Ids and counts take two bytes, and a fifth group holds values that bring their own
//! length, possibly 0. Hence the group of an element is told apart from its length.
//!
//! ```
//! use codec::{AvlData, IoWidth};
//!
//! let data = hex::decode(
//!     "8E010000016B412CEE0001000000000000000000000000000000000100050001000101000100\
//!      11001D00010010015E2C880002000B000000003544C87A000E000000001DD7E06A000001",
//! )?;
//! let avl = AvlData::parse(&data)?;
//! let record = avl.records().next().expect("its count is 1");
//! let elements: Vec<_> = record.io().map(|e| (e.id, e.width, e.as_u64())).collect();
//! assert_eq!(elements[0], (1, IoWidth::B1, Some(1)));
//! assert_eq!(elements[2], (16, IoWidth::B4, Some(22_949_000)));
//! assert_eq!(elements.len(), 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Why a record was made: Codec 16
//!
//! Wide ids, narrow counts, and a byte that says what made the device write.
//!
//! ```
//! use codec::{AvlData, GenerationType};
//!
//! let data = hex::decode(
//!     "10020000016BDBC7833000000000000000000000000000000000000B05040200010000030002000B00\
//!      270042563A00000000016BDBC7871800000000000000000000000000000000000B0504020001000003\
//!      0002000B00260042563A000002",
//! )?;
//! for record in AvlData::parse(&data)?.records() {
//!     assert_eq!(record.event_io_id, 11);
//!     assert_eq!(record.generation_type, Some(GenerationType::OnChange));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Before all of these: Codec 7
//!
//! The GH3000 family says by masks which parts a record has, counts seconds from 2007, and
//! puts the latitude first, as a float.
//!
//! # Before all of these: Codec 7
//!
//! The GH3000 family says by masks which parts a record has, counts seconds from 2007, and
//! puts the latitude first, as a float.
//!
//! ```
//! use codec::{Codec7Data, Priority};
//!
//! let data = hex::decode(
//!     "070262A15B400FFF425AC00041CA00000070403209000107D0140000601A01015701430F6E01050001E240\
//!      22A15B7C0201F00102",
//! )?;
//! let mut records = Codec7Data::parse(&data)?.records();
//! let first = records.next().expect("its count is 2");
//! assert_eq!((first.timestamp_ms, first.priority), (1_748_609_600_000, Priority::High));
//! let position = first.gps.and_then(|gps| gps.position).expect("its mask has it");
//! assert_eq!((position.latitude_deg, position.longitude_deg), (54.6875, 25.25));
//! // The second one has no position, only an input.
//! let second = records.next().expect("its count is 2");
//! assert!(second.gps.is_none() && second.io().len() == 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Commands and answers: Codec 12 to 15
//!
//! A message is a type, a size and bytes, which may be text. Codec 13 puts a time in front
//! of them, Codec 14 the IMEI that is meant, Codec 15 both. None of them is acknowledged.
//!
//! ```
//! use codec::{MessageData, message};
//!
//! // Codec 12: what a device answers to `getio`.
//! let data = hex::decode(
//!     "0C01060000002F4449313A31204449323A30204449333A302041494E313A302041494E323A3136393234\
//!      20444F313A3020444F323A3101",
//! )?;
//! let answer = MessageData::parse(&data)?.messages().next().expect("its count is 1");
//! assert_eq!(answer.kind, message::RESPONSE);
//! assert_eq!(answer.payload, b"DI1:1 DI2:0 DI3:0 AIN1:0 AIN2:16924 DO1:0 DO2:1");
//!
//! // Codec 13: said unasked, with the time. The size counts the time; some firmware
//! // forgets that, which is read as well.
//! let data = hex::decode("0D01060000001564E8328168656C6C6F206C65747320746573740D0A01")?;
//! let said = MessageData::parse(&data)?.messages().next().expect("its count is 1");
//! assert_eq!(said.timestamp_s, Some(1_692_938_881));
//! assert_eq!(said.payload, b"hello lets test\r\n");
//!
//! // Codec 14: the IMEI was another's, the command was not executed.
//! let data = hex::decode("0E011100000008035209308145246801")?;
//! let refused = MessageData::parse(&data)?.messages().next().expect("its count is 1");
//! assert_eq!(refused.kind, message::NOT_EXECUTED);
//! assert_eq!(refused.imei(), Some("352093081452468".parse()?));
//!
//! // Codec 15: from a serial port behind the device.
//! let data = hex::decode("0F010B00000013654B65A4012345678912345648656C6C6F210A01")?;
//! let serial = MessageData::parse(&data)?.messages().next().expect("its count is 1");
//! assert_eq!(serial.timestamp_s, Some(1_699_440_036));
//! assert_eq!(serial.payload, b"Hello!\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Without a connection: UDP
//!
//! Every datagram names the device and carries one data field, without checksum. The
//! answer echoes both ids and may accept a part of the records.
//!
//! ```
//! use codec::{AvlData, Datagram};
//!
//! let input = hex::decode(
//!     "003DCAFE0105000F33353230393330383634303336353508010000016B4F815B300100000000000000\
//!      00000000000000000103021503010101425DBC000001",
//! )?;
//! let datagram = Datagram::parse(&input)?;
//! assert_eq!(datagram.imei()?.to_string(), "352093086403655");
//! let avl = AvlData::parse(datagram.data())?;
//! assert_eq!(datagram.answer(avl.count()), [0x00, 0x05, 0xCA, 0xFE, 0x01, 0x05, 0x01]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Inside an element: Bluetooth
//!
//! The value of element 10828 of an FMB device that heard one EYE sensor; a device with
//! another list of elements may mean something else by the same id.
//!
//! ```
//! use codec::payload::TlvList;
//!
//! let value = hex::decode("01120001E50F067CD9F401EF770D01000E020BFE")?;
//! let sensor = TlvList::parse(&value)?.devices().next().expect("there is one");
//! assert_eq!(sensor.rssi_dbm(), Some(-27));
//! assert_eq!(sensor.battery_mv(), Some(3070));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When something does not fit
//!
//! Errors say the part, the byte and the reason, and their kind is the caller's next move.
//!
//! ```
//! use codec::{AvlData, CloseReason, Cut, Expect, Limits, Stage};
//!
//! // No frame begins like this: hang up.
//! let cut = codec::cut(b"GET / HTTP/1.1\r\n", Expect::Frame, Limits::default());
//! let Cut::Close { offset: 0, reason } = cut else { panic!("it is no frame") };
//! assert_eq!(reason, CloseReason::Preamble { found: b'G' });
//!
//! // A record that ends early: the frame is kept and answered, its content set aside.
//! let error = AvlData::parse(&[0x08, 1, 0, 0, 1, 0x6B, 1]).unwrap_err();
//! assert_eq!((error.stage, error.offset), (Stage::RecordHead { record: 0 }, 2));
//! assert_eq!(error.to_string(), "record 0, head, byte 2: the data ends inside this field");
//! ```
//!
//! To see what some bytes are, name by name:
//!
//! ```text
//! cargo run -q -p codec --example decode --features std -- --explain HEX
//! ```
//!
//! # Features
//!
//! None by default, and then neither std nor an allocator is needed.
//!
//! * `alloc`: owned values, and encoding into a `Vec<u8>`.
//! * `std`: `alloc`, and the checksum by carry-less multiplication where the processor has
//!   it, found out at run time.
//! * `serde`: views and owned values can be serialized.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod avl;
pub mod camera;
pub mod codec7;
mod codec_id;
pub mod crc;
pub mod datagram;
pub mod encode;
mod error;
pub mod frame;
mod imei;
pub mod io;
pub mod login;
pub mod message;
pub mod nmea;
#[cfg(feature = "alloc")]
pub mod owned;
pub mod payload;
pub mod record;
mod record_buf;
#[cfg(feature = "serde")]
mod serial;
mod sink;
pub mod stream;

pub use avl::{AvlData, most_urgent};
pub use camera::CameraBlock;
pub use codec_id::{AvlCodec, CodecId, MessageCodec};
pub use codec7::{Codec7Data, Codec7Record};
pub use datagram::{Datagram, DatagramError, DatagramReason};
pub use error::{BodyError, BodyReason, Stage};
pub use frame::{CloseReason, Cut, Expect, Frame, Limits, RefuseReason, ack, cut};
pub use imei::{IMEI_DIGITS, Imei, ImeiError};
pub use io::{IoElement, IoWidth};
pub use login::Login;
pub use message::{Message, MessageData, WideTime};
#[cfg(feature = "alloc")]
pub use owned::{OwnedAvlData, OwnedRecord};
pub use record::{AvlRecord, GenerationType, Priority, RecordHead};
pub use record_buf::{RecordBuf, RecordTooLong};
pub use sink::{Full, Sink, SliceSink};
pub use stream::{Event, Garbage, StreamEnd, StreamParser};
