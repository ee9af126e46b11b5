//! Pure: no I/O, no clock.
//!
//! From positions to frames for the spool: those of one device together.
//!
//! Invariant: the positions of a device keep their order, in one frame and from frame to frame.

use std::collections::HashMap;

use contract::position::{Packed, join_some};
use contract::{Device, Kind, Lane, Transport};

use super::read::Item;
use crate::spool::Append;

/// Frames for the spool, in the order in which their devices came first.
pub(super) fn frames(items: Vec<Item>, lane: Lane, received_at_ms: u64) -> Vec<Append> {
    let mut frames = Vec::new();
    for (device, positions) in by_device(items) {
        let mut rest = positions.as_slice();
        while !rest.is_empty() {
            let (count, bytes) = join_some(rest);
            rest = &rest[count..];
            frames.push(Append {
                device: device.clone(),
                kind: Kind::Position,
                transport: Transport::Http,
                lane,
                received_at_ms,
                record_count: u32::try_from(count).unwrap_or(u32::MAX),
                panic: false,
                bytes,
            });
        }
    }
    frames
}

fn by_device(items: Vec<Item>) -> Vec<(Device, Vec<Packed>)> {
    let mut groups: Vec<(Device, Vec<Packed>)> = Vec::new();
    let mut places: HashMap<Device, usize> = HashMap::new();
    for item in items {
        let place = places.get(&item.device).copied();
        match place.and_then(|place| groups.get_mut(place)) {
            Some((_, positions)) => positions.push(item.position),
            None => {
                places.insert(item.device.clone(), groups.len());
                groups.push((item.device, vec![item.position]));
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use contract::position::{POSITIONS_MAX, Position, unpack};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_device_keeps_its_order(
            devices in prop::collection::vec(0_u8..4, 0..2_000),
            attribute in 0_usize..4_000,
        ) {
            let items: Vec<_> = devices.iter().enumerate().map(|(at, device)| {
                let mut position = Position { time_ms: at as i64, ..Position::default() };
                if at % 100 == 0 {
                    position.attributes.insert("note".into(), "x".repeat(attribute).into());
                }
                let device = Device::Text(format!("device-{device}"));
                Item { device, position: Packed::of(&position).unwrap() }
            }).collect();
            let frames = frames(items, Lane::Bulk, 9);
            let mut kept = vec![Vec::new(); 4];
            for frame in &frames {
                let positions = unpack(&frame.bytes).unwrap();
                prop_assert_eq!(positions.len(), frame.record_count as usize);
                prop_assert!(positions.len() <= POSITIONS_MAX && frame.bytes.len() < 65_536);
                let Device::Text(name) = &frame.device else { panic!() };
                let device: usize = name[7..].parse().unwrap();
                kept[device].extend(positions.iter().map(|position| position.time_ms));
            }
            for (device, times) in kept.iter().enumerate() {
                let sent: Vec<_> = (0_i64..).zip(&devices)
                    .filter_map(|(at, of)| (usize::from(*of) == device).then_some(at))
                    .collect();
                prop_assert_eq!(times, &sent);
            }
        }
    }
}
