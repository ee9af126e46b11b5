//! Recipes: messages as parts, and bytes put together from them by the tables of the
//! documentation. The encoder of the crate is not used, so that it and the decoder cannot
//! share a mistake; what a reader must find is the recipe itself.

use proptest::prelude::*;

use super::framed;

/// A data field of codec 8, 8E or 16.
#[derive(Debug, Clone)]
pub(crate) struct Avl {
    pub(crate) codec: u8,
    pub(crate) records: Vec<Record>,
    /// Codec 8 with a fifth group.
    pub(crate) wide: bool,
}

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Time to speed, as they stand on the wire.
    pub(crate) head: [u8; 24],
    pub(crate) event: u16,
    pub(crate) generation: u8,
    /// 1, 2, 4, 8 bytes.
    pub(crate) groups: [Vec<(u16, u64)>; 4],
    pub(crate) variable: Vec<(u16, Vec<u8>)>,
    pub(crate) sixteen: Vec<(u8, [u8; 16])>,
}

/// Id, width (`None` is variable) and value of an IO element.
pub(crate) type Element = (u16, Option<usize>, Vec<u8>);

impl Avl {
    /// The data field, codec id to second count.
    pub(crate) fn data(&self) -> Vec<u8> {
        let count = u8::try_from(self.records.len()).unwrap();
        let mut data = vec![self.codec, count];
        for record in &self.records {
            data.extend(record.bytes(self.codec, self.wide));
        }
        data.push(count);
        data
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        framed(&self.data())
    }
}

impl Record {
    /// Time to last IO element.
    pub(crate) fn bytes(&self, codec: u8, wide: bool) -> Vec<u8> {
        let (wide_ids, wide_counts) = (codec != 0x08, codec == 0x8E);
        let elements = self.elements(codec, wide);
        let mut bytes = self.head.to_vec();
        number(&mut bytes, wide_ids, self.event);
        if codec == 0x10 {
            bytes.push(self.generation);
        }
        number(&mut bytes, wide_counts, elements.len() as u16);
        let mut groups = vec![Some(1), Some(2), Some(4), Some(8)];
        if codec == 0x8E {
            groups.push(None);
        }
        if wide {
            groups.push(Some(16));
        }
        for group in groups {
            let members = elements.iter().filter(|(_, width, _)| *width == group);
            number(&mut bytes, wide_counts, members.clone().count() as u16);
            for (id, _, value) in members {
                number(&mut bytes, wide_ids, *id);
                if group.is_none() {
                    number(&mut bytes, true, value.len() as u16);
                }
                bytes.extend(value);
            }
        }
        bytes
    }

    /// What a reader finds, in the order of the wire.
    pub(crate) fn elements(&self, codec: u8, wide: bool) -> Vec<Element> {
        let narrow = |id: u16| if codec == 0x08 { id & 0xFF } else { id };
        let mut elements = Vec::new();
        for (group, bytes) in self.groups.iter().zip([1, 2, 4, 8]) {
            for (id, value) in group {
                let value = value.to_be_bytes()[8 - bytes..].to_vec();
                elements.push((narrow(*id), Some(bytes), value));
            }
        }
        if codec == 0x8E {
            let variable = self.variable.iter();
            elements.extend(variable.map(|(id, value)| (*id, None, value.clone())));
        }
        if wide {
            let sixteen = self.sixteen.iter();
            elements.extend(sixteen.map(|(id, value)| (u16::from(*id), Some(16), value.to_vec())));
        }
        elements
    }
}

fn number(bytes: &mut Vec<u8>, wide: bool, value: u16) {
    let [high, low] = value.to_be_bytes();
    if wide {
        bytes.push(high);
    }
    bytes.push(low);
}

/// A data field of codec 12, 13, 14 or 15.
#[derive(Debug, Clone)]
pub(crate) struct Messages {
    pub(crate) codec: u8,
    pub(crate) list: Vec<Message>,
    pub(crate) second_count: u8,
    /// The documented reading of Codec 13.
    pub(crate) time_in_size: bool,
}

/// One message; what its codec has no place for is left out.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) time: u32,
    pub(crate) imei: [u8; 8],
    pub(crate) payload: Vec<u8>,
}

