//! Where a device was, thinned where there is more than anybody can see.
//!
//! Why the database thins: a month of a tracker that speaks every second is millions of rows. It reads
//! them in the order of their key, so no row is kept or sorted.
//!
//! Invariant: the first and the last row of the span are always told.

use axum::extract::State;
use axum::http::Uri;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::answer;
use super::answer::Wants;
use super::ask::{self, Asked, Span};
use super::devices;
use super::{Id, Told, Web, now};
use crate::operator::moment;
use crate::store::StoreError;

/// Points when nothing is said.
const POINTS: i64 = 2_000;

/// Points at most.
const POINTS_MAX: i64 = 20_000;

/// Names of the parameters of a span of points.
pub(super) const PARAMETERS: [&str; 3] = ["from", "to", "points_max"];

/// `points_max`
/// # Errors
/// [`Problem::Malformed`](super::problem::Problem::Malformed).
pub(super) fn points_max(asked: &Asked) -> Result<i64, super::problem::Problem> {
    Ok(asked
        .number("points_max", 1..=POINTS_MAX)?
        .unwrap_or(POINTS))
}

#[derive(sqlx::FromRow)]
struct Point {
    fix_time: DateTime<Utc>,
    latitude: f64,
    longitude: f64,
    altitude_m: Option<i16>,
    heading_deg: Option<i32>,
    speed_kmh: Option<i32>,
    valid: bool,
}

impl Point {
    fn to_json(&self) -> Value {
        json!({
            "time": moment::text(self.fix_time),
            "latitude": self.latitude,
            "longitude": self.longitude,
            "altitude_m": self.altitude_m,
            "heading_deg": self.heading_deg,
            "speed_kmh": self.speed_kmh,
            "valid": self.valid,
        })
    }
}

/// What is in a span: rows, first moment, last moment.
type Extent = (i64, Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// Microseconds of a step, so that no more than `points_max` are left: one of each step, and the last.
fn step_us(first: DateTime<Utc>, last: DateTime<Utc>, points_max: i64) -> i64 {
    let span = (last - first).num_microseconds().unwrap_or(i64::MAX);
    // One that asks for a single point gets the last one.
    let steps = (points_max - 1).max(1);
    (span / steps + 1).max(1)
}

/// `GET /devices/{id}/track`
pub(super) async fn track(State(web): State<Web>, wants: Wants, Id(id): Id, uri: Uri) -> Told {
    let asked = Asked::read(uri.query(), &PARAMETERS)?;
    let (id, span) = (ask::device(&id)?, Span::read(&asked, now())?);
    let points_max = points_max(&asked)?;
    devices::imei_of(&web.reads, id).await?;
    let refused = |source| StoreError::new("reading a track", source);
    let (rows, first, last): Extent = sqlx::query_as(
        "SELECT count(*), min(fix_time), max(fix_time) FROM positions \
         WHERE device_id = $1 AND fix_time >= $2 AND fix_time < $3",
    )
    .bind(id)
    .bind(span.from)
    .bind(span.to)
    .fetch_one(&web.reads)
    .await
    .map_err(refused)?;
    let step = match (rows > points_max, first, last) {
        (true, Some(first), Some(last)) => Some((first, last, step_us(first, last, points_max))),
        _ => None,
    };
    let points: Vec<Point> = match step {
        None => {
            sqlx::query_as(
                "SELECT fix_time, latitude, longitude, altitude_m, heading_deg, speed_kmh, valid \
                 FROM positions WHERE device_id = $1 AND fix_time >= $2 AND fix_time < $3 \
                 ORDER BY fix_time, record_hash LIMIT $4",
            )
            .bind(id)
            .bind(span.from)
            .bind(span.to)
            .bind(points_max)
            .fetch_all(&web.reads)
            .await
        }
        // Rows come in the order of the key, and a window needs no more than its neighbour: the first
        // row of each step, and the last of all.
        Some((first, last, step)) => {
            sqlx::query_as(
                "WITH stepped AS ( \
                     SELECT fix_time, record_hash, latitude, longitude, altitude_m, heading_deg, speed_kmh, valid, \
                         (extract(epoch FROM fix_time - $2) * 1000000)::int8 / $4 AS step \
                     FROM positions WHERE device_id = $1 AND fix_time >= $2 AND fix_time <= $3), \
                 marked AS ( \
                     SELECT *, lag(step) OVER w AS before, lead(step) OVER w AS after \
                     FROM stepped WINDOW w AS (ORDER BY fix_time, record_hash)) \
                 SELECT fix_time, latitude, longitude, altitude_m, heading_deg, speed_kmh, valid FROM marked \
                 WHERE after IS NULL OR ($5 > 1 AND step IS DISTINCT FROM before AND step < $5 - 1) \
                 ORDER BY fix_time, record_hash LIMIT $5",
            )
            .bind(id)
            .bind(first)
            .bind(last)
            .bind(step)
            .bind(points_max)
            .fetch_all(&web.reads)
            .await
        }
    }
    .map_err(refused)?;
    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    let told = json!({
        "from": moment::text(span.from),
        "to": moment::text(span.to),
        "rows": rows,
        "step_s": step.map(|(.., step)| step as f64 / 1e6),
        "points": points.iter().map(Point::to_json).collect::<Vec<_>>(),
    });
    Ok(answer::tagged(&wants, &told))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_last_row_never_falls_behind_the_last_step(
            span_us in 0_i64..=31 * 86_400_000_000, points_max in 2_i64..=20_000,
        ) {
            let first = DateTime::from_timestamp(1_790_000_000, 0).unwrap_or_default();
            let last = first + chrono::Duration::microseconds(span_us);
            let step = step_us(first, last, points_max);
            prop_assert!(step >= 1 && span_us / step < points_max);
        }
    }
}
