//! The web app and the API behind it, served beside the status pages.
//!
//! Why in this process: who runs the cloud has it, without another program to install and to let
//! into the database. It reads the same tables as everybody; what it writes are the rows that `cloud
//! cmd` and `cloud dlq` write.
//!
//! Invariants: nobody comes in unless `web.tokens` or `web.open` says so; reading has a small pool of
//! its own whose statements end after [`READ_MAX`], so that a page can never keep a writer waiting;
//! every list is bounded; no text of a request becomes SQL.

mod answer;
mod app;
mod ask;
mod commands;
mod devices;
mod door;
mod letters;
mod live;
mod page;
mod pipeline;
pub mod problem;
mod series;
pub mod tokens;
mod track;
mod track_file;

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts as Head;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio_util::sync::CancellationToken;

use self::answer::Wants;
use self::app::App;
use self::ask::Asked;
use self::live::Live;
use self::pipeline::Pipeline;
use self::problem::Problem;
use self::tokens::{Gate, Role, Visitor};
use crate::admin::Admin;
use crate::config::{Config, SensorConfig, TilesUrl};
use crate::metrics::now_ms;
use crate::operator::moment;
use crate::store::{Database, StoreError};

/// Connections for reading; pages that ask for more wait for one another.
const READERS: u32 = 4;

/// Longest statement of a page.
pub const READ_MAX: Duration = Duration::from_secs(10);

/// Longest statement of somebody who acts.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// Below which the API lives.
const API: &str = "/api/v1";

/// The interface in full.
const OPENAPI: &str = include_str!("../../../docs/openapi-cloud.json");

/// Connections for those who act; they wait for one another.
const WRITERS: u32 = 2;

/// What a handler gives back.
type Told = Result<Response, Problem>;

/// What the pages stand on.
#[derive(Clone, Debug)]
pub struct Web(Arc<Parts>);

/// The parts of [`Web`].
#[derive(Debug)]
pub struct Parts {
    gate: Gate,
    app: App,
    tiles: Option<TilesUrl>,
    /// Cannot write.
    reads: PgPool,
    writes: PgPool,
    live: Live,
    pipeline: Pipeline,
    admin: Admin,
    /// What streams of sensors mean, also where none are read any more.
    sensors: SensorConfig,
    keep_frames: bool,
    stop: CancellationToken,
}

impl Deref for Web {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Web {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(
        gate: Gate,
        config: &Config,
        database: &Database,
        admin: &Admin,
        stop: CancellationToken,
    ) -> Self {
        let tiles = config.web.tiles.clone();
        // Of this moment, so of this process: ports are not shared.
        Self(Arc::new(Parts {
            app: App::new(tiles.as_ref()),
            live: Live::new(now_ms()),
            reads: database.beside(READERS, READ_MAX, false),
            writes: database.beside(WRITERS, WRITE_MAX, true),
            pipeline: Pipeline::new(),
            admin: admin.clone(),
            sensors: config.sensors.clone().unwrap_or_else(SensorConfig::of_any),
            keep_frames: config.store.keep_frames,
            gate,
            tiles,
            stop,
        }))
    }

    /// Looks for what is new while somebody listens, and samples the counters.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + 'static {
        let (live, reads) = (self.live.clone(), self.reads.clone());
        let looking = live.run(reads, self.stop.clone());
        let sampling = pipeline::sample(self.clone());
        async {
            tokio::join!(looking, sampling);
        }
    }

    /// A connection that may write.
    async fn writer(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        let acquired = self.writes.acquire().await;
        acquired.map_err(|source| StoreError::new("acting for somebody", source))
    }

