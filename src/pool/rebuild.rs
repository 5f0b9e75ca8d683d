//! A pool from what a dead process left: arena, map of slabs, and the objects that slots name.
//!
//! In three steps, none of which allocates or believes what cannot be: [`Pool::adopt`] for every
//! entry of the slot table that names an object, [`Pool::disown`] for those that turn out to be
//! wrong after all, [`Pool::finish`] when all are through. What no entry names is free then.

use super::class::Class;
use super::slab_map::{PER_WORD, SlabMap, SlabNote};
use super::slabs::huge_index;
use super::{Pool, PoolUsage};
use crate::chaos::{Bug, planted};
use crate::limits::{OBJECT_HEADER_BYTES, SLAB_BYTES};
use crate::sys::map::Arena;
use crate::units::{Location, PAGE_SIZE, SlotIndex};
use std::io;
use std::ops::Range;
use std::sync::PoisonError;

/// Why an entry's object cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none of this length and slot at that place.
    NoObject,
    /// Another slot names it too. Which of the two is right, nobody can know.
    TakenBy(SlotIndex),
}

/// Bits of a slab of huge pages from here on say which of its pages several slots name. Only
/// during a rebuild.
const DISPUTED: usize = SLAB_BYTES / PAGE_SIZE;

const _: () = assert!(2 * DISPUTED <= u64::BITS as usize);

impl Pool {
    /// The slot that the compressed object at `at` says it is of, if there can be one. Nearly all
    /// the time of a rebuild goes into fetching these words, so ask for several before any is
    /// needed.
    #[inline]
    pub fn header(&mut self, at: Location) -> Option<SlotIndex> {
        let slabs = self.slabs.get_mut().unwrap_or_else(PoisonError::into_inner);
        let slab = at.offset() / SLAB_BYTES;
        let there = slab < self.bits.len() && matches!(slabs.map().get(slab), SlabNote::Of(_));
        there.then(|| SlotIndex(self.arena.word(at.offset())))
    }

    /// Takes the object of `len` bytes at `at` for `slot`, whose entry names it; `header` is
    /// [`Pool::header`]'s answer, of no matter for a whole page. For the only user of a pool that
    /// was made by [`Pool::attach`] and is not finished.
    #[inline]
    pub fn adopt(
        &mut self,
        slot: SlotIndex,
        at: Location,
        len: usize,
        header: Option<SlotIndex>,
    ) -> Result<(), Refused> {
        let Self { bits, slabs, .. } = self;
        let slabs = slabs.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (slab, position) = (at.offset() / SLAB_BYTES, at.offset() % SLAB_BYTES);
        let bits = bits.get(slab).ok_or(Refused::NoObject)?;
        let SlabNote::Of(class) = slabs.map().get(slab) else { return Err(Refused::NoObject) };
        let index = position / class.bytes();
        let exact = index * class.bytes() == position && index < class.objects();
        let fits = match class {
            Class::HUGE => len == PAGE_SIZE,
            class => len < PAGE_SIZE && len + OBJECT_HEADER_BYTES <= class.bytes(),
        };
        if !exact || !fits {
            return Err(Refused::NoObject);
        }
        if class != Class::HUGE && header != Some(slot) {
            return Err(Refused::NoObject);
        }
        if !bits.claim(index) {
            // Two compressed objects at a place cannot both have their slot's number in front.
            return Err(Refused::TakenBy(bits.owner(huge_index(at).1)));
        }
        if class == Class::HUGE && !planted(Bug::OwnerForgotten) {
            bits.set_owner(index, slot);
        }
        slabs.recount(slab, class, 1);
        Ok(())
    }

    /// Takes a huge page that was adopted away from its slot; nobody gets it before
    /// [`Pool::finish`].
    pub fn disown(&mut self, at: Location) {
        let slabs = self.slabs.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((slab, index, Class::HUGE)) = slabs.find(at)
            && self.bits[slab].is_used(index)
        {
            self.bits[slab].claim(DISPUTED + index);
        }
    }

    /// Ends the rebuild: from here on the pool is like any other. `disowned`: some objects were.
    /// O(slabs).
    pub fn finish(&mut self, disowned: bool) -> PoolUsage {
        let slabs = self.slabs.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (slab, bits) in self.bits.iter().enumerate() {
            let note = slabs.map().get(slab);
            if disowned && note == SlabNote::Of(Class::HUGE) {
                for index in (0..DISPUTED).filter(|index| bits.is_used(DISPUTED + index)) {
                    bits.give(DISPUTED + index);
                    bits.give(index);
                    slabs.recount(slab, Class::HUGE, -1);
                }
            }
            if note != SlabNote::Absent {
                slabs.adopt(slab);
            }
        }
        let usage = slabs.usage();
        self.note_free(&self.slabs());
        usage
    }
}

/// Which slabs of a running service's arena are mapped here.
#[derive(Debug)]
pub struct Follower {
    /// The map as it was when they were.
    seen: Box<[u64]>,
}

impl Follower {
    /// None. Allocates a byte for each slab.
    pub fn new(pool: &Pool) -> Self {
        Self { seen: vec![0; SlabMap::words(pool.bits.len())].into() }
    }

    /// Maps the slabs that have come since the last call, and returns how many bytes that was. A
    /// slab that goes at the same moment may come back for it, and then stays until the pool grows;
    /// no other memory comes into being. Blocks for the mapping lock; after an error the rest is
    /// for
    /// the next call.
    pub fn follow(&mut self, pool: &Pool) -> io::Result<u64> {
        let mut bytes = 0;
        let slabs = pool.slabs();
        for (index, seen) in self.seen.iter_mut().enumerate() {
            let now = slabs.map().word(index);
            if now == *seen {
                continue;
            }
            let end = pool.bits.len().min((index + 1) * PER_WORD);
            bytes += bring_in(&pool.arena, now, *seen, index * PER_WORD..end)?;
            *seen = now;
        }
        Ok(bytes)
    }
}

/// Maps those of up to eight slabs that are there `now`, and were not when they were `seen`.
fn bring_in(arena: &Arena, now: u64, seen: u64, slabs: Range<usize>) -> io::Result<u64> {
    let is_there = |word, slab| SlabMap::meaning(word, slab) != SlabNote::Absent;
    let mut bytes = 0;
    for slab in slabs.filter(|&slab| is_there(now, slab) && !is_there(seen, slab)) {
        arena.populate(slab * SLAB_BYTES, SLAB_BYTES)?;
        bytes += SLAB_BYTES as u64;
    }
    Ok(bytes)
}
