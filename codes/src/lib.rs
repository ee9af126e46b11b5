//! Stable codes of errors and warnings, and the page of each: what it means and what to do.
//!
//! Why codes: words change with the release and the language of the reader, a code can be looked
//! up, counted and told on the telephone. Why a package: gateway and cloud may not import each
//! other, yet a code is typed, listed and printed the same way in both. What a code means stays
//! with the program that gives it; this crate knows none.
//!
//! Invariants:
//! - A page is a constant, declared with [`pages!`]; a finding with a code is made from its page,
//!   so that no code is without one.
//! - Digits tell errors (`E-…`, from 001) from warnings (`W-…`, from 101), and only errors have an
//!   exit code. [`upkeep`] finds what breaks this, and pages that nothing uses or tests.
//!
//! ```
//! mod mill {
//!     pub mod wheel {
//!         codes::pages! {
//!             STILL = "E-WHL-001", 1, "the wheel stands still", "The brook is dry. Wait for rain.";
//!             SLOW = "W-WHL-101", 0, "the wheel is slow", "Look for weed in the brook.";
//!         }
//!     }
//!     pub static BOOK: codes::Book = codes::Book {
//!         program: "mill",
//!         title: "Codes of the mill",
//!         about: "`E` stops it.",
//!         areas: &[("Wheel", wheel::ALL)],
//!     };
//! }
//!
//! assert_eq!(mill::wheel::STILL.exit, 1);
//! assert_eq!(mill::BOOK.page("whl-1").map(|page| page.title), Some("the wheel stands still"));
//! assert_eq!(mill::BOOK.near("E-WHL-009").len(), 2);
//! ```

mod book;
mod page;
pub mod upkeep;

pub use book::Book;
pub use page::Page;
