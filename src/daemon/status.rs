//! What the service says of itself, gathered when somebody asks.

use super::backing::Backing;
use super::control_page::Stage;
use super::grower::Growth;
use super::live::Live;
use super::mover::Movement;
use super::protocol::{
    BackingUse, BlockSetting, MemoryUse, PageCounts, PolicyUse, ProcessUse, Safety, ScriptUse,
    SpillUse, Status, SwapUse, TimeUse,
};
use super::recording::Recording;
use super::scrape::Scrape;
use super::seat::Seat;
use super::spill_file::SpillFile;
use super::spilling::Spilling;
use super::state::State;
use super::usage;
use crate::config::{Metrics, Settings};
use crate::limits::{SEGMENT_BYTES, SLAB_BYTES};
use crate::stats::Stats;
use crate::stats::histogram::Counts;
use crate::store::Store;
use crate::sys::process::{Identity, Process};
use crate::sys::{confine, guard, heap};
use crate::ublk::{Features, ctrl, settings};
use crate::units::PAGE_SHIFT;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Where the facts are.
#[derive(Debug)]
pub struct Sources<'a> {
    /// What was asked for.
    pub settings: &'a Settings,
    /// Device number.
    pub id: u32,
    /// Hardware queues.
    pub queues: u16,
    /// What the driver can do.
    pub features: Features,
    /// Its place among the processes of the service.
    pub seat: Option<&'a Seat>,
    /// Memory and store.
    pub state: &'a State,
    /// The loop target's file or device.
    pub backing: Option<&'a Backing>,
    /// Where pages go that leave RAM.
    pub spill_file: Option<&'a SpillFile>,
    /// Counters.
    pub stats: &'a Stats,
    /// Growth of the pool.
    pub growth: &'a Growth,
    /// The mover.
    pub movement: &'a Movement,
    /// The metrics' server.
    pub scrape: &'a Scrape,
    /// Settings that may have changed.
    pub live: &'a Live,
    /// Whether somebody records what happens.
    pub recording: &'a Recording,
    /// Memory was locked and found resident.
    pub memory_locked: bool,
    /// Every thread read its IO_FLUSHER setting back.
    pub io_flusher: bool,
    /// When the device began to serve.
    pub since: Instant,
    /// How much room the pool has, in a word.
    pub pool_level: &'static str,
}

