//! What each stable code of the cloud means and what to do, without a network.
//!
//! Why here: how a code is typed, listed and printed stands in the package `codes`, what it means
//! only the cloud knows. The areas are none of the gateway's, so that one code never means two
//! things.
//!
//! Invariants: a code never changes its meaning and is never used again; every finding with a code
//! is made from its page, so that no code is without one; `docs/codes-cloud.md` is [`markdown`].

pub mod commands;
pub mod database;
pub mod redis;
pub mod running;
pub mod sensors;
pub mod settings;
pub mod socket;
pub mod stream;
pub mod web;

use codes::Book;
pub use codes::Page;

/// All pages, in the order in which `cloud check` goes through the areas.
static BOOK: Book = Book {
    program: "cloud",
    title: "Codes of the cloud",
    about: "`E` keeps it from its work, `W` is worth a look. The gateway's are [others](codes.md). Made \
        by `UPDATE_DOCS=1 cargo test -p cloud explain`; a test compares.",
    areas: &[
        ("Settings", settings::ALL),
        ("Redis", redis::ALL),
        ("Streams", stream::ALL),
        ("Without Redis", socket::ALL),
        ("Sensors", sensors::ALL),
        ("Database", database::ALL),
        ("Commands", commands::ALL),
        ("The web app", web::ALL),
        ("A running processor", running::ALL),
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

/// The page `docs/codes-cloud.md`.
#[must_use]
pub fn markdown() -> String {
    BOOK.markdown()
}

#[cfg(test)]
mod tests;
