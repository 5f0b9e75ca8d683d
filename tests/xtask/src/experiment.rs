//! `cargo xtask experiment`: `uswap experiment` with all it needs.

use crate::{Outcome, build, pages, run, setup, target};
use std::path::PathBuf;
use std::process::Command;

/// What `experiment` takes.
pub const USAGE: &str = "\
  experiment FILE [FLAGS OF uswap experiment...]
                           compare ways to run uswap in guests, as FILE describes it
";

/// The program that does it.
pub fn program() -> PathBuf {
    target().join("release/uswap")
}

/// Builds, captures pages where there are none, and runs it.
pub fn task(words: &[String]) -> Outcome {
    setup(&[])?;
    build(&[])?;
    pages::provide()?;
    run(Command::new(program()).arg("experiment").args(words))
}
