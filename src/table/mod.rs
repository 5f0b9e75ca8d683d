//! The slot table: one 8-byte entry for each slot, the only truth about where a page is.
//!
//! Contracts:
//! - *Survival.* The words are a file that outlives the process. They hold no pointer, an all-zero
//!   table is a table of empty slots, and everything else the service knows about pages can be
//!   rebuilt from them. After a crash a lock bit may be left behind; whoever adopts the table
//!   clears it.
//! - *One store.* A slot changes by a single atomic store of its word, so a crash leaves it old or
//!   new.
//! - *Slot lock.* A bit of the entry. Whoever holds it may use the object the entry names; nobody
//!   frees an object that an entry names. Held for the copy of one object at most, never across
//!   another lock.

mod entry;
mod slot;
mod touch;

pub use entry::{Entry, SpillForm};
pub use slot::SlotGuard;
pub use touch::Touch;

use crate::sys::map::Words;
use crate::units::SlotIndex;
use slot::Word;
use std::sync::atomic::AtomicU64;

/// The table over its shared words.
#[derive(Debug)]
pub struct SlotTable {
    words: Words,
}

impl SlotTable {
    /// The table in `words`, one word for each slot, taken as they are. Does not block or allocate.
    pub const fn new(words: Words) -> Self {
        Self { words }
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether the table has no slots.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The entry now, without the lock. An object it names may be gone by the time this returns;
    /// empty and same-filled entries need nothing else, so they are answers. Panics outside the
    /// table.
    #[inline]
    pub fn peek(&self, slot: SlotIndex) -> Entry {
        Entry::unpack(self.words[slot.index()].acquire())
    }

    /// Entry and touch now, without the lock, as for [`SlotTable::peek`].
    #[inline]
    pub fn glance(&self, slot: SlotIndex) -> (Entry, Touch) {
        let raw = self.words[slot.index()].acquire();
        (Entry::unpack(raw), touch::unpack(raw))
    }

    /// Gives the slot another touch if it is not locked and still as it was `seen`. False
    /// otherwise, and sometimes by chance. Does not wait. Panics outside the table.
    #[inline]
    pub fn retouch(&self, slot: SlotIndex, seen: (Entry, Touch), touch: Touch) -> bool {
        slot::retouch(&self.words[slot.index()], seen, touch)
    }

    /// What a dead process left in a slot: the entry ([`Entry::Unknown`] if nobody can have
    /// published it), its touch, and whether somebody held the lock. For whoever adopts the table,
    /// while nobody else uses it. `None` for an empty slot. Panics outside the table.
    #[inline]
    pub fn found(&self, slot: SlotIndex) -> Option<(Entry, Touch, bool)> {
        match self.words[slot.index()].acquire() {
            0 => None,
            raw => Some((Entry::unpack_exactly(raw), touch::unpack(raw), raw & entry::LOCK != 0)),
        }
    }

    /// Makes this the slot's entry, unlocked. For whoever adopts the table, while nobody else uses
    /// it. Panics outside the table, and on [`Entry::Unknown`].
    pub fn adopt(&self, slot: SlotIndex, entry: Entry, touch: Touch) {
        self.words[slot.index()].release(entry.pack() | touch::pack(touch));
    }

    /// Locks the slot. Spins, then yields, while another thread holds it: the time of one object's
    /// copy. Panics outside the table.
    #[inline]
    pub fn lock(&self, slot: SlotIndex) -> SlotGuard<'_, AtomicU64> {
        SlotGuard::lock(&self.words[slot.index()])
    }
}
