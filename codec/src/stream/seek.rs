//! Finding the next message after garbage, in memory and work that the garbage cannot
//! choose.
//!
//! Every place that looks like the head of a frame (four zero bytes, a length within the
//! limits, a known codec id) becomes a claim, and several may be open at once. The first
//! claim to be *completed* by a checksum that holds wins, not the first to begin: a stray
//! zero run that promises 60 KiB must not hide the real frame inside it from a device
//! that waits for its answer.
//!
//! Invariants: the buffer is a ring that holds the last bytes read, and no claim is longer
//! than it; at most [`CLAIMS_MAX`] claims are open, and of more the longest to come are
//! dropped. A claim's bytes are read once, when it is complete, so every byte is read at
//! most [`CLAIMS_MAX`] times besides its arrival (`work` counts it in tests).

use crate::crc::{crc16, update};
use crate::frame::{Expect, HEADER_BYTES, Limits, OVERHEAD_BYTES, data_bytes_within};
use crate::imei::IMEI_DIGITS;

/// How many unproven frame heads are remembered. Bodies of real frames hold few; only
/// made-up bytes hold more, and then the ones that end soonest are kept.
const CLAIMS_MAX: usize = 16;

/// The only login that is believed behind garbage: length 15 and fifteen digits.
const LOGIN_BYTES: usize = 2 + IMEI_DIGITS;
const LOGIN_LENGTH: u16 = IMEI_DIGITS as u16;

/// A frame head that still has to prove itself.
#[derive(Debug, Clone, Copy)]
struct Claim {
    // Counted from the first byte of the garbage.
    end: u64,
    bytes: usize,
}

/// The search for a message, fed byte by byte.
#[derive(Debug, Clone)]
pub(super) struct Seek {
    // Bytes taken since the garbage began.
    taken: u64,
    // Where in the ring the next byte goes.
    write: usize,
    // How many of the buffer's first bytes are garbage that was read before the search.
    replay: usize,
    // The last eight bytes.
    recent: u64,
    // Ordered by end, the nearest last; of equal ends the longest claim last.
    claims: heapless::Vec<Claim, CLAIMS_MAX>,
    // Length of the digits just read, and the two bytes in front of them.
    digits: usize,
    before_digits: u16,
    #[cfg(test)]
    pub(super) work: u64,
}

/// Where in the buffer a message lies, and what was skipped to get there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) skipped: u64,
    pub(super) start: usize,
    pub(super) bytes: usize,
}

impl Seek {
    /// A search that begins with the first `replay` bytes of the buffer.
    pub(super) fn new(replay: usize) -> Seek {
        Seek {
            taken: 0,
            write: 0,
            replay,
            // Anything but zeros: a preamble does not begin before the garbage.
            recent: u64::MAX,
            claims: heapless::Vec::new(),
            digits: 0,
            before_digits: u16::MAX,
            #[cfg(test)]
            work: 0,
        }
    }

    /// Drops what seemed to begin, because something else is looked for now.
    pub(super) fn forget(&mut self) {
        self.claims.clear();
        self.digits = 0;
    }

    /// How much garbage there was so far, messages not yet proven included.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes bytes up to the end of the next message, or all there are.
    pub(super) fn feed(
        &mut self,
        ring: &mut [u8],
        input: &mut &[u8],
        expecting: Expect,
        limits: Limits,
    ) -> Option<Found> {
        loop {
            let byte = if self.write < self.replay {
                ring[self.write]
            } else {
                self.replay = 0;
                let (&byte, rest) = input.split_first()?;
                *input = rest;
                byte
            };
            ring[self.write] = byte;
            self.write += 1;
            let found = match expecting {
                Expect::Login => self.login_ends(byte),
                Expect::Frame => self.frame_ends(byte, ring, limits),
            };
            if let Some(bytes) = found {
                return Some(self.found(ring, bytes));
            }
            if self.write == ring.len() {
                self.write = 0;
            }
        }
    }

    // Turns the ring so that the message lies in one piece. That costs a pass over the
    // ring, but only where the message wraps, so at most once per ring full of bytes.
    fn found(&self, ring: &mut [u8], bytes: usize) -> Found {
        let start = match self.write.checked_sub(bytes) {
            Some(start) => start,
            None => {
                ring.rotate_left(self.write);
                ring.len() - bytes
            }
        };
        Found {
            skipped: self.taken - bytes as u64,
            start,
            bytes,
        }
    }

    fn login_ends(&mut self, byte: u8) -> Option<usize> {
        self.count_work(1);
        if !byte.is_ascii_digit() {
            self.digits = 0;
        } else if self.digits == 0 {
            self.before_digits = self.recent as u16;
            self.digits = 1;
        } else {
            self.digits = self.digits.saturating_add(1);
        }
        self.recent = self.recent << 8 | u64::from(byte);
        self.taken += 1;
        let ends = self.digits == IMEI_DIGITS && self.before_digits == LOGIN_LENGTH;
        ends.then_some(LOGIN_BYTES)
    }

    fn frame_ends(&mut self, byte: u8, ring: &[u8], limits: Limits) -> Option<usize> {
        self.count_work(1);
        if is_known(byte) && self.recent >> 32 == 0 {
            // Its lower half is the length field.
            if let Ok(data_bytes) = data_bytes_within(self.recent as u32, limits) {
                self.claim(data_bytes + OVERHEAD_BYTES);
            }
        }
        self.recent = self.recent << 8 | u64::from(byte);
        self.taken += 1;
        while let Some(&claim) = self.claims.last().filter(|claim| claim.end == self.taken) {
            self.claims.pop();
            if self.holds(claim, ring) {
                return Some(claim.bytes);
            }
        }
        None
    }

