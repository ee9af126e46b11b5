//! Updates into files that stand for the partitions of a box.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use super::*;
use crate::update::slots::{Ending, Slot};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

const SLOT_BYTES: usize = 1 << 20;

struct Flashed {
    dir: tempfile::TempDir,
    pair: Ed25519KeyPair,
}

impl Flashed {
    fn new() -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let flashed = Self { dir, pair };
        let share = flashed.path("usr/share/milepost");
        fs::create_dir_all(&share).unwrap();
        fs::create_dir_all(flashed.path("run/milepost")).unwrap();
        for (name, bytes) in [("a", SLOT_BYTES), ("b", SLOT_BYTES), ("record", 1 << 20)] {
            fs::write(flashed.path(name), vec![0x55; bytes]).unwrap();
        }
        let image = "board qemu-virt\nversion 1\ntrial_seconds 60\n";
        fs::write(share.join("image"), image).unwrap();
        let mut spki = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
        spki.extend(flashed.pair.public_key().as_ref());
        let pem = rcgen_pem(&spki);
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
        let signature = hex::encode(self.pair.sign(said.as_bytes()));
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

/// PEM, as openssl breaks it.
fn rcgen_pem(der: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in der.chunks(3) {
        let mut word = [0; 3];
        word[..three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit)) as usize & 63;
            let sign = if digit as usize <= three.len() {
                alphabet[at]
            } else {
                b'='
            };
            text.push(char::from(sign));
        }
    }
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
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
    let other_key = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    let mut forged = String::from_utf8_lossy(&good[..300]).into_owned();
    forged.truncate(forged.find("signature ").unwrap());
    let unsigned = [forged.as_bytes(), b"\n", &body(9000)].concat();
    let signature = hex::encode(other_key.sign(forged.as_bytes()));
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
