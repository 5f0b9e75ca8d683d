//! The pool: stored pages as objects of a few sizes, in slabs cut from the arena.
//!
//! Contracts:
//! - *Ownership.* [`Pool::alloc`] gives an object to its caller, who alone writes it; once a slot
//!   entry names it, whoever holds the slot's lock may read it; it is freed once, by whoever took
//!   it out of the slot.
//! - *Nothing to lose.* Only object bytes are in the arena. Which objects are used, fullness groups
//!   and free slabs are private memory, made at start and rebuilt from the slot table after a crash
//!   (`rebuild`). What an entry does not say about its object's slab, whether it is there and of
//!   which class, is a byte in shared memory (`slab_map`).
//! - *Residency.* Only slabs that are resident are free or used. A slab that is given back is taken
//!   out of the free ones first, under the lock; the kernel gets its memory without the lock; only
//!   then may growth ask for it again. Queue threads never meet a slab in between.
//! - *Headers.* Compressed objects begin with their slot's number, written and read as one atomic
//!   word because compaction looks at objects that others may just be making. What it finds is a
//!   guess until the slot's entry, under its lock, names the object.
//! - *Locking.* One mutex, held for tens of nanoseconds, no lock taken inside. Bytes are copied
//!   without it.
//! - *Size.* A location is 16-byte units, see [`Location`]; sizes and their reasons are in
//!   `limits`.

mod bits;
mod breathe;
mod class;
mod compact;
mod ledger;
mod rebuild;
mod slab_map;
mod slabs;

pub use bits::SlabSet as NumberSet;
pub use class::division;
pub use compact::Emptying;
pub use ledger::Ledger;
pub use rebuild::{Follower, Refused};
pub use slabs::PoolUsage;

use crate::error::IoError;
use crate::limits::{HUGE_BYTES, OBJECT_HEADER_BYTES, SLAB_BYTES};
use crate::sys::map::{Arena, Words};
use crate::units::{Location, PAGE_SIZE, SlotIndex};
use bits::SlabBits;
use class::Class;
use slab_map::SlabMap;
use slabs::{Slabs, huge_index};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The slabs of one arena.
#[derive(Debug)]
pub struct Pool {
    arena: Arena,
    bits: Box<[SlabBits]>,
    slabs: Mutex<Slabs>,
    /// Free slabs, so that anybody may look without the lock.
    free: AtomicU64,
    /// Slabs that are there, likewise.
    there: AtomicU64,
}

/// What a page of `len` compressed bytes takes in a slab, header and rounding included. `len` is a
/// page, which is stored as it is, or at most [`HUGE_BYTES`].
pub fn object_bytes(len: usize) -> usize {
    Class::of(len).bytes()
}

impl Pool {
    /// A pool of free slabs, as many as are resident; what the arena holds is forgotten, and a tail
    /// shorter than a slab is not used. Allocates the bookkeeping, about 0.25 % of the arena.
    ///
    /// `map`: [`Pool::map_words`] words that outlive this process as the arena does.
    pub fn new(arena: Arena, map: Words) -> Self {
        let pool = Self::attach(arena, map);
        let resident = pool.arena.resident_at_start() / SLAB_BYTES;
        let mut slabs = pool.slabs();
        if let Some(there) = slabs.take_absent(resident) {
            slabs.add(there);
        }
        pool.note_free(&slabs);
        drop(slabs);
        pool
    }

    /// A pool over what another process may still be using: nothing is there until it is rebuilt
    /// ([`Pool::adopt`]). Allocates as [`Pool::new`] does. Changes nothing. Panics if there are too
    /// few words.
    pub fn attach(arena: Arena, map: Words) -> Self {
        let count = arena.len() / SLAB_BYTES;
        assert!(map.len() >= Self::map_words(arena.len() as u64), "a byte for each slab");
        let bits = (0..count).map(|_| SlabBits::default()).collect();
        let slabs = Mutex::new(Slabs::new(count, SlabMap::new(map)));
        let (free, there) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { arena, bits, slabs, free, there }
    }

    /// Words of the map of an arena of this size.
    pub const fn map_words(arena_bytes: u64) -> usize {
        SlabMap::words(arena_bytes as usize / SLAB_BYTES)
    }

    /// Bytes that the arena can grow to.
    pub fn capacity_bytes(&self) -> u64 {
        (self.bits.len() * SLAB_BYTES) as u64
    }

    /// Bytes in slabs that are resident and hold nothing. Does not take the lock.
    pub fn free_bytes(&self) -> u64 {
        self.free.load(Ordering::Relaxed) * SLAB_BYTES as u64
    }

    /// Bytes in slabs that are there, used or free. Does not take the lock.
    pub fn slab_bytes(&self) -> u64 {
        self.there.load(Ordering::Relaxed) * SLAB_BYTES as u64
    }

