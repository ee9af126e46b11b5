//! From a request to its answer.
//!
//! Why the order: what costs nothing is judged first (path, token, rate, form), then the body is
//! read, and only when all of it is understood anything is written.

use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::body::Body;
use axum::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName,
    ORIGIN, RETRY_AFTER, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::{Device, SpoolId, SpoolSeq};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::Ingest;
use super::body::{Held, receive};
use super::group::frames;
use super::problem::Problem;
use super::read::{BodyError, Form, Found, Judge, Params, device_of, osmand, osmand_json, read};
use super::repeat::{Digest, Seen};
use super::route::{Place, Route};
use super::sources::Share;
use super::tokens::Source;
use super::unpack::{Packing, UnpackError, unpack};
use crate::chain::chain;
use crate::clock;
use crate::peer::Peer;
use crate::spool::{Append, Durable, KeepError, SpoolError};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Longest `Idempotency-Key`, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// A body from here on is read on a thread of its own, so that trackers do not wait for it. So much
/// JSON takes 0.3 ms on a server and several on a small box; finding a thread takes time too.
const LARGE_BYTES: usize = 128 * 1024;

/// What a request says besides its body.
struct Asked {
    route: Route,
    params: Params,
    source: Arc<Source>,
    packing: Packing,
    /// `None`: a form of parameters, or no body at all.
    form: Option<Form>,
    /// What tells it apart from others of its key: the path with its query, and the headers.
    shape: String,
    key: Option<Digest>,
}

/// What was kept.
struct Kept {
    status: StatusCode,
    text: Arc<str>,
}

