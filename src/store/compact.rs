//! Compact: objects move together so that slabs empty, and empty slabs go back to the kernel.

use super::Store;
use crate::chaos::{Bug, planted};
use crate::limits::STAGE_MARGIN_BYTES;
use crate::stats::QueueStats;
use crate::units::{Location, PAGE_SIZE, SlotIndex};
use std::io;
use std::sync::atomic::Ordering;

/// What a step of compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Objects that are elsewhere now.
    pub objects: u64,
    /// Their bytes, headers and rounding included.
    pub bytes: u64,
    /// Slabs that are free because of it.
    pub slabs_freed: u64,
}

impl Store {
    /// Empties one slab, if there is one whose objects fit the other slabs of its size class:
    /// at most a slab's worth of objects, each moved under its slot's lock alone. Readers and
    /// writers go on meanwhile; objects that they are just making or freeing stay, and then so does
    /// the slab. `None` if there is nothing to compact. Does not allocate; blocks for one lock at a
    /// time.
    ///
    /// A touch is not changed by a move.
    pub fn compact_step(&self, stats: &QueueStats) -> Option<Moved> {
        let emptying = self.pool.begin_emptying()?;
        let mut moved = Moved::default();
        for index in 0..emptying.objects() {
            let Some((from, slot)) = self.pool.object_of(&emptying, index) else { continue };
            if !self.names(slot, from) {
                continue;
            }
            let Some(to) = self.pool.alloc_beside(&emptying) else { break };
            if self.move_object(slot, from, to) {
                self.pool.free(from);
                moved.objects += 1;
                moved.bytes += emptying.object_bytes() as u64;
            } else {
                self.pool.free(to);
            }
        }
        moved.slabs_freed = self.pool.end_emptying(emptying).into();
        stats.compacted_objects.add(moved.objects);
        stats.compacted_slabs.add(moved.slabs_freed);
        Some(moved)
    }

    /// Whether the slot exists and names the object at `at` now. A guess: the slot is not locked.
    fn names(&self, slot: SlotIndex, at: Location) -> bool {
        let place = |slot| self.table.peek(slot).object().map(|(place, _)| place);
        self.contains(slot, 1) && place(slot) == Some(at)
    }

    /// Makes `to` the place of the slot's object if that is still `from`.
    fn move_object(&self, slot: SlotIndex, from: Location, to: Location) -> bool {
        let mut buffer = [0; PAGE_SIZE];
        let mut guard = self.table.lock(slot);
        let entry = guard.entry();
        let Some(len) = entry.object().filter(|(at, _)| *at == from).map(|(_, len)| len) else {
            return false;
        };
        let touch = guard.touch();
        if planted(Bug::PublishBeforeCopy) {
            guard.publish(entry.moved(to), touch);
        }
        self.pool.copy_object(from, to, slot, &mut buffer[..len]);
        guard.publish(entry.moved(to), touch);
        true
    }

    /// Gives up to `bytes` of empty slabs back to the kernel, as long as `keep` bytes of them stay,
    /// and what staged pages may need. Returns how many bytes; 0 if there is nothing to give.
    /// Blocks while the kernel takes the memory: for a background thread.
    pub fn give_back(&self, keep: u64, bytes: u64, stats: &QueueStats) -> io::Result<u64> {
        let staged = self.staged.load(Ordering::Relaxed) * PAGE_SIZE as u64;
        let needed = if self.buffers.is_some() { staged + STAGE_MARGIN_BYTES } else { 0 };
        let given = self.pool.give_back(keep.max(needed), bytes)?;
        stats.given_back_bytes.add(given);
        Ok(given)
    }
}
