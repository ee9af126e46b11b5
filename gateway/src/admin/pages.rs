//! The pages themselves: from a question to an answer.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use serde_json::{Value, json};

use super::Admin;
use super::parts::refused;
use crate::clock;
use crate::events::EVENTS_MAX;
use crate::metrics::process;
use crate::support::machine;

/// The status page: one file, nothing around it.
const PAGE: &str = include_str!("page.html");

/// Devices in one answer, unless asked for fewer.
const DEVICES_MAX: usize = 500;

/// Events in one answer, unless asked for more or fewer.
const EVENTS_SHOWN: usize = 20;

/// A value of the query, as it is: no value of ours needs escapes.
pub(super) fn of_query<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

pub(super) async fn page() -> Html<&'static str> {
    Html(PAGE)
}

/// 503 once storage failed for good: nothing is acknowledged until a restart.
pub(super) async fn health(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    let failed = admin.spool.has_failed();
    let code = if failed {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let spool = if failed { "failed" } else { "ok" };
    (code, Json(json!({ "running": true, "spool": spool })))
}

/// 503 while trackers should not be sent here.
pub(super) async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    let waits_for = admin.waits_for();
    let code = if waits_for.is_some() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let body = json!({ "ready": waits_for.is_none(), "waits_for": waits_for });
    (code, Json(body))
}

pub(super) async fn status(State(admin): State<Admin>) -> Json<Value> {
    Json(admin.status().await)
}

pub(super) async fn devices(
    State(admin): State<Admin>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, (StatusCode, &'static str)> {
    let number = |name: &str| of_query(query.as_deref(), name).map(str::parse::<u32>);
    let wrong = (
        StatusCode::BAD_REQUEST,
        "limit and after are whole numbers\n",
    );
    let limit = number("limit").transpose().map_err(|_| wrong)?;
    let after = number("after").transpose().map_err(|_| wrong)?;
    let limit = limit.map_or(DEVICES_MAX, |limit| limit as usize);
    let limit = limit.clamp(1, DEVICES_MAX);
    let after = after.unwrap_or_default();
    let devices = &admin.metrics.panel.devices;
    let mut page = devices.page(after, limit, admin.imei);
    // The doorkeeper knows who got in since, and whom a misprint may be meant for.
    if let (Some(access), 0) = (&admin.parts.access, after) {
        page["refused"] = refused(access, limit, admin.imei);
    }
    Ok(Json(page))
}

/// What somebody far away needs to help, in one object: what `gateway support` takes from here.
pub(super) async fn support(State(admin): State<Admin>) -> Json<Value> {
    let dir = admin.parts.spool_dir.clone();
    let machine = tokio::task::spawn_blocking(move || machine::facts(&dir)).await;
    let events = &admin.metrics.panel.events;
    Json(json!({
        "made_ms": clock::now_ms(),
        "version": env!("CARGO_PKG_VERSION"),
        "settings": *admin.parts.settings,
        "status": admin.status().await,
        "commands": admin.parts.commands(usize::MAX, usize::MAX, admin.imei),
        "events": events.latest(EVENTS_MAX, admin.imei)["events"],
        "machine": machine.unwrap_or_default(),
    }))
}

pub(super) async fn events(
    State(admin): State<Admin>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, (StatusCode, &'static str)> {
    let limit = of_query(query.as_deref(), "limit").map(str::parse);
    let limit = limit.transpose();
    let limit = limit.map_err(|_| (StatusCode::BAD_REQUEST, "limit is a whole number\n"))?;
    let events = &admin.metrics.panel.events;
    Ok(Json(
        events.latest(limit.unwrap_or(EVENTS_SHOWN), admin.imei),
    ))
}

/// Every order that waits or is on its way, and the last outcomes.
pub(super) async fn commands(State(admin): State<Admin>) -> Json<Value> {
    Json(admin.parts.commands(usize::MAX, usize::MAX, admin.imei))
}

pub(super) async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let usage = admin.spool.usage();
    let days_left = admin.spool.days_left(&usage);
    let mut text = admin.metrics.to_prometheus(usage, days_left);
    let oldest_ms = admin.oldest.received_at_ms(&admin.spool, &usage).await;
    text += &process::to_prometheus(
        oldest_ms,
        admin.metrics.panel.devices.count(),
        admin.started.elapsed(),
        admin.parts.certificate_left_days(),
    );
    text += &admin.metrics.panel.board.to_prometheus();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, kind)], text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn queries() {
        let query = Some("limit=5&after=7&x=&limit=9");
        assert_eq!(of_query(query, "limit"), Some("5"));
        assert_eq!(of_query(query, "after"), Some("7"));
        assert_eq!(of_query(query, "x"), Some(""));
        assert_eq!(of_query(query, "y"), None);
        assert_eq!(of_query(None, "limit"), None);
    }

    #[test]
    fn the_page_is_small_and_stands_alone() {
        assert!(PAGE.len() <= 60 * 1024, "{} bytes", PAGE.len());
        for outside in [
            "http:",
            "https:",
            "//cdn",
            "src=",
            "@import",
            "url(",
            "<link",
            "<iframe",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        for part in [
            "lang=\"en\"",
            "name=\"viewport\"",
            "prefers-color-scheme",
            "<main",
            "<table",
            "<th scope=\"col\"",
            "aria-live",
        ] {
            assert!(PAGE.contains(part), "{part}");
        }
    }
}