impl Ingest {
    /// Answers one request; tells `known` when it brought a token that we know.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        known: &Notify,
    ) -> Response<Body> {
        let kept = self.keep(request, known).await;
        let metrics = &self.hall.metrics.ingest;
        match kept {
            Ok(kept) => {
                metrics.answered(kept.status.as_u16());
                let body = Body::from(kept.text.as_bytes().to_vec());
                let mut response = Response::new(body);
                *response.status_mut() = kept.status;
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                response
            }
            Err(problem) => {
                metrics.answered(problem.status());
                self.say(&problem, peer);
                of_problem(&problem)
            }
        }
    }

    fn say(&self, problem: &Problem, peer: Peer) {
        let (status, kind) = (problem.status(), problem.kind());
        match problem {
            Problem::NotDurable(why) => {
                self.hall.metrics.frame_not_kept();
                self.hall
                    .complain(peer, "positions not kept, so not accepted", why);
            }
            Problem::Token => {
                let why = "no token, or one that is not known";
                self.hall.complain(peer, "request refused", why);
            }
            _ => tracing::debug!(%peer, status, kind, "request refused"),
        }
    }

    async fn keep(&self, request: Request<Incoming>, known: &Notify) -> Result<Kept, Problem> {
        let (head, body) = request.into_parts();
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let mut params = Params::parse(query);
        let route = Route::of(head.method.as_str(), path, &params)?;
        if self.hall.stop.is_cancelled() {
            return Err(Problem::Stopping);
        }
        let token = token_of(&head.headers, route.place, &params);
        let source = self.sources.who(token.as_deref()).ok_or(Problem::Token)?;
        // Without tokens any page in a browser of this machine could post, or ask for a picture.
        if self.sources.count().is_none() && may_be_of_a_page(&head.headers) {
            return Err(Problem::Token);
        }
        known.notify_one();
        self.take(&source, Share::Request)?;
        if !source.may(route.lane) {
            return Err(Problem::Lane(route.lane.as_str()));
        }
        let text = |name: HeaderName| head.headers.get(name).and_then(|it| it.to_str().ok());
        let content_type = text(CONTENT_TYPE);
        let has_body = head.headers.contains_key(CONTENT_LENGTH)
            || head.headers.contains_key(TRANSFER_ENCODING);
        if !has_body && route.place != Place::Phone {
            return Err(Problem::NoLength);
        }
        let is_form =
            content_type.is_none_or(|it| it.starts_with("application/x-www-form-urlencoded"));
        let form = match route.place {
            Place::Phone if !has_body || is_form => None,
            _ => Some(route.form(content_type)?),
        };
        let coding = text(CONTENT_ENCODING).unwrap_or_default();
        let unknown = || Problem::MediaType("Content-Encoding here is gzip or zstd".to_owned());
        let packing = Packing::of_coding(coding).ok_or_else(unknown)?;
        let key = key_of(&head.headers, &source)?;
        let mut held = self.memory.nothing();
        let within = self.hall.config.session.frame_timeout;
        let limit = self.config.body_bytes_max;
        let limit = source.body_bytes_max.map_or(limit, |it| it.min(limit));
        // One position, however it is written.
        let limit = match route.place {
            Place::Phone => limit.min(super::read::ITEM_BYTES_MAX),
            _ => limit,
        };
        let body = receive(body, limit, within, &mut held).await?;
        let body = match route.place == Place::Phone && form.is_none() {
            true => {
                let opened = opened(packing, body, limit, &mut held)?;
                params.extend(Params::parse(&String::from_utf8_lossy(&opened)));
                Vec::new()
            }
            false => body,
        };
        let asked = Asked {
            route,
            params,
            source,
            packing,
            form,
            shape: format!(
                "{path}?{query}\n{}\n{coding}\n",
                content_type.unwrap_or_default()
            ),
            key,
        };
        self.keep_body(asked, body, limit, held).await
    }

    async fn keep_body(
        &self,
        asked: Asked,
        body: Vec<u8>,
        limit: usize,
        held: Held,
    ) -> Result<Kept, Problem> {
        let repeated = asked
            .key
            .map(|key| (key, digest(&[asked.shape.as_bytes(), &body])));
        if let Some((key, digest)) = repeated {
            match self.repeats().look(&key, &digest, Instant::now()) {
                Seen::New => {}
                Seen::Other => return Err(Problem::OtherRequest),
                Seen::Same(text) => {
                    let status = status_of(asked.route.place);
                    return Ok(Kept { status, text });
                }
            }
        }
        let now_ms = clock::now_ms();
        // The memory is held until the answer is made: the frames are in it.
        let (found, _held) = self.find(&asked, body, limit, held, now_ms).await?;
        if found.items.is_empty() {
            self.hall.metrics.ingest.rejected(found.rejected.len());
            return Err(Problem::AllBad(found.rejected));
        }
        self.take(&asked.source, Share::Positions(found.items.len()))?;
        let (accepted, rejected) = (found.items.len(), found.rejected);
        let frames = frames(found.items, asked.route.lane, now_ms);
        let receipt = self.write(frames).await?;
        let text = json!({ "accepted": accepted, "rejected": rejected, "receipt": receipt });
        let text: Arc<str> = text.to_string().into();
        let metrics = &self.hall.metrics;
        metrics.ingest.accepted(accepted);
        metrics.ingest.rejected(rejected.len());
        metrics.records_acked(u32::try_from(accepted).unwrap_or(u32::MAX));
        if let Some((key, digest)) = repeated {
            let answer = Arc::clone(&text);
            self.repeats().keep(key, digest, answer, Instant::now());
        }
        tracing::debug!(
            source = asked.source.name,
            lane = asked.route.lane.as_str(),
            accepted,
            rejected = rejected.len(),
            "positions kept"
        );
        Ok(Kept {
            status: status_of(asked.route.place),
            text,
        })
    }

    /// What is in the body.
    async fn find(
        &self,
        asked: &Asked,
        body: Vec<u8>,
        limit: usize,
        mut held: Held,
        now_ms: u64,
    ) -> Result<(Found, Held), Problem> {
        let access = self.hall.access.clone();
        let judge = move |device: &Device| match device {
            Device::Imei(imei) if access.denies(*imei) => {
                Err("this IMEI is denied here".to_owned())
            }
            _ => Ok(()),
        };
        let (form, packing, place) = (asked.form, asked.packing, asked.route.place);
        let (Some(form), false) = (form, place == Place::Phone) else {
            let item = match form {
                None => osmand(&asked.params, i64::try_from(now_ms).unwrap_or(i64::MAX)),
                Some(_) => of_phone(packing, body, limit, &mut held, now_ms)?,
            };
            let item = item.map_err(Problem::Malformed)?;
            judge(&item.device).map_err(Problem::Malformed)?;
            let found = Found {
                items: vec![item],
                rejected: Vec::new(),
            };
            return Ok((found, held));
        };
        let device = device_of(&asked.params).map_err(Problem::Malformed)?;
        if packing == Packing::Identity && body.len() < LARGE_BYTES {
            return work(form, packing, body, limit, held, device.as_ref(), &judge);
        }
        let worked = tokio::task::spawn_blocking(move || {
            work(form, packing, body, limit, held, device.as_ref(), &judge)
        });
        worked
            .await
            .map_err(|error| Problem::NotDurable(error.to_string()))?
    }

    /// Returns when all of it is durable: the receipt.
    async fn write(&self, frames: Vec<Append>) -> Result<String, Problem> {
        let kept = self.hall.spool.append_all(frames).await;
        let kept = kept.map_err(of_keep_error)?;
        let mut receipts = Vec::with_capacity(kept.len());
        let mut first_error = None;
        for one in kept {
            match one {
                Ok(durable) => receipts.push(durable),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) => Err(of_keep_error(error.into())),
            None => Ok(receipt(&receipts)),
        }
    }

    fn take(&self, source: &Source, share: Share) -> Result<(), Problem> {
        let taken = self.sources.take(source, share, Instant::now());
        taken.map_err(|wait| Problem::Rate(wait.as_secs() + 1))
    }

    fn repeats(&self) -> std::sync::MutexGuard<'_, super::repeat::Repeats> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What costs time: opening and reading.
