//! May the right senders post positions, and nobody else?
//!
//! What keeps the gateway from starting is told among the settings; here is what is worth a look.

use ::settings::{Settings, TokenFileError};

use super::Look;
use crate::explain::ingest as pages;
use crate::ingest::{IngestError, read_tokens};

/// Why the doors could not be opened.
pub(super) fn report(look: &mut Look, error: &IngestError) {
    let why = crate::chain::chain(error);
    match error {
        IngestError::NoTokens { setting, addr } => look.bad(
            &pages::NO_TOKENS,
            format!("{setting} {addr} would take positions from everybody"),
            "ingest.tokens",
            "no file of tokens is set",
            "gateway ingest token new NAME --file FILE, and name the file in ingest.tokens",
        ),
        IngestError::Tokens(error) => {
            let (page, what, remedy) = match error {
                TokenFileError::Read { .. } => (
                    &pages::TOKENS,
                    "the file of tokens cannot be read",
                    "correct ingest.tokens, or let the gateway's user read the file",
                ),
                TokenFileError::Line { .. } => (
                    &pages::LINE,
                    "a line of the file of tokens cannot be used",
                    "correct the line, or put a # before it",
                ),
                TokenFileError::Mode { .. } => (
                    &pages::MODE,
                    "everybody on this machine may read a token",
                    "chmod 0640, and chgrp to the gateway's group",
                ),
            };
            look.bad(page, what, "ingest.tokens", why, remedy);
        }
        IngestError::NoIdentity | IngestError::Identity(_) | IngestError::Listen(_) => look.bad(
            &pages::DOOR,
            "listen.https has no certificate that can be used",
            "listen.tls_cert, listen.tls_key",
            why,
            "set both, or take the addresses out of listen.https",
        ),
    }
}

pub(super) fn look(settings: &Settings) -> Look {
    let mut look = Look::new("ingest");
    let addrs = |name| settings.socket_list(name).unwrap_or_default();
    let (http, https) = (addrs("listen.http"), addrs("listen.https"));
    let tokens = settings.optional_path("ingest.tokens").ok().flatten();
    if http.is_empty() && https.is_empty() {
        if tokens.is_some() {
            look.bad(
                &pages::NO_DOOR,
                "tokens, and no door to use them at",
                settings.origin("ingest.tokens").place(),
                "neither listen.http nor listen.https is set",
                "set one of them, or remove ingest.tokens",
            );
        } else {
            look.good("no door for HTTP");
        }
        return look;
    }
    match tokens.as_deref().map(read_tokens) {
        None => look.good("everybody on this machine may post positions"),
        Some(Ok(book)) => look.good(format!(
            "{} sources may post positions with a token",
            book.count()
        )),
        Some(Err(_)) => {
            look.skipped("who may post is not known: the file of tokens cannot be used")
        }
    }
    for addr in http {
        if !addr.ip().to_canonical().is_loopback() {
            look.bad(
                &pages::CLEAR,
                format!("tokens travel to {addr} in clear text"),
                settings.origin("listen.http").place(),
                "listen.http is not encrypted",
                "use listen.https, or a loopback address behind a proxy that speaks TLS",
            );
        }
    }
    look
}
