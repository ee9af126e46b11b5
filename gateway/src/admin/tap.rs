//! `/tap`: frames as they are kept, one JSON object a line, for as long as somebody reads.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use super::Admin;
use super::pages::of_query;
use crate::logbook::ImeiStyle;
use crate::tap::{Line, Next, TAPS_MAX, Watcher};

/// Written and not yet read, beside the system's own buffers.
const BUFFER_BYTES: usize = 64 * 1024;

/// An empty line after so much silence, so that a reader that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A reader that takes nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) async fn tap(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let only = of_query(query.as_deref(), "imei").map(str::parse);
    let Ok(only) = only.transpose() else {
        return (StatusCode::BAD_REQUEST, "imei is 15 digits\n").into_response();
    };
    let Some(watcher) = admin.metrics.panel.taps.watch(only) else {
        let why = format!("{TAPS_MAX} watch already; end one of them\n");
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let (out, body) = tokio::io::duplex(BUFFER_BYTES);
    tokio::spawn(show(watcher, out, admin.imei, admin.stop));
    let body = Body::from_stream(ReaderStream::new(body));
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

async fn show(
    mut frames: Watcher,
    mut out: DuplexStream,
    imei: ImeiStyle,
    stop: CancellationToken,
) {
    loop {
        let (line, goes_on) = tokio::select! {
            next = frames.next() => match next {
                Next::Frame(frame) => (Line::of_frame(&frame, imei), true),
                Next::TooSlow(missed) => (Line::too_slow(missed), false),
                Next::End => return,
            },
            () = tokio::time::sleep(KEEP_ALIVE) => ("\n".to_owned(), true),
            () = stop.cancelled() => (Line::stopping(), false),
        };
        let written = timeout(WRITE_TIMEOUT, out.write_all(line.as_bytes())).await;
        if !goes_on || !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}
