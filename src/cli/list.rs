//! `uswap list`: all services, in the manner of zramctl.

use super::flags::RunDir;
use super::service::{Service, State};
use super::{note, say, table};
use crate::config::size;
use crate::daemon::protocol::Status;
use crate::error::{StartError, StartResult};
use crate::units::PAGE_SIZE;
use clap::Args;

const HEAD: [&str; 10] =
    ["NAME", "DEVICE", "SIZE", "TARGET", "CODEC", "POOL", "DATA", "STORED", "RATIO", "SWAP"];
const NUMBERS: [usize; 5] = [2, 5, 6, 7, 8];

#[derive(Args, Debug)]
#[command(after_help = "\
POOL    most RAM that stored pages may take
DATA    what the stored pages were before compression
STORED  how much of the pool they fill, rounding and headers included
RATIO   DATA / STORED
SWAP    what the kernel has in use, and the priority; - if not swapped on")]
pub struct List {
    /// Print an array of status objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run_dir: RunDir,
}

impl List {
    /// Prints the table. A service that does not answer gets a line on stderr and no row.
    pub fn execute(&self) -> StartResult<()> {
        let mut found = Vec::new();
        for service in Service::all(self.run_dir.path())? {
            match service.state() {
                Ok(State::Running(status)) => found.push(*status),
                Ok(State::Dead) => note(&format!(
                    "{}: its server is dead; clean up with `uswap down {}`",
                    service.name, service.name
                )),
                Err(e) => note(&format!("{}: {e}", service.name)),
            }
        }
        if self.json {
            return say(&(json(&found)? + "\n"));
        }
        let rows: Vec<Vec<String>> = found.iter().map(row).collect();
        say(&table::render(&HEAD, &rows, &NUMBERS))
    }
}

/// `value` as indented JSON.
pub fn json<T: serde::Serialize>(value: &T) -> StartResult<String> {
    serde_json::to_string_pretty(value)
        .map_err(|e| StartError::failure(format!("cannot make JSON: {e}"), "report this"))
}

fn row(status: &Status) -> Vec<String> {
    let stored = status.memory.pool_used_bytes;
    let swap = status.swap.as_ref().map_or_else(
        || "-".into(),
        |swap| format!("{} [{}]", size::format(swap.used_bytes), swap.priority),
    );
    vec![
        status.name.clone(),
        status.device.clone(),
        size::format(status.size_bytes),
        status.target.clone(),
        status.codec.clone(),
        size::format(status.memory.pool_bytes),
        size::format(data_bytes(status)),
        size::format(stored),
        ratio(data_bytes(status), stored),
        swap,
    ]
}

/// What the pages in RAM were before compression.
pub fn data_bytes(status: &Status) -> u64 {
    status.pages.stored.saturating_sub(status.pages.spilled).saturating_mul(PAGE_SIZE as u64)
}

/// `data / stored` with two decimals; `-` where nothing takes room.
pub fn ratio(data: u64, stored: u64) -> String {
    if stored == 0 { "-".into() } else { format!("{:.2}", data as f64 / stored as f64) }
}
