//! Will the spool's directory take what trackers send, and is what it holds whole?
//!
//! Invariant: the directory is not made here. A check run as root would otherwise leave one that
//! the gateway's user cannot write.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::settings::Settings;
use spool::fs::{OpenError, RealFs};
use spool::inspect::View;
use spool::{Geometry, SpoolError};

use super::Look;
use crate::chain::chain;
use crate::explain::disk as pages;

/// Enough for a median and a worst case, few enough for a card that takes 100 ms each.
const SYNCS: usize = 25;

/// One commit of a small box.
const SYNC_BYTES: usize = 4096;

/// Beyond this a lone tracker notices.
const SYNC_SLOW: Duration = Duration::from_millis(250);

/// `f_type` of a tmpfs (statfs(2)).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// The findings, and whether a running gateway holds the spool.
pub(super) fn look(settings: &Settings) -> (Look, bool) {
    let mut look = Look::new("spool");
    let Ok(dir) = settings.path("spool.dir") else {
        look.skipped("not looked at: spool.dir cannot be used");
        return (look, false);
    };
    let place = format!(
        "{}, spool.dir from {}",
        dir.display(),
        settings.origin("spool.dir").place()
    );
    let is_running =
        dir.join("lock").exists() && matches!(RealFs::locked(&dir), Err(OpenError::InUse { .. }));
    let file_bytes = contents(&mut look, settings, &dir, &place);
    if is_running {
        look.good(format!("{} is in use by a running gateway", dir.display()));
    }
    let Some(probed) = nearest(&dir) else {
        look.bad(
            &pages::UNUSABLE,
            "the spool's directory cannot be made",
            place,
            "something on the way there is a file, not a directory",
            "name another directory, or remove that file",
        );
        return (look, is_running);
    };
    match sync_times(&probed) {
        Ok(times) => speed(&mut look, &dir, &probed, &times),
        Err(error) => cannot_write(&mut look, &dir, &probed, place, &error),
    }
    room(&mut look, settings, &probed, file_bytes);
    (look, is_running)
}

/// Whose records are in there, and can they be read? Returns the bytes of its files.
fn contents(look: &mut Look, settings: &Settings, dir: &Path, place: &str) -> u64 {
    let Ok(fs) = RealFs::read_only(dir) else {
        return 0;
    };
    let view = match spool::owner(&fs).and_then(|_| View::open(fs)) {
        Ok(view) => view,
        Err(error) => {
            look.bad(
                &pages::FILES,
                "the spool cannot be read",
                place,
                chain(&error),
                "do as it says; nothing was changed",
            );
            return 0;
        }
    };
    let wanted = settings.optional_text("gateway.id").ok().flatten();
    if let (Some(owner), Some(wanted)) = (view.owner(), wanted)
        && owner.as_str() != wanted
    {
        look.bad(
            &pages::OWNED,
            format!("the spool belongs to gateway {owner}, this one is {wanted}"),
            place,
            format!(
                "gateway.id is set by {}",
                settings.origin("gateway.id").place()
            ),
            format!("set gateway.id = \"{owner}\", or give {wanted} a spool.dir of its own"),
        );
    }
    let gaps = view.gaps();
    if let Some((spool, gap)) = gaps.first() {
        look.bad(
            &pages::LOST,
            format!(
                "{} damaged places: acknowledged records are lost",
                gaps.len()
            ),
            place,
            format!("the first is {gap} of {spool}"),
            "`gateway spool verify` names all of them; mistrust the disk",
        );
    } else if let Some(owner) = view.owner() {
        look.good(format!(
            "the spool of {owner} is whole as far as opening it shows"
        ));
    }
    view.file_bytes()
}