impl Messages {
    /// The data field, codec id to second count.
    pub(crate) fn data(&self) -> Vec<u8> {
        let mut data = vec![self.codec, u8::try_from(self.list.len()).unwrap()];
        for message in &self.list {
            let (mut front, mut uncounted) = (Vec::new(), 0);
            if matches!(self.codec, 0x0D | 0x0F) {
                front.extend(message.time.to_be_bytes());
                uncounted = if self.time_in_size { 0 } else { 4 };
            }
            if matches!(self.codec, 0x0E | 0x0F) {
                front.extend(message.imei);
            }
            let size = front.len() + message.payload.len() - uncounted;
            data.push(message.kind);
            data.extend((size as u32).to_be_bytes());
            data.extend(front);
            data.extend(&message.payload);
        }
        data.push(self.second_count);
        data
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        framed(&self.data())
    }
}

/// A data field of Codec 7.
#[derive(Debug, Clone)]
pub(crate) struct Codec7 {
    pub(crate) records: Vec<Codec7Record>,
}

/// One record; a part that is `None` has its mask bit clear.
#[derive(Debug, Clone)]
pub(crate) struct Codec7Record {
    /// 0 to 3.
    pub(crate) priority: u8,
    /// Seconds since 2007-01-01 UTC, 30 bits.
    pub(crate) seconds: u32,
    pub(crate) gps: Option<Codec7Gps>,
    /// 1, 2, 4 bytes.
    pub(crate) groups: [Option<Vec<(u8, u32)>>; 3],
}

/// The GPS part.
#[derive(Debug, Clone)]
pub(crate) struct Codec7Gps {
    /// Latitude and longitude as their bits, so that every float is there.
    pub(crate) position: Option<(u32, u32)>,
    pub(crate) altitude: Option<u16>,
    pub(crate) angle: Option<u8>,
    pub(crate) speed: Option<u8>,
    pub(crate) satellites: Option<u8>,
    pub(crate) cell: Option<(u16, u16)>,
    pub(crate) signal: Option<u8>,
    pub(crate) operator: Option<u32>,
}

impl Codec7Record {
    /// The mask in front of everything.
    pub(crate) fn global_mask(&self) -> u8 {
        let [one, two, four] = &self.groups;
        mask(&[
            self.gps.is_some(),
            one.is_some(),
            two.is_some(),
            four.is_some(),
        ])
    }

    /// Time to last IO element.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let stamp = u32::from(self.priority) << 30 | self.seconds;
        let mut bytes = stamp.to_be_bytes().to_vec();
        bytes.push(self.global_mask());
        if let Some(gps) = &self.gps {
            bytes.push(gps.mask());
            for float in gps
                .position
                .iter()
                .flat_map(|(latitude, longitude)| [latitude, longitude])
            {
                bytes.extend(float.to_be_bytes());
            }
            bytes.extend(gps.altitude.iter().flat_map(|n| n.to_be_bytes()));
            bytes.extend(gps.angle.iter().chain(&gps.speed).chain(&gps.satellites));
            if let Some((area, cell)) = gps.cell {
                bytes.extend(area.to_be_bytes());
                bytes.extend(cell.to_be_bytes());
            }
            bytes.extend(gps.signal);
            bytes.extend(gps.operator.iter().flat_map(|n| n.to_be_bytes()));
        }
        for (group, width) in self.groups.iter().zip([1, 2, 4]) {
            let Some(group) = group else { continue };
            bytes.push(group.len() as u8);
            for (id, value) in group {
                bytes.push(*id);
                bytes.extend(&value.to_be_bytes()[4 - width..]);
            }
        }
        bytes
    }
}

impl Codec7Gps {
    /// The mask in front of the part.
    pub(crate) fn mask(&self) -> u8 {
        mask(&[
            self.position.is_some(),
            self.altitude.is_some(),
            self.angle.is_some(),
            self.speed.is_some(),
            self.satellites.is_some(),
            self.cell.is_some(),
            self.signal.is_some(),
            self.operator.is_some(),
        ])
    }
}

fn mask(bits: &[bool]) -> u8 {
    let bits = bits.iter().enumerate();
    bits.map(|(bit, set)| u8::from(*set) << bit).sum()
}

