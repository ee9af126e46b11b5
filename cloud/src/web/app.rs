//! The web app: files that were built before and stand in the binary.
//!
//! Why in the binary: it has to work where nothing else can be reached, and a page that does not fit
//! the program that serves it is a riddle.
//!
//! Invariant: a page may load nothing from elsewhere but tiles from where `web.tiles` says.

use std::sync::OnceLock;

use axum::body::Bytes;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use flate2::Compression;

use super::answer::{self, Wants};
use crate::config::TilesUrl;

/// Path in the app and content, sorted by path; made by `build.rs`.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/app_files.rs"));

/// The page.
pub(super) const INDEX: &str = "index.html";

/// A year, as nothing is kept longer.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Of a file, made when it is first asked for.
#[derive(Debug, Default)]
struct Made {
    tag: OnceLock<String>,
    gzip: OnceLock<Bytes>,
}

/// The files and what a page may do.
#[derive(Debug)]
pub(super) struct App {
    made: Vec<Made>,
    policy: HeaderValue,
}

impl App {
    /// With tiles from there, if any.
    #[must_use]
    pub(super) fn new(tiles: Option<&TilesUrl>) -> Self {
        let also = tiles.map_or_else(String::new, |tiles| format!(" {}", tiles.origin));
        let policy = format!(
            "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
             img-src 'self' data: blob:{also}; connect-src 'self'{also}; worker-src 'self' blob:; \
             object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        );
        Self {
            made: FILES.iter().map(|_| Made::default()).collect(),
            policy: HeaderValue::from_str(&policy)
                .expect("an origin was read as letters, digits, dots, dashes and a port"),
        }
    }

    /// A file by its path, without the first slash. `None`: there is none.
    #[must_use]
    pub(super) fn file(&self, path: &str, wants: &Wants) -> Option<Response> {
        let at = FILES.binary_search_by(|(name, _)| (*name).cmp(path)).ok()?;
        let (name, content) = FILES.get(at)?;
        let made = self.made.get(at)?;
        let (kind, packs) = kind(name);
        let tag = made.tag.get_or_init(|| answer::tag(content));
        let gzip = packs.then(|| {
            let pack = || Bytes::from(answer::packed(content, Compression::best()));
            made.gzip.get_or_init(pack).clone()
        });
        let mut found = answer::file(wants, kind, tag, content, gzip);
        let headers = found.headers_mut();
        let keep = match has_hash(name) {
            true => HeaderValue::from_static(FOR_EVER),
            false => HeaderValue::from_static("no-cache"),
        };
        headers.insert(header::CACHE_CONTROL, keep);
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        Some(found)
    }
}

/// Content type, and whether packing makes it smaller.
fn kind(name: &str) -> (&'static str, bool) {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    match ending {
        "html" => ("text/html; charset=utf-8", true),
        "js" | "mjs" => ("text/javascript; charset=utf-8", true),
        "css" => ("text/css; charset=utf-8", true),
        "json" | "map" => ("application/json", true),
        "geojson" => ("application/geo+json", true),
        "webmanifest" => ("application/manifest+json", true),
        "svg" => ("image/svg+xml", true),
        "txt" | "md" => ("text/plain; charset=utf-8", true),
        "wasm" => ("application/wasm", true),
        "pbf" => ("application/x-protobuf", true),
        "ico" => ("image/x-icon", true),
        "png" => ("image/png", false),
        "webp" => ("image/webp", false),
        "jpg" | "jpeg" => ("image/jpeg", false),
        "woff2" => ("font/woff2", false),
        _ => ("application/octet-stream", true),
    }
}

/// Does its name change with its content? `assets/index-B1xYz3_k.js`, as Vite writes them.
fn has_hash(name: &str) -> bool {
    let stem = name
        .strip_prefix("assets/")
        .and_then(|name| name.rsplit_once('.'));
    let hash = stem.and_then(|(stem, _)| stem.get(stem.len().checked_sub(9)?..));
    hash.is_some_and(|hash| {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        hash.starts_with('-') && hash.chars().all(is_word)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_page_is_there_and_may_ask_nobody_but_us_and_the_tiles() {
        let wants = Wants::default();
        let policy = |app: &App| {
            let page = app.file(INDEX, &wants).unwrap();
            let policy = &page.headers()[header::CONTENT_SECURITY_POLICY];
            policy.to_str().unwrap().to_owned()
        };
        let own = policy(&App::new(None));
        assert!(!own.contains("http"), "{own}");
        let tiles = TilesUrl {
            template: "https://t.example/{z}/{x}/{y}.png".to_owned(),
            origin: "https://t.example".to_owned(),
        };
        let with = policy(&App::new(Some(&tiles)));
        assert_eq!(with.matches("https://t.example").count(), 2, "{with}");
        assert!(App::new(None).file("nothing", &wants).is_none());
        assert!(App::new(None).file("../index.html", &wants).is_none());
    }

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        assert!(has_hash("assets/index-B1xYz3_k.js"));
        assert!(has_hash("assets/a-b-c-B1xYz3-k.css"));
        for name in [
            "index.html",
            "assets/map.json",
            "index-B1xYz3_k.js",
            "assets/-x.js",
        ] {
            assert!(!has_hash(name), "{name}");
        }
    }
}
