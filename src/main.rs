//! The `uswap` program: words in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    uswap::cli::main(std::env::args_os())
}
