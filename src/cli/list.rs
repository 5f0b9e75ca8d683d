//! `uswap list`: all services, in the manner of zramctl.

use super::columns::{Column, Numbers, chosen, data_bytes, ratio};
use super::flags::RunDir;
use super::service::{Service, State};
use super::{note, say, table};
use crate::daemon::protocol::{Status, SwapUse};
use crate::error::{StartError, StartResult};
use crate::units::PAGE_SIZE;
use clap::Args;
use serde_json::{Map, Value};
use std::process::ExitCode;

/// Columns without --output.
const USUAL: &str = "NAME,DEVICE,SIZE,TARGET,CODEC,POOL,DATA,STORED,RATIO,SWAP";

/// Every column there is.
const COLUMNS: &[Column<Status>] = &[
    Column::text("NAME", |s, _| s.name.clone()),
    Column::text("DEVICE", |s, _| s.device.clone()),
    Column::number("SIZE", |s, n| n.bytes(s.size_bytes)),
    Column::text("TARGET", |s, _| s.target.clone()),
    Column::text("CODEC", |s, _| s.codec.clone()),
    Column::number("POOL", |s, n| n.bytes(s.memory.pool_bytes)),
    Column::number("DATA", |s, n| n.bytes(data_bytes(s))),
    Column::number("STORED", |s, n| n.bytes(s.memory.pool_used_bytes)),
    Column::number("RATIO", |s, _| ratio(data_bytes(s), s.memory.pool_used_bytes)),
    Column::text("SWAP", swap),
    Column::number("USED", |s, n| s.swap.as_ref().map_or("-".into(), |w| n.bytes(w.used_bytes))),
    Column::number("PRIORITY", |s, _| {
        s.swap.as_ref().map_or("-".into(), |w| w.priority.to_string())
    }),
    Column::number("PAGES", |s, _| s.pages.stored.to_string()),
    Column::number("DENSE", |s, _| s.pages.dense.to_string()),
    Column::number("SAME", |s, _| s.pages.same.to_string()),
    Column::number("HUGE", |s, _| s.pages.huge.to_string()),
    Column::number("SPILLED", |s, _| s.pages.spilled.to_string()),
    Column::number("STALE", stale),
    Column::number("RESIDENT", |s, n| n.bytes(s.memory.resident_bytes)),
    Column::text("ROOM", |s, _| s.memory.pool_level.clone()),
    Column::text("POLICY", |s, _| s.policy.as_ref().map_or("-".into(), |p| p.name.clone())),
    Column::text("PRESSURE", |s, _| s.policy.as_ref().map_or("-".into(), |p| p.pressure.clone())),
    Column::text("SPILL", |s, _| s.spill.as_ref().map_or("-".into(), |p| p.health.clone())),
    Column::text("METRICS", |s, _| s.metrics.clone().unwrap_or("-".into())),
    Column::number("PID", |s, _| s.pid.to_string()),
    Column::number("UP", |s, _| s.uptime_seconds.to_string()),
    Column::text("VERSION", |s, _| s.version.clone()),
];

#[derive(Args, Debug)]
#[command(after_help = "\
POOL      most RAM that stored pages may take
DATA      what the stored pages were before compression
STORED    how much of the pool they fill, rounding and headers included
RATIO     DATA / STORED
SWAP      what the kernel has in use, and the priority; - if not swapped on
More: USED PRIORITY PAGES DENSE SAME HUGE SPILLED (pages), STALE (freed, not announced), RESIDENT,
ROOM, POLICY, PRESSURE, SPILL (health), METRICS, PID, UP (seconds), VERSION
Exit code 1 if a service did not answer: it has a line on stderr and none in the table.")]
pub struct List {
    /// Columns, in this order, by commas; upper or lower case
    #[arg(long, short, value_name = "COLUMNS", default_value = USUAL, hide_default_value = true)]
    output: String,
    /// Print an array of objects: with --output of its columns, sizes in bytes; without it
    /// everything
    #[arg(long)]
    json: bool,
    /// Print sizes in bytes
    #[arg(long, short)]
    bytes: bool,
    /// Leave the line of column names out
    #[arg(long, short)]
    noheadings: bool,
    #[command(flatten)]
    run_dir: RunDir,
}

impl List {
    /// Prints the table. A service that does not answer gets a line on stderr and no row, and makes
    /// the exit code 1.
    pub fn execute(&self) -> StartResult<ExitCode> {
        let columns = chosen(COLUMNS, &self.output)?;
        let mut found = Vec::new();
        let mut code = ExitCode::SUCCESS;
        for service in Service::all(self.run_dir.path())? {
            let why = match service.state() {
                Ok(State::Running(status)) => {
                    found.push(*status);
                    continue;
                }
                Ok(State::Dead) => {
                    let (what, remedy) = service.why_dead();
                    format!("{what}; {remedy}")
                }
                Err(e) => e.to_string(),
            };
            note(&format!("{}: {why}", service.name));
            code = ExitCode::FAILURE;
        }
        self.print(&columns, &found)?;
        Ok(code)
    }

    fn print(&self, columns: &[&Column<Status>], found: &[Status]) -> StartResult<()> {
        if self.json && self.output == USUAL {
            return say(&(json(&found)? + "\n"));
        }
        let numbers = Numbers { exact: self.bytes || self.json };
        let row = |status: &Status| columns.iter().map(|c| (c.value)(status, numbers)).collect();
        let rows: Vec<Vec<String>> = found.iter().map(row).collect();
        if self.json {
            let object = |(status, row): (&Status, Vec<String>)| -> Map<String, Value> {
                let mut object: Map<String, Value> =
                    columns.iter().zip(row).map(|(column, value)| column.json(value)).collect();
                if let Some(swap) = object.get_mut("swap") {
                    *swap = serde_json::to_value(&status.swap).unwrap_or_default();
                }
                object
            };
            let objects: Vec<_> = found.iter().zip(rows).map(object).collect();
            return say(&(json(&objects)? + "\n"));
        }
        let head: Vec<&str> = columns.iter().map(|column| column.name).collect();
        let right: Vec<usize> = (0..columns.len()).filter(|&i| columns[i].is_number).collect();
        say(&table::render(Some(head.as_slice()).filter(|_| !self.noheadings), &rows, &right))
    }
}

/// `value` as indented JSON.
pub fn json<T: serde::Serialize>(value: &T) -> StartResult<String> {
    serde_json::to_string_pretty(value)
        .map_err(|e| StartError::failure(format!("cannot make JSON: {e}"), "report this"))
}

fn stale(status: &Status, numbers: Numbers) -> String {
    let pages = |swap: &SwapUse| numbers.bytes(swap.stale_pages_min * PAGE_SIZE as u64);
    status.swap.as_ref().map_or_else(|| "-".into(), pages)
}

fn swap(status: &Status, numbers: Numbers) -> String {
    status.swap.as_ref().map_or_else(
        || "-".into(),
        |swap| format!("{} [{}]", numbers.bytes(swap.used_bytes), swap.priority),
    )
}
