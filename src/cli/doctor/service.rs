//! Services that run: the block-layer settings and the safety they read back from the kernel
//! themselves.

use super::{Level, Row, process};
use crate::cli::service::{Service, State};
use crate::daemon::protocol::{BlockSetting, Status};
use crate::ublk::settings;
use std::path::Path;

/// Rows for every service in `run_dir`.
pub fn rows(root: &Path, run_dir: &Path) -> Vec<Row> {
    let services = match Service::all(run_dir) {
        Ok(services) => services,
        Err(e) => return vec![unanswered("services", &e.to_string())],
    };
    services.iter().flat_map(|service| one(root, service)).collect()
}

fn one(root: &Path, service: &Service) -> Vec<Row> {
    let name = &service.name;
    match service.state() {
        Ok(State::Running(status)) => running(root, name, &status),
        Ok(State::Dead) => {
            let why = "a dead server's device and files are in the way of a new one";
            let fix = format!("uswap down {name}");
            vec![Row::new(name, Level::Fail, "the server is dead", why, &fix)]
        }
        Err(e) => vec![unanswered(name, &e.to_string())],
    }
}

fn unanswered(name: &str, error: &str) -> Row {
    Row::new(name, Level::Warn, "unknown", error, "run `uswap doctor` as root")
}

fn running(root: &Path, name: &str, status: &Status) -> Vec<Row> {
    let mut rows: Vec<Row> = status.block.iter().map(|s| block(name, status, s)).collect();
    rows.push(safety(name, status));
    rows.extend(process::cgroup(root, &status.pid.to_string(), &format!("{name}: cgroup")));
    rows
}

fn block(name: &str, status: &Status, setting: &BlockSetting) -> Row {
    let level = if setting.good { Level::Ok } else { Level::Warn };
    let why = match setting.name.as_str() {
        "scheduler" => "a scheduler only delays swap requests, which are answered from memory",
        "io_timeout" => "before 6.16 this is how soon the driver notices that the server died",
        "nr_requests" => "it leaves tags free so that the driver can notice a dead server",
        "wbt_lat_usec" => {
            "writeback throttling keeps requests free for reads, which programs wait for"
        }
        _ => "swap works best with the wanted value",
    };
    // A value that can be written; `wanted` is in words where it is a range.
    let value = match setting.name.as_str() {
        "scheduler" => "none".to_owned(),
        "io_timeout" => settings::IO_TIMEOUT_MS.to_string(),
        "nr_requests" => status.depth.saturating_sub(settings::SPARE_TAGS).to_string(),
        "wbt_lat_usec" => "2000".to_owned(),
        _ => setting.wanted.clone(),
    };
    let disk = status.device.strip_prefix("/dev/").unwrap_or(&status.device);
    let fix = format!("echo {value} > /sys/block/{disk}/queue/{}", setting.name);
    Row::new(&format!("{name}: {}", setting.name), level, &setting.value, why, &fix)
}

fn safety(name: &str, status: &Status) -> Row {
    let safety = &status.safety;
    let lacks: Vec<&str> = [
        (safety.memory_locked, "memory not locked"),
        (safety.io_flusher, "not an I/O flusher"),
        (safety.oom_score_adj == -1000, "the OOM killer may take it"),
        (safety.state_noswap, "state can be swapped"),
        (safety.queue_allocations == 0, "queue threads allocate"),
    ]
    .into_iter()
    .filter_map(|(good, lack)| (!good).then_some(lack))
    .collect();
    let level = match (lacks.is_empty(), status.target.as_str()) {
        (true, _) => Level::Ok,
        (false, "swap") => Level::Fail,
        (false, _) => Level::Warn,
    };
    let found = if lacks.is_empty() { "safe".into() } else { lacks.join(", ") };
    let why = "under memory pressure such a server can wait for itself, and the machine with it";
    let fix = format!("uswap down {name}, then start it as root and without --unsafe-no-lock");
    Row::new(&format!("{name}: swap safety"), level, found, why, &fix)
}
