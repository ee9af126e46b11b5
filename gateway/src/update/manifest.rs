//! The head of an update file: what it is for, what the rest must be, who says so.
//!
//! Pure: no I/O, no clock.
//!
//! ```text
//! milepost-update 1
//! board qemu-virt
//! version 0.1.0+20261122.1
//! bytes 3145728
//! sha256 9f86d081…            64 digits: of the bytes after the head
//! signature 1b2c…             128 digits: Ed25519 over every line above
//!                             an empty line, then the root file system
//! ```
//!
//! Invariant: a [`Manifest`] exists only after its signature was found good.

use ring::signature::{ED25519, UnparsedPublicKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;

use super::slots::is_version;

/// Longest head, in bytes.
pub const HEAD_BYTES_MAX: usize = 1024;

const TITLE: &str = "milepost-update 1";

/// The bytes before the 32 of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const ED25519_SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// For which boards: the name of an image.
    pub board: String,
    /// Of the system, see [`is_version`].
    pub version: String,
    /// How many bytes follow the head; above 0.
    pub bytes: u64,
    /// SHA-256 of these bytes.
    pub sha256: [u8; 32],
    /// Length of the head with its empty line, in bytes.
    pub head_bytes: usize,
}

/// Why an update file is not looked at any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// It does not begin like one.
    #[error("this is no update file: it does not begin with `{TITLE}`")]
    Stranger,
    /// A line is missing, too many or not as it should be.
    #[error("its head is damaged: {0}")]
    Damaged(&'static str),
    /// There is no signature line.
    #[error("it is not signed")]
    Unsigned,
    /// The signature is by another key, or of other lines.
    #[error("its signature is not by the key of this box")]
    Signature,
}

/// Why a public key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is no Ed25519 public key in PEM, as `openssl pkey -pubout` writes it")]
pub struct KeyError;

/// Whose updates a box takes.
#[derive(Clone, Copy, Debug)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Of a PEM file.
    /// # Errors
    /// It holds no Ed25519 public key.
    pub fn of_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| KeyError)?;
        let key = der.strip_prefix(&ED25519_SPKI).ok_or(KeyError)?;
        Ok(Self(key.try_into().map_err(|_| KeyError)?))
    }

    fn signed(&self, what: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        key.verify(what, signature).is_ok()
    }
}

impl Manifest {
    /// Of the first bytes of a file, at most [`HEAD_BYTES_MAX`] of them are looked at.
    /// # Errors
    /// It is not signed by `key`, or is none.
    pub fn read(bytes: &[u8], key: &PublicKey) -> Result<Self, ManifestError> {
        let bytes = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        if !bytes.starts_with(TITLE.as_bytes()) {
            return Err(ManifestError::Stranger);
        }
        let end = bytes.windows(2).position(|two| two == b"\n\n");
        let end = end.ok_or(ManifestError::Damaged("it does not end"))?;
        let head = std::str::from_utf8(&bytes[..=end]);
        let head = head.map_err(|_| ManifestError::Damaged("it is not text"))?;
        let (said, rest) = head
            .split_once("signature ")
            .ok_or(ManifestError::Unsigned)?;
        let signature: Option<[u8; 64]> = rest.strip_suffix('\n').and_then(of_hex);
        let signature = signature.ok_or(ManifestError::Damaged("its signature is cut"))?;
        if !key.signed(said.as_bytes(), &signature) {
            return Err(ManifestError::Signature);
        }
        // Whoever signed may still have made a mistake.
        let mut lines = said.lines().skip(1);
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let board = value("board").filter(|board| is_version(board));
        let version = value("version").filter(|version| is_version(version));
        let bytes = value("bytes").and_then(|bytes| bytes.parse().ok());
        let sha256 = value("sha256").and_then(of_hex);
        Ok(Self {
            board: board.ok_or(ManifestError::Damaged("no board"))?.to_owned(),
            version: version
                .ok_or(ManifestError::Damaged("no version"))?
                .to_owned(),
            bytes: bytes
                .filter(|bytes| *bytes > 0)
                .ok_or(ManifestError::Damaged("no number of bytes"))?,
            sha256: sha256.ok_or(ManifestError::Damaged("no sha256"))?,
            head_bytes: end + 2,
        })
    }
}

/// Lower case, as every tool prints it.
fn of_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, two) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(two[0])? << 4 | digit(two[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    fn keys(seed: u8) -> (Ed25519KeyPair, PublicKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = PublicKey(pair.public_key().as_ref().try_into().unwrap());
        (pair, public)
    }

    fn signed(said: &str, pair: &Ed25519KeyPair) -> Vec<u8> {
        let signature = hex::encode(pair.sign(said.as_bytes()).as_ref());
        format!("{said}signature {signature}\n\nhsqs").into_bytes()
    }

    fn said() -> String {
        let sha256 = "ab".repeat(32);
        format!("{TITLE}\nboard qemu-virt\nversion 2\nbytes 4\nsha256 {sha256}\n")
    }

    #[test]
    fn what_is_signed_is_read() {
        let (pair, public) = keys(1);
        let file = signed(&said(), &pair);
        let read = Manifest::read(&file, &public).unwrap();
        assert_eq!((read.board.as_str(), read.bytes), ("qemu-virt", 4));
        assert_eq!((read.version.as_str(), read.sha256), ("2", [0xab; 32]));
        assert_eq!(&file[read.head_bytes..], b"hsqs");
    }

    #[test]
    fn what_is_not_signed_by_our_key_is_refused() {
        let (pair, public) = keys(1);
        let (_, other) = keys(2);
        let file = signed(&said(), &pair);
        let refused = |file: &[u8]| Manifest::read(file, &public).unwrap_err();
        assert_eq!(
            Manifest::read(&file, &other).unwrap_err(),
            ManifestError::Signature
        );
        let bare = format!("{}\nhsqs", said());
        assert_eq!(refused(bare.as_bytes()), ManifestError::Unsigned);
        assert_eq!(refused(b"hsqs"), ManifestError::Stranger);
        assert_eq!(
            refused(said().as_bytes()),
            ManifestError::Damaged("it does not end")
        );
        let no_bytes = said().replace("bytes 4", "bytes 0");
        assert_eq!(
            refused(&signed(&no_bytes, &pair)),
            ManifestError::Damaged("no number of bytes")
        );
    }

    proptest! {
        /// No byte of the head can change without being noticed; what comes after is the hash's.
        #[test]
        fn a_changed_head_is_refused(at in 0..250_usize, by in 1..=255_u8) {
            let (pair, public) = keys(1);
            let mut file = signed(&said(), &pair);
            let head_bytes = Manifest::read(&file, &public).unwrap().head_bytes;
            let at = at % head_bytes;
            file[at] ^= by;
            prop_assert!(Manifest::read(&file, &public).is_err(), "byte {at}");
        }

        #[test]
        fn anything_else_is_refused_in_words(bytes: Vec<u8>) {
            let (_, public) = keys(1);
            let file = [TITLE.as_bytes(), &bytes].concat();
            prop_assert!(Manifest::read(&file, &public).is_err());
        }
    }

    #[test]
    fn a_key_is_what_openssl_writes() {
        // `openssl pkey -pubout` of the key in RFC 8410, section 10.1.
        let pem = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        assert_eq!(PublicKey::of_pem(pem).unwrap().0[..2], [0x19, 0xbf]);
        assert_eq!(PublicKey::of_pem(b"no key").unwrap_err(), KeyError);
        let rsa = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        assert_eq!(PublicKey::of_pem(rsa).unwrap_err(), KeyError);
    }
}
