//! `uswap status`: everything one service says of itself.

use super::columns::{Numbers, data_bytes, ratio};
use super::flags::RunDir;
use super::list::json;
use super::service::Service;
use super::{say, table};
use crate::daemon::protocol::{self, PageCounts};
use crate::error::{StartError, StartResult};
use clap::Args;

#[derive(Args, Debug)]
pub struct Status {
    /// Name of the service [default: the only one]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Rows, by commas; all of them if nothing is said
    #[arg(long, short, value_name = "ROWS")]
    output: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print sizes in bytes
    #[arg(long, short)]
    bytes: bool,
    /// Leave the first line out
    #[arg(long, short)]
    noheadings: bool,
    #[command(flatten)]
    run_dir: RunDir,
}

impl Status {
    /// Prints the status of the named or the only service.
    pub fn execute(&self) -> StartResult<()> {
        let status = Service::chosen(self.name.as_deref(), &self.run_dir)?.status()?;
        if self.json {
            return say(&(json(&status)? + "\n"));
        }
        let mut rows = rows(&status, Numbers { exact: self.bytes });
        if let Some(wanted) = &self.output {
            rows = select(rows, wanted)?;
        }
        let head = ["SERVICE", status.name.as_str()];
        say(&table::render(Some(head.as_slice()).filter(|_| !self.noheadings), &rows, &[]))
    }
}

/// The rows that `wanted` names, in its order.
fn select(rows: Vec<Vec<String>>, wanted: &str) -> StartResult<Vec<Vec<String>>> {
    let find = |word: &str| {
        let found = rows.iter().find(|row| row[0].eq_ignore_ascii_case(word.trim()));
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
            let what = format!("there is no row \"{}\"", word.trim());
            StartError::usage(what, format!("the rows are {}", names.join(", ")))
        })
    };
    wanted.split(',').map(find).collect()
}

fn rows(status: &protocol::Status, numbers: Numbers) -> Vec<Vec<String>> {
    let human = |bytes| numbers.bytes(bytes);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.into(), value]);
    let (memory, pages, safety) = (&status.memory, &status.pages, &status.safety);
    row("device", status.device.clone());
    let server = status.processes.as_ref().map_or(status.pid, |processes| processes.server_pid);
    row("server", format!("pid {server}, uswap {}", status.version));
    if let Some(processes) = &status.processes {
        process_rows(processes, &mut row);
    }
    row("kernel", status.kernel.clone());
    row("metrics", status.metrics.as_ref().map_or("off".into(), |a| format!("http://{a}/metrics")));
    row("up", format!("{} s", status.uptime_seconds));
    row("target", format!("{}, codec {}", status.target, status.codec));
    if let Some(backing) = &status.backing {
        let cache = if backing.direct { "direct" } else { "through the page cache" };
        row("spill", format!("{}, copy mode {}, {cache}", backing.path, backing.copy));
    }
    if let Some(policy) = &status.policy {
        let short = policy.short.as_ref().map_or(String::new(), |short| format!(", {short}"));
        let (name, victim, pressure) = (&policy.name, &policy.victim, &policy.pressure);
        row("policy", format!("{name}, victims by {victim}, memory {pressure}{short}"));
        policy.script.iter().for_each(|script| row("script", script_state(script)));
    }
    if let Some(spill) = &status.spill {
        let (used, size) = (human(spill.used_bytes), human(spill.size_bytes));
        let (pages, data, health) = (spill.pages, human(spill.data_bytes), &spill.health);
        row("spill", format!("{}, {used} of {size} used, {health}", spill.path));
        row("spilled", format!("{pages} pages, {data} of data"));
        let (writes, reads) = (spill.write_errors, spill.read_errors);
        row("spill errors", format!("{writes} segments written, {reads} pages read"));
    }
    row("size", human(status.size_bytes));
    row("queues", format!("{} of depth {}", status.queues, status.depth));
    let (room, helpers) = (human(status.staging_bytes), status.helpers);
    row("staging", format!("{room}, {helpers} helpers, polling at most {} us", status.poll_us));
    let swap = status.swap.as_ref().map(|swap| swap_use(swap, pages.stored, numbers));
    row("swap", swap.unwrap_or_else(|| "not in use".into()));
    let (used, pool) = (memory.pool_used_bytes, memory.pool_bytes);
    let (room, there) = (&memory.pool_level, human(memory.pool_resident_bytes));
    row("pool", format!("{} of {} used, {there} there, room: {room}", human(used), human(pool)));
    row("growth refused", memory.pool_growth_failures.to_string());
    row("slot table", human(memory.table_bytes));
    row("buffers", human(memory.buffer_bytes));
    let is = if status.recording { "on" } else { "off" };
    row("recording", format!("{is}, rings of {}", human(memory.recording_bytes)));
    row("resident", human(memory.resident_bytes));
    let PageCounts { lz4, zstd, dense, huge, same, staged, spilled, .. } = pages;
    let kinds = format!("{lz4} lz4, {zstd} zstd, {dense} dense, {huge} huge, {same} same-filled");
    let kinds = format!("{kinds}, {staged} staged, {spilled} spilled");
    row("pages", format!("{} stored: {kinds}", pages.stored));
    let (alive, bytes) = (memory.dictionaries, human(memory.dictionary_bytes));
    row("dictionaries", format!("{alive} in {bytes}"));
    let data = data_bytes(status);
    row("data", format!("{} in {}, ratio {}", human(data), human(used), ratio(data, used)));
    row("memory locked", yes(safety.memory_locked));
    row("io flusher", yes(safety.io_flusher));
    row("oom score", safety.oom_score_adj.to_string());
    row("state noswap", yes(safety.state_noswap));
    row("queue allocations", safety.queue_allocations.to_string());
    row("calls filtered", yes(safety.calls_filtered));
    for setting in &status.block {
        let good = if setting.good { String::new() } else { format!(" (want {})", setting.wanted) };
        row(&setting.name, format!("{}{good}", setting.value));
    }
    row("ublk features", status.features.join(" "));
    count_rows(status, &mut row);
    rows
}

