//! Recover: a store from what a dead process left, by one pass over the slot table.
//!
//! Every entry is looked at with everything that is known about what it names; what cannot be is
//! poisoned: the page is lost, reads as an I/O error, and whatever the entry seemed to name belongs
//! to nobody. Found are: words that nobody publishes; objects outside the arena or off their slab's
//! grid, of another size class or with another slot's number in front; two slots with the same huge
//! page or staged page (both are poisoned, since nobody knows which is right); pages outside the
//! buffers; places in the spill that were never written or do not fit; dictionaries that are not
//! there. What cannot be found is a wrong value that could as well be right: in a same-filled
//! word, in the place of a huge page that nobody else names, in the bytes of an object that still
//! decompress. In the spill everything is found, when it is read.

use super::dictionaries::VERSIONS;
use super::{Store, count_slot};
use crate::chaos::{Bug, planted};
use crate::pool::{Follower, Refused};
use crate::stats::{Counter, QueueStats};
use crate::sys::buffers::{BufferArea, IoBuf};
use crate::table::{Entry, Touch};
use crate::units::{BufferPage, DictionaryVersion, Location, PAGE_SIZE, SlotIndex};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a rebuild found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Slots that hold something, poisoned ones included.
    pub slots: u64,
    /// Objects in the pool.
    pub objects: u64,
    /// Bytes of the arena that they take, headers and rounding included.
    pub object_bytes: u64,
    /// Same-filled slots.
    pub same: u64,
    /// Staged slots.
    pub staged: u64,
    /// Spilled slots.
    pub spilled: u64,
    /// Slots that somebody had locked when he died.
    pub unlocked: u64,
    /// Slots whose entry cannot be true: their pages read as I/O errors from now on.
    pub poisoned: u64,
    /// Dictionaries.
    pub dictionaries: u32,
    /// How long it took.
    pub took: Duration,
}

/// Slots that are looked at before any is judged, so that the memory they lead to comes at the same
/// time: with objects all over the arena it takes half as long (bench/NOTES.md, "Rebuild").
const BATCH: usize = 16;

/// A slot that is not empty.
#[derive(Clone, Copy, Debug)]
struct Found {
    slot: SlotIndex,
    entry: Entry,
    touch: Touch,
    locked: bool,
    /// Whose the object says it is.
    header: Option<SlotIndex>,
}

/// A store that is still another process's, and what it takes to rebuild it.
#[derive(Debug)]
pub struct Recovery {
    store: Store,
    follower: Follower,
    /// Staged pages that two slots name: a bit each.
    disputed: Box<[u64]>,
    rebuilt: Rebuilt,
}

impl Store {
    /// Prepares for the rebuild of a store that was made by [`Store::attach`], and given its
    /// buffers and spill. Allocates everything that takes.
    pub fn recovery(self) -> Recovery {
        let follower = Follower::new(&self.pool);
        let pages = self.buffers.as_ref().map_or(0, |buffers| buffers.len() / PAGE_SIZE);
        let disputed = vec![0; pages.div_ceil(64)].into();
        Recovery { store: self, follower, disputed, rebuilt: Rebuilt::default() }
    }
}

impl Recovery {
    /// The store, to ask for sizes.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Follows the other process: maps slabs that it has added, reads dictionaries that it has
    /// made. Returns the bytes that this brought in. Allocates and blocks.
    pub fn keep_up(&mut self) -> io::Result<u64> {
        let mapped = self.follower.follow(&self.store.pool)?;
        Ok(mapped + self.load_dictionaries())
    }

    fn load_dictionaries(&mut self) -> u64 {
        let Store { dictionaries, notes, .. } = &mut self.store;
        (0..VERSIONS).map(|index| dictionaries.load(notes, index)).sum()
    }

    /// Rebuilds the store, once nobody else uses its memory. `staged` gets every page that is still
    /// in the request buffers, in the order of slots; `stats` counts what is stored. Does not wait,
    /// nor allocate but for a dictionary that has come since [`Recovery::keep_up`]; O(slots).
    pub fn take_over(
        mut self,
        staged: &mut dyn FnMut(SlotIndex, IoBuf),
        stats: &QueueStats,
    ) -> (Store, Rebuilt) {
        let begin = Instant::now();
        self.load_dictionaries();
        self.store.dictionaries.restart();
        let slots = self.store.slots();
        let mut batch = [const { None }; BATCH];
        for first in (0..slots).step_by(BATCH) {
            for (index, found) in (first..slots).zip(&mut batch) {
                *found = self.look(SlotIndex(index as u32));
            }
            for found in batch.iter_mut().filter_map(Option::take) {
                self.judge(found, staged, stats);
            }
        }
        self.settle_disputes(stats);
        self.finish(begin)
    }

    /// What is in a slot, and in front of its object.
    #[inline]
    fn look(&mut self, slot: SlotIndex) -> Option<Found> {
        let (entry, touch, locked) = self.store.table.found(slot)?;
        let header = match entry {
            Entry::Lz4 { at, .. } | Entry::Zstd { at, .. } => self.store.pool.header(at),
            _ => None,
        };
        Some(Found { slot, entry, touch, locked, header })
    }

