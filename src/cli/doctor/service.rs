//! Services that run: the block-layer settings and the safety they read back from the kernel
//! themselves.

use super::{Level, Row, process};
use crate::cli::service::{Service, State};
use crate::config::size::format as human;
use crate::config::under;
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
            let why = "whoever needs a page of it waits, and what it left is in the way of others";
            let (found, fix) = service.why_dead();
            vec![Row::new(name, Level::Fail, found, why, &fix)]
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
    rows.extend(room(name, status));
    rows.extend(spill(root, name, status));
    rows.extend(backing(root, name, status));
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

/// The pool; only where pages are stored.
fn room(name: &str, status: &Status) -> Option<Row> {
    let memory = &status.memory;
    let level = match memory.pool_level.as_str() {
        _ if memory.pool_bytes == 0 => return None,
        "min" | "full" => Level::Warn,
        _ => Level::Ok,
    };
    let (used, most) = (human(memory.pool_used_bytes), human(memory.pool_bytes));
    let found = format!("{used} of {most} used, room: {}", memory.pool_level);
    let why = "when the pool is full writes fail, and the kernel keeps the pages in RAM";
    let fix = "restart with a larger --pool, or with --spill for pages that are not used";
    Some(Row::new(&format!("{name}: pool"), level, found, why, fix))
}

/// The spill: its health, and whether its file is still where it was.
fn spill(root: &Path, name: &str, status: &Status) -> Option<Row> {
    let spill = status.spill.as_ref()?;
    let title = format!("{name}: spill");
    let gone = !under(root, Path::new(&spill.path)).exists();
    let why = "pages that leave RAM go there; without it they stay, and RAM fills up";
    if gone {
        let found = format!("{} was deleted; only who has it open still does", spill.path);
        let why =
            "no new standby can open it: when those that have it are dead, its pages are lost";
        let fix = format!("`uswap down {name}` now, which does swapoff; then start it again");
        return Some(Row::new(&title, Level::Fail, found, why, &fix));
    }
    let (level, fix) = match spill.health.as_str() {
        "good" => (Level::Ok, ""),
        "full" => (Level::Warn, "restart with a larger --spill-size"),
        "spent" => (Level::Warn, "wait for the next day, or give a policy a larger write budget"),
        "failing" => (Level::Fail, "see the disk's errors in the kernel log (dmesg)"),
        "locked" => (Level::Fail, "see who else has it locked (lslocks), and end that"),
        _ => (Level::Fail, "restart the service when you can"),
    };
    let (used, size) = (human(spill.used_bytes), human(spill.size_bytes));
    let found = format!("{}, {used} of {size} used, {}", spill.path, spill.health);
    Some(Row::new(&title, level, found, why, fix))
}

/// The loop target's file: deleted, it is gone with the service, and no standby can open it.
fn backing(root: &Path, name: &str, status: &Status) -> Option<Row> {
    let path = Path::new(&status.backing.as_ref()?.path);
    let title = format!("{name}: file");
    let why = "every page of the device is in it";
    if under(root, path).exists() {
        return Some(Row::new(&title, Level::Ok, status.backing.as_ref()?.path.clone(), why, ""));
    }
    let found = format!("{} was deleted; only who has it open still does", path.display());
    let fix = format!("`uswap down {name}` now, which does swapoff; then make the file anew");
    Some(Row::new(&title, Level::Fail, found, why, &fix))
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
