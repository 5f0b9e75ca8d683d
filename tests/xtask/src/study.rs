//! `cargo xtask study`: the example study, made again from the traces of the repository.

use crate::{Outcome, build, root, run, target};
use std::process::Command;

/// What `study` takes.
pub const USAGE: &str = "\
  study                    bench/studies/policies: every policy over every trace of bench/traces
";

/// Builds and simulates; no guest, no root.
pub fn task() -> Outcome {
    build(&["study"])?;
    let mut study = Command::new(target().join("release/study"));
    study.arg("--uswap").arg(target().join("release/uswap"));
    study.arg("--traces").arg(root().join("bench/traces"));
    run(study.arg("--out").arg(root().join("bench/studies/policies")))
}