impl Codec7 {
    /// The data field, codec id to second count.
    pub(crate) fn data(&self) -> Vec<u8> {
        let count = u8::try_from(self.records.len()).unwrap();
        let mut data = vec![0x07, count];
        data.extend(self.records.iter().flat_map(Codec7Record::bytes));
        data.push(count);
        data
    }
}

/// A datagram around a data field.
pub(crate) fn datagram(packet_id: u16, avl_packet_id: u8, identity: &[u8], data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(6 + identity.len() + data.len()).unwrap();
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(packet_id.to_be_bytes());
    bytes.extend([1, avl_packet_id]);
    bytes.extend((identity.len() as u16).to_be_bytes());
    bytes.extend(identity);
    bytes.extend(data);
    bytes
}

fn group() -> impl Strategy<Value = Vec<(u16, u64)>> {
    proptest::collection::vec((any::<u16>(), any::<u64>()), 0..5)
}

/// Any record.
pub(crate) fn record() -> impl Strategy<Value = Record> {
    let value = proptest::collection::vec(any::<u8>(), 0..20);
    (
        any::<[u8; 24]>(),
        any::<u16>(),
        any::<u8>(),
        [group(), group(), group(), group()],
        proptest::collection::vec((any::<u16>(), value), 0..4),
        proptest::collection::vec((any::<u8>(), any::<[u8; 16]>()), 0..3),
    )
        .prop_map(
            |(head, event, generation, groups, variable, sixteen)| Record {
                head,
                event,
                generation,
                groups,
                variable,
                sixteen,
            },
        )
}

/// Any records in any of the three layouts, without the fifth group.
pub(crate) fn avl() -> impl Strategy<Value = Avl> {
    let codec = prop_oneof![Just(0x08u8), Just(0x8E), Just(0x10)];
    (codec, proptest::collection::vec(record(), 0..6)).prop_map(|(codec, records)| Avl {
        codec,
        records,
        wide: false,
    })
}

/// Any messages of the four codecs; sizes as documented, second counts any.
pub(crate) fn messages() -> impl Strategy<Value = Messages> {
    let payload = proptest::collection::vec(any::<u8>(), 0..40);
    let message = (
        prop_oneof![Just(5u8), Just(6), Just(0x0D), Just(0x11), any::<u8>()],
        any::<u32>(),
        any::<[u8; 8]>(),
        payload,
    )
        .prop_map(|(kind, time, imei, payload)| Message {
            kind,
            time,
            imei,
            payload,
        });
    (
        0x0Cu8..=0x0F,
        proptest::collection::vec(message, 0..4),
        any::<u8>(),
    )
        .prop_map(|(codec, list, second_count)| Messages {
            codec,
            list,
            second_count,
            time_in_size: true,
        })
}

/// Any Codec 7 records.
pub(crate) fn codec7() -> impl Strategy<Value = Codec7> {
    let gps = (
        any::<Option<(u32, u32)>>(),
        any::<Option<u16>>(),
        any::<[Option<u8>; 4]>(),
        any::<Option<(u16, u16)>>(),
        any::<Option<u32>>(),
    )
        .prop_map(|(position, altitude, bytes, cell, operator)| Codec7Gps {
            position,
            altitude,
            angle: bytes[0],
            speed: bytes[1],
            satellites: bytes[2],
            cell,
            signal: bytes[3],
            operator,
        });
    let group =
        || proptest::option::of(proptest::collection::vec((any::<u8>(), any::<u32>()), 0..4));
    let record = (
        0u8..4,
        0u32..1 << 30,
        proptest::option::of(gps),
        [group(), group(), group()],
    )
        .prop_map(|(priority, seconds, gps, groups)| Codec7Record {
            priority,
            seconds,
            gps,
            groups,
        });
    proptest::collection::vec(record, 0..5).prop_map(|records| Codec7 { records })
}

/// Codec 8 with a fifth group that is not always empty.
pub(crate) fn wide_avl() -> impl Strategy<Value = Avl> {
    let records = proptest::collection::vec(record(), 1..4);
    records.prop_map(|records| Avl {
        codec: 0x08,
        records,
        wide: true,
    })
}
