//! What compaction needs of the pool: a slab to empty, and room elsewhere.
//!
//! While a slab is being emptied nobody allocates from it and it is not closed, however many of its
//! objects are freed meanwhile; so its memory stays and its class stays the same, and looking at
//! its objects is safe, whoever they belong to.

use super::Pool;
use super::class::Class;
use crate::limits::{OBJECT_HEADER_BYTES, SLAB_BYTES};
use crate::units::{Location, SlotIndex};

/// A slab that is being emptied; given to [`Pool::end_emptying`] when that is done. Dropped instead
/// it would stay as it is, unused until the next start.
#[derive(Debug)]
#[must_use]
pub struct Emptying {
    slab: usize,
    class: Class,
}

impl Emptying {
    /// Objects that fit the slab.
    pub fn objects(&self) -> usize {
        self.class.objects()
    }

    /// Bytes of each object, header and rounding included.
    pub fn object_bytes(&self) -> usize {
        self.class.bytes()
    }
}

impl Pool {
    /// Picks a slab whose objects fit the other slabs of its class; `None` if there is none.
    pub fn begin_emptying(&self) -> Option<Emptying> {
        let (slab, class) = self.slabs().begin_emptying()?;
        Some(Emptying { slab, class })
    }

    /// The object at `index`, if it is used, with the slot that it seems to be of: it may be freed
    /// or just being made. No lock.
    pub fn object_of(&self, emptying: &Emptying, index: usize) -> Option<(Location, SlotIndex)> {
        if !self.bits[emptying.slab].is_used(index) {
            return None;
        }
        let offset = emptying.slab * SLAB_BYTES + index * emptying.class.bytes();
        let slot = match emptying.class {
            Class::HUGE => self.bits[emptying.slab].owner(index),
            _ => SlotIndex(self.arena.word(offset)),
        };
        Some((Location::from_offset(offset), slot))
    }

    /// Room for an object in another slab of the same class; `None` if there is no more.
    pub fn alloc_beside(&self, emptying: &Emptying) -> Option<Location> {
        self.slabs().take_partial(&self.bits, emptying.class)
    }

    /// Copies an object's data and header from one place to another, through `buffer`. The caller
    /// holds the lock of its slot, and owns the place it goes to.
    pub fn copy_object(&self, from: Location, to: Location, slot: SlotIndex, buffer: &mut [u8]) {
        let huge = Class::of(buffer.len()) == Class::HUGE;
        let header = if huge { 0 } else { OBJECT_HEADER_BYTES };
        self.arena.copy_out(from.offset() + header, buffer);
        self.write(to, slot, buffer);
    }

    /// Lets the slab go: true if it is free now.
    pub fn end_emptying(&self, emptying: Emptying) -> bool {
        let mut slabs = self.slabs();
        let freed = slabs.settle(emptying.slab, emptying.class);
        self.note_free(&slabs);
        freed
    }
}
