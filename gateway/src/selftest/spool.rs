//! A spool on the real disk: written, cut off in the middle of a commit, and recovered.
//!
//! The cut is played with copies: what stands in the files after the last receipt is what a power
//! cut would leave, and of the commit after it the copy gets the first half alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use contract::{Device, GatewayId, Lane, Transport};
use spool::fs::RealFs;
use spool::{Append, FullPolicy, Geometry, Options, Position, SpoolWriter};

const BYTES_MAX: u64 = 8 << 20;
const COMMITS: u64 = 40;
const FRAMES_PER_COMMIT: u64 = 5;

/// Removes the directory, however the test ends.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn prove(below: &Path) -> Result<String, String> {
    let place = Place(below.join(format!("milepost-selftest-{}", std::process::id())));
    let told = |what: &str, error: &(dyn std::error::Error + 'static)| {
        format!(
            "{what} in {}: {}",
            place.0.display(),
            crate::chain::chain(error)
        )
    };
    let (first, second) = (place.0.join("written"), place.0.join("cut"));
    fs::create_dir_all(&second).map_err(|error| told("making a directory", &error))?;

    let mut writer = open(&first, 1)?;
    for commit in 0..COMMITS {
        let group: Vec<Append> = (0..FRAMES_PER_COMMIT)
            .map(|frame| append(commit * FRAMES_PER_COMMIT + frame))
            .collect();
        for receipt in writer.commit(&group) {
            receipt.map_err(|error| told("writing", &error))?;
        }
    }
    let before = files(&first).map_err(|error| told("reading", &error))?;
    for receipt in writer.commit(&[append(u64::MAX)]) {
        receipt.map_err(|error| told("writing", &error))?;
    }
    let after = files(&first).map_err(|error| told("reading", &error))?;
    let torn = cut(&before, &after, &second).map_err(|error| told("copying", &error))?;
    if torn == 0 {
        return Err("the last commit changed no file".to_owned());
    }
    drop(writer);

    let found = read(&second)?;
    let promised: BTreeSet<Vec<u8>> = (0..COMMITS * FRAMES_PER_COMMIT)
        .map(|number| append(number).bytes)
        .collect();
    if found != promised {
        return Err(format!(
            "after the cut {} of {} frames with a receipt are there, and {} that should not be",
            promised.intersection(&found).count(),
            promised.len(),
            found.difference(&promised).count()
        ));
    }
    Ok(format!(
        "{} frames in {COMMITS} commits survive a cut {torn} bytes into the next one",
        promised.len()
    ))
}

fn open(dir: &Path, life: u64) -> Result<SpoolWriter<RealFs>, String> {
    let said = |error: &(dyn std::error::Error + 'static)| crate::chain::chain(error);
    let fs = RealFs::locked(dir).map_err(|error| said(&error))?;
    let options = Options {
        gateway: GatewayId::new("selftest").expect("letters alone"),
        bytes_max: BYTES_MAX,
        full: FullPolicy::Refuse,
        geometry: Geometry::for_spool(BYTES_MAX),
    };
    let random = [life * 10, life * 10 + 1, life * 10 + 2];
    let (writer, _) = SpoolWriter::open(fs, options, random).map_err(|error| said(&error))?;
    Ok(writer)
}

fn append(number: u64) -> Append {
    Append {
        kind: contract::Kind::Teltonika,
        device: Device::Text("selftest".to_owned()),
        transport: Transport::Tcp,
        lane: Lane::Normal,
        received_at_ms: 1,
        record_count: 1,
        panic: false,
        bytes: number.to_be_bytes().repeat(20),
    }
}

type Files = Vec<(PathBuf, Vec<u8>)>;

fn files(dir: &Path) -> std::io::Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push((entry.path(), fs::read(entry.path())?));
        }
    }
    files.sort();
    Ok(files)
}

/// Copies `before` to `to`, with the first half of what `after` has changed. Returns its bytes.
fn cut(before: &Files, after: &Files, to: &Path) -> std::io::Result<usize> {
    let mut torn = 0;
    for (path, old) in before {
        let mut bytes = old.clone();
        let is_segment = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("seg-"));
        let new = after
            .iter()
            .find(|(other, _)| other == path)
            .map(|(_, bytes)| bytes);
        if let (true, Some(new)) = (is_segment, new) {
            let differs = |at: &usize| bytes.get(*at) != new.get(*at);
            let first = (0..new.len()).find(differs);
            let last = (0..new.len()).rev().find(differs);
            if let Some((first, last)) = first.zip(last) {
                let half = (last - first).div_ceil(2);
                bytes.resize(new.len(), 0);
                bytes[first..first + half].copy_from_slice(&new[first..first + half]);
                torn += half;
            }
        }
        fs::write(to.join(path.file_name().unwrap_or_default()), bytes)?;
    }
    Ok(torn)
}

fn read(dir: &Path) -> Result<BTreeSet<Vec<u8>>, String> {
    let writer = open(dir, 2)?;
    let (mut found, mut at) = (BTreeSet::new(), Position::default());
    loop {
        let chunk = writer.reader().read(Lane::Normal, at, None, 1 << 20);
        let chunk = chunk.map_err(|error| crate::chain::chain(&error))?;
        found.extend(chunk.stored.into_iter().map(|stored| stored.bytes));
        if chunk.at_end {
            return Ok(found);
        }
        at = chunk.next;
    }
}
