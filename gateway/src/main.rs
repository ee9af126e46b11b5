//! `gateway`: what an operator types. Each verb has its file in `cli/`.
//!
//! Exit codes: 0 ok, 1 failed check, 2 usage or settings, 3 cannot reach, 4 data at risk.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
