//! Values over time, for charts.
//!
//! Invariant: where values are left out, the least and the greatest of each step stay: what a chart
//! is looked at for is the peak.

use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::answer::{self, Wants};
use super::ask::{self, Asked, Span};
use super::problem::Problem;
use super::{Id, Told, Web, devices, now, track};
use crate::operator::moment;
use crate::store::StoreError;

/// Series of one request.
const NAMES_MAX: usize = 8;

/// Longest list of names, in characters.
const NAMES_CHARS_MAX: usize = 400;

/// Every value of the device $1 from $2 to before $3 by the name $4, with its moment in milliseconds.
/// What a column holds is taken from there; the rest is read by the meanings that the name has.
macro_rules! values {
    ($rest:literal) => {
        concat!(
            "WITH meant AS MATERIALIZED ( \
                 SELECT m FROM io_meanings m WHERE m.family = device_family($1) AND m.name = $4), \
             v AS ( \
                 SELECT (extract(epoch FROM p.fix_time) * 1000)::float8 AS ms, \
                     CASE $4 WHEN 'speed_kmh' THEN p.speed_kmh::float8 \
                             WHEN 'altitude_m' THEN p.altitude_m::float8 ELSE r.value END AS value \
                 FROM positions p LEFT JOIN LATERAL ( \
                     (SELECT io_value.value::float8 AS value FROM meant \
                      CROSS JOIN LATERAL (SELECT CASE (meant.m).io_id \
                          WHEN 239 THEN to_jsonb(p.ignition::int4) WHEN 240 THEN to_jsonb(p.movement::int4) \
                          WHEN 16 THEN to_jsonb(p.odometer_m) WHEN 66 THEN to_jsonb(p.external_voltage_mv) \
                          WHEN 67 THEN to_jsonb(p.battery_voltage_mv) WHEN 21 THEN to_jsonb(p.gsm_signal) \
                          END AS held) AS h \
                      CROSS JOIN LATERAL (SELECT coalesce(h.held, p.io -> (meant.m).io_id::text) AS raw) AS e \
                      CROSS JOIN LATERAL io_read(e.raw, meant.m) AS io_value \
                      WHERE e.raw IS NOT NULL ORDER BY (meant.m).common, (meant.m).io_id LIMIT 1) \
                     UNION ALL \
                     SELECT (p.io ->> $4)::float8 WHERE $4 !~ '^[0-9]' AND jsonb_typeof(p.io -> $4) = 'number' \
                     LIMIT 1) AS r ON $4 NOT IN ('speed_kmh', 'altitude_m') \
                 WHERE p.device_id = $1 AND p.fix_time >= $2 AND p.fix_time < $3) ",
            $rest
        )
    };
}

/// A moment in milliseconds since 1970, and a value.
type Point = (f64, f64);

/// Milliseconds of a step, so that two values of each are not more than `points_max`.
fn step_ms(span: &Span, points_max: i64) -> i64 {
    let steps = (points_max / 2).max(1);
    ((span.to - span.from).num_milliseconds() / steps + 1).max(1)
}

/// The values, and how long a step was if some were left out.
async fn points(
    pool: &PgPool,
    device: i32,
    span: &Span,
    name: &str,
    points_max: i64,
) -> Result<(Vec<Point>, Option<i64>), StoreError> {
    let refused = |source| StoreError::new("reading a series", source);
    let all: Vec<Point> = sqlx::query_as(values!(
        "SELECT ms, value FROM v WHERE value IS NOT NULL ORDER BY ms LIMIT $5"
    ))
    .bind(device)
    .bind(span.from)
    .bind(span.to)
    .bind(name)
    .bind(points_max + 1)
    .fetch_all(pool)
    .await
    .map_err(refused)?;
    let most = usize::try_from(points_max).unwrap_or(usize::MAX);
    if all.len() <= most {
        return Ok((all, None));
    }
    let step = step_ms(span, points_max);
    // Arrays are compared from their beginning: the least value with its moment, and the greatest.
    let ends: Vec<(Vec<f64>, Vec<f64>)> = sqlx::query_as(values!(
        "SELECT min(ARRAY[value, ms]), max(ARRAY[value, ms]) FROM v WHERE value IS NOT NULL \
         GROUP BY floor((ms - extract(epoch FROM $2) * 1000)::float8 / $5::int8) \
         ORDER BY min(ms)"
    ))
    .bind(device)
    .bind(span.from)
    .bind(span.to)
    .bind(name)
    .bind(step)
    .fetch_all(pool)
    .await
    .map_err(refused)?;
    let mut kept: Vec<Point> = Vec::with_capacity(most);
    for (least, greatest) in ends {
        let mut both = [least, greatest].map(|it| match it[..] {
            [value, ms] => (ms, value),
            _ => (0.0, 0.0),
        });
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        let is_one = both[0] == both[1];
        kept.extend(both.into_iter().skip(usize::from(is_one)));
    }
    kept.truncate(most);
    Ok((kept, Some(step)))
}

