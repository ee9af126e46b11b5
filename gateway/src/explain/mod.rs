//! What each stable code of the gateway means and what to do, without a network.
//!
//! Why here: how a code is typed, listed and printed stands in the package `codes`, what it means
//! only the gateway knows.
//!
//! Invariants: a code never changes its meaning and is never used again; every finding with a code
//! is made from its page, so that no code is without one; `docs/codes.md` is [`markdown`].

pub mod board;
pub mod bundle;
pub mod cert;
pub mod clock;
pub mod direct;
pub mod disk;
#[cfg(feature = "ingest")]
pub mod ingest;
pub mod net;
pub mod redis;
pub mod serial;
pub mod settings;
pub mod status;
pub mod update;

use codes::Book;
pub use codes::Page;

/// All pages, in the order in which `gateway check` goes through the areas.
pub static BOOK: Book = Book {
    program: "gateway",
    title: "Codes",
    about: "`E` keeps the gateway from its work, `W` is worth a look. Made by \
        `UPDATE_DOCS=1 cargo test -p gateway --test explain`; a test compares.",
    areas: &[
        ("Settings", settings::ALL),
        ("Addresses to listen on", net::ALL),
        ("Serial lines", serial::ALL),
        #[cfg(feature = "ingest")]
        ("Positions over HTTP", ingest::ALL),
        ("Disk and spool", disk::ALL),
        ("Board", board::ALL),
        ("Clock", clock::ALL),
        ("Certificates", cert::ALL),
        ("Redis", redis::ALL),
        ("A cloud on the same machine", direct::ALL),
        ("A running gateway", status::ALL),
        ("Bundles", bundle::ALL),
        ("Updates of flashed boxes", update::ALL),
    ],
};

/// Every page.
pub fn pages() -> impl Iterator<Item = &'static Page> {
    BOOK.pages()
}

/// The page of a code, however it was typed: see [`Book::page`].
#[must_use]
pub fn page(typed: &str) -> Option<&'static Page> {
    BOOK.page(typed)
}

/// The codes of the area that was typed, for whoever mistyped the rest.
#[must_use]
pub fn near(typed: &str) -> Vec<&'static Page> {
    BOOK.near(typed)
}

/// One line for every code.
#[must_use]
pub fn list() -> String {
    BOOK.list()
}

/// The page `docs/codes.md`.
#[must_use]
pub fn markdown() -> String {
    BOOK.markdown()
}
