//! IO elements into columns and JSON.
//!
//! Rules, in this order:
//! 1. An id with a column (table [`HOT`]) goes there and nowhere else, when it came once, in a
//!    fixed-width group, and fits. Read as unsigned, in the unit the tracker sends.
//! 2. Everything else goes into the JSON object under its id as text: fixed-width values as exact
//!    numbers (up to 2^64-1: `jsonb` keeps them as `numeric`), variable-length ones as lower-case
//!    hexadecimal text, also when they are empty.
//! 3. An id that came several times in one record is an array of all its values in the order sent;
//!    its column, if it has one, stays empty, because there is no telling which one counts.
//!
//! Pure. Invariant: every value can be recovered; what a column cannot hold stays in the JSON.

use codec::IoElement;

/// Values with a column of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hot {
    /// Id 239.
    pub ignition: Option<bool>,
    /// Id 240.
    pub movement: Option<bool>,
    /// Id 16, total odometer in metres.
    pub odometer_m: Option<i64>,
    /// Id 66, millivolts.
    pub external_voltage_mv: Option<i32>,
    /// Id 67, millivolts.
    pub battery_voltage_mv: Option<i32>,
    /// Id 21, 0 to 5.
    pub gsm_signal: Option<i16>,
}

/// Ids with a column, and the column. Source: wiki, AVL ids of the FMB family, read 2026-11-21;
/// the meanings are the same in every current family.
pub const HOT: [(u16, &str); 6] = [
    (239, "ignition"),
    (240, "movement"),
    (16, "odometer_m"),
    (66, "external_voltage_mv"),
    (67, "battery_voltage_mv"),
    (21, "gsm_signal"),
];

impl Hot {
    /// Puts a value into its column. `false` when there is none for it or it does not fit.
    fn take(&mut self, id: u16, value: u64) -> bool {
        fn put<T>(column: &mut Option<T>, value: Option<T>) -> bool {
            let fits = value.is_some();
            *column = value;
            fits
        }
        let flag = match value {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        match id {
            239 => put(&mut self.ignition, flag),
            240 => put(&mut self.movement, flag),
            16 => put(&mut self.odometer_m, i64::try_from(value).ok()),
            66 => put(&mut self.external_voltage_mv, i32::try_from(value).ok()),
            67 => put(&mut self.battery_voltage_mv, i32::try_from(value).ok()),
            21 => put(&mut self.gsm_signal, i16::try_from(value).ok()),
            _ => false,
        }
    }
}

/// Sorts the elements of one record into columns and a JSON object, its keys in the order of numbers:
/// that of `jsonb` (shorter keys first), which need not sort them then.
///
/// Written by hand, digit by digit: a map of values was half of what decoding a record cost.
#[must_use]
pub fn sort<'a>(elements: impl Iterator<Item = IoElement<'a>> + Clone) -> (Hot, String) {
    let mut hot = Hot::default();
    let mut rest: Vec<IoElement<'a>> = elements.collect();
    let ids: Vec<u16> = rest.iter().map(|element| element.id).collect();
    rest.retain(|element| {
        let is_hot = HOT.iter().any(|(id, _)| *id == element.id);
        let once = || ids.iter().filter(|id| **id == element.id).count() == 1;
        let number = element.as_u64().filter(|_| is_hot && once());
        !number.is_some_and(|number| hot.take(element.id, number))
    });
    // Stable: several of one id stay in the order sent.
    rest.sort_by_key(|element| element.id);
    let mut json = String::with_capacity(2 + rest.len() * JSON_ELEMENT_BYTES);
    json.push('{');
    for several in rest.chunk_by(|a, b| a.id == b.id) {
        if json.len() > 1 {
            json.push(',');
        }
        json.push('"');
        push_number(u64::from(several[0].id), &mut json);
        json.push_str("\":");
        if let [one] = several {
            push_value(one, &mut json);
            continue;
        }
        for (element, before) in several
            .iter()
            .zip(std::iter::once('[').chain(std::iter::repeat(',')))
        {
            json.push(before);
            push_value(element, &mut json);
        }
        json.push(']');
    }
    json.push('}');
    (hot, json)
}

/// Of an ordinary element with its id, quotes, colon and comma, roughly.
const JSON_ELEMENT_BYTES: usize = 14;

fn push_value(element: &IoElement<'_>, json: &mut String) {
    let Some(number) = element.as_u64() else {
        json.push('"');
        for byte in element.bytes {
            json.push(hex_digit(byte >> 4));
            json.push(hex_digit(byte & 0x0f));
        }
        json.push('"');
        return;
    };
    push_number(number, json);
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(nibble.into(), 16).expect("four bits are one digit")
}