/// The unit of a name for this device.
async fn unit(pool: &PgPool, device: i32, name: &str) -> Result<Option<String>, StoreError> {
    match name {
        "speed_kmh" => return Ok(Some("km/h".to_owned())),
        "altitude_m" => return Ok(Some("m".to_owned())),
        _ => {}
    }
    let found: Option<Option<String>> = sqlx::query_scalar(
        "SELECT unit FROM io_meanings WHERE family = device_family($1) AND name = $2 \
         ORDER BY common, io_id LIMIT 1",
    )
    .bind(device)
    .bind(name)
    .fetch_optional(pool)
    .await
    .map_err(|source| StoreError::new("reading a unit", source))?;
    Ok(found.flatten())
}

/// The names, in their order.
fn names(asked: &Asked) -> Result<Vec<String>, Problem> {
    let text = asked.text("names", NAMES_CHARS_MAX)?.unwrap_or_default();
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let is_twice = |(at, name): (usize, &String)| names[..at].contains(name);
    let is_bad = names.iter().any(String::is_empty)
        || names.len() > NAMES_MAX
        || names.iter().enumerate().any(is_twice);
    match is_bad {
        true => Err(Problem::Malformed(format!(
            "names has 1 to {NAMES_MAX} different names with commas between them, such as speed_kmh,external_voltage"
        ))),
        false => Ok(names),
    }
}

/// `GET /devices/{id}/series`
pub(super) async fn series(State(web): State<Web>, wants: Wants, Id(id): Id, uri: Uri) -> Told {
    let [from, to, most] = track::PARAMETERS;
    let asked = Asked::read(uri.query(), &["names", from, to, most])?;
    let (id, span) = (ask::device(&id)?, Span::read(&asked, now())?);
    let (names, points_max) = (names(&asked)?, track::points_max(&asked)?);
    devices::imei_of(&web.reads, id).await?;
    let (mut all, mut longest) = (Vec::new(), None);
    for name in names {
        let (points, step) = points(&web.reads, id, &span, &name, points_max).await?;
        longest = longest.max(step);
        let told: Vec<Value> = points
            .into_iter()
            .map(|(ms, value)| {
                #[expect(clippy::cast_possible_truncation, reason = "whole milliseconds")]
                let at = chrono::DateTime::from_timestamp_millis(ms.round() as i64);
                json!([at.map(moment::text), value])
            })
            .collect();
        let unit = unit(&web.reads, id, &name).await?;
        all.push(json!({"name": name, "unit": unit, "points": told}));
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    let told = json!({
        "from": moment::text(span.from),
        "to": moment::text(span.to),
        "step_s": longest.map(|ms| ms as f64 / 1e3),
        "series": all,
    });
    Ok(answer::tagged(&wants, &told))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_few_and_different() {
        let read = |query: &str| names(&Asked::read(Some(query), &["names"]).unwrap());
        assert_eq!(read("names=a,%20b").unwrap(), ["a", "b"]);
        for query in [
            "",
            "names=",
            "names=a,,b",
            "names=a,a",
            "names=1,2,3,4,5,6,7,8,9",
        ] {
            assert!(read(query).is_err(), "{query}");
        }
    }
}
