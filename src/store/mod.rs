//! The store: slots in, pages out. Joins codec, pool and table; one file per verb.
//!
//! Lock order: there is none, because no two locks are ever held together. The pool's lock is taken
//! and let go inside its calls, and objects are allocated before a slot is locked and freed after
//! it is unlocked. Under a slot lock only bytes are copied.
//!
//! Order of a change: make the new object, publish the slot entry with one store, unlock, free the
//! old object. A crash between any two steps leaves the slot old or new, and at worst an object
//! that no entry names, which a rebuild from the table (`recover`) does not see.
//!
//! No call here allocates, logs, waits for I/O or panics because of what was written or read; all
//! of them may be called from any thread, each with its own [`Stream`](crate::codec::Stream) and
//! its own counters. Those that make the store smaller (compact, give back, recompress, train and
//! what goes with dictionaries) are for background threads: some of them allocate or wait for the
//! kernel, and say so.
//!
//! A dictionary is pinned under a slot's lock: the one exception, argued in `dictionaries`.

mod check;
mod compact;
mod dictionaries;
mod discard;
mod memory;
mod promote;
mod read;
mod recompress;
mod recover;
mod spill_outcome;
mod spill_writer;
mod spilled;
mod stage;
mod train;
mod write;

pub use check::CheckReport;
pub use compact::Moved;
pub use memory::StoreMemory;
pub use read::ReadFrom;
pub use recompress::{Recompressed, Recompressor};
pub use recover::{Rebuilt, Recovery};
pub use spill_outcome::{Added, Cleaned, Collected};
pub use spill_writer::SpillWriter;
pub use spilled::{Opened, Sought};
pub use train::Trainer;

use crate::pool::{Pool, PoolUsage};
use crate::spill::Spill;
use crate::stats::{Counter, QueueStats};
use crate::sys::buffers::BufferArea;
use crate::sys::map::{Arena, Words};
use crate::table::{Entry, SlotTable, Touch};
use crate::trace::{Kind, Stored, note};
use crate::units::{DictionaryVersion, PAGE_SIZE, SlotIndex};
use crossbeam::utils::CachePadded;
use dictionaries::Dictionaries;
use memory::Notes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// How pages that are not same-filled are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreCodec {
    /// lz4, or uncompressed where that does not pay.
    #[default]
    Lz4,
    /// zstd, or uncompressed where that does not pay.
    Zstd,
    /// Uncompressed.
    None,
}

/// The slots of one device and the objects behind them.
#[derive(Debug)]
pub struct Store {
    table: SlotTable,
    pool: Pool,
    codec: StoreCodec,
    dictionaries: Dictionaries,
    /// Where staged pages are.
    buffers: Option<Arc<BufferArea>>,
    /// Staged slots, of all threads.
    staged: CachePadded<AtomicU64>,
    /// The clock that touches are stamped with. Nobody writes near it, so that reading it is free.
    tick: CachePadded<AtomicU8>,
    /// What else outlives the process.
    notes: Notes,
    /// Where objects go that leave the pool.
    spill: Option<Spill>,
    /// Which of them come back when they are read.
    promotion: CachePadded<promote::Promotion>,
}

impl Store {
    /// A store of empty slots, one for each word, which must be zero, that nobody will take over.
    /// Allocates the pool's bookkeeping; panics without memory for a few words.
    pub fn new(table: Words, arena: Arena, codec: StoreCodec) -> Self {
        Self::create(StoreMemory::private(table, arena), codec)
    }

    /// A store of empty slots in new memory, all zero, that somebody may take over.
    pub fn create(memory: StoreMemory, codec: StoreCodec) -> Self {
        let StoreMemory { table, arena, slabs, notes } = memory;
        Self::over(table, Pool::new(arena, slabs), notes, codec)
    }

    /// A store over memory that another process may still be using: for [`Store::recovery`], which
    /// says when it can be used. Changes nothing.
    pub fn attach(memory: StoreMemory, codec: StoreCodec) -> Self {
        let StoreMemory { table, arena, slabs, notes } = memory;
        Self::over(table, Pool::attach(arena, slabs), notes, codec)
    }

    fn over(table: Words, pool: Pool, notes: Words, codec: StoreCodec) -> Self {
        let (staged, tick) = (CachePadded::default(), CachePadded::default());
        let (table, notes) = (SlotTable::new(table), Notes::new(notes));
        let (dictionaries, promotion) = (Dictionaries::default(), CachePadded::default());
        let (buffers, spill) = (None, None);
        Self { table, pool, codec, dictionaries, buffers, staged, tick, notes, spill, promotion }
    }

    /// The same, able to stage pages that lie in these buffers.
    #[must_use]
    pub fn with_buffers(mut self, buffers: Arc<BufferArea>) -> Self {
        self.buffers = Some(buffers);
        self
    }