fn work(
    form: Form,
    packing: Packing,
    body: Vec<u8>,
    limit: usize,
    mut held: Held,
    device: Option<&Device>,
    judge: &Judge<'_>,
) -> Result<(Found, Held), Problem> {
    let body = opened(packing, body, limit, &mut held)?;
    if !held.grow(form.bytes_needed(body.len())) {
        return Err(Problem::Busy);
    }
    let found = read(form, &body, device, judge, &mut |bytes| held.grow(bytes));
    let found = found.map_err(|error| match error {
        BodyError::TooMany(_) => Problem::TooLarge(error.to_string()),
        BodyError::NoMemory => Problem::Busy,
        BodyError::Malformed(why) => Problem::Malformed(why),
    })?;
    Ok((found, held))
}

fn opened(
    packing: Packing,
    body: Vec<u8>,
    limit: usize,
    held: &mut Held,
) -> Result<Vec<u8>, Problem> {
    let opened = unpack(packing, body, limit, &mut |bytes| held.grow(bytes));
    opened.map_err(|error| match error {
        UnpackError::TooLarge(_) => Problem::TooLarge(error.to_string()),
        UnpackError::Damaged(_) => Problem::Malformed(error.to_string()),
        UnpackError::NoMemory => Problem::Busy,
    })
}

/// One position of an app that posts JSON. A body that large is none.
fn of_phone(
    packing: Packing,
    body: Vec<u8>,
    limit: usize,
    held: &mut Held,
    now_ms: u64,
) -> Result<Result<super::read::Item, String>, Problem> {
    let limit = limit.min(super::read::ITEM_BYTES_MAX);
    let body = opened(packing, body, limit, held)?;
    let body: Value =
        serde_json::from_slice(&body).map_err(|error| Problem::Malformed(error.to_string()))?;
    Ok(osmand_json(
        &body,
        i64::try_from(now_ms).unwrap_or(i64::MAX),
    ))
}

