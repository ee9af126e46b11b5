//! The bundle that makes a bare box a gateway of a site: what the cloud packs and the gateway takes.
//!
//! Why here: one side writes it, the other reads it, and neither may import the other. A plain tar,
//! so that `tar tvf` shows a person what is inside; zstd around it is optional and recognised by its
//! first bytes.
//!
//! | Name | Holds |
//! |---|---|
//! | `bundle.json` | [`Manifest`] |
//! | `gateway.toml` | settings of the gateway, `gateway.id` among them |
//! | `tls/box.crt` | the gateway's certificate and those between it and its authority, PEM |
//! | `tls/box.key` | its private key, PEM |
//! | `tls/ca.crt` | the authority that signed it and the server's certificate, PEM |
//!
//! Invariants: exactly these five plain files, each once, in any order, and at most the entry of the
//! directory `tls/` beside them; no link, no other name, no path that leads out; sizes are bounded
//! before anything is kept. What is inside the certificates and settings is judged by who uses them.

use std::fmt;
use std::io::{self, Read as _};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{GatewayId, IdError};

/// Version of the format that is written, and the only one there is.
pub const FORMAT: u32 = 1;

/// Name of the manifest.
pub const MANIFEST: &str = "bundle.json";
/// Name of the settings.
pub const SETTINGS: &str = "gateway.toml";
/// Name of the certificate.
pub const CERTIFICATE: &str = "tls/box.crt";
/// Name of its key.
pub const KEY: &str = "tls/box.key";
/// Name of the authority.
pub const AUTHORITY: &str = "tls/ca.crt";

/// All of them, in the order in which they are written.
pub const NAMES: [&str; 5] = [MANIFEST, SETTINGS, CERTIFICATE, KEY, AUTHORITY];

/// A chain of RSA certificates has some kilobytes.
pub const FILE_BYTES_MAX: u64 = 256 << 10;

/// Five files, their headers and what tar pads; compressed or not.
pub const BUNDLE_BYTES_MAX: u64 = 2 << 20;

/// First bytes of a zstd frame. Source: RFC 8878, 3.1.1.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Private enough for a key: whoever unpacks with `tar` gets these.
const MODE: u32 = 0o600;

const ZSTD_LEVEL: i32 = 9;

/// What `bundle.json` says. Fields that are not known are skipped; a change of meaning gets a new
/// `format`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The site, as the operator named it.
    pub site: String,
    /// `gateway.id`.
    pub gateway: String,
    /// When it was made, milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// When it should not be used any more: the end of its certificate or earlier, milliseconds
    /// since 1970 UTC.
    pub expires_ms: u64,
}

/// A bundle that was read or is to be written. `Debug` shows no key and no setting.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// What it says about itself.
    pub manifest: Manifest,
    /// TOML.
    pub settings: String,
    /// PEM.
    pub certificate: Vec<u8>,
    /// PEM.
    pub key: Vec<u8>,
    /// PEM.
    pub authority: Vec<u8>,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

