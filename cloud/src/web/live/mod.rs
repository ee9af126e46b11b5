//! `GET /live`: positions as they are committed.
//!
//! Why one look for all listeners: how many watch must not matter to the database. It is made only
//! while somebody listens, and rests four times as long as it took.
//!
//! Invariant: what a listener is told first and what it hears afterwards meet without a gap: both are
//! taken under one lock.

mod picture;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use sqlx::PgPool;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use self::picture::{Event, Mark, Picture};
use super::ask::Asked;
use super::devices;
use super::problem::Problem;
use super::{Told, Web, door};
use crate::store::StoreError;
use crate::stream::consumer::chained;

/// Between two looks at the table.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// So many times as long as a look took, it rests.
const REST: u32 = 4;

/// After a look that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Longest wait for the first look.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(10);

/// Listeners of one process.
const LISTENERS_MAX: usize = 64;

/// Events that a listener may be behind before it gets a new picture.
const BEHIND_MAX: usize = 16;

/// Between two signs of life; also how long a token that was taken back is still heard.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// What begins every stream: come back after so many milliseconds.
const BEGINNING: &str = "retry: 2000\n\n";

/// A comment.
const COMMENT: &str = ":\n\n";

/// The part that looks, and what it saw.
#[derive(Clone, Debug)]
pub(super) struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    picture: Mutex<Picture>,
    news: broadcast::Sender<Arc<Event>>,
    /// Looks so far.
    looks: watch::Sender<u64>,
    listeners: watch::Sender<usize>,
}

impl Inner {
    fn picture(&self) -> MutexGuard<'_, Picture> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Nobody listens yet. `epoch` must differ from that of every other process.
    pub(super) fn new(epoch: u64) -> Self {
        Self(Arc::new(Inner {
            picture: Mutex::new(Picture::new(format!("{epoch:016x}"))),
            news: broadcast::Sender::new(BEHIND_MAX),
            looks: watch::Sender::new(0),
            listeners: watch::Sender::new(0),
        }))
    }

    /// Looks while somebody listens, until `stop`.
    pub(super) async fn run(self, reads: PgPool, stop: CancellationToken) {
        let mut listeners = self.0.listeners.subscribe();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // The sender is ours and lives as long.
                _ = listeners.wait_for(|count| *count > 0) => {}
            }
            let began = Instant::now();
            let pause = match self.look(&reads).await {
                Ok(()) => (began.elapsed() * REST).max(LOOK_EVERY),
                Err(error) => {
                    tracing::warn!(error = chained(&error), "cannot look for new positions");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn look(&self, reads: &PgPool) -> Result<(), StoreError> {
        type Row = (
            i32,
            chrono::DateTime<chrono::Utc>,
            i32,
            chrono::DateTime<chrono::Utc>,
        );
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT device_id, fix_time, record_hash, received_at FROM device_latest",
        )
        .fetch_all(reads)
        .await
        .map_err(|source| StoreError::new("looking for new positions", source))?;
        let marks: Vec<(i32, Mark)> = rows
            .into_iter()
            .map(|(device, fix, hash, received)| (device, (fix, hash, received)))
            .collect();
        let changed = self.0.picture().changed(&marks);
        if !changed.is_empty() {
            let rows = devices::latest_of(reads, &changed).await?;
            let mut picture = self.0.picture();
            if let Some(event) = picture.take(&rows) {
                // Nobody hears it: they have just gone.
                let _ = self.0.news.send(event);
            }
        }
        self.0.looks.send_modify(|looks| *looks += 1);
        Ok(())
    }

    /// One more listener, unless there are too many.
    fn enter(&self) -> Result<Listening, Problem> {
        let mut is_in = false;
        self.0.listeners.send_modify(|count| {
            is_in = *count < LISTENERS_MAX;
            *count += usize::from(is_in);
        });
        match is_in {
            true => Ok(Listening(self.0.clone())),
            false => Err(Problem::Listeners(LISTENERS_MAX)),
        }
    }
}

/// Somebody listens as long as this lives.
#[derive(Debug)]
struct Listening(Arc<Inner>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listeners.send_modify(|count| *count -= 1);
    }
}

impl Listening {
    /// What to tell first, and where to hear the rest.
    fn begin(&self, last: Option<&str>) -> (Vec<Bytes>, broadcast::Receiver<Arc<Event>>) {
        let picture = self.0.picture();
        let missed = last.and_then(|last| picture.since(last));
        let first = match missed {
            Some(missed) => missed.into_iter().map(bytes).collect(),
            None => picture.whole().into_iter().map(Bytes::from).collect(),
        };
        (first, self.0.news.subscribe())
    }
}

/// An event that many listeners are sent, without a copy for each.
fn bytes(event: Arc<Event>) -> Bytes {
    struct Shared(Arc<Event>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            self.0.text.as_bytes()
        }
    }
    Bytes::from_owner(Shared(event))
}

/// `GET /live`
pub(super) async fn listen(State(web): State<Web>, headers: HeaderMap, uri: Uri) -> Told {
    Asked::read(uri.query(), &[])?;
    if web.stop.is_cancelled() {
        return Err(Problem::Stopping);
    }
    let listening = web.live.enter()?;
    let mut looks = web.live.0.looks.subscribe();
    let before = *looks.borrow();
    let looked = looks.wait_for(|looks| *looks > before);
    if !matches!(timeout(FIRST_LOOK_MAX, looked).await, Ok(Ok(_))) {
        return Err(Problem::Database);
    }
    let last = headers.get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()).map(str::to_owned);
    let token = door::bearer(&headers).map(str::to_owned);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(tell(web, listening, last, token, sender));
    let mut answer = Response::new(Body::from_stream(ReceiverStream::new(receiver)));
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // A proxy that gathers before it hands on would make it anything but live.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(answer)
}

type Sender = mpsc::Sender<Result<Bytes, Infallible>>;

/// Tells one listener until it goes, its token is taken back, or we stop.
async fn tell(
    web: Web,
    listening: Listening,
    last: Option<String>,
    token: Option<String>,
    sender: Sender,
) {
    let telling = async {
        let (first, mut news) = listening.begin(last.as_deref());
        let beginning = Bytes::from_static(BEGINNING.as_bytes());
        for part in std::iter::once(beginning).chain(first) {
            sender.send(Ok(part)).await.ok()?;
        }
        let mut life = tokio::time::interval(SIGN_OF_LIFE);
        life.tick().await;
        loop {
            tokio::select! {
                heard = news.recv() => match heard {
                    Ok(event) => sender.send(Ok(bytes(event))).await.ok()?,
                    Err(RecvError::Lagged(_)) => {
                        let first;
                        (first, news) = listening.begin(None);
                        for part in first {
                            sender.send(Ok(part)).await.ok()?;
                        }
                    }
                    Err(RecvError::Closed) => return None::<()>,
                },
                _ = life.tick() => {
                    web.gate.who(token.as_deref()).ok()?;
                    let comment = Bytes::from_static(COMMENT.as_bytes());
                    sender.send(Ok(comment)).await.ok()?;
                }
            }
        }
    };
    tokio::select! {
        () = web.stop.cancelled() => {}
        () = sender.closed() => {}
        _ = telling => {}
    }
}
