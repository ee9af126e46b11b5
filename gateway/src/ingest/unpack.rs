//! Pure: no I/O, no clock.
//!
//! `Content-Encoding`: gzip and zstd, opened without believing what they say about their size.
//!
//! Invariant: whatever comes in, no more than the limit comes out, and no more than that is held.
//!
//! Sources: RFC 9110, section 8.4 (codings), RFC 8878 and RFC 9659 (zstd; its window is at most
//! 8 MiB here, and one that needs more than the limit is refused).

use std::io::Read as _;

use thiserror::Error;

/// Bytes that are made room for at once.
const STEP_BYTES: usize = 64 * 1024;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// Not at all.
    Identity,
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
}

impl Packing {
    /// Of the value of `Content-Encoding`; `None` when it is none of ours, two in a row included.
    #[must_use]
    pub(super) fn of_coding(coding: &str) -> Option<Self> {
        let coding = coding.trim();
        let is = |name: &str| coding.eq_ignore_ascii_case(name);
        Some(match coding {
            "" => Self::Identity,
            _ if is("identity") => Self::Identity,
            _ if is("gzip") || is("x-gzip") => Self::Gzip,
            _ if is("zstd") => Self::Zstd,
            _ => return None,
        })
    }
}

/// Why a packed body cannot be opened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum UnpackError {
    /// Send it in parts.
    #[error("more than {0} bytes once it is unpacked: send it in parts")]
    TooLarge(usize),
    /// Send it again later.
    #[error("no memory for it now")]
    NoMemory,
    /// Pack it again.
    #[error("the body is not what Content-Encoding says: {0}")]
    Damaged(String),
}

