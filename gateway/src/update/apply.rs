//! An update file into the slot that does not run.
//!
//! Invariants: nothing is written before the manifest was found signed and for this box. The first
//! bytes of the slot, without which no file system is found in it, are written last: whoever pulls
//! the plug, or sends a damaged file, leaves a slot that nothing can be started from. What is
//! offered for a trial was read back from the disk.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use ring::digest::{Context, SHA256};
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use super::manifest::{HEAD_BYTES_MAX, Manifest, ManifestError};
use super::place::{Place, PlaceError};
use super::record;
use super::slots::{Record, Refused};
use crate::explain::{Page, update as pages};

/// Read and written at once.
const PIECE_BYTES: usize = 256 * 1024;

/// The part of a slot that is written last. A squashfs begins with its superblock.
const FIRST_BYTES: usize = 4096;

/// Why nothing is offered for a trial. What ran before still runs and is still the good one.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// No box of ours.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The file or the pipe.
    #[error("the update cannot be read")]
    Source(#[source] io::Error),
    /// The head of the file.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// For other boxes.
    #[error("it is for {theirs}, and this box is {ours}")]
    Board {
        /// What the manifest says.
        theirs: String,
        /// What the image says.
        ours: String,
    },
    /// The bytes behind the head are not those that were signed.
    #[error("it is damaged: {0}")]
    Body(&'static str),
    /// It does not fit.
    #[error("it has {bytes} bytes, and a slot {slot_bytes}")]
    TooLarge {
        /// What the manifest says.
        bytes: u64,
        /// What the partition has.
        slot_bytes: u64,
    },
    /// The slot's device.
    #[error("slot device {} cannot be written", .path.display())]
    Slot {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The record's device.
    #[error("the record of the slots, {}, cannot be used", .path.display())]
    Record {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The slots must stay as they are.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Another update is being written.
    #[error("another update is being written at this moment")]
    Busy,
}

impl UpdateError {
    /// What it means and what to do.
    #[must_use]
    pub fn page(&self) -> &'static Page {
        match self {
            Self::Place(_) => &pages::NO_IMAGE,
            Self::Source(_) | Self::Body(_) => &pages::DAMAGED,
            Self::Manifest(ManifestError::Unsigned | ManifestError::Signature) => &pages::UNSIGNED,
            Self::Manifest(_) => &pages::STRANGER,
            Self::Board { .. } => &pages::BOARD,
            Self::TooLarge { .. } => &pages::TOO_LARGE,
            Self::Slot { .. } | Self::Record { .. } => &pages::DISK,
            Self::Refused(_) | Self::Busy => &pages::NOT_NOW,
        }
    }
}

/// An update whose head was found good.
#[derive(Debug)]
pub struct Incoming<R> {
    /// What it says.
    pub manifest: Manifest,
    rest: io::Chain<Cursor<Vec<u8>>, R>,
}

impl<R: Read> Incoming<R> {
    /// Reads the head and judges it.
    /// # Errors
    /// It is not for this box, or not signed by its key.
    pub fn new(mut source: R, place: &Place) -> Result<Self, UpdateError> {
        let mut first = Vec::with_capacity(HEAD_BYTES_MAX);
        let mut head = source.by_ref().take(HEAD_BYTES_MAX as u64);
        head.read_to_end(&mut first).map_err(UpdateError::Source)?;
        let manifest = Manifest::read(&first, &place.key)?;
        if manifest.board != place.board {
            return Err(UpdateError::Board {
                theirs: manifest.board,
                ours: place.board.clone(),
            });
        }
        first.drain(..manifest.head_bytes);
        let rest = Cursor::new(first).chain(source);
        Ok(Self { manifest, rest })
    }

    /// Reads the rest and gives it to `each`, piece by piece and with its place; ends well only when
    /// it was what the manifest says.
    fn pieces(
        mut self,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), UpdateError>,
    ) -> Result<Manifest, UpdateError> {
        let mut hash = Context::new(&SHA256);
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < self.manifest.bytes {
            let left = usize::try_from(self.manifest.bytes - at).unwrap_or(PIECE_BYTES);
            let piece = &mut piece[..left.min(PIECE_BYTES)];
            self.rest
                .read_exact(piece)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => UpdateError::Body("it is cut off"),
                    _ => UpdateError::Source(error),
                })?;
            hash.update(piece);
            each(at, piece)?;
            at += piece.len() as u64;
        }
        let mut more = [0];
        if self.rest.read(&mut more).map_err(UpdateError::Source)? > 0 {
            return Err(UpdateError::Body("it is longer than what was signed"));
        }
        if hash.finish().as_ref() != self.manifest.sha256 {
            return Err(UpdateError::Body(
                "its SHA-256 is not the one that was signed",
            ));
        }
        Ok(self.manifest)
    }

    /// Reads all of it and writes nothing.
    /// # Errors
    /// It is damaged.
    pub fn verify(self) -> Result<Manifest, UpdateError> {
        self.pieces(|_, _| Ok(()))
    }

    /// Writes it to the slot that does not run, reads that back, and offers it for a trial.
    /// `progress` hears bytes done and bytes in all: written and read are both counted.
    /// # Errors
    /// It is damaged, or the disk fails; the good slot starts as before.
    pub fn apply(
        self,
        place: &Place,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Manifest, UpdateError> {
        let (bytes, sha256) = (self.manifest.bytes, self.manifest.sha256);
        let path = place.slot(place.running.other()).to_owned();
        let of_slot = |source| UpdateError::Slot {
            path: path.clone(),
            source,
        };
        let slot = File::options().read(true).write(true).open(&path);
        let mut slot = slot.map_err(of_slot)?;
        let slot_bytes = slot.seek(SeekFrom::End(0)).map_err(of_slot)?;
        if bytes > slot_bytes {
            return Err(UpdateError::TooLarge { bytes, slot_bytes });
        }
        let _alone = alone(place)?;
        let before = read(place)?;
        write(place, &before.overwriting(place.running)?)?;

        let mut first = vec![0; FIRST_BYTES];
        slot.write_all_at(&first, 0).map_err(of_slot)?;
        slot.sync_all().map_err(of_slot)?;
        let manifest = self.pieces(|at, piece| {
            let mut rest = piece;
            if at == 0 {
                let held = rest.len().min(FIRST_BYTES);
                first[..held].copy_from_slice(&rest[..held]);
                rest = &rest[held..];
            }
            let at_slot = at + (piece.len() - rest.len()) as u64;
            slot.write_all_at(rest, at_slot).map_err(of_slot)?;
            progress(at + piece.len() as u64, 2 * bytes);
            Ok(())
        })?;
        slot.sync_all().map_err(of_slot)?;
        let held = usize::try_from(bytes)
            .unwrap_or(FIRST_BYTES)
            .min(FIRST_BYTES);
        slot.write_all_at(&first[..held], 0).map_err(of_slot)?;
        slot.sync_all().map_err(of_slot)?;
        record::forget(&slot).map_err(of_slot)?;
        let read_back = hash_of(&slot, bytes, |done| progress(bytes + done, 2 * bytes));
        if read_back.map_err(of_slot)? != sha256 {
            slot.write_all_at(&[0; FIRST_BYTES], 0).map_err(of_slot)?;
            let text = "the disk does not give back what was written to it";
            return Err(of_slot(io::Error::other(text)));
        }
        write(place, &read(place)?.offered(&manifest.version))?;
        Ok(manifest)
    }
}

