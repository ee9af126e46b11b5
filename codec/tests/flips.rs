//! Damage on the way: which flipped bits the checksum is certain to catch, and that it
//! does.
//!
//! Two-bit damage is judged without trying every pair, and exactly so. CRC-16/ARC starts
//! at 0 and has no final XOR, so it is linear: crc(a ^ b) = crc(a) ^ crc(b) for data of
//! one length. Flipping bit i therefore changes the checksum by an effect e(i) that
//! depends on the length alone, flipping i and j changes it by e(i) ^ e(j), and that goes
//! unseen only if e(i) = e(j). So all pairs are caught if and only if all effects differ,
//! and all single flips if and only if none is 0. The tests show the effects to be what
//! real flips do, and compare them all.
//!
//! They differ up to 32 767 bits, because x has that order modulo the polynomial
//! (x + 1)(x^15 + x + 1): a data field of 4095 bytes is safe, one of 4096 bytes has
//! exactly one pair, its first and its last bit, that no receiver can see.
#![allow(clippy::unwrap_used)]

mod wire;

use std::collections::HashMap;

use codec::{Cut, Expect, Limits, crc};
use wire::{crc16_slowly, framed, frames};

/// What flipping each bit of a data field of `bytes` bytes does to its checksum, the
/// first byte's lowest bit first.
fn effects(bytes: usize) -> Vec<u16> {
    let mut alone = vec![0; bytes];
    let mut effects = Vec::new();
    for bit in 0..bytes * 8 {
        alone[bit / 8] = 1 << (bit % 8);
        effects.push(crc::crc16(&alone));
        alone[bit / 8] = 0;
    }
    effects
}

/// The pairs of bits with equal effects.
fn unseen_pairs(effects: &[u16]) -> Vec<(usize, usize)> {
    let (mut seen, mut pairs) = (HashMap::new(), Vec::new());
    for (bit, effect) in effects.iter().enumerate() {
        if let Some(other) = seen.insert(effect, bit) {
            pairs.push((other, bit));
        }
    }
    pairs
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

fn is_refused(frame: &[u8]) -> bool {
    let cut = codec::cut(frame, Expect::Frame, Limits::default());
    matches!(cut, Cut::Refuse { consumed, .. } if consumed == frame.len())
}

fn is_kept(frame: &[u8]) -> bool {
    matches!(
        codec::cut(frame, Expect::Frame, Limits::default()),
        Cut::Frame(_)
    )
}

#[test]
fn every_one_and_two_bit_flip_in_the_data_of_every_vector_is_caught() {
    for (name, frame) in frames() {
        let data = &frame[8..frame.len() - 4];
        assert!(data.len() <= 4095, "{name}");
        let effects = effects(data.len());
        assert!(!effects.contains(&0), "{name}");
        assert_eq!(unseen_pairs(&effects), [], "{name}");
        // One flip changes the checksum field in two bits or more, so a second flip
        // inside the field cannot make up for it.
        assert!(effects.iter().all(|effect| effect.count_ones() >= 2));

        let mut damaged = frame.clone();
        for (bit, effect) in effects.iter().enumerate() {
            flip(&mut damaged[8..], bit);
            let found = crc16_slowly(&damaged[8..frame.len() - 4]);
            assert_eq!(found ^ crc16_slowly(data), *effect, "{name}, bit {bit}");
            assert!(is_refused(&damaged), "{name}, bit {bit}");
            flip(&mut damaged[8..], bit);
        }
        assert!(is_kept(&damaged));
    }
}

#[test]
fn every_pair_of_flips_in_short_frames_is_refused_one_by_one() {
    let mut tried = 0;
    for (name, frame) in frames() {
        let bits = (frame.len() - 8) * 8;
        if frame.len() > 45 {
            continue;
        }
        let mut damaged = frame.clone();
        for first in 0..bits {
            flip(&mut damaged[8..], first);
            for second in first + 1..bits {
                flip(&mut damaged[8..], second);
                assert!(is_refused(&damaged), "{name}: {first} and {second}");
                flip(&mut damaged[8..], second);
                tried += 1;
            }
            flip(&mut damaged[8..], first);
        }
    }
    assert!(tried > 100_000, "only {tried}");
}

#[test]
fn pairs_are_certain_up_to_4095_bytes_and_not_one_byte_further() {
    let effects_4095 = effects(4095);
    assert!(!effects_4095.contains(&0));
    assert_eq!(unseen_pairs(&effects_4095), []);

    let last = 4096 * 8 - 1;
    assert_eq!(unseen_pairs(&effects(4096)), [(0, last)]);
    let mut frame = framed(&[0x5A; 4096]);
    flip(&mut frame[8..], 0);
    assert!(is_refused(&frame));
    flip(&mut frame[8..], last);
    assert!(is_kept(&frame), "the arithmetic says nobody can see this");
}

#[test]
fn every_one_and_two_bit_flip_in_the_length_ends_in_an_error_or_a_wait() {
    for (name, frame) in frames() {
        for first in 0..32 {
            for second in first..32 {
                let mut damaged = frame.clone();
                flip(&mut damaged[4..8], first);
                if second != first {
                    flip(&mut damaged[4..8], second);
                }
                let length = u32::from_be_bytes(damaged[4..8].try_into().unwrap());
                match codec::cut(&damaged, Expect::Frame, Limits::default()) {
                    Cut::NeedMore { needed } => {
                        assert!(needed > frame.len() && needed == length as usize + 12);
                    }
                    Cut::Close { offset: 4, .. } => assert!(!(3..=65_523).contains(&length)),
                    Cut::Refuse { consumed, .. } => {
                        assert!(consumed < frame.len() && consumed == length as usize + 12);
                    }
                    other => panic!("{name}, bits {first} and {second}: {other:?}"),
                }
            }
        }
    }
}
