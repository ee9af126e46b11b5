//! Hears of new commands at once.
//!
//! Why a connection of its own and a full look after every reconnect: a lost connection loses its
//! notifications, and the client hides it by making another one.
//!
//! Invariant: nothing depends on a notification; the router looks by itself every 30 s.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::store::{Database, DatabaseError};
use crate::stream::consumer::chained;

/// What the table's trigger notifies.
const CHANNEL: &str = "commands";

/// More are not worth telling one by one.
const IDS_MAX: usize = 1_000;

/// Longest pause between two attempts to listen.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What was heard since the last look.
#[derive(Debug, Default)]
pub(super) struct Bell {
    heard: Mutex<Heard>,
    rung: Notify,
}

/// Ids, or so many that one looks at everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) ids: Vec<String>,
    pub(super) everything: bool,
}

impl Bell {
    fn tell(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        self.rung.notify_one();
    }

    /// One command may go.
    pub(super) fn id(&self, id: &str) {
        self.tell(|heard| {
            if heard.ids.len() < IDS_MAX {
                heard.ids.push(id.to_owned());
            } else {
                heard.everything = true;
            }
        });
    }

    /// Anything may have happened.
    pub(super) fn everything(&self) {
        self.tell(|heard| heard.everything = true);
    }

    /// Returns when something was heard.
    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }

    /// What was heard; it is forgotten.
    pub(super) fn take(&self) -> Heard {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut heard)
    }
}

/// Listens until `stop`.
pub(super) async fn run(database: Database, bell: std::sync::Arc<Bell>, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        let failure = tokio::select! {
            () = stop.cancelled() => return,
            failure = hear(&database, &bell, &mut backoff) => failure,
        };
        let pause = backoff.pause().min(RETRY_MAX);
        warn!(
            error = chained(&failure),
            retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "cannot listen for new commands; the router looks by itself meanwhile"
        );
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One listener, until it fails.
async fn hear(database: &Database, bell: &Bell, backoff: &mut Backoff) -> DatabaseError {
    let mut listener = match database.listen(CHANNEL).await {
        Ok(listener) => listener,
        Err(failure) => return failure,
    };
    backoff.reset();
    debug!("listening for new commands");
    bell.everything();
    loop {
        match listener.try_recv().await {
            Ok(Some(notification)) => bell.id(notification.payload()),
            Ok(None) => {
                info!("the connection that listens for new commands was lost and made again");
                bell.everything();
            }
            Err(source) => return database.unreachable(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bell_keeps_what_it_was_told_and_gives_up_counting() {
        let bell = Bell::default();
        bell.id("a");
        bell.id("b");
        bell.rung().await;
        let heard = bell.take();
        assert_eq!(heard.ids, ["a", "b"]);
        assert!(!heard.everything);
        assert_eq!(bell.take(), Heard::default());
        for _ in 0..=IDS_MAX {
            bell.id("c");
        }
        let heard = bell.take();
        assert!(heard.everything && heard.ids.len() == IDS_MAX);
    }
}