fn hash_of(slot: &File, bytes: u64, mut progress: impl FnMut(u64)) -> io::Result<[u8; 32]> {
    let mut hash = Context::new(&SHA256);
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < bytes {
        let left = usize::try_from(bytes - at).unwrap_or(PIECE_BYTES);
        let piece = &mut piece[..left.min(PIECE_BYTES)];
        slot.read_exact_at(piece, at)?;
        hash.update(piece);
        at += piece.len() as u64;
        progress(at);
    }
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(hash.finish().as_ref());
    Ok(sha256)
}

/// Held while a slot is written.
fn alone(place: &Place) -> Result<File, UpdateError> {
    let file = File::open(&place.record).map_err(|source| of_record(place, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(UpdateError::Busy),
        Err(error) => Err(of_record(place, error.into())),
    }
}

fn of_record(place: &Place, source: io::Error) -> UpdateError {
    UpdateError::Record {
        path: place.record.clone(),
        source,
    }
}

/// The record of the slots.
/// # Errors
/// Its partition cannot be read.
pub fn read(place: &Place) -> Result<Record, UpdateError> {
    record::read(&place.record).map_err(|source| of_record(place, source))
}

fn write(place: &Place, next: &Record) -> Result<(), UpdateError> {
    record::write(&place.record, next).map_err(|source| of_record(place, source))
}

/// Makes the running system the good one. `None`: it was already.
/// # Errors
/// It is neither good nor on trial, or the record cannot be written.
pub fn confirm(place: &Place) -> Result<Option<Record>, UpdateError> {
    let next = read(place)?.confirmed(place.running)?;
    if let Some(next) = &next {
        write(place, next)?;
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::path::Path;
    use std::sync::LazyLock;

    use super::*;
    use crate::update::slots::{Ending, Slot};
    use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};

    const SLOT_BYTES: usize = 1 << 20;

    /// Signs every update that its boxes take.
    static PAIR: LazyLock<KeyPair> =
        LazyLock::new(|| KeyPair::generate_for(&PKCS_ED25519).unwrap());

    struct Flashed {
        dir: tempfile::TempDir,
    }

    impl Flashed {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let flashed = Self { dir };
            let share = flashed.path("usr/share/milepost");
            fs::create_dir_all(&share).unwrap();
            fs::create_dir_all(flashed.path("run/milepost")).unwrap();
            for (name, bytes) in [("a", SLOT_BYTES), ("b", SLOT_BYTES), ("record", 1 << 20)] {
                fs::write(flashed.path(name), vec![0x55; bytes]).unwrap();
            }
            let image = "board qemu-virt\nversion 1\ntrial_seconds 60\n";
            fs::write(share.join("image"), image).unwrap();
            let pem = PAIR.public_key_pem();
            fs::write(share.join("update.pub"), pem).unwrap();
            flashed.runs(Slot::A);
            flashed
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn runs(&self, slot: Slot) {
            let [a, b, record] = ["a", "b", "record"].map(|name| self.path(name));
            let (a, b, record) = (a.display(), b.display(), record.display());
            let lines = format!("running {slot}\nslot_a {a}\nslot_b {b}\nrecord {record}\n");
            fs::write(self.path("run/milepost/slots"), lines).unwrap();
        }

        fn place(&self) -> Place {
            Place::read(self.dir.path()).unwrap()
        }

        /// What `./dev image` makes.
        fn update(&self, board: &str, body: &[u8]) -> Vec<u8> {
            let sha256 = hex::encode(ring::digest::digest(&SHA256, body));
            let bytes = body.len();
            let said = format!(
                "milepost-update 1\nboard {board}\nversion 2\nbytes {bytes}\nsha256 {sha256}\n"
            );
            let signature = hex::encode(PAIR.sign(said.as_bytes()).unwrap());
            let mut file = format!("{said}signature {signature}\n\n").into_bytes();
            file.extend(body);
            file
        }

        fn apply(&self, file: &[u8]) -> Result<Manifest, UpdateError> {
            let place = self.place();
            Incoming::new(file, &place)?.apply(&place, |done, all| assert!(done <= all))
        }

        fn record(&self) -> Record {
            read(&self.place()).unwrap()
        }
    }

    fn body(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
    }

    fn slot_begins(path: &Path) -> Vec<u8> {
        fs::read(path).unwrap()[..FIRST_BYTES].to_vec()
    }

    #[test]
    fn an_update_goes_to_the_other_slot_and_is_offered() {
        let flashed = Flashed::new();
        let running = fs::read(flashed.path("a")).unwrap();
        for bytes in [1, FIRST_BYTES, PIECE_BYTES + 17, SLOT_BYTES] {
            let body = body(bytes);
            let manifest = flashed.apply(&flashed.update("qemu-virt", &body)).unwrap();
            assert_eq!(manifest.version, "2");
            assert_eq!(fs::read(flashed.path("b")).unwrap()[..bytes], body);
            assert_eq!(fs::read(flashed.path("a")).unwrap(), running);
            let trial = flashed.record().trial.unwrap();
            assert_eq!((trial.version.as_str(), trial.begun), ("2", false));
        }
    }

    #[test]
    fn a_trial_is_begun_confirmed_and_then_the_good_one() {
        let flashed = Flashed::new();
        assert_eq!(confirm(&flashed.place()).unwrap(), None, "good already");
        flashed
            .apply(&flashed.update("qemu-virt", &body(9)))
            .unwrap();
        let start = flashed.record().start();
        write(&flashed.place(), &start.first.unwrap()).unwrap();
        flashed.runs(start.slot);
        // The slot to fall back to is not overwritten.
        let again = flashed.apply(&flashed.update("qemu-virt", &body(9)));
        assert_eq!(again.unwrap_err().page().code, "E-UPD-008");
        assert!(confirm(&flashed.place()).unwrap().is_some());
        let record = flashed.record();
        assert_eq!((record.good, record.trial), (Slot::B, None));
        assert_eq!(record.last.unwrap().ending, Ending::Confirmed);
        flashed
            .apply(&flashed.update("qemu-virt", &body(9)))
            .unwrap();
    }

    #[test]
    fn what_is_refused_is_refused_before_anything_is_written() {
        let flashed = Flashed::new();
        let good = flashed.update("qemu-virt", &body(9000));
        let other_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut forged = String::from_utf8_lossy(&good[..300]).into_owned();
        forged.truncate(forged.find("signature ").unwrap());
        let unsigned = [forged.as_bytes(), b"\n", &body(9000)].concat();
        let signature = hex::encode(other_key.sign(forged.as_bytes()).unwrap());
        let forged = format!("{forged}signature {signature}\n\n").into_bytes();
        let cases = [
            (b"hsqs, not an update".to_vec(), "E-UPD-002"),
            (unsigned, "E-UPD-003"),
            (forged, "E-UPD-003"),
            (flashed.update("beaglebone-black", &body(9)), "E-UPD-004"),
            (
                flashed.update("qemu-virt", &body(SLOT_BYTES + 1)),
                "E-UPD-006",
            ),
        ];
        for (file, code) in cases {
            let error = flashed.apply(&file).unwrap_err();
            assert_eq!(error.page().code, code, "{error}");
            assert_eq!(flashed.record(), Record::default());
            assert_eq!(slot_begins(&flashed.path("b")), [0x55; FIRST_BYTES]);
        }
    }

    #[test]
    fn what_turns_out_damaged_cannot_be_started() {
        let good = Flashed::new().update("qemu-virt", &body(300_000));
        let changed = |at: usize| {
            let mut file = good.clone();
            file[at] ^= 1;
            file
        };
        let longer = [good.as_slice(), b"x"].concat();
        let cases = [
            changed(good.len() - 1),
            changed(400),
            good[..good.len() - 1].to_vec(),
            longer,
        ];
        for file in cases {
            let flashed = Flashed::new();
            // What was offered before and is overwritten now must not be started either.
            flashed
                .apply(&flashed.update("qemu-virt", &body(5000)))
                .unwrap();
            let place = flashed.place();
            let looked = Incoming::new(file.as_slice(), &place).unwrap().verify();
            assert_eq!(looked.unwrap_err().page().code, "E-UPD-005");
            assert!(flashed.record().trial.is_some(), "looking changes nothing");
            let error = flashed.apply(&file).unwrap_err();
            assert_eq!(error.page().code, "E-UPD-005");
            assert_eq!(flashed.record().trial, None);
            assert_eq!(flashed.record().start().slot, Slot::A);
            assert_eq!(slot_begins(&flashed.path("b")), [0; FIRST_BYTES]);
        }
    }

    #[test]
    fn a_box_without_its_parts_is_named() {
        let flashed = Flashed::new();
        let refused = |error: UpdateError| (error.page().code, crate::chain::chain(&error));
        let update = flashed.update("qemu-virt", &body(9));
        fs::remove_file(flashed.path("b")).unwrap();
        let (code, words) = refused(flashed.apply(&update).unwrap_err());
        assert_eq!(code, "E-UPD-007");
        assert!(words.contains("No such file"), "{words}");
        fs::write(flashed.path("run/milepost/slots"), "running c\n").unwrap();
        let (code, words) = refused(Place::read(flashed.dir.path()).unwrap_err().into());
        assert_eq!(code, "E-UPD-001");
        assert!(words.contains("no line `running`"), "{words}");
        fs::remove_file(flashed.path("run/milepost/slots")).unwrap();
        let (_, words) = refused(Place::read(flashed.dir.path()).unwrap_err().into());
        assert!(
            words.contains("not started from a Milepost image"),
            "{words}"
        );
    }

    #[test]
    fn one_update_at_a_time() {
        let flashed = Flashed::new();
        let place = flashed.place();
        let _held = alone(&place).unwrap();
        let error = flashed.apply(&flashed.update("qemu-virt", &body(9)));
        assert_eq!(error.unwrap_err().page().code, "E-UPD-008");
    }
}