    #[inline]
    fn note_free(&self, slabs: &Slabs) {
        let usage = slabs.usage();
        self.free.store(usage.slabs - usage.slabs_used, Ordering::Relaxed);
        self.there.store(usage.slabs, Ordering::Relaxed);
    }

    /// A panic elsewhere cannot have left the bookkeeping half done: its asserts come before its
    /// changes.
    fn slabs(&self) -> MutexGuard<'_, Slabs> {
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an object for `len` bytes of data: at most [`HUGE_BYTES`], or a whole page. `None`:
    /// the pool is full. Blocks only for the pool's lock. Panics on other lengths.
    #[inline]
    pub fn alloc(&self, len: usize) -> Option<Location> {
        let class = Class::of(len);
        let mut slabs = self.slabs();
        let taken = slabs.take(&self.bits, class);
        self.note_free(&slabs);
        taken
    }

    /// Gives an object back; an emptied slab is free at once. Panics if there is no object at `at`,
    /// so that a double free never becomes two slots in one object.
    #[inline]
    pub fn free(&self, at: Location) {
        let mut slabs = self.slabs();
        slabs.give(&self.bits, at);
        self.note_free(&slabs);
    }

    /// Writes `slot`'s data, as long as was asked of [`Pool::alloc`], into the object. Panics
    /// outside the arena.
    #[inline]
    pub fn write(&self, at: Location, slot: SlotIndex, data: &[u8]) {
        if data.len() == PAGE_SIZE {
            let (slab, index) = huge_index(at);
            self.bits[slab].set_owner(index, slot);
            self.arena.copy_in(at.offset(), data);
        } else {
            debug_assert!(data.len() <= HUGE_BYTES);
            self.arena.set_word(at.offset(), slot.0);
            self.arena.copy_in(at.offset() + OBJECT_HEADER_BYTES, data);
        }
    }

    /// Copies `slot`'s data out of the object; its length is the length written.
    /// [`IoError::Corrupt`], with `data` untouched, if the object belongs to another slot or is
    /// outside the arena.
    #[inline]
    pub fn read(&self, at: Location, slot: SlotIndex, data: &mut [u8]) -> Result<(), IoError> {
        if self.owner(at, data.len()) != Some(slot) {
            return Err(IoError::Corrupt);
        }
        let header = if data.len() == PAGE_SIZE { 0 } else { OBJECT_HEADER_BYTES };
        self.arena.copy_out(at.offset() + header, data);
        Ok(())
    }

    /// Whether `slot`'s object at `at` is exactly this data. For whoever holds the slot's lock.
    pub fn has(&self, at: Location, slot: SlotIndex, data: &[u8]) -> bool {
        let header = if data.len() == PAGE_SIZE { 0 } else { OBJECT_HEADER_BYTES };
        self.owner(at, data.len()) == Some(slot) && self.arena.equals(at.offset() + header, data)
    }

    /// The slot named with the object of `len` bytes at `at`; `None` if it would not lie in the
    /// arena.
    #[inline]
    fn owner(&self, at: Location, len: usize) -> Option<SlotIndex> {
        if at.offset() + OBJECT_HEADER_BYTES + len > self.bits.len() * SLAB_BYTES {
            // The last huge page of the arena ends where the arena does.
            if len != PAGE_SIZE || at.offset() + len > self.bits.len() * SLAB_BYTES {
                return None;
            }
        }
        if len == PAGE_SIZE {
            let (slab, index) = huge_index(at);
            return Some(self.bits[slab].owner(index));
        }
        Some(SlotIndex(self.arena.word(at.offset())))
    }

    /// Bytes that an object of `len` bytes of data takes, header and rounding included. Panics on
    /// lengths that [`Pool::alloc`] refuses.
    pub fn object_bytes(&self, len: usize) -> usize {
        Class::of(len).bytes()
    }

    /// How much is in the pool. Takes the lock.
    pub fn usage(&self) -> PoolUsage {
        self.slabs().usage()
    }

    /// Whether there is an object at `at` that belongs to `slot` and has room for `len` bytes.
    /// Takes the lock.
    pub fn holds(&self, at: Location, slot: SlotIndex, len: usize) -> bool {
        let slabs = self.slabs();
        let Some((slab, index, class)) = slabs.find(at) else {
            return false;
        };
        let fits = match class {
            Class::HUGE => len == PAGE_SIZE,
            class => len + OBJECT_HEADER_BYTES <= class.bytes(),
        };
        fits && self.bits[slab].is_used(index) && self.owner(at, len) == Some(slot)
    }

    /// Compares everything the pool knows with itself; panics if it disagrees. Holds the lock all
    /// the while, which grows with the pool: for tests and for `uswap check` on a quiet device.
    pub fn check(&self) {
        self.slabs().check(&self.bits);
    }
}

#[cfg(test)]
mod tests;
