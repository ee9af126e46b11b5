//! Dead letters for operators: what nobody could read, why, and what to do about it.
//!
//! Why: every one of them is a record that a tracker was told is safe. `today` judges, `hexdump`
//! shows, `redrive` writes, `cli` is what is typed.

pub mod cli;
mod drop;
mod hexdump;
pub(crate) mod redrive;
pub(crate) mod show;
pub mod today;