/// Why it is not a bundle that can be used.
#[derive(Debug, Error)]
pub enum BundleError {
    /// Get the whole file again.
    #[error("it is no tar archive, or it is cut off")]
    Unreadable(#[source] io::Error),
    /// No bundle is that large.
    #[error("it has more than {} bytes, which no bundle has", BUNDLE_BYTES_MAX)]
    TooLarge,
    /// No file in a bundle is that large.
    #[error("its file {name} has more than {} bytes", FILE_BYTES_MAX)]
    FileTooLarge {
        /// Which.
        name: String,
    },
    /// Somebody made or changed it by hand.
    #[error("it holds {name}, which is none of the five files of a bundle")]
    Stranger {
        /// Which.
        name: String,
    },
    /// A link or a device has no place in it.
    #[error("its {name} is not a plain file")]
    NotAFile {
        /// Which.
        name: String,
    },
    /// Nobody could say which one counts.
    #[error("it holds {name} twice")]
    Twice {
        /// Which.
        name: &'static str,
    },
    /// It is incomplete.
    #[error("it does not hold {name}")]
    Missing {
        /// Which.
        name: &'static str,
    },
    /// The manifest is damaged.
    #[error("its {} cannot be understood", MANIFEST)]
    Manifest(#[source] serde_json::Error),
    /// Update this program first.
    #[error(
        "it has format {found}, and this program knows {} only: update it first",
        FORMAT
    )]
    Format {
        /// Which.
        found: u32,
    },
    /// Make it again with another name.
    #[error("the gateway it is for cannot be called that")]
    Gateway(#[source] IdError),
    /// The settings are text.
    #[error("its {} is not UTF-8", SETTINGS)]
    NotText,
}

impl Bundle {
    /// Reads a bundle, compressed or not.
    /// # Errors
    /// [`BundleError`].
    pub fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        let plain = plain(bytes)?;
        let mut found: [Option<Vec<u8>>; NAMES.len()] = Default::default();
        let mut archive = tar::Archive::new(plain.as_slice());
        // Raw: an entry that renames or links the next one is refused, not obeyed.
        for entry in archive.entries().map_err(unquoted)?.raw(true) {
            let mut entry = entry.map_err(unquoted)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let kind = entry.header().entry_type();
            if kind.is_dir() && name.trim_end_matches('/') == "tls" {
                continue;
            }
            let Some(at) = NAMES.iter().position(|known| *known == name) else {
                return Err(BundleError::Stranger { name });
            };
            if !kind.is_file() {
                return Err(BundleError::NotAFile { name });
            }
            if entry.size() > FILE_BYTES_MAX {
                return Err(BundleError::FileTooLarge { name });
            }
            let mut contents = Vec::new();
            let read = entry.read_to_end(&mut contents);
            read.map_err(unquoted)?;
            if found[at].replace(contents).is_some() {
                return Err(BundleError::Twice { name: NAMES[at] });
            }
        }
        let mut files = NAMES.into_iter().zip(found);
        let mut next = || {
            let (name, file) = files.next().expect("asked as often as there are names");
            file.ok_or(BundleError::Missing { name })
        };
        let manifest = next()?;
        let manifest: Manifest =
            serde_json::from_slice(&manifest).map_err(BundleError::Manifest)?;
        if manifest.format != FORMAT {
            let found = manifest.format;
            return Err(BundleError::Format { found });
        }
        GatewayId::new(&*manifest.gateway).map_err(BundleError::Gateway)?;
        Ok(Self {
            manifest,
            settings: String::from_utf8(next()?).map_err(|_| BundleError::NotText)?,
            certificate: next()?,
            key: next()?,
            authority: next()?,
        })
    }

    /// The bytes of the bundle. The same bundle gives the same bytes.
    /// # Errors
    /// What zstd says; a buffer in memory has no errors of its own.
    pub fn write(&self, compress: bool) -> io::Result<Vec<u8>> {
        let manifest = serde_json::to_vec_pretty(&self.manifest)?;
        let files = [
            &manifest,
            self.settings.as_bytes(),
            &self.certificate,
            &self.key,
            &self.authority,
        ];
        pack(
            NAMES.into_iter().zip(files),
            self.manifest.created_ms,
            compress,
        )
    }
}

/// A tar of files in memory, each readable for its owner alone.
/// # Errors
/// A name that does not fit a tar header, or what zstd says.
pub fn pack<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    made_ms: u64,
    compress: bool,
) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, contents) in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_size(contents.len() as u64);
        header.set_mode(MODE);
        header.set_mtime(made_ms / 1000);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        archive.append(&header, contents)?;
    }
    let plain = archive.into_inner()?;
    match compress {
        true => zstd::bulk::compress(&plain, ZSTD_LEVEL),
        false => Ok(plain),
    }
}

