//! Small numbers for devices, and when they were heard.
//!
//! Why a surrogate key: four bytes instead of eight in every row of the largest table.

use std::collections::{BTreeMap, HashMap};

use codec::Imei;
use contract::{Device, Kind};
use sqlx::postgres::PgConnection;

use super::errors::StoreError;
use super::plan::Job;
use super::values::{number, time};
use crate::batch::Frame;

/// Who spoke, as the table tells them apart: an IMEI is one device whatever it speaks, a name belongs
/// to its vendor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Who {
    Imei(Imei),
    Named { vendor: Kind, ident: String },
}

impl Who {
    pub(super) fn of(frame: &Frame) -> Self {
        Self::said(&frame.device, &frame.kind)
    }

    pub(super) fn said(device: &Device, kind: &Kind) -> Self {
        match device {
            Device::Imei(imei) => Self::Imei(*imei),
            Device::Text(ident) => Self::Named {
                vendor: kind.clone(),
                ident: ident.clone(),
            },
        }
    }
}

/// Devices of a batch with their ids.
pub(super) type Devices = HashMap<Who, i32>;

/// When a gateway heard somebody, milliseconds since 1970 UTC, and what was spoken first.
struct Span {
    first: u64,
    last: u64,
    kind: Kind,
}

/// Who spoke.
type Heard = BTreeMap<Who, Span>;

/// Who spoke in these jobs, with the first and last time a gateway heard them.
fn heard(jobs: &[Job<'_>]) -> Heard {
    let mut heard = Heard::new();
    let frames = jobs.iter().filter_map(|job| job.unit.frame.as_ref());
    for frame in frames {
        let at = frame.received_at_ms;
        let span = heard.entry(Who::of(frame)).or_insert_with(|| Span {
            first: at,
            last: at,
            kind: frame.kind.clone(),
        });
        (span.first, span.last) = (span.first.min(at), span.last.max(at));
    }
    heard
}

/// Ids of everyone who spoke; creates those that are new. Not to be kept before COMMIT.
pub(super) async fn devices(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    known: &Devices,
) -> Result<Devices, StoreError> {
    let heard = heard(jobs);
    let mut ids: Devices = heard
        .keys()
        .filter_map(|who| Some((who.clone(), *known.get(who)?)))
        .collect();
    // Looked up before inserting: an insert that meets a conflict uses up a number.
    look_up(on, &heard, &mut ids).await?;
    let missing = || heard.iter().filter(|(who, _)| !ids.contains_key(*who));
    if missing().next().is_none() {
        return Ok(ids);
    }
    let (imeis, idents): (Vec<_>, Vec<_>) = missing().map(|(who, _)| columns(who)).unzip();
    let vendor = |(_, span): (_, &Span)| span.kind.vendor().to_owned();
    let first = |(_, span): (_, &Span)| time(span.first);
    let last = |(_, span): (_, &Span)| time(span.last);
    sqlx::query(
        "INSERT INTO devices (imei, ident, vendor, first_seen, last_seen) \
         SELECT * FROM UNNEST($1::int8[], $2::text[], $3::text[], $4::timestamptz[], \
             $5::timestamptz[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(imeis)
    .bind(idents)
    .bind(missing().map(vendor).collect::<Vec<_>>())
    .bind(missing().map(first).collect::<Vec<_>>())
    .bind(missing().map(last).collect::<Vec<_>>())
    .execute(&mut *on)
    .await
    .map_err(|source| StoreError::new("registering devices", source))?;
    look_up(on, &heard, &mut ids).await?;
    Ok(ids)
}

/// `imei` and `ident`: one of them.
fn columns(who: &Who) -> (Option<i64>, Option<&str>) {
    match who {
        Who::Imei(imei) => (Some(number(imei.as_u64())), None),
        Who::Named { ident, .. } => (None, Some(ident)),
    }
}

/// Adds the ids of those that are in the table.
async fn look_up(
    on: &mut PgConnection,
    heard: &Heard,
    ids: &mut Devices,
) -> Result<(), StoreError> {
    let asked = || heard.keys().filter(|who| !ids.contains_key(*who));
    let (imeis, idents): (Vec<_>, Vec<_>) = asked().map(columns).unzip();
    if imeis.is_empty() {
        return Ok(());
    }
    // A name of one vendor may be another's, too; those are left out below.
    let rows: Vec<(i32, Option<i64>, Option<String>, String)> = sqlx::query_as(
        "SELECT id, imei, ident, vendor FROM devices \
         WHERE imei = ANY($1::int8[]) OR ident = ANY($2::text[])",
    )
    .bind(imeis)
    .bind(idents)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("looking up devices", source))?;
    for (id, imei, ident, vendor) in rows {
        let imei = imei
            .and_then(|imei| u64::try_from(imei).ok())
            .and_then(|imei| format!("{imei:015}").parse().ok());
        let who = match (imei, ident) {
            (Some(imei), _) => Who::Imei(imei),
            (None, Some(ident)) => Who::Named {
                vendor: Kind::of_vendor(&vendor),
                ident,
            },
            (None, None) => continue,
        };
        if heard.contains_key(&who) {
            ids.insert(who, id);
        }
    }
    Ok(())
}

/// First and last time a gateway heard each device.
pub(super) async fn seen(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    devices: &Devices,
) -> Result<(), StoreError> {
    let heard = heard(jobs);
    if heard.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE devices d SET first_seen = LEAST(d.first_seen, a.first), \
             last_seen = GREATEST(d.last_seen, a.last) \
         FROM UNNEST($1::int4[], $2::timestamptz[], $3::timestamptz[]) AS a(id, first, last) \
         WHERE d.id = a.id AND (d.first_seen > a.first OR d.last_seen < a.last)",
    )
    .bind(heard.keys().map(|who| devices[who]).collect::<Vec<_>>())
    .bind(
        heard
            .values()
            .map(|span| time(span.first))
            .collect::<Vec<_>>(),
    )
    .bind(
        heard
            .values()
            .map(|span| time(span.last))
            .collect::<Vec<_>>(),
    )
    .execute(on)
    .await
    .map_err(|source| StoreError::new("updating devices", source))?;
    Ok(())
}
