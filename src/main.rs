//! The `uswap` program: words in, exit code out.

use std::process::ExitCode;

/// Counts what queue threads must not do.
#[global_allocator]
static HEAP: uswap::sys::heap::Heap = uswap::sys::heap::Heap;

fn main() -> ExitCode {
    uswap::cli::main(std::env::args_os())
}
