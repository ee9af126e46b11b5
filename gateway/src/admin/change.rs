//! The few requests that change something, and the lock on their door.
//!
//! Why so strict: a browser on this network may be sent by any page to any address. A page cannot
//! add a header of its own to a request for another origin without asking first, and nobody here
//! answers that question; a name that was pointed at this machine meanwhile stands in `Host`.
//!
//! Invariant: nothing is changed unless the peer is this machine, `Host` is a loopback address,
//! `X-Milepost: 1` is there and `Origin`, if there is one, is that same host.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, RawQuery, Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Admin;
use super::pages::of_query;
use super::parts::word_of;
use crate::access::ReopenError;
use crate::chain::chain;
use crate::downlink::TakenBack;
use crate::events::Kind;

/// The header that no page of another origin can send.
pub const HEADER: &str = "x-milepost";

/// Lets through who may change something.
pub(super) async fn guard(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match refusal(peer.ip(), request.headers()) {
        None => next.run(request).await,
        Some(why) => {
            tracing::warn!(%peer, path = request.uri().path(), why, "change refused");
            (StatusCode::FORBIDDEN, Json(json!({ "error": why }))).into_response()
        }
    }
}

fn refusal(peer: IpAddr, headers: &HeaderMap) -> Option<&'static str> {
    // Two of them: nobody honest sends that, and who knows which one counts.
    let only = |name: &str| {
        let mut all = headers.get_all(name).iter();
        let value = all.next()?.to_str().ok()?;
        all.next().is_none().then_some(value)
    };
    let host = only(HOST.as_str()).filter(|host| is_loopback(host));
    let origin = headers.contains_key(ORIGIN);
    if !peer.to_canonical().is_loopback() {
        Some("changes are taken from this machine alone, over a loopback address")
    } else if host.is_none() {
        Some("the header Host must name a loopback address")
    } else if only(HEADER) != Some("1") {
        Some("the header X-Milepost: 1 is missing")
    } else if origin
        && only(ORIGIN.as_str()).and_then(|origin| origin.strip_prefix("http://")) != host
    {
        Some("a page of another origin asks for this")
    } else {
        None
    }
}

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost`, each with or without a port.
fn is_loopback(host: &str) -> bool {
    if let Ok(addr) = host.parse::<SocketAddr>() {
        return addr.ip().is_loopback();
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(host).parse::<IpAddr>() {
        return ip.is_loopback();
    }
    let name = match host.split_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return false,
        None => host,
    };
    name.eq_ignore_ascii_case("localhost")
}

type Answer = (StatusCode, Json<Value>);

fn answer(code: StatusCode, body: Value) -> Answer {
    (code, Json(body))
}

/// `POST /commands/cancel` with the id as its body: takes an order back that waits for its tracker.
pub(super) async fn cancel(State(admin): State<Admin>, cid: String) -> Answer {
    let cid = cid.trim();
    let taken = match &admin.parts.downlink {
        Some(downlink) => downlink.take_back(cid),
        None => TakenBack::Unknown,
    };
    match taken {
        TakenBack::Yes => {
            tracing::info!(cid, "order taken back by an operator");
            let events = &admin.metrics.panel.events;
            events.note(
                Kind::CommandCancelled,
                None,
                format!("order {cid} taken back by an operator"),
            );
            answer(
                StatusCode::OK,
                json!({ "cid": cid, "cancelled": true, "state": "cancelled" }),
            )
        }
        TakenBack::OnItsWay(state) => answer(
            StatusCode::CONFLICT,
            json!({ "cid": cid, "cancelled": false, "state": state }),
        ),
        TakenBack::Ended(outcome) => answer(
            StatusCode::CONFLICT,
            json!({ "cid": cid, "cancelled": false, "state": word_of(&outcome) }),
        ),
        TakenBack::Unknown => answer(
            StatusCode::NOT_FOUND,
            json!({ "cid": cid, "cancelled": false, "state": "unknown" }),
        ),
    }
}

/// `POST /access/learn?for_s=`: opens the learn window for so long from now on; 0 closes it.
pub(super) async fn learn(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Answer {
    let Some(access) = admin.parts.access.clone() else {
        return answer(StatusCode::NOT_FOUND, json!({ "error": "no access list" }));
    };
    let span = match of_query(query.as_deref(), "for_s").map(str::parse) {
        Some(Ok(seconds)) => Some(Duration::from_secs(seconds)),
        None => None,
        Some(Err(_)) => {
            let error = "for_s is a number of seconds";
            return answer(StatusCode::BAD_REQUEST, json!({ "error": error }));
        }
    };
    let opened = {
        let access = access.clone();
        tokio::task::spawn_blocking(move || access.reopen(span)).await
    };
    match opened {
        Ok(Ok(left)) => {
            let accepts = access.status().to_words();
            let text = match left.is_zero() {
                true => "learn window closed by an operator".to_owned(),
                false => format!(
                    "learn window opened by an operator for {}",
                    crate::observe::in_words(left)
                ),
            };
            tracing::info!(accepts, "{text}");
            admin
                .metrics
                .panel
                .events
                .note(Kind::LearnWindow, None, text);
            answer(
                StatusCode::OK,
                json!({ "window_left_s": left.as_secs(), "accepts": accepts }),
            )
        }
        Ok(Err(error @ ReopenError::Mode(mode))) => answer(
            StatusCode::CONFLICT,
            json!({ "error": chain(&error), "mode": mode }),
        ),
        Ok(Err(error)) => answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            json!({ "error": chain(&error) }),
        ),
        Err(error) => answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            json!({ "error": error.to_string() }),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked(peer: &str, headers: &[(&'static str, &str)]) -> Option<&'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        refusal(peer.parse().unwrap(), &map)
    }

    #[test]
    fn this_machine_with_the_header_and_nobody_else() {
        let mine = ("x-milepost", "1");
        for host in [
            "127.0.0.1:8080",
            "127.8.0.1",
            "localhost:8080",
            "LOCALHOST",
            "[::1]:8080",
            "[::1]",
        ] {
            assert_eq!(asked("127.0.0.1", &[("host", host), mine]), None, "{host}");
            assert_eq!(asked("::1", &[("host", host), mine]), None, "{host}");
            assert_eq!(asked("::ffff:127.0.0.1", &[("host", host), mine]), None);
        }
        let host = ("host", "127.0.0.1:8080");
        assert_eq!(
            asked(
                "127.0.0.1",
                &[host, mine, ("origin", "http://127.0.0.1:8080")]
            ),
            None
        );
        for (peer, headers) in [
            ("192.0.2.7", &[host, mine][..]),
            ("127.0.0.1", &[host]),
            ("127.0.0.1", &[mine]),
            ("127.0.0.1", &[host, ("x-milepost", "true")]),
            ("127.0.0.1", &[host, mine, mine]),
            ("127.0.0.1", &[host, host, mine]),
            ("127.0.0.1", &[("host", "evil.example:8080"), mine]),
            ("127.0.0.1", &[("host", "localhost.evil.example"), mine]),
            ("127.0.0.1", &[("host", "127.0.0.1.evil.example"), mine]),
            ("127.0.0.1", &[("host", "localhost:80:80"), mine]),
            ("127.0.0.1", &[("host", "localhost@evil.example"), mine]),
            ("127.0.0.1", &[("host", "192.0.2.7:8080"), mine]),
            (
                "127.0.0.1",
                &[host, mine, ("origin", "http://evil.example")],
            ),
            (
                "127.0.0.1",
                &[host, mine, ("origin", "http://localhost:3000")],
            ),
            (
                "127.0.0.1",
                &[host, mine, ("origin", "https://127.0.0.1:8080")],
            ),
            ("127.0.0.1", &[host, mine, ("origin", "null")]),
        ] {
            assert!(asked(peer, headers).is_some(), "{peer} {headers:?}");
        }
    }
}
