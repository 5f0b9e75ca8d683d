//! `cargo xtask deny`: licences, sources, duplicates and known defects of everything we build with.

use crate::{Outcome, cargo, run};

/// What the task takes.
pub const USAGE: &str = "\
  deny [--offline]         cargo deny check with deny.toml (cargo-deny is installed if it is not
                           there, which takes minutes; --offline: without the database of known
                           defects)
";

/// The task.
pub fn task(offline: bool) -> Outcome {
    let there = cargo().args(["deny", "--version"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        run(cargo().args(["install", "--locked", "cargo-deny"]))?;
    }
    let checks: &[&str] = if offline { &["bans", "licenses", "sources"] } else { &[] };
    run(cargo().args(["deny", "check"]).args(checks))
}
