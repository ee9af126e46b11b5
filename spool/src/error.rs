//! What the spool cannot do, and what to do about it.

use std::io;
use std::sync::Arc;

use contract::GatewayId;
use thiserror::Error;

/// Why nothing was kept, or nothing can be read. Each variant names the next move.
#[derive(Clone, Debug, Error)]
pub enum SpoolError {
    /// Do not acknowledge; trackers keep their records until space is settled.
    #[error("spool is full: {used_bytes} of {bytes_max} bytes hold unsettled records")]
    Full {
        /// Bytes of segments that hold unsettled records.
        used_bytes: u64,
        /// The cap.
        bytes_max: u64,
    },
    /// Refuse the frame; it could never be kept.
    #[error("frame of {bytes} bytes (or its device's name) is larger than a commit may hold")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Do not acknowledge; the disk refused new space before the cap was reached. Free some space
    /// on it, or lower `spool.bytes_max`.
    #[error("no space left on the disk for spool file {file}: free some, or lower spool.bytes_max")]
    NoSpace {
        /// Which file could not be made.
        file: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Do not acknowledge; no segment could be made or taken. The next commit tries again.
    #[error("spool file {file} could not be made ready: the next commit tries again")]
    NoSegment {
        /// Which file.
        file: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// What is settled could not be noted; it is sent again after a restart, and nothing is
    /// recycled meanwhile. Try again later.
    #[error("spool file cursor could not be written: nothing is recycled until it can")]
    Cursor {
        /// What went wrong.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A segment could not be read just now; nothing in it is lost. Try again later.
    #[error("spool file {file} cannot be read")]
    Read {
        /// Which file.
        file: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Storage failed twice in a row: nothing is acknowledged until a restart.
    #[error("spool storage failed at {file}: restart once the disk is well")]
    Storage {
        /// Which file.
        file: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Opening failed on a file: make the spool readable and writable for this user.
    #[error("spool file {file} cannot be opened: make the spool writable for this user")]
    Open {
        /// Which file.
        file: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another gateway's records are in there: set `gateway.id` to its owner, or use another
    /// directory.
    #[error(
        "this spool belongs to gateway {owner}: set gateway.id = \"{owner}\", or give this gateway its own spool.dir"
    )]
    Owned {
        /// Whose it is.
        owner: GatewayId,
    },
    /// The owner file is there and names nobody: restore it, or remove it when the spool is yours.
    #[error("spool file gateway names no gateway: write its owner's gateway.id into it")]
    OwnerUnreadable,
    /// A file was written by a later version: start that version.
    #[error("spool file {file} has format version {version}; this build reads version {read}")]
    Newer {
        /// The file.
        file: String,
        /// The version found.
        version: u16,
        /// The version this build reads.
        read: u16,
    },
    /// The cap leaves no room to work.
    #[error("spool.bytes_max is {bytes_max}; at least {bytes_min} bytes are needed")]
    TooSmall {
        /// The cap as configured.
        bytes_max: u64,
        /// The least that works.
        bytes_min: u64,
    },
}

impl SpoolError {
    /// A file that cannot be made or opened: full disks are told from broken ones.
    pub(crate) fn no_segment(file: String, source: io::Error) -> Self {
        let source = Arc::new(source);
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { file, source }
            }
            _ => Self::NoSegment { file, source },
        }
    }

    /// A file that opening needs: full disks are told from ones that may not be written to.
    pub(crate) fn open(file: &str, source: io::Error) -> Self {
        let (file, source) = (file.to_owned(), Arc::new(source));
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { file, source }
            }
            _ => Self::Open { file, source },
        }
    }

    /// A write or sync that the disk refused for good.
    #[must_use]
    pub fn storage(file: &str, source: io::Error) -> Self {
        Self::Storage {
            file: file.to_owned(),
            source: Arc::new(source),
        }
    }
}
