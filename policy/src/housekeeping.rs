//! Cleaning of the spill and compaction of the pool: started and stopped by shares, with a distance
//! between the two.

use crate::permille;
use crate::settings::Settings;
use crate::view::{Spill, View};

const MIB: u64 = 1 << 20;
/// Waste that compaction cannot win: a slab of 32 KiB half filled in each of some fifty size
/// classes.
const WASTE_FLOOR_BYTES: u64 = 2 * MIB;

/// What is going on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Housekeeping {
    compacting: bool,
    cleaning: bool,
}

impl Housekeeping {
    /// Bytes of objects to move now. `pressed`: room or memory is short, so stop later.
    pub(crate) fn compact(
        &mut self,
        settings: &Settings,
        view: &View,
        pressed: bool,
        elapsed_ms: u64,
    ) -> u64 {
        let compact = &settings.compact;
        let pool = &view.pool;
        let above = |share: u64| {
            pool.waste_bytes > permille(pool.resident_bytes, share).max(WASTE_FLOOR_BYTES)
        };
        // Twice as eager, with the distance in proportion.
        let ease = if pressed { 2 } else { 1 };
        let share = if self.compacting { compact.stop_permille } else { compact.start_permille };
        self.compacting = above(share / ease);
        if !self.compacting {
            return 0;
        }
        per_step(compact.mib_per_second, elapsed_ms).min(2 * pool.waste_bytes).min(pool.used_bytes)
    }

    /// Bytes of compaction's likely win, beyond what it cannot win.
    pub(crate) fn compactable(&self, settings: &Settings, view: &View) -> u64 {
        let stop = permille(view.pool.resident_bytes, settings.compact.stop_permille);
        let win = view.pool.waste_bytes.saturating_sub(stop.max(WASTE_FLOOR_BYTES));
        if self.compacting { win } else { 0 }
    }

    /// Live bytes that cleaning should move now.
    pub(crate) fn clean(&mut self, settings: &Settings, spill: &Spill, elapsed_ms: u64) -> u64 {
        let clean = &settings.clean;
        let band = if self.cleaning { clean.band_permille } else { 0 };
        let short = spill.free_bytes() < permille(spill.capacity_bytes, clean.free_permille + band);
        let worthwhile = spill.garbage_bytes()
            > permille(spill.used_bytes, clean.garbage_permille).max(spill.segment_bytes);
        self.cleaning = short && worthwhile && !spill.failing;
        if !self.cleaning {
            return 0;
        }
        per_step(clean.mib_per_second, elapsed_ms).min(spill.live_bytes)
    }
}

/// A rate's bytes for a step.
pub(crate) const fn per_step(mib_per_second: u64, elapsed_ms: u64) -> u64 {
    (mib_per_second as u128 * MIB as u128 * elapsed_ms as u128 / 1000) as u64
}
