//! Reading and editing a file of IMEIs without ever leaving half of one.
//!
//! Why edit text and not a set: an operator's notes behind `#` stay where they are.
//!
//! Invariants: a reader sees the file before an edit or after it, also when the power fails in
//! between; two editors (a gateway that learns, a person at the command line) take turns.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use codec::Imei;
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use crate::session::{ImeiList, ListError, ListLine};

/// Why a list cannot be read or edited.
#[derive(Debug, Error)]
pub enum ListFileError {
    /// Correct the path or its permissions.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Correct the line.
    #[error("{}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line.
        #[source]
        source: ListError,
    },
    /// Make room, or let the gateway's user write its directory.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Reads a list; a missing file is an error.
/// # Errors
/// [`ListFileError::Read`], [`ListFileError::Line`].
pub fn read(path: &Path) -> Result<ImeiList, ListFileError> {
    let text = fs::read_to_string(path).map_err(|source| ListFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// Reads a list; a missing file is an empty one.
/// # Errors
/// As [`read`].
pub fn read_or_empty(path: &Path) -> Result<ImeiList, ListFileError> {
    parse(path, &text_or_empty(path)?)
}

/// The lines of a list that say something, in the order of the file, with the note behind `#`.
/// # Errors
/// As [`read`].
pub fn list(path: &Path) -> Result<Vec<(ListLine, String)>, ListFileError> {
    let text = text_or_empty(path)?;
    parse(path, &text)?;
    let lines = text.lines().filter_map(|line| {
        let note = line.split_once('#').map_or("", |(_, note)| note.trim());
        Some((ListLine::parse(line)?, note.to_owned()))
    });
    Ok(lines.filter(|(line, _)| *line != ListLine::Blank).collect())
}

/// Lets `imei` in: puts it on the list, or takes the `!` off its line. `false` when it was on it
/// already.
/// # Errors
/// [`ListFileError`]; then the file is as it was.
pub fn allow(path: &Path, imei: Imei) -> Result<bool, ListFileError> {
    edit(path, |text| with(text, imei, ListLine::Allow(imei)))
}

/// Keeps `imei` out in every mode: puts `!` before its line, or such a line at the end. `false`
/// when it was denied already.
/// # Errors
/// [`ListFileError`]; then the file is as it was.
pub fn deny(path: &Path, imei: Imei) -> Result<bool, ListFileError> {
    edit(path, |text| with(text, imei, ListLine::Deny(imei)))
}

/// Puts all of them on the list, in one write.
pub(super) fn learn(path: &Path, imeis: &[Imei]) -> Result<ImeiList, ListFileError> {
    edit(path, |text| {
        // Whoever was denied in the meantime stays so.
        let known = ImeiList::parse(text).unwrap_or_default();
        let new = |imei: &&Imei| !known.allows(**imei) && !known.denies(**imei);
        let lines = imeis.iter().filter(new).map(|imei| format!("{imei}\n"));
        let lines: String = lines.collect();
        ended(text) + &lines
    })?;
    read(path)
}

fn with(text: &str, imei: Imei, wanted: ListLine) -> String {
    let mut found = false;
    let mut out = String::with_capacity(text.len() + 20);
    for line in text.lines() {
        let about = matches!(
            ListLine::parse(line),
            Some(ListLine::Allow(one) | ListLine::Deny(one)) if one == imei
        );
        if about {
            found = true;
            let note = line.find('#').map_or("", |at| &line[at..]);
            out += &said(imei, wanted);
            if !note.is_empty() {
                out.push(' ');
                out += note;
            }
        } else {
            out += line;
        }
        out.push('\n');
    }
    if !found {
        out += &said(imei, wanted);
        out.push('\n');
    }
    out
}

fn said(imei: Imei, wanted: ListLine) -> String {
    match wanted {
        ListLine::Deny(_) => format!("!{imei}"),
        _ => imei.to_string(),
    }
}

fn ended(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn parse(path: &Path, text: &str) -> Result<ImeiList, ListFileError> {
    ImeiList::parse(text).map_err(|source| ListFileError::Line {
        path: path.to_owned(),
        source,
    })
}

fn text_or_empty(path: &Path) -> Result<String, ListFileError> {
    match fs::read_to_string(path) {
        // Below a file there is no list either; whoever writes there hears of it.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(String::new())
        }
        read => read.map_err(|source| ListFileError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn edit(path: &Path, change: impl Fn(&str) -> String) -> Result<bool, ListFileError> {
    // A link (as a mounted configuration is one) stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let write = |source| ListFileError::Write {
        path: path.clone(),
        source,
    };
    let _turn = lock_dir(dir_of(&path)).map_err(write)?;
    let before = text_or_empty(&path)?;
    parse(&path, &before)?;
    let after = change(&before);
    if after == before {
        return Ok(false);
    }
    replace(&path, &after).map_err(write)?;
    Ok(true)
}

fn dir_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Held until dropped. On the directory, because the file itself is replaced.
fn lock_dir(dir: &Path) -> io::Result<File> {
    let dir = File::open(dir)?;
    flock(&dir, FlockOperation::LockExclusive)?;
    Ok(dir)
}

/// Writes beside, syncs, renames, syncs the directory: fsync(2) promises a file's bytes, not its
/// name.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = File::create(&beside)?;
    if let Ok(old) = fs::metadata(path) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(dir_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const VAN: &str = "356307042441013";
    const TRUCK: &str = "123456789012345";

    fn imei(digits: &str) -> Imei {
        digits.parse().unwrap()
    }

    #[test]
    fn notes_and_order_survive_every_edit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("imeis.txt");
        fs::write(&path, format!("# depot\n  {VAN}   # van\n\n# end")).unwrap();
        let text = || fs::read_to_string(&path).unwrap();
        assert!(deny(&path, imei(VAN)).unwrap());
        assert_eq!(text(), format!("# depot\n!{VAN} # van\n\n# end\n"));
        assert!(!deny(&path, imei(VAN)).unwrap(), "said already");
        assert!(allow(&path, imei(TRUCK)).unwrap());
        assert!(allow(&path, imei(VAN)).unwrap());
        assert!(!allow(&path, imei(VAN)).unwrap(), "said already");
        assert_eq!(text(), format!("# depot\n{VAN} # van\n\n# end\n{TRUCK}\n"));
        let lines = list(&path).unwrap();
        let allow = |digits| ListLine::Allow(imei(digits));
        assert_eq!(
            lines,
            [
                (allow(VAN), "van".to_owned()),
                (allow(TRUCK), String::new())
            ]
        );
        let files = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn a_list_that_is_not_there_begins_with_the_first_edit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("imeis.txt");
        assert!(list(&path).unwrap().is_empty());
        assert!(deny(&path, imei(VAN)).unwrap());
        assert!(read(&path).unwrap().denies(imei(VAN)));
    }

    #[test]
    fn a_broken_list_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("imeis.txt");
        fs::write(&path, "3563\n").unwrap();
        let error = allow(&path, imei(VAN)).unwrap_err();
        assert!(matches!(error, ListFileError::Line { .. }), "{error:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "3563\n");
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, path) = (dir.path().join("real"), dir.path().join("imeis.txt"));
        fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        allow(&path, imei(VAN)).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert!(read(&real).unwrap().allows(imei(VAN)));
    }

    #[test]
    fn editors_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("imeis.txt");
        let number = |n: u64| Imei::from_u64(350_000_000_000_000 + n).unwrap();
        std::thread::scope(|scope| {
            for editor in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for n in 0..10 {
                        allow(path, number(editor * 100 + n)).unwrap();
                    }
                });
            }
        });
        assert_eq!(read(&path).unwrap().len(), 40);
    }

    #[test]
    fn learning_does_not_undo_a_denial() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learned.txt");
        fs::write(&path, format!("!{VAN}")).unwrap();
        let list = learn(&path, &[imei(VAN), imei(TRUCK), imei(TRUCK)]).unwrap();
        assert!(list.denies(imei(VAN)) && list.allows(imei(TRUCK)));
    }
}
