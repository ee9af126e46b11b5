//! A track as a file: CSV for tables, GPX for maps. Every row of it, as it is read.
//!
//! Why in pages: whoever downloads slowly must hold no connection to the database meanwhile. A page
//! begins behind the key of the last row, so that rows which come in between are told or not, but
//! never twice.
//!
//! Invariant: a file that could not be read to its end is cut off, and never ends as if it were whole.

use std::fmt::Write as _;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::Response;
use chrono::{DateTime, Utc};
use quick_xml::escape::escape;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::ask::{self, Asked, Span};
use super::devices;
use super::{Id, Told, Web, now};
use crate::operator::moment;
use crate::store::StoreError;

/// Rows of one page.
const PAGE: i64 = 2_000;

/// Names of the parameters.
const PARAMETERS: [&str; 2] = ["from", "to"];

#[derive(sqlx::FromRow)]
struct Row {
    fix_time: DateTime<Utc>,
    record_hash: i32,
    received_at: DateTime<Utc>,
    latitude: f64,
    longitude: f64,
    altitude_m: Option<i16>,
    heading_deg: Option<i32>,
    speed_kmh: Option<i32>,
    satellites: Option<i16>,
    valid: bool,
    ignition: Option<bool>,
    movement: Option<bool>,
    odometer_m: Option<i64>,
    external_voltage_mv: Option<i32>,
}

/// Form of a file.
#[derive(Clone, Copy)]
enum Form {
    Csv,
    Gpx,
}

/// First line of a table.
const CSV_HEADER: &str = "time,latitude,longitude,altitude_m,heading_deg,speed_kmh,satellites,valid,\
    ignition,movement,odometer_m,external_voltage_mv,received_at\r\n";

fn cell<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

impl Form {
    fn kind(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Gpx => "application/gpx+xml",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Gpx => "gpx",
        }
    }

    fn beginning(self, name: &str) -> String {
        match self {
            Self::Csv => CSV_HEADER.to_owned(),
            Self::Gpx => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                 <gpx version=\"1.1\" creator=\"Milepost\" xmlns=\"http://www.topografix.com/GPX/1/1\">\n\
                 <trk><name>{}</name><trkseg>\n",
                escape(name)
            ),
        }
    }

    fn ending_text(self) -> &'static str {
        match self {
            Self::Csv => "",
            Self::Gpx => "</trkseg></trk>\n</gpx>\n",
        }
    }

    /// Writes a row; GPX has no place for one without a fix.
    fn write(self, text: &mut String, row: &Row) {
        let time = moment::text(row.fix_time);
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Csv => write!(
                text,
                "{time},{},{},{},{},{},{},{},{},{},{},{},{}\r\n",
                row.latitude,
                row.longitude,
                cell(row.altitude_m),
                cell(row.heading_deg),
                cell(row.speed_kmh),
                cell(row.satellites),
                row.valid,
                cell(row.ignition),
                cell(row.movement),
                cell(row.odometer_m),
                cell(row.external_voltage_mv),
                moment::text(row.received_at),
            ),
            Self::Gpx if !row.valid => Ok(()),
            Self::Gpx => {
                let height = row
                    .altitude_m
                    .map_or_else(String::new, |it| format!("<ele>{it}</ele>"));
                writeln!(
                    text,
                    "<trkpt lat=\"{}\" lon=\"{}\">{height}<time>{time}</time></trkpt>",
                    row.latitude, row.longitude
                )
            }
        };
    }
}

async fn page(
    pool: &PgPool,
    device: i32,
    span: &Span,
    after: Option<(DateTime<Utc>, i32)>,
) -> Result<Vec<Row>, StoreError> {
    // Before every key of the span.
    let (time, hash) = after.unwrap_or((span.from, i32::MIN));
    sqlx::query_as(
        "SELECT fix_time, record_hash, received_at, latitude, longitude, altitude_m, heading_deg, \
             speed_kmh, satellites, valid, ignition, movement, odometer_m, external_voltage_mv \
         FROM positions WHERE device_id = $1 AND fix_time >= $2 AND fix_time < $3 \
             AND ($5::bool OR (fix_time, record_hash) > ($2, $4)) \
         ORDER BY fix_time, record_hash LIMIT $6",
    )
    .bind(device)
    .bind(time)
    .bind(span.to)
    .bind(hash)
    .bind(after.is_none())
    .bind(PAGE)
    .fetch_all(pool)
    .await
    .map_err(|source| StoreError::new("reading a track", source))
}

type Part = Result<Bytes, StoreError>;

/// Sends the rest of a file, page by page. `None`: nobody takes it any more, or it is cut off.
async fn send(
    web: Web,
    device: i32,
    span: Span,
    form: Form,
    mut rows: Vec<Row>,
    sender: mpsc::Sender<Part>,
) -> Option<()> {
    loop {
        let mut text = String::with_capacity(rows.len() * 100);
        rows.iter().for_each(|row| form.write(&mut text, row));
        let is_last = i64::try_from(rows.len()).is_ok_and(|rows| rows < PAGE);
        if is_last {
            text.push_str(form.ending_text());
        }
        let after = rows.last().map(|row| (row.fix_time, row.record_hash));
        if !text.is_empty() {
            sender.send(Ok(text.into())).await.ok()?;
        }
        if is_last {
            return Some(());
        }
        rows = match page(&web.reads, device, &span, after).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(
                    error = crate::stream::consumer::chained(&error),
                    "a track that somebody downloads is cut off"
                );
                sender.send(Err(error)).await.ok()?;
                return None;
            }
        };
    }
}

async fn file(web: Web, id: &str, uri: &Uri, form: Form) -> Told {
    let asked = Asked::read(uri.query(), &PARAMETERS)?;
    let (id, span) = (ask::device(id)?, Span::read(&asked, now())?);
    let imei = devices::imei_of(&web.reads, id).await?;
    let name = devices::imei_text(imei).unwrap_or_else(|| format!("device-{id}"));
    // The first page before the status is said: most of what can go wrong shows there.
    let rows = page(&web.reads, id, &span, None).await?;
    let (sender, receiver) = mpsc::channel(2);
    let beginning = form.beginning(&name);
    tokio::spawn(async move {
        sender.send(Ok(beginning.into())).await.ok()?;
        send(web, id, span, form, rows, sender).await
    });
    let day = span.from.format("%Y-%m-%d");
    let disposition = format!("attachment; filename=\"{name}-{day}.{}\"", form.ending());
    let mut answer = Response::new(Body::from_stream(ReceiverStream::new(receiver)));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.kind()));
    let disposition =
        HeaderValue::from_str(&disposition).expect("digits, a date and an ending of ours");
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    Ok(answer)
}

/// `GET /devices/{id}/track.csv`
pub(super) async fn csv(State(web): State<Web>, Id(id): Id, uri: Uri) -> Told {
    file(web, &id, &uri, Form::Csv).await
}

/// `GET /devices/{id}/track.gpx`
pub(super) async fn gpx(State(web): State<Web>, Id(id): Id, uri: Uri) -> Told {
    file(web, &id, &uri, Form::Gpx).await
}
