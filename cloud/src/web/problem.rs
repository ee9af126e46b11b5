//! What a request cannot have, as a problem document.
//!
//! Why one list: a status, its code and its advice are one decision, and the OpenAPI file says the
//! same. Source: RFC 9457 (`application/problem+json`).
//!
//! Invariant: whoever gets one of these has changed nothing.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::store::StoreError;

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// 400: correct a parameter, a header or the body.
    Malformed(String),
    /// 401: send a token that is in the file of tokens.
    Token,
    /// 401: nobody may come in; say who.
    Closed,
    /// 403: this token may only look.
    Role,
    /// 403: a page from elsewhere asks a door that needs no token.
    Foreign(&'static str),
    /// 404: see the OpenAPI document.
    NoPath,
    /// 404: look at the list.
    NotThere(String),
    /// 405: this path takes other methods.
    Method,
    /// 409: it cannot be done to this one, or not any more.
    TooLate(String),
    /// 413: send less.
    TooLarge(usize),
    /// 415: send JSON.
    MediaType,
    /// 422: the table refuses it.
    Refused(String),
    /// 429: too many listen.
    Listeners(usize),
    /// 503: try again.
    Database,
    /// 503: ask for less.
    TooLong,
    /// 503: this process is stopping.
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
            Self::Closed,
            Self::Role,
            Self::Foreign(""),
            Self::NoPath,
            Self::NotThere(said()),
            Self::Method,
            Self::TooLate(said()),
            Self::TooLarge(0),
            Self::MediaType,
            Self::Refused(said()),
            Self::Listeners(0),
            Self::Database,
            Self::TooLong,
            Self::Stopping,
        ]
    }

    /// Status, code and title.
    #[must_use]
    pub fn facts(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Malformed(_) => (400, "malformed", "The request cannot be read"),
            Self::Token => (401, "token", "No token, or one that is not known"),
            Self::Closed => (401, "closed", "Nobody may come in yet"),
            Self::Role => (403, "role", "This token may only look"),
            Self::Foreign(_) => (403, "foreign", "A page from elsewhere asks"),
            Self::NoPath => (404, "no-path", "There is nothing at this path"),
            Self::NotThere(_) => (404, "not-there", "There is no such thing"),
            Self::Method => (405, "method", "This path takes other methods"),
            Self::TooLate(_) => (409, "too-late", "It cannot be done to this one"),
            Self::TooLarge(_) => (413, "too-large", "More than a request may hold"),
            Self::MediaType => (415, "media-type", "A form that is not understood"),
            Self::Refused(_) => (422, "refused", "The table refuses it"),
            Self::Listeners(_) => (429, "listeners", "Too many listen already"),
            Self::Database => (503, "database", "The database does not answer"),
            Self::TooLong => (503, "too-long", "It took too long"),
            Self::Stopping => (503, "stopping", "This process is stopping"),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Malformed(why) | Self::NotThere(why) | Self::TooLate(why)
            | Self::Refused(why) => why.clone(),
            Self::Token => "send Authorization: Bearer TOKEN with a token of web.tokens; `cloud web token new NAME --role read` makes one".into(),
            Self::Closed => "set web.tokens to a file of tokens (`cloud web token new NAME --role read`), or web.open = \"read\" for everybody on this machine, and start the cloud again".into(),
            Self::Role => "take a token whose line in web.tokens says role=operator".into(),
            Self::Foreign(what) => format!("without web.tokens only pages of this door may ask it: {what}"),
            Self::NoPath => "see /api/v1/openapi.json for what there is".into(),
            Self::Method => "see Allow, or /api/v1/openapi.json".into(),
            Self::TooLarge(most) => format!("a body has at most {most} bytes"),
            Self::MediaType => "send Content-Type: application/json".into(),
            Self::Listeners(most) => format!("{most} listen to /api/v1/live; close one, or ask /api/v1/latest now and then"),
            Self::Database => "try again; `cloud check` says what is wrong with it".into(),
            Self::TooLong => "ask for a shorter span, or try again when the database has less to do".into(),
            Self::Stopping => "try again: another process may take over".into(),
        }
    }

    /// Seconds for `Retry-After`.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Listeners(_) => Some(10),
            Self::Database | Self::Stopping => Some(2),
            Self::TooLong => Some(5),
            _ => None,
        }
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (status, code, title) = self.facts();
        json!({
            "type": format!("urn:milepost:problem:{code}"),
            "title": title,
            "status": status,
            "detail": self.detail(),
            "code": code,
        })
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        // Cancelled by our own limit on statements.
        if error.sqlstate() == Some("57014") {
            return Self::TooLong;
        }
        tracing::warn!(
            error = crate::stream::consumer::chained(&error),
            "the API gets no answer from the database"
        );
        Self::Database
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, ..) = self.facts();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = (status, Json(self.to_json())).into_response();
        let headers = answer.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"milepost\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}
