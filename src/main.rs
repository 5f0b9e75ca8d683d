//! The `uswap` program: words in, exit code out.

fn main() {}