/// The directory, or the nearest one above it that is there. `None` when a file is in the way.
fn nearest(dir: &Path) -> Option<PathBuf> {
    let found = dir.ancestors().find_map(|dir| {
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        match fs::metadata(dir) {
            Ok(meta) => Some(meta.is_dir().then(|| dir.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Some(None),
            Err(_) => None,
        }
    });
    found.flatten()
}

/// Removes the probe, however the measurement ends.
struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn sync_times(dir: &Path) -> io::Result<Vec<Duration>> {
    let path = dir.join(format!(".check-{}", std::process::id()));
    let mut file = File::options().write(true).create_new(true).open(&path)?;
    let _probe = Probe(path);
    let block = [0x5A; SYNC_BYTES];
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

fn speed(look: &mut Look, dir: &Path, probed: &Path, times: &[Duration]) {
    let p50 = times[times.len() / 2];
    let p99 = times[times.len() - 1];
    let shown = format!(
        "fdatasync p50 {}, worst of {} {}",
        ms(p50),
        times.len(),
        ms(p99)
    );
    if dir == probed {
        look.good(format!("{} is writable, {shown}", dir.display()));
    } else {
        let (dir, probed) = (dir.display(), probed.display());
        look.good(format!("{dir} can be made below {probed}, {shown}"));
    }
    if p99 > SYNC_SLOW {
        look.bad(
            &pages::SLOW,
            "the disk takes long to sync",
            probed.display().to_string(),
            shown,
            "another disk, or spool.commit_interval_min to spare this one",
        );
    }
    if rustix::fs::statfs(probed).is_ok_and(|fs| u64::try_from(fs.f_type) == Ok(TMPFS_MAGIC)) {
        look.bad(
            &pages::MEMORY,
            "the spool would be in memory, not on a disk",
            probed.display().to_string(),
            "its file system is a tmpfs",
            "name a directory on a disk in spool.dir",
        );
    }
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn cannot_write(look: &mut Look, dir: &Path, probed: &Path, place: String, error: &io::Error) {
    let why = format!("writing a small file in {} says: {error}", probed.display());
    let dir = dir.display();
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => look.bad(
            &pages::READ_ONLY,
            "the disk of the spool is read-only",
            place,
            why,
            "`dmesg` says whether the disk failed; else mount it writable",
        ),
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory => {
            look.bad(
                &pages::UNUSABLE,
                "this user may not write the spool's directory",
                place,
                why,
                format!("install -d -o milepost {dir}, and run the check as that user"),
            );
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => look.bad(
            &pages::DISK_SMALL,
            "the disk of the spool is full",
            place,
            why,
            "free some space",
        ),
        _ => look.bad(
            &pages::WRITE,
            "the disk of the spool does not take what is written",
            place,
            why,
            "`dmesg` says what is wrong with the disk",
        ),
    }
}

fn room(look: &mut Look, settings: &Settings, probed: &Path, file_bytes: u64) {
    let Ok(bytes_max) = settings.bytes("spool.bytes_max") else {
        look.skipped("room not looked at: spool.bytes_max cannot be used");
        return;
    };
    let place = format!(
        "spool.bytes_max, {}",
        settings.origin("spool.bytes_max").place()
    );
    let bytes_min = Geometry::for_spool(bytes_max).spool_bytes_min();
    if bytes_max < bytes_min {
        let error = SpoolError::TooSmall {
            bytes_max,
            bytes_min,
        };
        look.bad(
            &pages::CAP_SMALL,
            "spool.bytes_max is too small to work",
            &place,
            error.to_string(),
            "set it to 8MiB or more; 1GiB is usual",
        );
    }
    let Ok(stat) = rustix::fs::statvfs(probed) else {
        return;
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let shown = format!(
        "{} free, spool.bytes_max {}, {} of it there already",
        size(free),
        size(bytes_max),
        size(file_bytes)
    );
    if free.saturating_add(file_bytes) < bytes_max {
        look.bad(
            &pages::DISK_SMALL,
            "the disk is smaller than spool.bytes_max",
            place,
            shown,
            format!(
                "free some space, or set spool.bytes_max to less than {}",
                size(free + file_bytes)
            ),
        );
    } else {
        look.good(shown);
    }
}

fn size(bytes: u64) -> String {
    let mib = bytes as f64 / 1_048_576.0;
    if mib < 1024.0 {
        format!("{mib:.0} MiB")
    } else {
        format!("{:.1} GiB", mib / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_system_refuses_has_its_page() {
        let dir = Path::new("/spool");
        for (kind, code) in [
            (io::ErrorKind::ReadOnlyFilesystem, "E-DSK-002"),
            (io::ErrorKind::PermissionDenied, "E-DSK-001"),
            (io::ErrorKind::StorageFull, "E-DSK-005"),
            (io::ErrorKind::QuotaExceeded, "E-DSK-005"),
            (io::ErrorKind::Other, "E-DSK-008"),
        ] {
            let mut look = Look::new("spool");
            cannot_write(&mut look, dir, dir, String::new(), &kind.into());
            assert_eq!(look.findings[0].page.unwrap().code, code, "{kind:?}");
        }
    }

    #[test]
    fn a_slow_disk_is_one_that_was_slow_once() {
        let dir = tempfile::tempdir().unwrap();
        let is_slow = |worst: Duration| {
            let mut look = Look::new("spool");
            speed(&mut look, dir.path(), dir.path(), &[Duration::ZERO, worst]);
            let mut pages = look.findings.iter().filter_map(|finding| finding.page);
            pages.any(|page| page.code == "W-DSK-101")
        };
        assert!(!is_slow(SYNC_SLOW));
        assert!(is_slow(SYNC_SLOW + Duration::from_millis(1)));
    }

    #[test]
    fn the_nearest_directory_is_found_and_a_file_in_the_way_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(
            nearest(&dir.path().join("a/b")),
            Some(dir.path().to_owned())
        );
        assert_eq!(nearest(&file.join("a")), None);
        assert_eq!(nearest(&file), None);
    }
}