/// How a policy's script does, for people.
fn script_state(script: &protocol::ScriptUse) -> String {
    let base = &script.base;
    let refused = script.refused.as_ref().map_or(String::new(), |why| format!("; refused: {why}"));
    match &script.broken {
        None => format!("guides, on top of {base}{refused}"),
        Some(why) => format!("GIVEN UP, {base} decides: {why}{refused}"),
    }
}

fn process_rows(processes: &protocol::ProcessUse, row: &mut impl FnMut(&str, String)) {
    let parent = match processes.parent_pid {
        0 => "DEAD".into(),
        pid => format!("pid {pid}"),
    };
    row("parent", parent);
    let standby = match (processes.standby_pid, processes.standby_warm) {
        (0, _) => "NONE".to_owned(),
        (pid, true) => format!("pid {pid}, warm"),
        (pid, false) => format!("pid {pid}, not ready yet"),
    };
    row("standby", standby);
    let [last, longest] = [processes.last_recovery_us, processes.longest_recovery_us];
    let [last, longest] = [last, longest].map(|us| format!("{:.1}", us as f64 / 1000.0));
    let times = processes.recoveries;
    row("taken over", format!("{times} times, last in {last} ms, longest {longest} ms"));
}

/// How long things took, and all counters.
fn count_rows(status: &protocol::Status, row: &mut impl FnMut(&str, String)) {
    for (name, time) in status.times.iter().filter(|(_, time)| time.count > 0) {
        let [mean, p50, p99] = [time.mean_ns, time.p50_ns, time.p99_ns].map(microseconds);
        let text = format!("{} times, mean {mean} us, half {p50}, 99 % {p99}", time.count);
        row(&format!("{name} time"), text);
    }
    for (name, value) in &status.counters {
        row(name, value.to_string());
    }
}

fn swap_use(swap: &protocol::SwapUse, stored: u64, numbers: Numbers) -> String {
    let human = |bytes| numbers.bytes(bytes);
    let (used, size) = (human(swap.used_bytes), human(swap.size_bytes));
    let stale = (100 * swap.stale_pages_min).checked_div(stored).unwrap_or(0);
    let stale = format!("at least {stale} % of what is stored is stale");
    format!("{used} of {size} used, priority {}; {stale}", swap.priority)
}

fn microseconds(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1000.0)
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "NO" }.into()
}