/// What went wrong, without the words of the archive reader: they quote the file, and somebody names
/// a private key here one day.
fn unquoted(error: io::Error) -> BundleError {
    BundleError::Unreadable(error.kind().into())
}

fn plain(bytes: &[u8]) -> Result<Vec<u8>, BundleError> {
    let mut plain = Vec::new();
    let read = match bytes.starts_with(&ZSTD_MAGIC) {
        true => zstd::stream::read::Decoder::new(bytes)
            .and_then(|decoder| decoder.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut plain)),
        false => bytes.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut plain),
    };
    read.map_err(BundleError::Unreadable)?;
    if plain.len() as u64 > BUNDLE_BYTES_MAX {
        return Err(BundleError::TooLarge);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bundle() -> Bundle {
        Bundle {
            manifest: Manifest {
                format: FORMAT,
                site: "Depot Vilnius".to_owned(),
                gateway: "depot-vilnius-1".to_owned(),
                created_ms: 1_795_000_000_000,
                expires_ms: 1_803_000_000_000,
            },
            settings: "[gateway]\nid = \"depot-vilnius-1\"\n".to_owned(),
            certificate: b"cert".to_vec(),
            key: b"a private key".to_vec(),
            authority: b"ca".to_vec(),
        }
    }

    /// The files of a good bundle, to be spoilt.
    fn files() -> Vec<(String, Vec<u8>)> {
        let bytes = bundle().write(false).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            (entry.path().unwrap().display().to_string(), contents)
        });
        entries.collect()
    }

    fn packed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let files = files
            .iter()
            .map(|(name, file)| (name.as_str(), file.as_slice()));
        pack(files, 0, false).unwrap()
    }

    /// One more entry behind the files of a good bundle.
    fn with_entry(kind: tar::EntryType, name: &str, contents: &[u8]) -> Vec<u8> {
        let good = bundle().write(false).unwrap();
        let mut header = tar::Header::new_ustar();
        // Past the checks of the builder, as somebody who means harm would.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        let mut bytes = good[..good.len() - 1024].to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(contents);
        bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
        bytes
    }

    #[test]
    fn it_comes_back_as_it_went_compressed_or_not() {
        for compress in [false, true] {
            let bytes = bundle().write(compress).unwrap();
            assert_eq!(bytes, bundle().write(compress).unwrap(), "the same bytes");
            assert_eq!(Bundle::read(&bytes).unwrap(), bundle());
            assert_eq!(bytes.starts_with(&ZSTD_MAGIC), compress);
        }
        let shown = format!("{:?}", bundle());
        assert!(
            shown.contains("Vilnius") && !shown.contains("private"),
            "{shown}"
        );
        let dir = with_entry(tar::EntryType::Directory, "tls/", b"");
        assert_eq!(Bundle::read(&dir).unwrap(), bundle());
    }

    #[test]
    fn every_cut_is_noticed() {
        for compress in [false, true] {
            let bytes = bundle().write(compress).unwrap();
            // The 1024 zero bytes at the end of a tar say nothing.
            let end = if compress {
                bytes.len()
            } else {
                bytes.len() - 1024
            };
            for length in 0..end {
                // A file of 512 zero bytes or less may end with its last byte.
                let read = Bundle::read(&bytes[..length]);
                assert!(
                    read.is_err() || read.unwrap() == bundle(),
                    "cut at {length} of {end}"
                );
            }
            assert!(Bundle::read(&bytes[..end / 2]).is_err());
        }
    }

    #[test]
    fn a_file_that_is_no_bundle_is_not_quoted() {
        let key = "-----BEGIN PRIVATE KEY-----\nsecret\n".repeat(40);
        let error = Bundle::read(key.as_bytes()).unwrap_err();
        let said = format!("{error}: {:?}", std::error::Error::source(&error));
        assert!(matches!(error, BundleError::Unreadable(_)), "{said}");
        assert!(
            !said.contains("PRIVATE") && !said.contains("secret"),
            "{said}"
        );
    }

    #[test]
    fn only_the_five_names_and_each_once() {
        for (at, wanted) in NAMES.into_iter().enumerate() {
            let mut files = files();
            files.remove(at);
            let error = Bundle::read(&packed(&files)).unwrap_err();
            assert!(
                matches!(error, BundleError::Missing { name } if name == wanted),
                "{error}"
            );
        }
        for name in NAMES {
            let error = Bundle::read(&with_entry(tar::EntryType::Regular, name, b"x")).unwrap_err();
            assert!(matches!(error, BundleError::Twice { .. }), "{error}");
        }
        for name in [
            "../etc/passwd",
            "/etc/passwd",
            "tls/../../x",
            "./gateway.toml",
            "tls//box.key",
            "tls/box.key/",
            "TLS/box.key",
            "notes.txt",
            "",
        ] {
            let error = Bundle::read(&with_entry(tar::EntryType::Regular, name, b"x")).unwrap_err();
            assert!(
                matches!(error, BundleError::Stranger { .. }),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn links_and_other_things_are_refused() {
        for kind in [
            tar::EntryType::Symlink,
            tar::EntryType::Link,
            tar::EntryType::Char,
            tar::EntryType::Block,
            tar::EntryType::Fifo,
            tar::EntryType::Directory,
            tar::EntryType::GNULongName,
            tar::EntryType::GNULongLink,
            tar::EntryType::XHeader,
            tar::EntryType::XGlobalHeader,
            tar::EntryType::GNUSparse,
        ] {
            let error = Bundle::read(&with_entry(kind, KEY, b"")).unwrap_err();
            assert!(
                matches!(error, BundleError::NotAFile { .. }),
                "{kind:?}: {error}"
            );
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let mut large = files();
        large[4].1 = vec![b'x'; FILE_BYTES_MAX as usize + 1];
        let error = Bundle::read(&packed(&large)).unwrap_err();
        assert!(matches!(error, BundleError::FileTooLarge { .. }), "{error}");
        let bomb = zstd::bulk::compress(&vec![0; BUNDLE_BYTES_MAX as usize + 1], 3).unwrap();
        assert!(bomb.len() < 10_000);
        let error = Bundle::read(&bomb).unwrap_err();
        assert!(matches!(error, BundleError::TooLarge), "{error}");
        let error = Bundle::read(&vec![0; BUNDLE_BYTES_MAX as usize + 1]).unwrap_err();
        assert!(matches!(error, BundleError::TooLarge), "{error}");
    }

    #[test]
    fn the_manifest_is_judged() {
        let mut newer = bundle();
        newer.manifest.format = FORMAT + 1;
        let error = Bundle::read(&newer.write(true).unwrap()).unwrap_err();
        assert!(matches!(error, BundleError::Format { found: 2 }), "{error}");
        let mut named = bundle();
        named.manifest.gateway = "two words".to_owned();
        let error = Bundle::read(&named.write(true).unwrap()).unwrap_err();
        assert!(matches!(error, BundleError::Gateway(_)), "{error}");
        let mut broken = files();
        broken[0].1.truncate(20);
        let error = Bundle::read(&packed(&broken)).unwrap_err();
        assert!(matches!(error, BundleError::Manifest(_)), "{error}");
        // What a later writer adds without changing the meaning is skipped.
        let mut more = files();
        let text = String::from_utf8(more[0].1.clone()).unwrap();
        more[0].1 = text.replacen('{', "{ \"note\": \"x\",", 1).into_bytes();
        assert_eq!(Bundle::read(&packed(&more)).unwrap(), bundle());
        let mut latin = files();
        latin[1].1 = vec![0xff];
        let error = Bundle::read(&packed(&latin)).unwrap_err();
        assert!(matches!(error, BundleError::NotText), "{error}");
    }
}
