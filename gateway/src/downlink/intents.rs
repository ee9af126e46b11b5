//! The thread that makes intents durable before a command may go out.
//!
//! Why a thread: it waits for `fdatasync`, which the runtime's threads must not.

use std::sync::Weak;
use std::sync::mpsc::Receiver;

use tokio::sync::oneshot;

use super::dispatch::{Downlink, Shared};
use super::queue::Reason;
use crate::chain::chain;
use crate::spool::{Intent, Intents, Spool, SpoolError};

pub(super) enum Job {
    Begin(Intent),
    /// Its outcome is written down elsewhere.
    Finish(String),
    /// Everything before this is done; there is no more.
    End(oneshot::Sender<()>),
}

/// Works until [`Job::End`] or until nobody can send jobs. `_spool` holds the directory's lock.
pub(super) fn work(mut log: Intents, _spool: Spool, jobs: &Receiver<Job>, shared: &Weak<Shared>) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Begin(intent) => {
                let begun = log.begin(&intent);
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                let downlink = Downlink { shared };
                match begun {
                    Ok(begun) => downlink.begun(begun),
                    Err(error) => downlink.not_begun(&intent.cid, reason(&intent.cid, &error)),
                }
            }
            Job::Finish(cid) => {
                if let Err(error) = log.finish(&cid) {
                    tracing::warn!(
                        cid,
                        error = chain(&error),
                        "the end of a command could not be noted; after a restart it is reported as unknown once more, which changes nothing"
                    );
                }
            }
            Job::End(done) => {
                // Whoever asked may be tired of waiting.
                let _ = done.send(());
                return;
            }
        }
    }
}

fn reason(cid: &str, error: &SpoolError) -> Reason {
    match error {
        SpoolError::TooLarge { .. } => Reason::TooLarge,
        SpoolError::Full { .. } => Reason::Busy,
        _ => {
            tracing::error!(
                cid,
                error = chain(error),
                "command refused, because its intent cannot be made durable: see to the disk of spool.dir"
            );
            Reason::Storage
        }
    }
}
