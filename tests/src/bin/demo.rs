//! `demo`: the main job on this machine, live; see `tests::demo`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::demo::main()
}
