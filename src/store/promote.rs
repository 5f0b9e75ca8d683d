//! Promote: a page that was read from the spill stays in the pool, so that the next read is short.
//!
//! Whoever reads it has its object open already: promoting is a copy to the pool and one store to
//! the slot's entry. How many may come back, and after how many reads, is a quota that the mover
//! sets and the readers use up.

use super::spilled::Sought;
use super::{Store, count_slot};
use crate::stats::{Counter, QueueStats};
use crate::trace::{Kind, note};
use crate::units::SlotIndex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is left of the quota.
#[derive(Debug, Default)]
pub(super) struct Promotion {
    pages: AtomicU64,
    reads_min: AtomicU8,
}

impl Promotion {
    /// Takes a page of the quota for one that was read so many times.
    fn take(&self, reads: u8) -> bool {
        let taken = |pages: u64| pages.checked_sub(1);
        reads >= self.reads_min.load(Ordering::Relaxed)
            && self.pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

impl Store {
    /// Lets `pages` more pages come back from the spill that have been read `reads_min` times
    /// there, the read that is served included. What was left of an earlier quota is void.
    pub fn allow_promotion(&self, pages: u64, reads_min: u8) {
        self.promotion.reads_min.store(reads_min, Ordering::Relaxed);
        self.promotion.pages.store(pages, Ordering::Relaxed);
    }

    /// Keeps `data`, the opened object that was sought for `slot`, in the pool if the quota has
    /// room for it, the pool does, and the slot still names it in the spill. Blocks for the slot's
    /// and the pool's lock only.
    pub(super) fn promote(
        &self,
        slot: SlotIndex,
        sought: &Sought,
        reads: u8,
        data: &[u8],
        stats: &QueueStats,
    ) {
        if !self.promotion.take(reads) || !self.room_to_write() {
            return;
        }
        let Some(at) = self.pool.alloc(data.len()) else { return };
        self.pool.write(at, slot, data);
        let old = sought.entry();
        let new = old.moved_to_pool(at).expect("only objects in the spill are sought");
        let mut guard = self.table.lock(slot);
        if !self.is_sought(guard.entry(), sought) {
            drop(guard);
            return self.pool.free(at);
        }
        // Under the lock of a slot that names the dictionary, so that it is still there.
        self.dictionaries.hold(new.made_with());
        let touch = guard.touch();
        guard.publish(new, touch);
        drop(guard);
        count_slot(new, stats, Counter::add);
        self.release(old, stats);
        stats.promoted_pages.add(1);
        note(stats, slot, Kind::Promoted);
    }
}
