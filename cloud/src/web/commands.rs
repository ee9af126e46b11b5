//! Commands to devices: given, seen, taken back. The same rows as `cloud cmd` makes.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::answer::{self, Wants};
use super::ask::{self, Asked};
use super::devices::{self, imei_text};
use super::page::{self, Page};
use super::problem::Problem;
use super::tokens::Visitor;
use super::{API, Id, Told, Web};
use crate::commands::give::{self, GiveError, Given};
use crate::commands::uuid;
use crate::operator::moment;
use crate::store::StoreError;

/// Largest body: four times the longest command, for what JSON makes of it.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// A command waits a day unless said otherwise, as in the table.
const EXPIRES_S: u64 = 24 * 3_600;

/// Longest wait of a command.
const EXPIRES_S_MAX: u64 = 30 * 24 * 3_600;

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    id: String,
    device_id: Option<i32>,
    imei: i64,
    payload: String,
    status: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    gateway: Option<String>,
    requested_by: String,
    reply: Option<String>,
    reason: Option<String>,
}

impl Row {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "device_id": self.device_id,
            "imei": imei_text(Some(self.imei)),
            "text": self.payload,
            "state": self.status,
            "created_at": moment::text(self.created_at),
            "expires_at": moment::text(self.expires_at),
            "sent_at": self.sent_at.map(moment::text),
            "finished_at": self.finished_at.map(moment::text),
            "gateway": self.gateway,
            "requested_by": self.requested_by,
            "response": self.reply,
            "reason": self.reason,
        })
    }
}

macro_rules! of_commands {
    ($rest:literal) => {
        concat!(
            "SELECT c.seq, c.id::text, d.id AS device_id, c.imei, c.payload, c.status, c.created_at, \
                 c.expires_at, c.sent_at, c.finished_at, c.gateway, c.requested_by, c.reply, c.reason \
             FROM commands c LEFT JOIN devices d ON d.imei = c.imei WHERE ",
            $rest
        )
    };
}

/// `GET /devices/{id}/commands`
pub(super) async fn list(State(web): State<Web>, wants: Wants, Id(id): Id, uri: Uri) -> Told {
    let page = Page::read(&Asked::read(uri.query(), &page::PARAMETERS)?)?;
    let imei = devices::imei_of(&web.reads, ask::device(&id)?).await?;
    // Nobody inserts a command without an IMEI, so who has none has none.
    let rows: Vec<Row> = sqlx::query_as(of_commands!(
        "c.imei = $1 AND c.seq < $2 ORDER BY c.seq DESC LIMIT $3"
    ))
    .bind(imei.unwrap_or(0))
    .bind(page.after.unwrap_or(i64::MAX))
    .bind(page.rows())
    .fetch_all(&web.reads)
    .await
    .map_err(|source| StoreError::new("listing commands", source))?;
    let told = page.told(rows, |row| row.seq, Row::to_json);
    Ok(answer::tagged(&wants, &told))
}

/// The id of a command in a path, as PostgreSQL writes it.
fn command_id(text: &str) -> Result<String, Problem> {
    uuid(text).ok_or_else(|| Problem::Malformed("the id of a command is a UUID".to_owned()))
}

async fn find(pool: &PgPool, id: &str) -> Result<Row, Problem> {
    let found: Option<Row> = sqlx::query_as(of_commands!("c.id = $1::uuid"))
        .bind(id)
        .fetch_optional(pool)
        .await
        .map_err(|source| StoreError::new("reading a command", source))?;
    found.ok_or_else(|| Problem::NotThere(format!("there is no command {id}")))
}

/// `GET /commands/{id}`
pub(super) async fn one(State(web): State<Web>, wants: Wants, Id(id): Id, uri: Uri) -> Told {
    Asked::read(uri.query(), &[])?;
    let row = find(&web.reads, &command_id(&id)?).await?;
    Ok(answer::tagged(&wants, &row.to_json()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    text: String,
    expires_in_s: Option<u64>,
}

/// Reads a small JSON document.
async fn document(headers: &HeaderMap, body: Body) -> Result<New, Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Problem::MediaType);
    }
    let bytes = to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|_| Problem::TooLarge(BODY_BYTES_MAX))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::Malformed(format!("the body is no such command: {error}")))
}

/// `POST /devices/{id}/commands`
pub(super) async fn give(
    State(web): State<Web>,
    Extension(visitor): Extension<Arc<Visitor>>,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Told {
    Asked::read(uri.query(), &[])?;
    let id = ask::device(&id)?;
    let new = document(&headers, body).await?;
    let expires_in_s = new.expires_in_s.unwrap_or(EXPIRES_S);
    if !(1..=EXPIRES_S_MAX).contains(&expires_in_s) {
        let why = format!("expires_in_s is no number from 1 to {EXPIRES_S_MAX}");
        return Err(Problem::Malformed(why));
    }
    if new.text.contains('\0') {
        return Err(Problem::Malformed("text has a NUL in it".to_owned()));
    }
    let imei = devices::imei_of(&web.reads, id).await?.ok_or_else(|| {
        Problem::TooLate(format!(
            "device {id} has no IMEI, and only trackers that have one take commands"
        ))
    })?;
    let given = Given {
        imei,
        payload: &new.text,
        codec: 12,
        idempotent: false,
        expires_in: Duration::from_secs(expires_in_s),
        requested_by: Some(visitor.name.clone()),
    };
    let mut on = web.writer().await?;
    let cid = give::give(&mut on, &given)
        .await
        .map_err(|error| match error {
            GiveError::Refused { message, hint } => Problem::Refused(format!("{message}. {hint}")),
            GiveError::Store(error) => error.into(),
        })?;
    tracing::info!(command = cid, by = visitor.name, "a command was given");
    let row = find(&web.writes, &cid);
    drop(on);
    let told = row.await?.to_json();
    let mut answer = answer::passing(&Wants::default(), StatusCode::CREATED, &told);
    if let Ok(place) = HeaderValue::from_str(&format!("{API}/commands/{cid}")) {
        answer.headers_mut().insert(header::LOCATION, place);
    }
    Ok(answer)
}

/// `POST /commands/{id}/cancel`
pub(super) async fn cancel(
    State(web): State<Web>,
    Extension(visitor): Extension<Arc<Visitor>>,
    Id(id): Id,
    uri: Uri,
) -> Told {
    Asked::read(uri.query(), &[])?;
    let id = command_id(&id)?;
    let mut on = web.writer().await?;
    let is_done = give::cancel(&mut on, &id).await?;
    drop(on);
    let row = find(&web.writes, &id).await?;
    if !is_done {
        let state = row.status;
        let why = format!("command {id} is {state}: a gateway has it, or it is over");
        return Err(Problem::TooLate(why));
    }
    tracing::info!(command = id, by = visitor.name, "a command was taken back");
    Ok(answer::passing(
        &Wants::default(),
        StatusCode::OK,
        &row.to_json(),
    ))
}
