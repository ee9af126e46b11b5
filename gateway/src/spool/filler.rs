//! Makes the next segments ready on a thread of its own.
//!
//! Why beside the commits: a file is filled for as long as several commits take, and a gateway that
//! is offline or flooded needs a new one every few megabytes. Trackers would wait for each.
//!
//! Invariants: one file at a time, and what became of it is taken in before the next is begun; when
//! this is gone so is its thread, which would hold the directory otherwise.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use spool::fs::RealFs;
use spool::{Filled, Filling, SpoolWriter};

use crate::chain::chain;

pub(super) struct Filler {
    /// `None` only while this is dropped.
    to_fill: Option<Sender<Filling<RealFs>>>,
    filled: Receiver<Filled>,
    is_busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl Filler {
    /// Starts its thread, which ends with this value.
    /// # Errors
    /// As the system says.
    pub(super) fn start() -> std::io::Result<Self> {
        let (to_fill, waiting) = channel::<Filling<RealFs>>();
        let (done, filled) = channel();
        let thread = thread::Builder::new()
            .name("spool-fill".to_owned())
            .spawn(move || {
                for filling in waiting {
                    if done.send(filling.fill()).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            to_fill: Some(to_fill),
            filled,
            is_busy: false,
            thread: Some(thread),
        })
    }

    /// Takes in what is ready and begins the next, if one is wanted. Never waits for the disk longer
    /// than a name takes to be durable.
    pub(super) fn turn(&mut self, writer: &mut SpoolWriter<RealFs>) {
        match self.filled.try_recv() {
            Ok(filled) => {
                self.is_busy = false;
                if let Err(error) = writer.adopt(filled) {
                    let error = chain(&error);
                    tracing::warn!(error, "no segment could be made ahead; tried again later");
                }
            }
            Err(TryRecvError::Empty) if self.is_busy => return,
            Err(TryRecvError::Empty) => {}
            // Without the thread the writer makes its segments itself.
            Err(TryRecvError::Disconnected) => return,
        }
        let Some(to_fill) = &self.to_fill else {
            return;
        };
        if let Some(filling) = writer.begin_filling() {
            self.is_busy = to_fill.send(filling).is_ok();
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.to_fill = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was said there.
            let _ = thread.join();
        }
    }
}
