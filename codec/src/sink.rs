//! Where encoders write: anything that takes bytes in order and may be full.
//!
//! A trait of our own, because `std::io::Write` does not exist without std and a
//! `heapless::Vec` on a board is as good a place as a `Vec` in a simulator.

/// Takes bytes in order.
pub trait Sink {
    /// Takes all of `bytes`.
    ///
    /// # Errors
    /// [`Full`] if there is no room for all of them; then it took none of these.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full>;
}

/// The sink has no room: give it more, or send less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for {bytes} more bytes")]
pub struct Full {
    /// How many bytes were to be written at once.
    pub bytes: usize,
}

/// A [`Sink`] over a borrowed buffer.
#[derive(Debug)]
pub struct SliceSink<'a> {
    buffer: &'a mut [u8],
    filled: usize,
}

impl<'a> SliceSink<'a> {
    /// Starts at the front of `buffer`, whatever it holds.
    #[must_use]
    pub fn new(buffer: &'a mut [u8]) -> SliceSink<'a> {
        SliceSink { buffer, filled: 0 }
    }

    /// What was written so far.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Sink for SliceSink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let room = self.buffer[self.filled..].get_mut(..bytes.len());
        room.ok_or(Full { bytes: bytes.len() })?
            .copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }
}

impl<const N: usize> Sink for heapless::Vec<u8, N> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.extend_from_slice(bytes)
            .map_err(|_| Full { bytes: bytes.len() })
    }
}

#[cfg(feature = "alloc")]
impl Sink for alloc::vec::Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fills_exactly(sink: &mut dyn Sink) {
        sink.put(b"1234").unwrap();
        assert_eq!(sink.put(b"567"), Err(Full { bytes: 3 }));
        sink.put(b"56").unwrap();
        assert_eq!(sink.put(b"7"), Err(Full { bytes: 1 }));
        sink.put(b"").unwrap();
    }

    #[test]
    fn bounded_sinks_take_all_of_a_piece_or_nothing() {
        let mut buffer = [0; 6];
        let mut slice = SliceSink::new(&mut buffer);
        fills_exactly(&mut slice);
        assert_eq!(slice.written(), b"123456");

        let mut vec = heapless::Vec::<u8, 6>::new();
        fills_exactly(&mut vec);
        assert_eq!(vec, b"123456");
    }
}