    /// The app at `/`, the API below `/api/v1`.
    pub fn router(self) -> Router {
        let api = Router::new()
            .route("/me", get(me))
            .route("/devices", get(devices::list))
            .route("/latest", get(devices::latest))
            .route("/devices/{id}", get(devices::one))
            .route("/devices/{id}/track", get(track::track))
            .route("/devices/{id}/track.csv", get(track_file::csv))
            .route("/devices/{id}/track.gpx", get(track_file::gpx))
            .route("/devices/{id}/series", get(series::series))
            .route(
                "/devices/{id}/commands",
                get(commands::list).post(commands::give),
            )
            .route("/commands/{id}", get(commands::one))
            .route("/commands/{id}/cancel", post(commands::cancel))
            .route("/dead-letters", get(letters::list))
            .route("/dead-letters/{id}", get(letters::one))
            .route("/dead-letters/{id}/redrive", post(letters::redrive))
            .route("/pipeline", get(pipeline::pipeline))
            .route("/live", get(live::listen))
            .fallback(async || Problem::NoPath)
            .method_not_allowed_fallback(async || Problem::Method)
            .layer(middleware::from_fn_with_state(self.clone(), admitted))
            .route("/openapi.json", get(openapi))
            .layer(middleware::from_fn(safe));
        Router::new().nest(API, api).fallback(page).with_state(self)
    }
}

/// The id in a path, whatever it is an id of.
#[derive(Debug)]
struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Head, state: &S) -> Result<Self, Problem> {
        let found: Result<Path<String>, PathRejection> =
            Path::from_request_parts(head, state).await;
        let Path(id) = found.map_err(|refused| Problem::Malformed(refused.body_text()))?;
        Ok(Self(id))
    }
}

/// By our clock.
fn now() -> DateTime<Utc> {
    moment::at_ms(now_ms())
}

/// Lets in who may come in, and only operators to what changes something.
async fn admitted(State(web): State<Web>, mut request: Request, next: Next) -> Response {
    let visitor = match who(&web, request.headers(), request.method()) {
        Ok(visitor) => visitor,
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

fn who(web: &Web, headers: &HeaderMap, method: &Method) -> Result<Arc<Visitor>, Problem> {
    if !web.gate.asks_for_tokens() {
        door::from_here(headers)?;
    }
    let visitor = web.gate.who(door::bearer(headers))?;
    let only_looks = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if !only_looks && visitor.role < Role::Operator {
        return Err(Problem::Role);
    }
    Ok(visitor)
}

/// What every answer of the API says to browsers.
async fn safe(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (
            header::HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    answer
}

/// A file of the app; the page itself for a place in it.
async fn page(State(web): State<Web>, method: Method, headers: HeaderMap, uri: Uri) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return Problem::Method.into_response();
    }
    let wants = Wants::of(&headers);
    let path = uri.path().trim_start_matches('/');
    let path = if path.is_empty() { app::INDEX } else { path };
    let is_place = || {
        let accepts = headers.get(header::ACCEPT);
        let is_page = accepts.is_some_and(|it| it.as_bytes().starts_with(b"text/html"));
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
        is_page && path.chars().all(is_word) && !path.starts_with("api/")
    };
    let found = web.app.file(path, &wants);
    let found = found.or_else(|| is_place().then(|| web.app.file(app::INDEX, &wants))?);
    let Some(mut found) = found else {
        return Problem::NoPath.into_response();
    };
    let headers = found.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    found
}

/// `GET /me`
async fn me(
    State(web): State<Web>,
    Extension(visitor): Extension<Arc<Visitor>>,
    wants: Wants,
    uri: Uri,
) -> Told {
    Asked::read(uri.query(), &[])?;
    let told = json!({
        "name": visitor.name,
        "role": visitor.role.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "tiles": web.tiles.as_ref().map(|tiles| &tiles.template),
        "now": moment::text(now()),
    });
    Ok(answer::passing(&wants, axum::http::StatusCode::OK, &told))
}

/// `GET /openapi.json`
async fn openapi(State(web): State<Web>, headers: HeaderMap) -> Told {
    if !web.gate.asks_for_tokens() {
        door::from_here(&headers)?;
    }
    static TAG: OnceLock<String> = OnceLock::new();
    let tag = TAG.get_or_init(|| answer::tag(OPENAPI.as_bytes()));
    let wants = Wants::of(&headers);
    Ok(answer::file(
        &wants,
        "application/json",
        tag,
        OPENAPI.as_bytes(),
        None,
    ))
}
