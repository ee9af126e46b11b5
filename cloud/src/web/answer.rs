//! An answer as it goes out: JSON, its ETag, packed when that is asked for.
//!
//! Invariant: two answers with the same ETag have the same content, whoever asked.

use std::convert::Infallible;
use std::io::Write as _;

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Below this packing saves nothing.
const PACK_BYTES_MIN: usize = 1_024;

/// Bytes of a hash in an ETag.
const TAG_BYTES: usize = 16;

/// What the one who asks can take.
#[derive(Clone, Debug, Default)]
pub(super) struct Wants {
    gzip: bool,
    known: Option<String>,
}

impl Wants {
    /// Reads `Accept-Encoding` and `If-None-Match`.
    #[must_use]
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name| {
            let values = headers.get_all(name).iter();
            let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
            (!values.is_empty()).then(|| values.join(","))
        };
        Self {
            gzip: text(header::ACCEPT_ENCODING).is_some_and(|text| takes_gzip(&text)),
            known: text(header::IF_NONE_MATCH),
        }
    }

    fn knows(&self, tag: &str) -> bool {
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        self.known.as_ref().is_some_and(|known| {
            known
                .split(',')
                .any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Wants {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// `gzip`, and not with a weight of nothing.
fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|one| {
        let (coding, weight) = one.split_once(';').unwrap_or((one, ""));
        let weight = weight.trim().strip_prefix("q=");
        let is_nothing = weight.is_some_and(|it| it.parse().is_ok_and(|q: f32| q <= 0.0));
        coding.trim().eq_ignore_ascii_case("gzip") && !is_nothing
    })
}

/// The ETag of a content. Weak, since it stands for the packed and the unpacked one.
#[must_use]
pub(super) fn tag(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    format!("W/\"{}\"", hex::encode(&hash[..TAG_BYTES]))
}

/// Packs; smaller or quicker by `level`.
#[must_use]
pub(super) fn packed(content: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(content.len() / 4), level);
    // A Vec takes all that is written.
    let _ = encoder.write_all(content);
    encoder.finish().unwrap_or_default()
}

/// Something that may be asked for again: with an ETag, 304 when it is known.
#[must_use]
pub(super) fn tagged(wants: &Wants, value: &Value) -> Response {
    let content = value.to_string().into_bytes();
    let tag = tag(&content);
    let known = wants.knows(&tag);
    let mut answer = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => body(wants, content),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    let again = HeaderValue::from_static("private, no-cache");
    answer.headers_mut().insert(header::CACHE_CONTROL, again);
    answer
}

/// Something of this moment.
#[must_use]
pub(super) fn passing(wants: &Wants, status: StatusCode, value: &Value) -> Response {
    let mut answer = body(wants, value.to_string().into_bytes());
    *answer.status_mut() = status;
    answer
}

fn body(wants: &Wants, content: Vec<u8>) -> Response {
    let is_packed = wants.gzip && content.len() >= PACK_BYTES_MIN;
    let content = match is_packed {
        true => packed(&content, Compression::fast()),
        false => content,
    };
    let mut answer = Response::new(Body::from(content));
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, kind);
    mark_packed(headers, is_packed);
    answer
}

fn mark_packed(headers: &mut HeaderMap, is_packed: bool) {
    if is_packed {
        let gzip = HeaderValue::from_static("gzip");
        headers.insert(header::CONTENT_ENCODING, gzip);
    }
    let vary = HeaderValue::from_static("Accept-Encoding, Authorization");
    headers.insert(header::VARY, vary);
}

/// A file that was packed before. `known` answers alone with 304.
#[must_use]
pub(super) fn file(
    wants: &Wants,
    kind: &'static str,
    tag: &str,
    plain: &'static [u8],
    gzip: Option<Bytes>,
) -> Response {
    let mut answer = match (wants.knows(tag), gzip.filter(|_| wants.gzip)) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, Some(gzip)) => {
            let mut answer = Response::new(Body::from(gzip));
            mark_packed(answer.headers_mut(), true);
            answer
        }
        (false, None) => {
            let mut answer = Response::new(Body::from(Bytes::from_static(plain)));
            mark_packed(answer.headers_mut(), false);
            answer
        }
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_named_and_not_refused() {
        for yes in ["gzip", "br, gzip;q=0.5", "GZIP", "deflate,gzip"] {
            assert!(takes_gzip(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "gzip; q=0.0", "xgzip"] {
            assert!(!takes_gzip(no), "{no}");
        }
    }

    #[test]
    fn a_tag_is_known_among_others_and_whatever_its_strength() {
        let tag = tag(b"x");
        let knows = |known: &str| {
            let known = Some(known.to_owned());
            Wants { gzip: false, known }.knows(&tag)
        };
        assert!(knows(&tag) && knows("*") && knows(&format!("\"a\", {tag}")));
        assert!(knows(tag.trim_start_matches("W/")));
        assert!(!knows("\"a\"") && !knows(""));
    }
}
