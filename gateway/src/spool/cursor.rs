//! The settled positions on disk: what need not be sent again after a restart.
//!
//! Why a file written whole and renamed: it is small, written about once a second, and losing it
//! only causes sending again. Content: one line `spool-id ranges` per opening, then `crc <hex>`.
//!
//! Invariant: a file that is not whole is ignored, never half believed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use contract::{SettledRanges, SpoolId};

use super::SpoolError;

const FILE: &str = "settled";

pub(crate) fn write(
    dir: &Path,
    settled: &HashMap<SpoolId, SettledRanges>,
) -> Result<(), SpoolError> {
    let mut text = String::new();
    for (spool, ranges) in settled {
        text.push_str(&format!("{spool} {ranges}\n"));
    }
    text.push_str(&format!("crc {:08x}\n", crc32c::crc32c(text.as_bytes())));
    let path = dir.join(FILE);
    let fresh = dir.join("settled.new");
    let store = || {
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(&fresh, &path)?;
        File::open(dir)?.sync_all()
    };
    store().map_err(|source| SpoolError::storage(&path, source))
}

/// What was settled; empty when there is nothing whole to read.
pub(crate) fn read(dir: &Path) -> HashMap<SpoolId, SettledRanges> {
    fs::read_to_string(dir.join(FILE))
        .ok()
        .and_then(|text| parse(&text))
        .unwrap_or_default()
}

fn parse(text: &str) -> Option<HashMap<SpoolId, SettledRanges>> {
    let (body, crc) = text.rsplit_once("crc ")?;
    let crc = u32::from_str_radix(crc.strip_suffix('\n')?, 16).ok()?;
    if crc != crc32c::crc32c(body.as_bytes()) {
        return None;
    }
    body.lines()
        .map(|line| {
            let (spool, ranges) = line.split_once(' ')?;
            Some((spool.parse().ok()?, SettledRanges::parse(ranges).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_broken_file_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_empty());
        let settled: HashMap<_, _> = [(7, "1-5,9-9"), (8, "2-3")]
            .map(|(id, text)| {
                (
                    SpoolId::from_random(id),
                    SettledRanges::parse(text).unwrap(),
                )
            })
            .into();
        write(dir.path(), &settled).unwrap();
        assert_eq!(read(dir.path()), settled);
        let whole = fs::read(dir.path().join(FILE)).unwrap();
        for cut in 0..whole.len() {
            fs::write(dir.path().join(FILE), &whole[..cut]).unwrap();
            assert!(read(dir.path()).is_empty(), "cut at {cut}");
        }
        for at in 0..whole.len() - 1 {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            fs::write(dir.path().join(FILE), &bent).unwrap();
            assert!(read(dir.path()).is_empty(), "bent at {at}");
        }
    }
}
