//! What a policy is shown: the view of a step, filled in from counters, the pool, the spill and the
//! machine.
//!
//! After the first one it is made without memory from the kernel or the heap: the mover makes room
//! when there is none.

use super::hand;
use super::pressure::Gauges;
use super::writeback::{Totals, Writeback};
use crate::daemon::spilling::Spilling;
use crate::limits::SLAB_BYTES;
use crate::stats::{Counter, QueueStats, Stats};
use crate::store::Store;
use crate::sys::clock;
use crate::units::PAGE_SIZE;
use std::path::Path;
use std::time::Duration;
use uswap_policy::{Counts, Pool, Since, View};

/// Change of the pool's use, as a part of its size, after which ages are counted before the next
/// tick: what the policy chooses from must be what is there.
const RECOUNT_SHARE: u64 = 8;

/// Looks at everything, again and again.
#[derive(Debug)]
pub struct Outlook {
    /// What was seen last.
    pub view: View,
    /// Added to the clock, for tests.
    pub ahead: Duration,
    /// When ages began to be counted, after boot.
    pub begin: Duration,
    gauges: Gauges,
    counts: Counts,
    /// Age tick and bytes in use when ages were last counted.
    counted: Option<(u64, u64)>,
}

impl Outlook {
    /// Nothing seen yet. Opens files below `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            view: View::default(),
            ahead: Duration::ZERO,
            begin: clock::since_boot(),
            gauges: Gauges::open(root),
            counts: Counts::default(),
            counted: None,
        }
    }

    /// Looks. `age_tick`: how long an age tick is. Counts all pages anew when an age tick has begun
    /// or much has changed, unless told to `stop`.
    pub fn look(
        &mut self,
        store: &Store,
        stats: &Stats,
        writeback: Option<&mut Writeback<'_>>,
        age_tick: Duration,
        stop: impl Fn() -> bool,
    ) {
        let view = &mut self.view;
        let elapsed = clock::since_boot() + self.ahead - self.begin;
        let tick = elapsed.as_secs() / age_tick.as_secs().max(1);
        while view.age_tick < tick {
            store.advance_tick();
            view.age_tick += 1;
        }
        let usage = store.pool_usage();
        view.now_ms = elapsed.as_millis() as u64;
        view.pool = Pool {
            capacity_bytes: store.pool().capacity_bytes(),
            used_bytes: usage.object_bytes,
            resident_bytes: usage.slabs * SLAB_BYTES as u64,
            waste_bytes: usage.slabs_used * SLAB_BYTES as u64 - usage.object_bytes,
            set_aside_bytes: writeback.as_ref().map_or(0, |w| w.shared.set_aside_bytes()),
        };
        view.machine = self.gauges.machine();
        let refused_writes = writeback.as_ref().map_or(0, |w| w.shared.take_refused());
        view.spill = writeback.map(|writeback| writeback.look(&Totals::of(stats)));
        let now = counts(stats);
        let each = usage.object_bytes.checked_div(usage.objects).unwrap_or(PAGE_SIZE as u64);
        view.since = Since { refused_writes, ..now.since(&self.counts, each) };
        self.counts = now;
        let (used, share) = (usage.object_bytes, view.pool.capacity_bytes / RECOUNT_SHARE);
        let stale = self
            .counted
            .is_none_or(|(tick, bytes)| tick != view.age_tick || bytes.abs_diff(used) > share);
        if stale {
            self.counted = Some((view.age_tick, used));
            hand::count(store, &mut view.slots, stop);
        }
    }

    /// What is there is another thing now: it is counted before the next tick.
    pub fn recount(&mut self) {
        self.counted = None;
    }

    /// From what room in the pool on the mover should be woken: a level gets worse there.
    pub fn wake(&self, spilling: &Spilling, (low, min): (u64, u64)) {
        let free = self.view.pool.free_bytes();
        let next = if free > low { low } else { min };
        spilling.wake_below(spilling.set_aside_bytes() + next);
    }
}

impl Totals {
    fn of(stats: &Stats) -> Self {
        Self {
            pages: stats.sum(|s| &s.slots_spilled),
            data_bytes: stats.sum(|s| &s.spilled_bytes),
            written_bytes: stats.sum(|s| &s.spill_write_bytes),
        }
    }
}

/// All that happened so far.
fn counts(stats: &Stats) -> Counts {
    let sum = |counter: fn(&QueueStats) -> &Counter| -> u64 { stats.sum(counter) };
    Counts {
        written_pages: sum(|s| &s.write_staged_pages) + sum(|s| &s.write_direct_pages),
        pool_reads: [
            sum(|s| &s.read_lz4_pages),
            sum(|s| &s.read_zstd_pages) + sum(|s| &s.read_dense_pages),
            sum(|s| &s.read_huge_pages),
        ],
        spill_reads: sum(|s| &s.read_spill_pages),
        spilled_pages: sum(|s| &s.spilled_pages),
        payload_bytes: sum(|s| &s.spill_payload_bytes),
        cleaned_bytes: sum(|s| &s.spill_cleaned_bytes),
        recompressed_pages: sum(|s| &s.recompressed_pages),
    }
}
