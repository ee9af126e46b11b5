//! What all verbs for operators have in common: how they fail, how they tell that they are still at
//! work, and how a moment is typed.

mod error;
pub mod moment;
pub mod progress;
pub mod tracker;
pub mod writing;

pub use error::VerbError;
