//! Whose spool a directory holds.
//!
//! Why: the cloud files every spool under the gateway that first sent it. A box that came back
//! under another name (a container with a new host name on its old volume) would send its backlog
//! as a stranger, and nothing it sends would ever be settled.
//!
//! Invariants: a directory has one owner, durable before its first segment, and never changes it.
//! The file holds the owner's line three times and two that agree count, so that one flipped bit
//! does not make a stranger of the owner. A file with the line once, as a person writes it, is as
//! good.

use std::io::{self, ErrorKind};

use contract::GatewayId;
use contract::id::GATEWAY_ID_BYTES_MAX;

use crate::SpoolError;
use crate::fs::{Fs, FsFile};

const FILE: &str = "gateway";

/// A longer file names nobody.
const OWNER_BYTES_MAX: usize = 256;

/// What is written is never longer.
const WRITTEN_BYTES_MAX: usize = 3 * (GATEWAY_ID_BYTES_MAX + 1);

/// Who owns the spool; `None` for a new one.
/// # Errors
/// [`SpoolError::Open`], [`SpoolError::OwnerUnreadable`].
pub fn owner<F: Fs>(fs: &F) -> Result<Option<GatewayId>, SpoolError> {
    let bytes = match read(fs) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(SpoolError::OwnerUnreadable);
        }
        Err(source) => return Err(SpoolError::open(FILE, source)),
    };
    let line = agreed(&bytes).unwrap_or(&bytes);
    let text = std::str::from_utf8(line).map_err(|_| SpoolError::OwnerUnreadable)?;
    // A power cut while the file was written leaves it empty or full of zeros: nobody's yet.
    let text = text.trim_matches('\0').trim();
    if text.is_empty() {
        return Ok(None);
    }
    GatewayId::new(text)
        .map(Some)
        .map_err(|_| SpoolError::OwnerUnreadable)
}

/// The line that at least two of three say.
fn agreed(bytes: &[u8]) -> Option<&[u8]> {
    let (first, rest) = bytes.split_at(bytes.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    let line = if second == third { second } else { first };
    let votes = [first, second, third].into_iter().filter(|l| *l == line);
    (votes.count() >= 2 && line.ends_with(b"\n")).then_some(line)
}

/// Is the spool this gateway's or nobody's? `Ok(true)`: it names this gateway.
///
/// `is_empty`: there is no segment, so the owner may never have been written whole.
pub(super) fn check<F: Fs>(fs: &F, id: &GatewayId, is_empty: bool) -> Result<bool, SpoolError> {
    if is_torn(fs, id) || (is_empty && is_half_written(fs)) {
        return Ok(false);
    }
    match owner(fs)? {
        Some(owner) if owner == *id => Ok(true),
        Some(owner) => Err(SpoolError::Owned { owner }),
        None => Ok(false),
    }
}

/// Did the power go while the file was written? A whole one is a gateway id and a line end, once
/// or three times.
fn is_half_written<F: Fs>(fs: &F) -> bool {
    let is_whole = |bytes: &[u8]| {
        let line = agreed(bytes).unwrap_or(bytes);
        let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
        GatewayId::new(text).ok()
    };
    // A longer file is none that we wrote.
    let bytes = read(fs);
    bytes.is_ok_and(|bytes| bytes.len() <= WRITTEN_BYTES_MAX && is_whole(&bytes).is_none())
}

/// Does nothing but the beginning of what we write stand there? Then the power went while we wrote it
/// anew, which happens when no segment can be seen; one whose removal was never made durable may be
/// back since.
fn is_torn<F: Fs>(fs: &F, id: &GatewayId) -> bool {
    let is_beginning = |bytes: &[u8]| {
        let written = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        written.len() < lines(id).len() && lines(id).starts_with(written)
    };
    read(fs).is_ok_and(|bytes| is_beginning(&bytes))
}

fn lines(id: &GatewayId) -> Vec<u8> {
    format!("{id}\n").repeat(3).into_bytes()
}

/// Writes the owner down. The file is made anew: one of an earlier process whose name was never
/// synced would pass for durable.
pub(super) fn write<F: Fs>(fs: &F, id: &GatewayId) -> Result<(), SpoolError> {
    let written = || {
        match fs.remove(FILE) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = fs.create(FILE)?;
        file.write_all_at(&lines(id), 0)?;
        file.sync()?;
        fs.sync_dir("")
    };
    written().map_err(|source| SpoolError::open(FILE, source))
}

fn read<F: Fs>(fs: &F) -> io::Result<Vec<u8>> {
    let file = fs.open(FILE)?;
    let mut bytes = vec![0; OWNER_BYTES_MAX + 1];
    let length = file.read_up_to(&mut bytes, 0)?;
    if length > OWNER_BYTES_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::agreed;

    #[test]
    fn two_lines_of_three_count_and_a_line_alone_is_left_to_the_reader() {
        for damaged in 0..18 {
            let mut bytes = b"box-1\nbox-1\nbox-1\n".to_vec();
            bytes[damaged] ^= 2;
            assert_eq!(agreed(&bytes), Some(&b"box-1\n"[..]), "byte {damaged}");
        }
        for alone in [
            "",
            "a",
            "aaa",
            "aaa\n",
            "aa\n",
            "box-1\n",
            "box-1\nbox",
            "a\nb\nc\n",
        ] {
            assert_eq!(agreed(alone.as_bytes()), None, "{alone:?}");
        }
    }
}
