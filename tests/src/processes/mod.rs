//! Our own programs as child processes: started, asked, killed, started again.
//!
//! End-to-end tests and the demo run the binaries an operator runs, with a settings file and
//! a signal, never the libraries behind them. Invariants: a child sees none of our
//! environment, so a stray `REDIS_URL` changes nothing; no child outlives us, however we end;
//! ready means that it answered over HTTP.

mod http;
mod program;
mod ran;
mod road;
mod service;

pub use http::get;
pub use program::{Cloud, Gateway, program_path, through_redis, through_socket};
pub use ran::Ran;
pub use road::{Part, Road, RoadOptions};
pub use service::Setting;
