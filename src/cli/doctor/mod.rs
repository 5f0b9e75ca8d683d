//! `uswap doctor`: what this machine lacks, why it matters, and the command that fixes it.
//!
//! Every check is a small function of a root directory, so tests give it directories of their own.

mod config;
mod driver;
mod memory;
mod process;
mod service;

use super::flags::RunDir;
use super::list::json;
use super::{say, table};
use crate::config::under;
use crate::error::StartResult;
use clap::Args;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

pub use memory::{before_swapon, zswap_in_front};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be, or for information.
    Ok,
    /// It works, but worse than it could.
    Warn,
    /// The service cannot start, or is not safe.
    Fail,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was looked at.
    pub name: String,
    /// How much it matters.
    pub level: Level,
    /// What is there.
    pub found: String,
    /// Why it matters.
    pub why: String,
    /// What to do; empty where there is nothing to do.
    pub fix: String,
}

impl Row {
    /// A finding; `fix` is kept only where something is to be fixed.
    fn new(name: &str, level: Level, found: impl Into<String>, why: &str, fix: &str) -> Self {
        let fix = if level == Level::Ok { "" } else { fix };
        Self { name: name.into(), level, found: found.into(), why: why.into(), fix: fix.into() }
    }
}

/// Asks the ublk driver for its features; needs the control device, so tests bring their own.
pub type Probe<'a> = &'a dyn Fn() -> StartResult<Vec<String>>;

#[derive(Args, Debug)]
pub struct Doctor {
    /// Print an array of objects: name, level (ok, warn, fail), found, why, fix
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run_dir: RunDir,
}

impl Doctor {
    /// Prints all findings; failure if any of them is one.
    pub fn execute(&self) -> StartResult<ExitCode> {
        let rows = examine(Path::new("/"), self.run_dir.path(), &crate::daemon::driver_features);
        if self.json {
            say(&(json(&rows)? + "\n"))?
        } else {
            say(&text(&rows))?
        }
        let failed = rows.iter().any(|row| row.level == Level::Fail);
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// All findings about the machine below `root` and the services in `run_dir`.
pub fn examine(root: &Path, run_dir: &Path, probe: Probe<'_>) -> Vec<Row> {
    let mut rows = driver::rows(root, probe);
    rows.extend(process::rows(root));
    rows.extend(memory::rows(root));
    rows.extend(config::rows(root));
    rows.extend(service::rows(root, run_dir));
    rows
}

fn text(rows: &[Row]) -> String {
    let level = |row: &Row| match row.level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "FAIL",
    };
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| vec![level(row).into(), row.name.clone(), row.found.clone()])
        .collect();
    let mut text = table::render(Some(&["", "CHECK", "FOUND"]), &cells, &[]);
    for row in rows.iter().filter(|row| row.level != Level::Ok) {
        text +=
            &format!("\n{}: {}\n  why: {}\n  fix: {}\n", level(row), row.name, row.why, row.fix);
    }
    let count = |level| rows.iter().filter(|row| row.level == level).count();
    text + format!("\n{} fail, {} warn\n", count(Level::Fail), count(Level::Warn)).as_str()
}

/// A file's first line, trimmed; nothing if it cannot be read.
fn line(root: &Path, path: &str) -> Option<String> {
    let text = std::fs::read_to_string(under(root, Path::new(path))).ok()?;
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The word in brackets of a sysfs choice such as `always [madvise] never`; the whole if there is
/// none.
fn chosen(text: &str) -> &str {
    let bracketed = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    bracketed.map_or(text, |(word, _)| word)
}
