//! A pool's bookkeeping without its memory: in which slabs objects would lie. For a simulator: what
//! it decides is what [`super::Pool`] decides, by the same code.

use super::PoolUsage;
use super::bits::SlabBits;
use super::class::{Class, OBJECTS_MAX};
use super::slab_map::SlabMap;
use super::slabs::Slabs;
use crate::limits::SLAB_BYTES;
use crate::sys::cache::{huge_table, prefetch};
use crate::sys::map::Words;
use crate::units::{Location, SlotIndex};

/// The slabs of a pool that holds nothing.
#[derive(Debug)]
pub struct Ledger {
    bits: Box<[SlabBits]>,
    slabs: Slabs,
    /// The slot of each of a slab's first objects, as compressed objects carry it in their headers.
    owners: Box<[Owners]>,
    /// Those of the others, where a slab has more.
    others: Box<[Vec<u32>]>,
}

/// Objects of a slab whose owners are found without another step.
const NEAR: usize = 64;

/// Owners by the number of the object: of large objects they are in one line of the cache.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Owners([u32; NEAR]);

impl Ledger {
    /// Slabs for `capacity_bytes`, of which none is there yet. Allocates 1.2 % of them, and 4
    /// bytes for each small object later on. Panics without memory.
    pub fn new(capacity_bytes: u64) -> Self {
        let count = capacity_bytes as usize / SLAB_BYTES;
        let map = Words::private(SlabMap::words(count)).expect("memory for a byte a slab");
        Self {
            bits: huge_table(SlabBits::default, count).into_boxed_slice(),
            slabs: Slabs::new(count, SlabMap::new(map)),
            owners: huge_table(|| Owners([0; NEAR]), count).into_boxed_slice(),
            others: vec![Vec::new(); count].into_boxed_slice(),
        }
    }

    /// Bytes that it can grow to.
    pub fn capacity_bytes(&self) -> u64 {
        (self.bits.len() * SLAB_BYTES) as u64
    }

    /// How much there is.
    #[inline]
    pub fn usage(&self) -> PoolUsage {
        self.slabs.usage()
    }

    /// Adds slabs of so many bytes, as far as the capacity goes.
    pub fn grow(&mut self, bytes: u64) {
        let mut left = bytes.div_ceil(SLAB_BYTES as u64) as usize;
        while let Some(slabs) = self.slabs.take_absent(left) {
            left -= slabs.len();
            self.slabs.add(slabs);
        }
    }

    /// Takes up to so many bytes of free slabs away, but leaves `keep` of them.
    pub fn give_back(&mut self, keep: u64, bytes: u64) {
        let keep = keep.div_ceil(SLAB_BYTES as u64);
        let mut left = bytes as usize / SLAB_BYTES;
        while let Some(slabs) = self.slabs.take_spare(keep, left) {
            left -= slabs.len();
            self.slabs.put_absent(slabs);
        }
    }

    /// Takes an object for `len` bytes of `slot`'s data; `None` if there is no room in the slabs
    /// that are there. Panics on lengths that [`super::Pool::alloc`] refuses.
    #[inline]
    pub fn take(&mut self, len: usize, slot: SlotIndex) -> Option<Location> {
        let at = self.slabs.take(&self.bits, Class::of(len))?;
        self.own(at, slot);
        Some(at)
    }

    #[inline]
    fn own(&mut self, at: Location, slot: SlotIndex) {
        let (slab, index, _) = self.slabs.find(at).expect("it was just taken");
        if let Some(owner) = self.owners[slab].0.get_mut(index) {
            *owner = slot.0;
            return;
        }
        let others = &mut self.others[slab];
        if others.is_empty() {
            others.resize(OBJECTS_MAX - NEAR, 0);
        }
        others[index - NEAR] = slot.0;
    }

    fn owner(&self, slab: usize, index: usize) -> SlotIndex {
        SlotIndex(match self.owners[slab].0.get(index) {
            Some(owner) => *owner,
            None => self.others[slab][index - NEAR],
        })
    }

    /// Asks for what will change when the object at `at` is given back, so that it is in the cache
    /// by then.
    #[inline]
    pub fn look(&self, at: Location) {
        self.slabs.look(at);
        self.bits.get(at.offset() / SLAB_BYTES).inspect(|bits| prefetch(*bits));
    }

    /// Asks for what will change when an object for `len` bytes is taken, as far as that is known
    /// now.
    #[inline]
    pub fn look_for(&self, len: usize) {
        let Some(slab) = self.slabs.look_for(Class::of(len)) else { return };
        prefetch(&self.bits[slab]);
        prefetch(&self.owners[slab]);
    }

    /// Gives an object back. Panics if there is none.
    #[inline]
    pub fn give(&mut self, at: Location) {
        self.slabs.give(&self.bits, at);
    }

    /// Empties one slab as compaction does, telling `moved` which slot's object is where now; bytes
    /// that moved. `None` if there is no slab to empty.
    pub fn compact_step(&mut self, mut moved: impl FnMut(SlotIndex, Location)) -> Option<u64> {
        let (slab, class) = self.slabs.begin_emptying()?;
        let mut bytes = 0;
        for index in 0..class.objects() {
            if !self.bits[slab].is_used(index) {
                continue;
            }
            let Some(to) = self.slabs.take_partial(&self.bits, class) else { break };
            let slot = self.owner(slab, index);
            self.own(to, slot);
            moved(slot, to);
            self.give(Location::from_offset(slab * SLAB_BYTES + index * class.bytes()));
            bytes += class.bytes() as u64;
        }
        self.slabs.settle(slab, class);
        Some(bytes)
    }

    /// Panics unless it agrees with itself. Takes as long as it is large: for tests.
    pub fn check(&self) {
        self.slabs.check(&self.bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn compaction_knows_whose_every_object_is() {
        for len in [40, 300, 490, 600, 3000, 4096] {
            let mut ledger = Ledger::new(16 << 20);
            ledger.grow(16 << 20);
            let take = |slot| (slot, ledger.take(len, SlotIndex(slot)).expect("room"));
            let mut places: BTreeMap<u32, Location> = (0..2000).map(take).collect();
            places.retain(|slot, at| {
                let kept = slot % 4 == 0;
                if !kept {
                    ledger.give(*at);
                }
                kept
            });
            let before = ledger.usage().slabs_used;
            let moved = |places: &mut BTreeMap<u32, Location>, slot: SlotIndex, to| {
                assert!(places.insert(slot.0, to).is_some(), "slot {} has no object", slot.0);
            };
            while ledger.compact_step(|slot, to| moved(&mut places, slot, to)).is_some() {}
            assert!(ledger.usage().slabs_used * 2 < before, "{len} bytes");
            ledger.check();
            places.into_values().for_each(|at| ledger.give(at));
            assert_eq!(ledger.usage().objects, 0);
            ledger.check();
        }
    }
}
