//! The one thread that writes: everything that arrives during a sync joins the next commit.
//!
//! Why a thread and not a task: it spends its life in `fdatasync`.
//!
//! Invariants:
//! - A receipt leaves only after `fdatasync` of the commit that holds the frame returned.
//! - A failed write or sync is never tried again on the same file: the kernel may have dropped
//!   the pages and report success next time. The segment is abandoned and the group goes to a new
//!   one, once; a second failure ends acknowledging until a restart.
//! - A position is never given to two different payloads, also not after a failure.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use contract::{Lane, SpoolSeq};
use tokio::sync::{mpsc, oneshot, watch};

use super::index::Segment;
use super::segment::{self, GROUP_BYTES_MAX, HEADER_BYTES, SegmentHeader};
use super::{Append, Durable, SEGMENT_BYTES, Shared, SpoolError, Tail, recover};
use crate::chain::chain;

/// The last tenth of the spool is kept for the high lane.
const RESERVED_PART: u64 = 10;

#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) append: Append,
    pub(crate) reply: oneshot::Sender<Result<Durable, SpoolError>>,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    tail: watch::Sender<Tail>,
    active: Active,
    next: SpoolSeq,
    buffer: Vec<u8>,
    failed: Option<SpoolError>,
}

/// Why a group was not written.
enum Failure {
    /// The next group may try.
    Passing(SpoolError),
    /// Written pages were refused twice: nothing is acknowledged until a restart.
    Lasting(SpoolError),
}

struct Active {
    number: u64,
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, tail: watch::Sender<Tail>) -> Result<Self, SpoolError> {
        let active = roll(&shared, SpoolSeq::FIRST)?;
        Ok(Self {
            shared,
            tail,
            active,
            next: SpoolSeq::FIRST,
            buffer: Vec::with_capacity(GROUP_BYTES_MAX),
            failed: None,
        })
    }

    /// Runs until every handle is gone and the queue is empty.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        let mut group = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = segment::envelope_bytes(&first.append);
            group.push(first);
            while bytes < GROUP_BYTES_MAX {
                let Ok(waiting) = queue.try_recv() else { break };
                bytes += segment::envelope_bytes(&waiting.append);
                group.push(waiting);
            }
            self.commit(&mut group);
        }
    }

    fn commit(&mut self, group: &mut Vec<Waiting>) {
        if let Some(failed) = &self.failed {
            refuse(group.drain(..), failed);
            return;
        }
        let (kept, refused) = self.admit(group);
        if let Some(error) = refused {
            let unlucky = group.extract_if(.., |w| !kept(w.append.lane));
            refuse(unlucky, &error);
        }
        if group.is_empty() {
            return;
        }
        match self.write(group) {
            Ok(()) => self.hand_out(group),
            Err(Failure::Passing(error)) => {
                tracing::error!(
                    error = chain(&error),
                    "no new segment; frames are refused meanwhile"
                );
                refuse(group.drain(..), &error);
            }
            Err(Failure::Lasting(error)) => {
                tracing::error!(
                    error = chain(&error),
                    "spool stopped acknowledging; restart once the disk is well"
                );
                refuse(group.drain(..), &error);
                self.shared.failed.store(true, Ordering::Relaxed);
                self.failed = Some(error);
            }
        }
    }

    /// Makes room, and says which lanes may still be written.
    fn admit(&self, group: &[Waiting]) -> (fn(Lane) -> bool, Option<SpoolError>) {
        let bytes: usize = group
            .iter()
            .map(|w| segment::envelope_bytes(&w.append))
            .sum();
        let needed = bytes as u64 + SEGMENT_BYTES / 8;
        let bytes_max = self.shared.config.bytes_max;
        let open = bytes_max - bytes_max / RESERVED_PART;
        if self.shared.index().used_bytes() + needed > open {
            self.release(open.saturating_sub(needed));
        }
        let used_bytes = self.shared.index().used_bytes();
        let full = SpoolError::Full {
            used_bytes,
            bytes_max,
        };
        if used_bytes + needed <= open {
            (|_| true, None)
        } else if used_bytes + needed <= bytes_max {
            (|lane| lane == Lane::High, Some(full))
        } else {
            (|_| false, Some(full))
        }
    }

    /// Deletes settled segments, oldest first, until at most `bytes` are used.
    fn release(&self, bytes: u64) {
        let releasable = self.shared.index().releasable(self.active.number);
        for segment in releasable {
            if self.shared.index().used_bytes() <= bytes {
                return;
            }
            match fs::remove_file(&segment.path) {
                Ok(()) => self.shared.index().forget(segment.number),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.shared.index().forget(segment.number);
                }
                Err(source) => {
                    tracing::warn!(file = %segment.path.display(), %source, "settled segment could not be removed");
                }
            }
        }
    }

    fn write(&mut self, group: &[Waiting]) -> Result<(), Failure> {
        if self.active.bytes >= SEGMENT_BYTES {
            // Nothing was written yet, so the next group may try again.
            self.active = roll(&self.shared, self.next).map_err(Failure::Passing)?;
        }
        let Err(first_failure) = self.write_to_active(group) else {
            return Ok(());
        };
        tracing::error!(
            error = chain(&first_failure),
            "segment abandoned, its last group goes to a new one"
        );
        self.active = roll(&self.shared, self.next).map_err(Failure::Lasting)?;
        self.write_to_active(group).map_err(Failure::Lasting)
    }

    fn write_to_active(&mut self, group: &[Waiting]) -> Result<(), SpoolError> {
        self.buffer.clear();
        let appends = group.iter().map(|w| &w.append);
        segment::encode_commit(
            &mut self.buffer,
            self.shared.spool,
            self.active.number,
            self.next,
            appends,
        );
        let end = self.active.bytes + self.buffer.len() as u64;
        let written = self
            .active
            .file
            .write_all_at(&self.buffer, self.active.bytes)
            .and_then(|()| self.active.file.sync_data());
        if let Err(source) = written {
            self.shared.index().abandoned(self.active.number, end);
            return Err(SpoolError::storage(&self.active.path, source));
        }
        self.active.bytes = end;
        Ok(())
    }

    fn hand_out(&mut self, group: &mut Vec<Waiting>) {
        let records = group.iter().map(|w| u64::from(w.append.record_count)).sum();
        let panic = group.iter().any(|w| w.append.panic);
        let mut receipts = Vec::with_capacity(group.len());
        let mut last = self.next;
        for waiting in group.drain(..) {
            last = self.next;
            let receipt = Durable {
                spool: self.shared.spool,
                seq: last,
                record_count: waiting.append.record_count,
            };
            receipts.push((waiting.reply, receipt));
            self.next = self.next.next();
        }
        let (number, bytes) = (self.active.number, self.active.bytes);
        self.shared.index().committed(number, last, bytes, records);
        self.tail.send_modify(|tail| {
            tail.commits += 1;
            tail.panics += u64::from(panic);
        });
        for (reply, receipt) in receipts {
            // A connection that is gone does not need its receipt; the record is kept anyway.
            let _ = reply.send(Ok(receipt));
        }
    }
}

