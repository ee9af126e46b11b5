//! Reads Teltonika bytes as hex and says what they are: one JSON object per line, or with
//! `--explain` every byte with its name.
//!
//! ```text
//! cargo run -q -p codec --example decode --features std -- --explain 000F333536333037303432343431303133
//! cargo run -q -p codec --example decode --features std -- --help
//! ```
//!
//! The process ends here; everything it does is in `tool`, which the tests run as well.

mod tool;

use std::io::{self, ErrorKind, IsTerminal};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.is_empty() && io::stdin().is_terminal() {
        eprintln!("decode: reading lines of hex from the terminal; --help shows the uses");
    }
    let (mut input, mut out) = (io::stdin().lock(), io::stdout().lock());
    match tool::run(arguments, &mut input, &mut out, &mut io::stderr()) {
        Ok(code) => ExitCode::from(code),
        // `decode | head`: nobody is listening any more, and that is all right.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("decode: {error}");
            ExitCode::from(tool::EXIT_USAGE)
        }
    }
}