    #[inline]
    fn judge(
        &mut self,
        found: Found,
        staged: &mut dyn FnMut(SlotIndex, IoBuf),
        stats: &QueueStats,
    ) {
        let Found { slot, entry, touch, locked, header } = found;
        self.rebuilt.slots += 1;
        self.rebuilt.unlocked += u64::from(locked);
        match self.adopt(slot, entry, header, staged) {
            Ok(()) => {
                count_slot(entry, stats, Counter::add);
                if locked && !planted(Bug::LockLeft) {
                    self.store.table.adopt(slot, entry, touch);
                }
            }
            Err(Refused::NoObject) => self.poison(slot, stats),
            Err(Refused::TakenBy(other)) => {
                self.evict(other, entry, stats);
                self.poison(slot, stats);
            }
        }
    }

    /// Takes what a slot's entry names for it.
    #[inline]
    fn adopt(
        &mut self,
        slot: SlotIndex,
        entry: Entry,
        header: Option<SlotIndex>,
        staged: &mut dyn FnMut(SlotIndex, IoBuf),
    ) -> Result<(), Refused> {
        let version = entry.made_with();
        if version != DictionaryVersion::NONE && self.store.dictionaries.pin(version).is_none() {
            return Err(Refused::NoObject);
        }
        match entry {
            Entry::Empty => {}
            Entry::Same(_) => self.rebuilt.same += 1,
            Entry::Lz4 { at, len, .. } | Entry::Zstd { at, len, .. } => {
                self.store.pool.adopt(slot, at, len.into(), header)?;
            }
            Entry::Huge { at, .. } => self.store.pool.adopt(slot, at, PAGE_SIZE, None)?,
            Entry::Staged { at } => {
                let page = self.claim(at).ok_or(Refused::NoObject)?;
                if !planted(Bug::BacklogForgotten) {
                    staged(slot, page);
                }
                *self.store.staged.get_mut() += 1;
                self.rebuilt.staged += 1;
            }
            Entry::Spilled { at, len, .. } => {
                self.adopt_spilled(at, len)?;
                self.rebuilt.spilled += 1;
            }
            Entry::Poisoned => self.rebuilt.poisoned += 1,
            Entry::Unknown => return Err(Refused::NoObject),
        }
        if !planted(Bug::DictionaryUncounted) {
            self.store.dictionaries.hold(version);
        }
        Ok(())
    }

    /// Takes a staged page; notes it if somebody has it already.
    fn claim(&mut self, at: BufferPage) -> Option<IoBuf> {
        let buffers: &Arc<BufferArea> = self.store.buffers.as_ref()?;
        let page = buffers.claim(at);
        if page.is_none()
            && let Some(word) = self.disputed.get_mut(at.0 as usize / 64)
        {
            *word |= 1 << (at.0 % 64);
        }
        page
    }

    fn adopt_spilled(&self, at: Location, len: u16) -> Result<(), Refused> {
        let spill = self.store.spill.as_ref().ok_or(Refused::NoObject)?;
        spill.segments.adopt(at, len).then_some(()).ok_or(Refused::NoObject)
    }

    /// The page of a slot is lost.
    fn poison(&mut self, slot: SlotIndex, stats: &QueueStats) {
        self.store.table.adopt(slot, Entry::Poisoned, Touch::default());
        count_slot(Entry::Poisoned, stats, Counter::add);
        self.rebuilt.poisoned += 1;
    }

    /// Poisons the slot that was first to name the huge page that `entry` names as well.
    fn evict(&mut self, slot: SlotIndex, entry: Entry, stats: &QueueStats) {
        let Some((at, _)) = entry.object().filter(|_| slot.index() < self.store.slots()) else {
            return;
        };
        let first = self.store.table.peek(slot);
        // The third and further ones find nobody there.
        if first.object().is_some_and(|(place, _)| place == at) {
            self.store.pool.disown(at);
            count_slot(first, stats, Counter::sub);
            self.poison(slot, stats);
        }
    }

    /// Poisons the slots that were first to name a page that others name too. Their pages are in
    /// the backlog already, which finds out that no slot names them.
    fn settle_disputes(&mut self, stats: &QueueStats) {
        if self.disputed.iter().all(|&word| word == 0) {
            return;
        }
        for index in 0..self.store.slots() {
            let slot = SlotIndex(index as u32);
            let Entry::Staged { at } = self.store.table.peek(slot) else { continue };
            let word = self.disputed.get(at.0 as usize / 64).copied().unwrap_or(0);
            if word >> (at.0 % 64) & 1 == 1 {
                *self.store.staged.get_mut() -= 1;
                self.rebuilt.staged -= 1;
                count_slot(Entry::Staged { at }, stats, Counter::sub);
                self.poison(slot, stats);
            }
        }
    }

    fn finish(mut self, begin: Instant) -> (Store, Rebuilt) {
        let usage = self.store.pool.finish(self.rebuilt.poisoned > 0);
        let tick = self.store.notes.tick();
        self.store.tick.store(tick, Ordering::Relaxed);
        self.rebuilt.objects = usage.objects;
        self.rebuilt.object_bytes = usage.object_bytes;
        self.rebuilt.dictionaries = self.store.dictionaries_alive().0;
        self.rebuilt.took = begin.elapsed();
        (self.store, self.rebuilt)
    }
}