    fn claim(&mut self, bytes: usize) {
        let start = self.taken - HEADER_BYTES as u64;
        let end = start + bytes as u64;
        let claim = Claim { end, bytes };
        // Later claims with the same end are shorter: they go in front.
        let place = self.claims.partition_point(|open| open.end > end);
        self.count_work(CLAIMS_MAX as u64);
        if self.claims.is_full() {
            if place == 0 {
                return;
            }
            self.claims.remove(0);
            // Room was just made, and everything moved forward by one.
            let _ = self.claims.insert(place - 1, claim);
        } else {
            let _ = self.claims.insert(place, claim);
        }
    }

    // Whether the checksum field that was just read is that of the claim's data field.
    fn holds(&mut self, claim: Claim, ring: &[u8]) -> bool {
        let Ok(stated) = u16::try_from(self.recent as u32) else {
            return false;
        };
        // How far the data field's ends are behind the place where the next byte goes.
        let (from, to) = (claim.bytes - HEADER_BYTES, OVERHEAD_BYTES - HEADER_BYTES);
        self.count_work((from - to) as u64);
        let at = |behind: usize| match self.write.checked_sub(behind) {
            Some(at) => at,
            None => self.write + ring.len() - behind,
        };
        let (from, to) = (at(from), at(to));
        let computed = if from < to {
            crc16(&ring[from..to])
        } else {
            update(crc16(&ring[from..]), &ring[..to])
        };
        stated == computed
    }

    #[cfg(test)]
    fn count_work(&mut self, steps: u64) {
        self.work += steps;
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    fn count_work(&mut self, _: u64) {}
}

// Garbage is to be told from frames, so ids that no document names do not count here,
// other than in frames at a boundary.
const fn is_known(codec: u8) -> bool {
    matches!(codec, 0x07 | 0x08 | 0x8E | 0x10 | 0x0C..=0x0F)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::vec;
    use std::vec::Vec;

    const RING: usize = 65_535;
    const STREAM_BYTES: usize = 1 << 20;

    /// Looks through all of it and gives the work done and the messages found.
    fn work_of(bytes: &[u8], ring_bytes: usize, expecting: Expect) -> (u64, usize) {
        let limits = Limits::default().within(ring_bytes);
        let (mut ring, mut input) = (vec![0; ring_bytes], bytes);
        let (mut work, mut found) = (0, 0);
        let mut seek = Seek::new(0);
        while let Some(message) = seek.feed(&mut ring, &mut input, expecting, limits) {
            // Delivering reads the message once more; turning the ring is one pass.
            work += seek.work + message.bytes as u64;
            if message.start + message.bytes == ring_bytes {
                work += ring_bytes as u64;
            }
            found += 1;
            seek = Seek::new(0);
        }
        (work + seek.work, found)
    }

    /// As many heads as fit, each promising what `length` says of its number.
    fn heads(length: impl Fn(usize) -> u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < STREAM_BYTES {
            let length = length(bytes.len() / 9);
            bytes.extend([0; 4]);
            bytes.extend(length.to_be_bytes());
            bytes.push(0x08);
        }
        bytes
    }

    #[test]
    fn a_mebibyte_made_to_be_expensive_costs_a_few_steps_a_byte() {
        let longest = 65_523;
        let mut small = Vec::new();
        while small.len() < STREAM_BYTES {
            // Garbage and the smallest frame in turn: the ring wraps within some of them.
            small.extend([1, 0, 0, 0, 0, 0, 0, 0, 3, 8, 0, 0, 0, 0]);
            small.extend(crc16(&[8, 0, 0]).to_be_bytes());
        }
        let cases: [(&str, Vec<u8>); 9] = [
            ("zeros", vec![0; STREAM_BYTES]),
            ("ones", vec![0xFF; STREAM_BYTES]),
            ("codec ids", vec![8; STREAM_BYTES]),
            ("heads of one length", heads(|_| longest)),
            ("heads of the shortest", heads(|_| 3)),
            (
                "heads that end together",
                heads(|n| longest - (n as u32 * 9) % 65_000),
            ),
            (
                "heads that end ever sooner",
                heads(|n| longest - (n as u32 * 10) % 65_000),
            ),
            (
                "heads that end in any order",
                heads(|n| (n as u32).wrapping_mul(40_503) % 65_000),
            ),
            ("small frames", small),
        ];
        for (name, bytes) in &cases {
            for ring_bytes in [RING, 1280, 17] {
                for expecting in [Expect::Login, Expect::Frame] {
                    let (work, found) = work_of(bytes, ring_bytes, expecting);
                    let frames = *name == "small frames" && expecting == Expect::Frame;
                    assert_eq!(found > 50_000, frames, "{name}");
                    let steps = work / bytes.len() as u64;
                    // One to arrive, one or two to remember claims, and each open claim reads it.
                    assert!(
                        steps <= 4 + CLAIMS_MAX as u64,
                        "{name}, ring of {ring_bytes}: {steps} a byte"
                    );
                }
            }
        }
    }
}
