//! Pure: no I/O, no clock.
//!
//! What a request cannot have, as a problem document.
//!
//! Why one list: a status, its type and its advice are one decision, and the OpenAPI file says the
//! same. Source: RFC 9457 (`application/problem+json`).
//!
//! Invariant: whoever gets one of these has nothing of that request accepted.

use serde_json::{Value, json};

use super::read::Rejected;

/// Rejected items that a problem names; all were counted.
const REJECTED_SHOWN: usize = 100;

/// Why a request was not accepted.
#[derive(Clone, Debug)]
pub enum Problem {
    /// 400: correct the body, the parameters or a header.
    Malformed(String),
    /// 401: send a token that is in the file of tokens.
    Token,
    /// 403: this token is not for that lane.
    Lane(&'static str),
    /// 404: see the list of paths.
    NoPath,
    /// 405: this path takes other methods.
    Method(&'static str),
    /// 408: the body did not come in time.
    Slow,
    /// 411: say how long the body is, or send it in chunks.
    NoLength,
    /// 413: send it in parts.
    TooLarge(String),
    /// 415: another form or packing.
    MediaType(String),
    /// 422: not one item can be kept.
    AllBad(Vec<Rejected>),
    /// 422: the key was used for another request.
    OtherRequest,
    /// 429: this source sends more than its share.
    Rate(u64),
    /// 503: all memory for bodies is in use.
    Busy,
    /// 503: the spool is full.
    Full,
    /// 503: it may not survive a power cut.
    NotDurable(String),
    /// 503: the gateway is stopping.
    Stopping,
}

impl Problem {
    /// Every kind once, for the documents and their tests.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let said = String::new;
        vec![
            Self::Malformed(said()),
            Self::Token,
            Self::Lane("high"),
            Self::NoPath,
            Self::Method("POST"),
            Self::Slow,
            Self::NoLength,
            Self::TooLarge(said()),
            Self::MediaType(said()),
            Self::AllBad(Vec::new()),
            Self::OtherRequest,
            Self::Rate(1),
            Self::Busy,
            Self::Full,
            Self::NotDurable(said()),
            Self::Stopping,
        ]
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.facts().0
    }

    /// The last part of its type.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.facts().1
    }

    fn facts(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Malformed(_) => (400, "malformed", "The request cannot be read"),
            Self::Token => (401, "token", "No token, or one that is not known"),
            Self::Lane(_) => (403, "lane", "This token is not for that lane"),
            Self::NoPath => (404, "no-path", "There is nothing at this path"),
            Self::Method(_) => (405, "method", "This path takes other methods"),
            Self::Slow => (408, "slow", "The body did not come in time"),
            Self::NoLength => (411, "no-length", "Nobody said that a body comes"),
            Self::TooLarge(_) => (413, "too-large", "More than one request may hold"),
            Self::MediaType(_) => (415, "media-type", "A form that is not understood"),
            Self::AllBad(_) => (422, "no-item", "Not one item can be kept"),
            Self::OtherRequest => (422, "key-used", "The key was used for another request"),
            Self::Rate(_) => (429, "rate", "More than the share of this token"),
            Self::Busy => (503, "busy", "Too much is being received"),
            Self::Full => (503, "full", "The spool is full"),
            Self::NotDurable(_) => (503, "not-durable", "It could not be made durable"),
            Self::Stopping => (503, "stopping", "The gateway is stopping"),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Malformed(why) | Self::TooLarge(why) | Self::MediaType(why) => why.clone(),
            Self::NotDurable(why) => format!("{why}. Send the same again: twice is free"),
            Self::Token => "send Authorization: Bearer TOKEN with a token of ingest.tokens".into(),
            Self::Lane(lane) => format!("lanes= of this token in ingest.tokens has no {lane}"),
            Self::NoPath => "paths are /v1/batch, /v1/upload, /, /tracking/live, /tracking/upload, /tracking/flymaster/upload/file and /scoring/batch".into(),
            Self::Method(allowed) => format!("use {allowed}"),
            Self::Slow => "the whole body has to come within listen.frame_timeout".into(),
            Self::NoLength => "send Content-Length, or Transfer-Encoding: chunked".into(),
            Self::AllBad(rejected) if rejected.is_empty() => "there is no item in it".into(),
            Self::AllBad(rejected) => format!("all {} items were rejected", rejected.len()),
            Self::OtherRequest => "an Idempotency-Key belongs to one body: take a new one".into(),
            Self::Rate(_) => "wait as long as Retry-After says; nothing was kept".into(),
            Self::Busy => "send the same again after Retry-After, or smaller requests".into(),
            Self::Full => "keep your data and send the same again later".into(),
            Self::Stopping => "send the same again: another process takes over".into(),
        }
    }

    /// Seconds for `Retry-After`.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Rate(seconds) => Some(*seconds),
            Self::Busy => Some(1),
            Self::Full => Some(60),
            Self::NotDurable(_) | Self::Stopping => Some(5),
            _ => None,
        }
    }

    /// May the body be left unread, so that the connection has to end?
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        !matches!(
            self,
            Self::AllBad(_) | Self::OtherRequest | Self::Full | Self::NotDurable(_)
        )
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (status, kind, title) = self.facts();
        let mut document = json!({
            "type": format!("urn:milepost:problem:{kind}"),
            "title": title,
            "status": status,
            "detail": self.detail(),
        });
        if let Self::AllBad(rejected) = self {
            let shown = &rejected[..rejected.len().min(REJECTED_SHOWN)];
            document["rejected"] = json!(shown);
        }
        document
    }
}
