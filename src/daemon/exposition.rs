//! A status as metrics.
//!
//! Made by whoever shows them, from what the control thread answers: a scrape costs the service one
//! status, whatever is stored.

use super::protocol::Status;
use crate::metrics::{Page, counters, names};
use std::path::Path;

/// Levels of the pool's room, as in `Room::level`.
const LEVELS: [&str; 4] = ["plenty", "low", "min", "full"];
/// States of a spill, as in `Health::name`.
const SPILL_HEALTH: [&str; 6] = ["good", "full", "failing", "broken", "spent", "locked"];
/// The machine's memory, as in the policy's `Pressure::name`.
const PRESSURES: [&str; 3] = ["calm", "tight", "critical"];

/// Everything in `status` as Prometheus's text.
pub fn text(status: &Status) -> String {
    let device = Path::new(&status.device).file_name().unwrap_or_default().to_string_lossy();
    let mut page = Page::new(&[("device", &device), ("service", &status.name)]);
    service(&mut page, status);
    processes(&mut page, status);
    memory(&mut page, status);
    tiers(&mut page, status);
    safety(&mut page, status);
    for (name, metric, labels) in counters::COUNTERS {
        if let Some(&value) = status.counters.get(*name) {
            page.add(metric, labels, value as f64);
        }
    }
    for (name, metric, labels) in counters::TIMES {
        if let Some(time) = status.times.get(*name) {
            page.add_times(metric, labels, &time.buckets, time.sum_ns);
        }
    }
    page.text()
}

fn service(page: &mut Page, status: &Status) {
    let policy = status.policy.as_ref().map_or("", |policy| &policy.name);
    let labels = [
        ("version", status.version.as_str()),
        ("kernel", &status.kernel),
        ("target", &status.target),
        ("codec", &status.codec),
        ("policy", policy),
    ];
    page.add(names::INFO, &labels, 1.0);
    page.add(names::UPTIME, &[], status.uptime_seconds as f64);
    page.add(names::RECORDING, &[], flag(status.recording));
    page.add(names::DEVICE_BYTES, &[], status.size_bytes as f64);
    page.add(names::SWAP_ACTIVE, &[], flag(status.swap.is_some()));
    if let Some(swap) = &status.swap {
        page.add(names::SWAP_BYTES, &[], swap.size_bytes as f64);
        page.add(names::SWAP_USED, &[], swap.used_bytes as f64);
        page.add(names::SWAP_PRIORITY, &[], swap.priority.into());
        page.add(names::STALE, &[], swap.stale_pages_min as f64);
    }
}

/// Who would go on if the server died; nothing for a service that is one process.
fn processes(page: &mut Page, status: &Status) {
    let Some(processes) = &status.processes else { return };
    page.add(names::PARENT_ALIVE, &[], flag(processes.parent_pid != 0));
    page.add(names::STANDBY_READY, &[], flag(processes.standby_warm));
    page.add(names::RECOVERIES, &[], processes.recoveries as f64);
    for (metric, us) in [
        (names::LAST_RECOVERY, processes.last_recovery_us),
        (names::LONGEST_RECOVERY, processes.longest_recovery_us),
    ] {
        page.add(metric, &[], us as f64 / 1e6);
    }
}

fn memory(page: &mut Page, status: &Status) {
    let memory = &status.memory;
    page.add(names::POOL_LIMIT, &[], memory.pool_bytes as f64);
    page.add(names::POOL_RESIDENT, &[], memory.pool_resident_bytes as f64);
    page.add(names::POOL_USED, &[], memory.pool_used_bytes as f64);
    page.add(names::POOL_OBJECTS, &[], memory.object_bytes as f64);
    page.add_state(names::POOL_LEVEL, "level", &LEVELS, &memory.pool_level);
    page.add(names::GROWTH_FAILURES, &[], memory.pool_growth_failures as f64);
    for (purpose, bytes) in [
        ("bookkeeping", memory.bookkeeping_bytes),
        ("dictionaries", memory.dictionary_bytes),
        ("slot_table", memory.table_bytes),
        ("buffers", memory.buffer_bytes),
        ("recording", memory.recording_bytes),
    ] {
        page.add(names::MEMORY, &[("purpose", purpose)], bytes as f64);
    }
    page.add(names::RESIDENT, &[], memory.resident_bytes as f64);
    page.add(names::DICTIONARIES, &[], memory.dictionaries.into());
}

fn tiers(page: &mut Page, status: &Status) {
    if let Some(spill) = &status.spill {
        page.add(names::SPILL_BYTES, &[], spill.size_bytes as f64);
        page.add(names::SPILL_USED, &[], spill.used_bytes as f64);
        page.add_state(names::SPILL_HEALTH, "health", &SPILL_HEALTH, &spill.health);
    }
    if let Some(policy) = &status.policy {
        page.add_state(names::PRESSURE, "pressure", &PRESSURES, &policy.pressure);
        if let Some(short) = &policy.short {
            page.add(names::SHORT, &[("reason", short)], 1.0);
        }
        page.add(names::AGE_TICKS, &[], policy.age_tick as f64);
    }
}

fn safety(page: &mut Page, status: &Status) {
    let safety = &status.safety;
    for (what, good) in [
        ("memory_locked", safety.memory_locked),
        ("io_flusher", safety.io_flusher),
        ("oom_exempt", safety.oom_score_adj == -1000),
        ("state_noswap", safety.state_noswap),
    ] {
        page.add(names::SAFE, &[("protection", what)], flag(good));
    }
    page.add(names::QUEUE_ALLOCATIONS, &[], safety.queue_allocations as f64);
    for setting in &status.block {
        page.add(names::BLOCK_SETTING, &[("setting", &setting.name)], flag(setting.good));
    }
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}