fn push_number(mut number: u64, json: &mut String) {
    /// Of the largest number.
    const DIGITS_MAX: usize = 20;
    let mut digits = [b'0'; DIGITS_MAX];
    let mut from = DIGITS_MAX;
    loop {
        from -= 1;
        digits[from] += u8::try_from(number % 10).expect("a digit is below ten");
        number /= 10;
        if number == 0 {
            break;
        }
    }
    json.push_str(std::str::from_utf8(&digits[from..]).expect("digits are ASCII"));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use codec::IoWidth;

    fn element(id: u16, width: IoWidth, bytes: &[u8]) -> IoElement<'_> {
        IoElement { id, width, bytes }
    }

    fn sorted(elements: &[IoElement<'_>]) -> (Hot, String) {
        sort(elements.iter().copied())
    }

    #[test]
    fn hot_values_leave_the_json() {
        let (hot, io) = sorted(&[
            element(239, IoWidth::B1, &[1]),
            element(240, IoWidth::B1, &[0]),
            element(21, IoWidth::B1, &[5]),
            element(66, IoWidth::B2, &[0x31, 0x42]),
            element(67, IoWidth::B2, &[0x0f, 0xa0]),
            element(16, IoWidth::B4, &[0, 0, 0x30, 0x39]),
            element(1, IoWidth::B1, &[1]),
        ]);
        assert_eq!(
            hot,
            Hot {
                ignition: Some(true),
                movement: Some(false),
                odometer_m: Some(12_345),
                external_voltage_mv: Some(12_610),
                battery_voltage_mv: Some(4_000),
                gsm_signal: Some(5),
            }
        );
        assert_eq!(io, r#"{"1":1}"#);
    }

    #[test]
    fn what_does_not_fit_its_column_stays_in_the_json() {
        let (hot, io) = sorted(&[
            element(239, IoWidth::B1, &[2]),
            element(240, IoWidth::Variable, &[1]),
            element(66, IoWidth::B8, &[255; 8]),
            element(16, IoWidth::B8, &[0x80, 0, 0, 0, 0, 0, 0, 0]),
            element(21, IoWidth::B4, &[0, 0, 0x80, 0]),
        ]);
        assert_eq!(hot, Hot::default());
        assert_eq!(
            io,
            r#"{"16":9223372036854775808,"21":32768,"66":18446744073709551615,"239":2,"240":"01"}"#
        );
    }

    #[test]
    fn variable_values_are_hexadecimal_even_when_empty() {
        let (_, io) = sorted(&[
            element(385, IoWidth::Variable, &[]),
            element(386, IoWidth::Variable, &[0xAB, 0x00]),
        ]);
        assert_eq!(io, r#"{"385":"","386":"ab00"}"#);
    }

    #[test]
    fn an_id_that_came_twice_keeps_both_and_no_column() {
        let (hot, io) = sorted(&[
            element(66, IoWidth::B2, &[0, 1]),
            element(7, IoWidth::B1, &[3]),
            element(66, IoWidth::B2, &[0, 2]),
            element(66, IoWidth::Variable, &[9]),
        ]);
        assert_eq!(hot.external_voltage_mv, None);
        assert_eq!(io, r#"{"7":3,"66":[1,2,"09"]}"#);
    }

    /// Another writer of JSON as the oracle, over every id, every length of number and every byte.
    #[test]
    fn the_text_is_the_json_that_a_library_would_give() {
        let numbers = (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) - 1, u64::MAX >> bit]);
        let numbers: Vec<[u8; 8]> = numbers.map(u64::to_be_bytes).collect();
        let every_byte: Vec<u8> = (0..=255).collect();
        let mut numbers = numbers.iter().cycle();
        let ids: Vec<u16> = (0..=u16::MAX)
            .filter(|id| HOT.iter().all(|hot| hot.0 != *id))
            .collect();
        for ids in ids.chunks(97) {
            let mut elements = Vec::new();
            for id in ids {
                let number = numbers.next().unwrap();
                elements.push(match id % 3 {
                    0 => element(*id, IoWidth::Variable, &every_byte),
                    _ => element(*id, IoWidth::B8, number),
                });
            }
            let each = elements.iter().map(|e| {
                let value: serde_json::Value = match e.as_u64() {
                    Some(number) => number.into(),
                    None => hex::encode(e.bytes).into(),
                };
                format!("\"{}\":{value}", e.id)
            });
            let text = format!("{{{}}}", each.collect::<Vec<_>>().join(","));
            elements.reverse();
            assert_eq!(sorted(&elements), (Hot::default(), text));
        }
    }

    #[test]
    fn no_elements_are_an_empty_object() {
        assert_eq!(sorted(&[]), (Hot::default(), "{}".to_owned()));
    }

    #[test]
    fn every_hot_id_has_its_column() {
        for (id, column) in HOT {
            let mut hot = Hot::default();
            assert!(hot.take(id, 1), "{column}");
            assert_ne!(hot, Hot::default(), "{column}");
        }
        assert!(!Hot::default().take(9_999, 1));
    }
}
