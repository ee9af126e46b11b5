//! A door without tokens: which pages may ask it.
//!
//! Why so strict: whoever browses on this machine brings pages from everywhere with them, and every
//! page may send requests to 127.0.0.1. A token keeps them out; where there is none, only what a browser says of itself
//! does. A name that was made to point to this machine (DNS rebinding) shows in `Host`, a page of
//! another site in `Origin` and `Sec-Fetch-Site`. Programs that are no browsers send none of the last two.
//!
//! Invariant: what is not known to be from here is refused.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use super::problem::Problem;

/// Whom a browser says the request is from.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// May it ask a door without tokens?
/// # Errors
/// [`Problem::Foreign`].
pub(super) fn from_here(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().ok());
    let host = match text(header::HOST.as_str()) {
        Some(Some(host)) if is_loopback(host) => host,
        _ => {
            let what = "call it localhost or 127.0.0.1";
            return Err(Problem::Foreign(what));
        }
    };
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(Problem::Foreign("there are two Host headers"));
    }
    if let Some(origin) = text(header::ORIGIN.as_str()) {
        let authority =
            origin.and_then(|it| it.strip_prefix("http://").or(it.strip_prefix("https://")));
        if authority != Some(host) {
            return Err(Problem::Foreign("its Origin is another"));
        }
    }
    match text(SEC_FETCH_SITE) {
        None | Some(Some("same-origin" | "none")) => Ok(()),
        Some(_) => Err(Problem::Foreign("Sec-Fetch-Site says so")),
    }
}

/// Is it a name of this machine's own, whatever the port? A tunnel may have another one.
fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':').or(Some("?"))),
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The token of `Authorization: Bearer TOKEN`.
#[must_use]
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_what_is_from_here_comes_in() {
        let good: [&[(&'static str, &str)]; 6] = [
            &[("host", "127.0.0.1:8081")],
            &[("host", "localhost")],
            &[("host", "[::1]:9000")],
            &[("host", "LOCALHOST:1"), ("sec-fetch-site", "none")],
            &[("host", "localhost:1"), ("origin", "http://localhost:1")],
            &[("host", "127.3.4.5"), ("sec-fetch-site", "same-origin")],
        ];
        for pairs in good {
            assert_eq!(from_here(&headers(pairs)), Ok(()), "{pairs:?}");
        }
        let bad: [&[(&'static str, &str)]; 14] = [
            &[],
            &[("host", "evil.example")],
            &[("host", "localhost.evil.example")],
            &[("host", "localhost:x")],
            &[("host", "[::1")],
            &[("host", "[::1]x")],
            &[("host", "0.0.0.0")],
            &[("host", "192.168.1.5:8081")],
            &[("host", "localhost"), ("host", "evil.example")],
            &[("host", "localhost:1"), ("origin", "http://localhost:2")],
            &[("host", "localhost:1"), ("origin", "null")],
            &[("host", "localhost:1"), ("origin", "http://evil.example")],
            &[("host", "localhost"), ("sec-fetch-site", "cross-site")],
            &[("host", "localhost"), ("sec-fetch-site", "same-site")],
        ];
        for pairs in bad {
            assert!(from_here(&headers(pairs)).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn a_token_is_what_stands_behind_bearer() {
        let token = |value: &str| bearer(&headers(&[("authorization", value)])).map(str::to_owned);
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer  abc").as_deref(), Some("abc"));
        for none in ["Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(token(none), None, "{none}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
