//! Dead letters: why, which bytes, and read again.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::answer::{self, Wants};
use super::ask::{self, Asked};
use super::devices::imei_text;
use super::page::{self, Page};
use super::problem::Problem;
use super::tokens::Visitor;
use super::{Id, Told, Web, now};
use crate::letters::redrive::{self, How, Outcome};
use crate::letters::show::{self, Versions};
use crate::operator::moment;
use crate::store::again::Again;
use crate::store::{StoreError, dictionary, letters};

/// Bytes of a letter that are told.
const BYTES_MAX: usize = 64 * 1024;

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    first_failed: DateTime<Utc>,
    last_failed: DateTime<Utc>,
    error_class: String,
    reason: String,
    vendor: Option<String>,
    device_id: Option<i32>,
    imei: Option<i64>,
    ident: Option<String>,
    gateway: String,
    records: i64,
    size_bytes: i64,
    delivery_count: i32,
    sqlstate: Option<String>,
}

impl Row {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "at": moment::text(self.last_failed),
            "first_at": moment::text(self.first_failed),
            "class": self.error_class,
            "reason": self.reason,
            "vendor": self.vendor,
            "device_id": self.device_id,
            "imei": imei_text(self.imei),
            "ident": self.ident,
            "gateway": self.gateway,
            "records": self.records,
            "size_bytes": self.size_bytes,
            "times": self.delivery_count,
            "sqlstate": self.sqlstate,
        })
    }
}

macro_rules! of_letters {
    ($rest:literal) => {
        concat!(
            "SELECT l.id, l.first_failed, l.last_failed, l.error_class, l.reason, d.vendor, l.device_id, \
                 d.imei, d.ident, l.gateway, l.records, octet_length(l.bytes)::int8 AS size_bytes, \
                 l.delivery_count, l.sqlstate \
             FROM dead_letters l LEFT JOIN devices d ON d.id = l.device_id WHERE ",
            $rest
        )
    };
}

fn not_there(id: i64) -> Problem {
    Problem::NotThere(format!(
        "there is no dead letter {id}: it was redriven or dropped, or never was"
    ))
}

/// `GET /dead-letters`
pub(super) async fn list(State(web): State<Web>, wants: Wants, uri: Uri) -> Told {
    let page = Page::read(&Asked::read(uri.query(), &page::PARAMETERS)?)?;
    let rows: Vec<Row> = sqlx::query_as(of_letters!("l.id < $1 ORDER BY l.id DESC LIMIT $2"))
        .bind(page.after.unwrap_or(i64::MAX))
        .bind(page.rows())
        .fetch_all(&web.reads)
        .await
        .map_err(|source| StoreError::new("listing dead letters", source))?;
    let told = page.told(rows, |row| row.id, Row::to_json);
    Ok(answer::tagged(&wants, &told))
}

/// What the first bytes are, and where reading stopped.
fn notes(letter: &letters::Letter, stopped: Option<usize>) -> Vec<Value> {
    let mut notes = Vec::new();
    let mut note = |from: usize, to: usize, what: &str| {
        if from < to && to <= letter.bytes.len() {
            notes.push(json!({"from": from, "to": to, "what": what}));
        }
    };
    if show::is_data_field(letter) {
        note(0, 1, "codec id");
        note(1, 2, "first count of records");
    }
    if let Some(at) = stopped {
        note(at, letter.bytes.len(), "not read");
    }
    notes
}

/// `GET /dead-letters/{id}`
pub(super) async fn one(State(web): State<Web>, wants: Wants, Id(id): Id, uri: Uri) -> Told {
    Asked::read(uri.query(), &[])?;
    let id = ask::letter(&id)?;
    let refused = |source| StoreError::new("reading a dead letter", source);
    let mut on = web.reads.acquire().await.map_err(refused)?;
    let row: Option<Row> = sqlx::query_as(of_letters!("l.id = $1"))
        .bind(id)
        .fetch_optional(&mut *on)
        .await
        .map_err(refused)?;
    let letter = letters::find(&mut on, id, false).await?;
    let (row, letter) = row.zip(letter).ok_or_else(|| not_there(id))?;
    let versions = Versions {
        loaded: dictionary::loaded(&mut on).await?,
        ours: dictionary::content_hash(),
        sensors: web.sensors.clone(),
        now_ms: u64::try_from(now().timestamp_millis()).unwrap_or(0),
    };
    drop(on);
    let (succeeds, because, stopped) = show::judged(&letter, &versions);
    let stopped = letter.byte_offset.or(stopped);
    let shown = &letter.bytes[..letter.bytes.len().min(BYTES_MAX)];
    let mut told = row.to_json();
    told["hex"] = hex::encode(shown).into();
    told["truncated"] = (shown.len() < letter.bytes.len()).into();
    told["stopped_at"] = json!(stopped);
    told["notes"] = notes(&letter, stopped).into();
    told["redrive_would_succeed"] = succeeds.into();
    told["because"] = because.into();
    Ok(answer::tagged(&wants, &told))
}

/// `POST /dead-letters/{id}/redrive`
pub(super) async fn redrive(
    State(web): State<Web>,
    Extension(visitor): Extension<Arc<Visitor>>,
    Id(id): Id,
    uri: Uri,
) -> Told {
    Asked::read(uri.query(), &[])?;
    let id = ask::letter(&id)?;
    let how = How {
        keep_frames: web.keep_frames,
        dry_run: false,
        sensors: &web.sensors,
    };
    let mut on = web.writer().await?;
    let (outcome, detail, again) = match redrive::one(&mut on, id, &how).await? {
        Outcome::Done(again) => ("redriven", "its records are rows".to_owned(), again),
        Outcome::Skipped(why) => ("passed_by", why, Again::default()),
        Outcome::Still(why) => ("stays", why, Again::default()),
        Outcome::Gone => return Err(not_there(id)),
    };
    drop(on);
    tracing::info!(
        letter = id,
        outcome,
        by = visitor.name,
        "a dead letter was redriven"
    );
    let told = json!({
        "id": id,
        "outcome": outcome,
        "detail": detail,
        "stored": again.stored,
        "quarantined": again.quarantined,
        "known": again.known + again.corrected,
        "messages": again.messages,
    });
    Ok(answer::passing(&Wants::default(), StatusCode::OK, &told))
}