    /// The same, able to read pages from this spill. A [`SpillWriter`] puts them there.
    #[must_use]
    pub fn with_spill(mut self, spill: Spill) -> Self {
        self.spill = Some(spill);
        self
    }

    /// The spill, if there is one.
    pub const fn spill(&self) -> Option<&Spill> {
        self.spill.as_ref()
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.table.len()
    }

    /// The coarse clock that touches are stamped with: 8 bits, wraps.
    #[inline]
    pub fn tick(&self) -> u8 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Moves the coarse clock on by one. For one background thread, at regular intervals.
    pub fn advance_tick(&self) {
        let before = self.tick.fetch_add(1, Ordering::Relaxed);
        self.notes.set_tick(before.wrapping_add(1));
    }

    /// What the slot holds and when it was touched, without its lock: for whoever goes over the
    /// table, which does not count as a touch. Panics outside the table.
    #[inline]
    pub fn glance(&self, slot: SlotIndex) -> (Entry, Touch) {
        self.table.glance(slot)
    }

    /// Gives the slot another touch if nobody has used it since it was `seen`. False otherwise, and
    /// sometimes by chance. Does not wait. Panics outside the table.
    pub fn retouch(&self, slot: SlotIndex, seen: (Entry, Touch), touch: Touch) -> bool {
        self.table.retouch(slot, seen, touch)
    }

    /// How much is in the pool. Takes the pool's lock for a moment.
    pub fn pool_usage(&self) -> PoolUsage {
        self.pool.usage()
    }

    /// The pool, for whoever makes it grow.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether `count` slots from `first` on exist.
    fn contains(&self, first: SlotIndex, count: u32) -> bool {
        first.index() + count as usize <= self.slots()
    }

    /// Makes `new` the entry of `slot`, touched now, and frees what was there. Empty slots have no
    /// touch.
    #[inline]
    fn replace(&self, slot: SlotIndex, new: Entry, stats: &QueueStats) {
        let touch = match new {
            Entry::Empty => Touch::default(),
            _ => Touch::written(self.tick()),
        };
        let old = self.table.lock(slot).publish(new, touch);
        count_slot(new, stats, Counter::add);
        self.release(old, stats);
    }

    /// Frees what a former entry names.
    #[inline]
    fn release(&self, old: Entry, stats: &QueueStats) {
        count_slot(old, stats, Counter::sub);
        self.free_object(old);
    }

    #[inline]
    fn free_object(&self, old: Entry) {
        match old {
            Entry::Lz4 { at, .. } | Entry::Huge { at, .. } => self.pool.free(at),
            Entry::Zstd { at, dictionary, .. } => {
                self.pool.free(at);
                self.dictionaries.release(dictionary);
            }
            Entry::Staged { .. } => {
                self.staged.fetch_sub(1, Ordering::Relaxed);
            }
            Entry::Spilled { at, len, .. } => {
                self.spill.iter().for_each(|spill| spill.segments.dead(at, len));
                self.dictionaries.release(old.made_with());
            }
            Entry::Empty | Entry::Same(_) | Entry::Poisoned | Entry::Unknown => {}
        }
    }
}

/// Counts and notes a page by how it was stored.
#[inline]
fn count_written(slot: SlotIndex, entry: Entry, stats: &QueueStats) {
    let (counter, stored) = match entry {
        Entry::Same(_) => (&stats.write_same_pages, Stored::Same),
        Entry::Lz4 { len, .. } => (&stats.write_lz4_pages, Stored::Compressed { bytes: len }),
        Entry::Zstd { len, .. } => (&stats.write_zstd_pages, Stored::Compressed { bytes: len }),
        _ => (&stats.write_huge_pages, Stored::Huge),
    };
    counter.add(1);
    note(stats, slot, Kind::Stored(stored));
}

/// Counts an entry in (`Counter::add`) or out (`Counter::sub`).
#[inline]
fn count_slot(entry: Entry, stats: &QueueStats, change: impl Fn(&Counter, u64)) {
    match entry {
        Entry::Same(_) => change(&stats.slots_same, 1),
        Entry::Lz4 { len, .. } => {
            change(&stats.slots_lz4, 1);
            change(&stats.stored_bytes, len.into());
        }
        Entry::Zstd { len, dictionary, .. } => {
            match dictionary {
                DictionaryVersion::NONE => change(&stats.slots_zstd, 1),
                _ => change(&stats.slots_dense, 1),
            }
            change(&stats.stored_bytes, len.into());
        }
        Entry::Huge { .. } => {
            change(&stats.slots_huge, 1);
            change(&stats.stored_bytes, PAGE_SIZE as u64);
        }
        Entry::Staged { .. } => change(&stats.slots_staged, 1),
        Entry::Spilled { len, .. } => {
            change(&stats.slots_spilled, 1);
            change(&stats.spilled_bytes, len.into());
        }
        Entry::Poisoned => change(&stats.slots_poisoned, 1),
        Entry::Empty | Entry::Unknown => {}
    }
}

#[cfg(test)]
mod tests;