/// Opens `body`, of at most `bytes_max` bytes afterwards. Before it makes room for so many bytes more
/// it asks `may_hold`.
/// # Errors
/// [`UnpackError`].
pub(super) fn unpack(
    packing: Packing,
    body: Vec<u8>,
    bytes_max: usize,
    may_hold: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, UnpackError> {
    match packing {
        Packing::Identity if body.len() > bytes_max => Err(UnpackError::TooLarge(bytes_max)),
        Packing::Identity => Ok(body),
        Packing::Gzip => gzip(&body, bytes_max, may_hold),
        Packing::Zstd => zstd(&body, bytes_max, may_hold),
    }
}

fn damaged(error: std::io::Error) -> UnpackError {
    UnpackError::Damaged(error.to_string())
}

/// Of all members: RFC 1952, section 2.2, allows several.
fn gzip(
    body: &[u8],
    bytes_max: usize,
    may_hold: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, UnpackError> {
    let mut reader = flate2::bufread::MultiGzDecoder::new(body);
    let mut opened = Vec::new();
    loop {
        let from = opened.len();
        let step = STEP_BYTES.min(bytes_max + 1 - from);
        // Grown by us, in steps: `read_to_end` may make room for twice of what there is.
        if opened.capacity() < from + step && !may_hold(step) {
            return Err(UnpackError::NoMemory);
        }
        opened.reserve_exact(step);
        opened.resize(from + step, 0);
        let read = reader.read(&mut opened[from..]).map_err(damaged)?;
        opened.truncate(from + read);
        if opened.len() > bytes_max {
            return Err(UnpackError::TooLarge(bytes_max));
        }
        if read == 0 {
            return Ok(opened);
        }
    }
}

/// In one go, so that what comes out is the window as well and nothing else is held.
fn zstd(
    body: &[u8],
    bytes_max: usize,
    may_hold: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, UnpackError> {
    let size = zstd::zstd_safe::get_frame_content_size(body);
    let size = size.map_err(|_| UnpackError::Damaged("no zstd frame".to_owned()))?;
    // RFC 8878, section 3.1: frames may stand one behind the other, and the first speaks for itself.
    let is_alone = zstd::zstd_safe::find_frame_compressed_size(body) == Ok(body.len());
    let size = size.filter(|_| is_alone);
    let room = match size {
        Some(size) if size > bytes_max as u64 => return Err(UnpackError::TooLarge(bytes_max)),
        Some(size) => usize::try_from(size).unwrap_or(bytes_max),
        // Who streams does not know the size. One byte more than allowed tells the two apart.
        None => bytes_max + 1,
    };
    if !may_hold(room) {
        return Err(UnpackError::NoMemory);
    }
    let opened = zstd::bulk::decompress(body, room).map_err(|error| match size {
        None if error.to_string().contains("too small") => UnpackError::TooLarge(bytes_max),
        _ => damaged(error),
    })?;
    if opened.len() > bytes_max {
        return Err(UnpackError::TooLarge(bytes_max));
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn streamed(bytes: &[u8]) -> Vec<u8> {
        let mut writer = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    /// As much as it wants.
    fn open(packing: Packing, body: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, UnpackError> {
        let mut held = 0;
        let opened = unpack(packing, body, bytes_max, &mut |bytes| {
            held += bytes;
            true
        });
        assert!(held <= bytes_max + STEP_BYTES, "{held} of {bytes_max}");
        opened
    }

    #[test]
    fn nobody_holds_what_there_is_no_memory_for() {
        let zeros = vec![0; 1 << 20];
        for (packing, packed) in [
            (Packing::Gzip, gzipped(&zeros)),
            (Packing::Zstd, streamed(&zeros)),
            (Packing::Zstd, {
                let (one, other) = zeros.split_at(zeros.len() / 3);
                [one, other]
                    .map(|it| zstd::bulk::compress(it, 3).unwrap())
                    .concat()
            }),
        ] {
            let mut left = 200_000;
            let refused = unpack(packing, packed, 2 << 20, &mut |bytes| {
                let rest = usize::checked_sub(left, bytes);
                left = rest.unwrap_or_default();
                rest.is_some()
            });
            assert_eq!(refused, Err(UnpackError::NoMemory), "{packing:?}");
        }
    }

    #[test]
    fn a_bomb_is_refused_and_what_fits_comes_out() {
        let zeros = vec![0; 3 << 20];
        for (packing, packed) in [
            (Packing::Gzip, gzipped(&zeros)),
            (Packing::Zstd, zstd::bulk::compress(&zeros, 3).unwrap()),
            (Packing::Zstd, streamed(&zeros)),
        ] {
            assert!(packed.len() < 8_192, "{}", packed.len());
            for too_small in [0, 1, 70_000, (3 << 20) - 1] {
                let refused = open(packing, packed.clone(), too_small);
                assert_eq!(
                    refused,
                    Err(UnpackError::TooLarge(too_small)),
                    "{packing:?}"
                );
            }
            assert_eq!(open(packing, packed, 3 << 20), Ok(zeros.clone()));
        }
    }

    #[test]
    fn two_members_are_one_body_and_half_a_member_is_damaged() {
        let two = [gzipped(b"one,"), gzipped(b"two")].concat();
        assert_eq!(open(Packing::Gzip, two, 100), Ok(b"one,two".to_vec()));
        for (packing, packed) in [
            (Packing::Gzip, gzipped(b"positions")),
            (Packing::Zstd, streamed(b"positions")),
        ] {
            let half = packed[..packed.len() - 3].to_vec();
            let refused = open(packing, half, 100);
            assert!(
                matches!(refused, Err(UnpackError::Damaged(_))),
                "{refused:?}"
            );
            let refused = open(packing, b"[]".to_vec(), 100);
            assert!(
                matches!(refused, Err(UnpackError::Damaged(_))),
                "{refused:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn everything_packed_comes_out_and_nothing_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..4_000),
            cut in 0_usize..4_000,
            flip in any::<u8>(),
        ) {
            for (packing, packed) in [
                (Packing::Gzip, gzipped(&bytes)),
                (Packing::Zstd, streamed(&bytes)),
            ] {
                prop_assert_eq!(open(packing, packed.clone(), 4_000), Ok(bytes.clone()));
                let mut broken = packed;
                let at = cut % broken.len();
                broken[at] ^= flip;
                let _ = open(packing, broken.clone(), 4_000);
                broken.truncate(at);
                let _ = open(packing, broken, 4_000);
            }
            let _ = open(Packing::Gzip, bytes.clone(), 4_000);
            let _ = open(Packing::Zstd, bytes, 4_000);
        }
    }
}