fn refuse(group: impl Iterator<Item = Waiting>, error: &SpoolError) {
    for waiting in group {
        let _ = waiting.reply.send(Err(error.clone()));
    }
}

/// Starts the next segment: file, header, directory, each synced before anything relies on it.
fn roll(shared: &Shared, first: SpoolSeq) -> Result<Active, SpoolError> {
    let dir = &shared.config.dir;
    let mut number = shared.index().next_number();
    let (path, file) = loop {
        let path = recover::segment_path(dir, number);
        match File::options().write(true).create_new(true).open(&path) {
            Ok(file) => break (path, file),
            // A stranger sits on the name: it is not ours to overwrite.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(source) => return Err(SpoolError::storage(&path, source)),
        }
    };
    let header = SegmentHeader {
        spool: shared.spool,
        segment: number,
        first,
    };
    start(&file, dir, &header).map_err(|source| SpoolError::storage(&path, source))?;
    shared.index().add(Segment {
        number,
        path: path.clone(),
        spool: shared.spool,
        first,
        last: None,
        durable_bytes: HEADER_BYTES as u64,
        file_bytes: HEADER_BYTES as u64,
    });
    Ok(Active {
        number,
        path,
        file,
        bytes: HEADER_BYTES as u64,
    })
}

fn start(file: &File, dir: &Path, header: &SegmentHeader) -> io::Result<()> {
    file.write_all_at(&header.encode(), 0)?;
    file.sync_all()?;
    // A file is only as durable as its directory entry (fsync(2)).
    File::open(dir)?.sync_all()
}