fn of_keep_error(error: KeepError) -> Problem {
    match error {
        KeepError::Spool(SpoolError::Full { .. }) => Problem::Full,
        KeepError::Closed | KeepError::PowerFails => Problem::Stopping,
        KeepError::Spool(_) => Problem::NotDurable(chain(&error)),
    }
}

/// A phone app looks for 200 and nothing else; everybody else is told what 202 means.
fn status_of(place: Place) -> StatusCode {
    match place {
        Place::Phone => StatusCode::OK,
        Place::Batch | Place::Upload | Place::Both => StatusCode::ACCEPTED,
    }
}

/// From `Authorization`; at the door of phone apps, which cannot set headers, also from `?token=`.
fn token_of(headers: &HeaderMap, place: Place, params: &Params) -> Option<String> {
    let in_query = || match place {
        Place::Phone => params.get("token").map(str::to_owned),
        Place::Batch | Place::Upload | Place::Both => None,
    };
    let Some(header) = headers.get(AUTHORIZATION) else {
        return in_query();
    };
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    // RFC 7617: user, a colon, password. The user may be anything.
    let both = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    both.split_once(':').map(|(_, token)| token.to_owned())
}

/// Browsers tell that a page asks (Fetch Metadata, also for what has no `Origin`), and under which name
/// they found us: one that is not of this machine was made to lead here.
fn may_be_of_a_page(headers: &HeaderMap) -> bool {
    let fetch = headers.get("sec-fetch-site");
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host: Option<Authority> = host.and_then(|host| host.parse().ok());
    let is_here = host.is_some_and(|host| {
        let name = host.host().trim_matches(['[', ']']);
        let ip: Result<std::net::IpAddr, _> = name.parse();
        name.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
    });
    headers.contains_key(ORIGIN) || fetch.is_some_and(|site| site != "none") || !is_here
}

fn key_of(headers: &HeaderMap, source: &Source) -> Result<Option<Digest>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let why = format!("Idempotency-Key has 1 to {KEY_BYTES_MAX} bytes");
        return Err(Problem::Malformed(why));
    }
    let name = source.name.as_bytes();
    Ok(Some(digest(&[name, b"\n", key.as_bytes()])))
}

fn digest(parts: &[&[u8]]) -> Digest {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// `<spool id>:<first>-<last>`, with commas where there is a hole between.
fn receipt(kept: &[Durable]) -> String {
    let mut text = String::new();
    let mut open: Option<(SpoolId, SpoolSeq, SpoolSeq)> = None;
    let mut write = |range: (SpoolId, SpoolSeq, SpoolSeq)| {
        let comma = if text.is_empty() { "" } else { "," };
        let (spool, first, last) = range;
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{spool}:{first}-{last}");
    };
    for durable in kept {
        let (spool, seq) = durable.position();
        match &mut open {
            Some((of, _, last)) if *of == spool && last.next() == seq => *last = seq,
            _ => {
                if let Some(range) = open.replace((spool, seq, seq)) {
                    write(range);
                }
            }
        }
    }
    if let Some(range) = open {
        write(range);
    }
    text
}

fn of_problem(problem: &Problem) -> Response<Body> {
    let mut response = Response::new(Body::from(problem.to_json().to_string()));
    let status = StatusCode::from_u16(problem.status());
    *response.status_mut() = status.expect("the list of problems has statuses of HTTP");
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(CONTENT_TYPE, "application/problem+json");
    match problem {
        Problem::Token => {
            set(WWW_AUTHENTICATE, "Bearer, Basic realm=\"milepost\"");
        }
        Problem::Method(allowed) => {
            set(axum::http::header::ALLOW, allowed);
        }
        _ => {}
    }
    if problem.ends_connection() {
        set(CONNECTION, "close");
    }
    if let Some(seconds) = problem.retry_after_s() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