impl Sources<'_> {
    /// Gathers everything. Allocates and reads /proc and /sys: for the control thread.
    pub fn status(&self) -> Status {
        let root = Path::new("/");
        let device = ctrl::block_path(self.id);
        let processes = self.seat.map(processes);
        let counters: BTreeMap<String, u64> = self
            .stats
            .totals()
            .into_iter()
            .map(|(name, _, value)| (name.to_owned(), value))
            .collect();
        let pages = pages(&counters);
        let swap = usage::swap_area(root, &device).ok().flatten().map(|area| SwapUse {
            size_bytes: area.size_bytes,
            used_bytes: area.used_bytes,
            stale_pages_min: pages.stored.saturating_sub(area.used_bytes >> PAGE_SHIFT),
            priority: area.priority,
        });
        Status {
            name: self.settings.name.clone(),
            settings: self.words(swap.as_ref()),
            swap,
            device: device.display().to_string(),
            id: self.id,
            pid: match processes.as_ref().map_or(0, |processes| processes.parent_pid) {
                0 => std::process::id(),
                parent => parent,
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: read_trimmed("/proc/sys/kernel/osrelease"),
            target: self.settings.target.name().to_owned(),
            codec: self.settings.codec.name().to_owned(),
            size_bytes: self.settings.size,
            queues: self.queues,
            depth: self.settings.depth,
            staging_bytes: self.settings.staging,
            helpers: self.settings.helpers,
            poll_us: self.live.poll_us.load(Ordering::Relaxed),
            uptime_seconds: self.since.elapsed().as_secs(),
            recording: self.recording.is_on(),
            metrics: self.scrape.listening().map(|address| address.to_string()),
            backing: self.backing(),
            policy: self.policy(),
            spill: self.spill(&counters),
            processes,
            memory: self.memory(),
            pages,
            safety: Safety {
                memory_locked: self.memory_locked,
                io_flusher: self.io_flusher,
                oom_score_adj: guard::oom_score_adj().unwrap_or(0),
                state_noswap: self.state.is_noswap(),
                queue_allocations: heap::sealed_calls(),
                calls_filtered: confine::is_filtered(),
            },
            block: settings::read(root, self.id, self.features, self.settings.depth)
                .into_iter()
                .map(|s| BlockSetting {
                    name: s.name.to_owned(),
                    value: s.value,
                    wanted: s.wanted,
                    good: s.good,
                })
                .collect(),
            features: self.features.names(),
            counters,
            times: times(self.stats),
        }
    }

    /// Keys as they are now.
    fn words(&self, swap: Option<&SwapUse>) -> BTreeMap<String, String> {
        let mut words = self.settings.words();
        let metrics = Metrics { address: self.scrape.listening(), asked: true };
        let now = [
            ("id", self.id.to_string()),
            ("queues", self.queues.to_string()),
            ("poll-us", self.live.poll_us.load(Ordering::Relaxed).to_string()),
            ("policy", self.live.policy().name),
            ("metrics", metrics.to_string()),
        ];
        // Whoever did it, as `uswap up` does from outside.
        let used = swap
            .map(|swap| [("swapon", true.to_string()), ("priority", swap.priority.to_string())]);
        let all = now.into_iter().chain(used.into_iter().flatten());
        words.extend(all.map(|(key, value)| (key.to_owned(), value)));
        words
    }

    fn backing(&self) -> Option<BackingUse> {
        let (backing, path) = self.backing.zip(self.settings.spill.as_ref())?;
        Some(BackingUse {
            path: path.display().to_string(),
            copy: backing.copy.name().to_owned(),
            direct: backing.direct,
            discard: backing.abilities().discard,
        })
    }

    fn policy(&self) -> Option<PolicyUse> {
        let shown = self.movement.shown();
        let plan = shown.plan?;
        let policy = self.live.policy();
        let script = policy.script.as_ref().map(|script| {
            let (errors, refused) = self.live.script_errors();
            let broken = script.broken().map(str::to_owned);
            ScriptUse { base: script.base().to_owned(), broken, refused, errors }
        });
        Some(PolicyUse {
            digest: policy.digest(),
            victim: policy.victim().to_owned(),
            name: policy.name,
            script,
            pressure: plan.pressure.name().to_owned(),
            short: plan.short.map(|short| short.words().to_owned()),
            age_tick: shown.age_tick,
            ages_began_us: shown.began.as_micros() as u64,
        })
    }

    fn spill(&self, counters: &BTreeMap<String, u64>) -> Option<SpillUse> {
        let (file, spilling) = self.spill_file.zip(self.growth.spilling.as_ref())?;
        let count = |name: &str| counters.get(name).copied().unwrap_or(0);
        let (segments, segments_used) = spilling.segments();
        Some(SpillUse {
            path: file.path.display().to_string(),
            health: spilling.health().name().to_owned(),
            size_bytes: file.bytes,
            used_bytes: segments_used * SEGMENT_BYTES as u64,
            segments,
            segments_used,
            pages: count("slots_spilled"),
            data_bytes: count("spilled_bytes"),
            written_bytes: count("spill_write_bytes"),
            write_errors: count("spill_write_errors"),
            read_errors: count("read_spill_errors"),
        })
    }

    fn memory(&self) -> MemoryUse {
        let store = self.state.store.as_ref();
        let usage = store.map(Store::pool_usage).unwrap_or_default();
        let (dictionaries, dictionary_bytes) = store.map_or((0, 0), Store::dictionaries_alive);
        let segments = store.and_then(Store::spill).map_or(0, |s| s.segments.bookkeeping_bytes());
        let spill = segments + self.growth.spilling.as_ref().map_or(0, Spilling::writer_bytes);
        MemoryUse {
            pool_bytes: store.map_or(0, |s| s.pool().capacity_bytes()),
            pool_resident_bytes: usage.slabs * SLAB_BYTES as u64,
            pool_used_bytes: usage.slabs_used * SLAB_BYTES as u64,
            object_bytes: usage.object_bytes,
            pool_level: self.pool_level.to_owned(),
            pool_growth_failures: self.growth.failures.get(),
            bookkeeping_bytes: usage.bookkeeping_bytes + spill,
            dictionaries,
            dictionary_bytes,
            table_bytes: self.state.table_bytes,
            buffer_bytes: self.state.buffer_bytes,
            recording_bytes: self.recording.memory_bytes(),
            resident_bytes: resident_bytes().unwrap_or(0),
        }
    }
}

/// Who there is besides this server.
fn processes(seat: &Seat) -> ProcessUse {
    let (page, own) = (&seat.page, std::process::id());
    let lives = |identity: Identity| matches!(Process::open(identity), Ok(Some(_)));
    let parent = Some(page.parent()).filter(|parent| lives(*parent));
    let other = |ticket: &u64| page.holder(*ticket).pid != own && lives(page.holder(*ticket));
    let standby = page.recent_tickets().filter(other).last();
    let recoveries = page.recoveries();
    ProcessUse {
        parent_pid: parent.map_or(0, |parent| parent.pid),
        server_pid: own,
        standby_pid: standby.map_or(0, |ticket| page.holder(ticket).pid),
        standby_warm: standby.is_some_and(|ticket| page.stage(ticket) == Stage::Warm),
        recoveries: recoveries.count,
        last_recovery_us: recoveries.last_us,
        longest_recovery_us: recoveries.longest_us,
    }
}

fn times(stats: &Stats) -> BTreeMap<String, TimeUse> {
    let time_use = |counts: &Counts| TimeUse {
        count: counts.count(),
        sum_ns: counts.sum_ns,
        mean_ns: counts.sum_ns.checked_div(counts.count()).unwrap_or(0),
        p50_ns: counts.quantile_ns(0.5),
        p99_ns: counts.quantile_ns(0.99),
        p999_ns: counts.quantile_ns(0.999),
        buckets: counts.filled(),
    };
    stats.times().iter().map(|(name, _, counts)| ((*name).to_owned(), time_use(counts))).collect()
}

fn pages(counters: &BTreeMap<String, u64>) -> PageCounts {
    let count = |name: &str| counters.get(name).copied().unwrap_or(0);
    let kinds = ["same", "lz4", "zstd", "dense", "huge", "staged", "spilled"];
    let counts = kinds.map(|kind| count(&format!("slots_{kind}")));
    let stored = counts.into_iter().fold(0, u64::wrapping_add);
    let [same, lz4, zstd, dense, huge, staged, spilled] = counts;
    let data_bytes = count("stored_bytes");
    PageCounts { stored, same, lz4, zstd, dense, huge, staged, spilled, data_bytes }
}

fn read_trimmed(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}
