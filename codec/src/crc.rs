//! CRC-16/ARC (Teltonika calls it CRC-16/IBM), the only checksum of the TCP frame.
//!
//! Polynomial 0x8005 reflected (0xA001), start 0, no final XOR, check value 0xBB3D over
//! `123456789`. It is most of what a gateway spends on a frame, so eight bytes are folded
//! at once: eight look-ups that do not wait for each other, from 4 KiB of tables which
//! the compiler computes.

const POLYNOMIAL_REFLECTED: u16 = 0xA001;
const STRIDE: usize = 8;

// TABLES[k][b]: the checksum of byte b followed by k zero bytes.
static TABLES: [[u16; 256]; STRIDE] = tables();

const fn tables() -> [[u16; 256]; STRIDE] {
    let mut tables = [[0u16; 256]; STRIDE];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ POLYNOMIAL_REFLECTED
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < STRIDE {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[zeros - 1][byte];
            tables[zeros][byte] = before >> 8 ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// CRC-16/ARC over all of `bytes`. Of nothing it is 0.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    update(0, bytes)
}

/// Continues a checksum: `update(crc16(a), b)` is the checksum of `a` followed by `b`.
#[must_use]
pub fn update(crc: u16, bytes: &[u8]) -> u16 {
    let (strides, rest) = bytes.as_chunks::<STRIDE>();
    let crc = strides.iter().fold(crc, |crc, b| {
        let [low, high] = crc.to_le_bytes();
        TABLES[7][usize::from(b[0] ^ low)]
            ^ TABLES[6][usize::from(b[1] ^ high)]
            ^ TABLES[5][usize::from(b[2])]
            ^ TABLES[4][usize::from(b[3])]
            ^ TABLES[3][usize::from(b[4])]
            ^ TABLES[2][usize::from(b[5])]
            ^ TABLES[1][usize::from(b[6])]
            ^ TABLES[0][usize::from(b[7])]
    });
    rest.iter().fold(crc, |crc, &byte| {
        crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bit_by_bit(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, &byte| {
            (0..8).fold(crc ^ u16::from(byte), |crc, _| {
                if crc & 1 == 1 {
                    crc >> 1 ^ POLYNOMIAL_REFLECTED
                } else {
                    crc >> 1
                }
            })
        })
    }

    #[test]
    fn gives_the_published_check_value() {
        assert_eq!(crc16(b"123456789"), 0xBB3D);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn folding_agrees_with_shifting_at_every_length_and_split() {
        let bytes: [u8; 67] = core::array::from_fn(|i| (i * i * 7 + 13) as u8);
        for end in 0..=bytes.len() {
            let whole = bit_by_bit(&bytes[..end]);
            for cut in 0..=end {
                assert_eq!(update(crc16(&bytes[..cut]), &bytes[cut..end]), whole);
            }
        }
    }
}
