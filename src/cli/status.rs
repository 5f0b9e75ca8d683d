//! `uswap status`: everything one service says of itself.

use super::flags::RunDir;
use super::list::{data_bytes, json, ratio};
use super::service::{Service, State};
use super::{say, table};
use crate::config::size::format as human;
use crate::daemon::protocol::{self, PageCounts};
use crate::error::{StartError, StartResult};
use clap::Args;
use std::path::Path;

#[derive(Args, Debug)]
pub struct Status {
    /// Name of the service [default: the only one]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run_dir: RunDir,
}

impl Status {
    /// Prints the status of the named or the only service.
    pub fn execute(&self) -> StartResult<()> {
        let service = self.service()?;
        let State::Running(status) = service.state()? else {
            return Err(StartError::failure(
                format!("no server answers for {}", service.name),
                "see `uswap list`, or start it with `uswap up NAME`",
            ));
        };
        if self.json { say(&(json(&status)? + "\n")) } else { say(&text(&status)) }
    }

    fn service(&self) -> StartResult<Service> {
        if let Some(name) = &self.name {
            return Service::named(Path::new("/"), name, self.run_dir.given.as_deref());
        }
        let mut all = Service::all(self.run_dir.path())?;
        match (all.pop(), all.len()) {
            (Some(only), 0) => Ok(only),
            (None, _) => Err(StartError::failure(
                format!("no service in {}", self.run_dir.path().display()),
                "start one with `uswap up`",
            )),
            (Some(last), _) => {
                all.push(last);
                let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
                Err(StartError::usage(
                    format!("there are several services: {}", names.join(", ")),
                    "name one of them",
                ))
            }
        }
    }
}

fn text(status: &protocol::Status) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.into(), value]);
    let (memory, pages, safety) = (&status.memory, &status.pages, &status.safety);
    row("device", status.device.clone());
    let server = status.processes.as_ref().map_or(status.pid, |processes| processes.server_pid);
    row("server", format!("pid {server}, uswap {}", status.version));
    if let Some(processes) = &status.processes {
        row(
            "parent",
            if processes.parent_pid == 0 {
                "DEAD".into()
            } else {
                format!("pid {}", processes.parent_pid)
            },
        );
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
    row("kernel", status.kernel.clone());
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
    let swap = status.swap.as_ref();
    row("swap", swap.map_or_else(|| "not in use".into(), |swap| swap_use(swap, pages.stored)));
    let (used, pool) = (memory.pool_used_bytes, memory.pool_bytes);
    let (room, there) = (&memory.pool_level, human(memory.pool_resident_bytes));
    row("pool", format!("{} of {} used, {there} there, room: {room}", human(used), human(pool)));
    row("growth refused", memory.pool_growth_failures.to_string());
    row("slot table", human(memory.table_bytes));
    row("buffers", human(memory.buffer_bytes));
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
    for setting in &status.block {
        let good = if setting.good { String::new() } else { format!(" (want {})", setting.wanted) };
        row(&setting.name, format!("{}{good}", setting.value));
    }
    row("ublk features", status.features.join(" "));
    for (name, time) in status.times.iter().filter(|(_, time)| time.count > 0) {
        let [mean, p50, p99] = [time.mean_ns, time.p50_ns, time.p99_ns].map(microseconds);
        let text = format!("{} times, mean {mean} us, half {p50}, 99 % {p99}", time.count);
        row(&format!("{name} time"), text);
    }
    for (name, value) in &status.counters {
        row(name, value.to_string());
    }
    table::render(&["SERVICE", &status.name], &rows, &[])
}

fn swap_use(swap: &protocol::SwapUse, stored: u64) -> String {
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
