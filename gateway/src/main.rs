//! `gateway`: what an operator types. Each verb has its file in `cli/`.
//!
//! Exit codes: 0 ok, 1 failed check, 2 usage or settings, 3 cannot reach, 4 data at risk.

mod cli;

use std::process::ExitCode;

/// musl's own asks the system for every group commit's buffers again and keeps a tracker's task in
/// a slot with room to spare: a tenth of the processor time, a tenth of the memory.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    cli::main()
}
