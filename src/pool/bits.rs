//! Bitmaps: the objects of one slab, and the free slabs of the arena.

use super::class::OBJECTS_MAX;
use crate::limits::SLAB_BYTES;
use crate::units::{PAGE_SIZE, SlotIndex};
use std::sync::atomic::{AtomicU64, Ordering};

const WORDS: usize = OBJECTS_MAX / 64;

/// What is kept about the objects of one slab: a bit for each.
///
/// A slab of huge pages needs one word of bits only; its other words hold the pages' slot numbers,
/// which compressed objects carry in their headers. The bits are used under the pool's lock. A slot
/// number is written by the owner of the object and read by whoever holds its slot's lock, so
/// relaxed atomics do. Aligned, so that a slab's words are one line of the cache and not parts of
/// two.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct SlabBits([AtomicU64; WORDS]);

const _: () = assert!(WORDS > SLAB_BYTES / PAGE_SIZE / 2);

impl SlabBits {
    /// Marks the first free object among `count` as used. Panics if there is none: the pool keeps
    /// full slabs out of its groups.
    #[inline]
    pub(super) fn take(&self, count: usize) -> usize {
        for (i, word) in self.0.iter().enumerate().take(count.div_ceil(64)) {
            let bits = word.load(Ordering::Relaxed);
            let free = bits.trailing_ones() as usize;
            if free < 64 {
                assert!(i * 64 + free < count, "the slab is full");
                word.store(bits | 1 << free, Ordering::Relaxed);
                return i * 64 + free;
            }
        }
        panic!("the slab is full");
    }

    /// Marks object `index` as free. Panics if it is free.
    #[inline]
    pub(super) fn give(&self, index: usize) {
        let (word, bit) = (&self.0[index / 64], 1 << (index % 64));
        let bits = word.load(Ordering::Relaxed);
        assert!(bits & bit != 0, "object {index} freed twice");
        word.store(bits & !bit, Ordering::Relaxed);
    }

    /// Marks object `index` as used; false if it is already.
    #[inline]
    pub(super) fn claim(&self, index: usize) -> bool {
        let (word, bit) = (&self.0[index / 64], 1 << (index % 64));
        let bits = word.load(Ordering::Relaxed);
        word.store(bits | bit, Ordering::Relaxed);
        bits & bit == 0
    }

    /// Whether object `index` is used.
    pub(super) fn is_used(&self, index: usize) -> bool {
        self.0[index / 64].load(Ordering::Relaxed) >> (index % 64) & 1 == 1
    }

    /// Used objects among `count`.
    pub(super) fn used(&self, count: usize) -> usize {
        let words = self.0[..count.div_ceil(64)].iter();
        words.map(|w| w.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// Forgets the slot numbers of a slab of huge pages, so that the words are bits again.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|w| w.store(0, Ordering::Relaxed));
    }

    /// Notes the slot of huge page `index`.
    #[inline]
    pub(super) fn set_owner(&self, index: usize, slot: SlotIndex) {
        let (word, shift) = (&self.0[1 + index / 2], index % 2 * 32);
        // Two pages share a word and may be written by two threads: set the bits by two locked
        // steps.
        word.fetch_and(!(u64::from(u32::MAX) << shift), Ordering::Relaxed);
        word.fetch_or(u64::from(slot.0) << shift, Ordering::Relaxed);
    }

    /// The slot of huge page `index`.
    #[inline]
    pub(super) fn owner(&self, index: usize) -> SlotIndex {
        let word = self.0[1 + index / 2].load(Ordering::Relaxed);
        SlotIndex((word >> (index % 2 * 32)) as u32)
    }
}

/// A set of slab numbers with a quick minimum: bits, and above them levels of bits that say which
/// words below are not zero.
#[derive(Debug)]
pub struct SlabSet {
    /// Bits first, the single top word last.
    levels: Vec<Box<[u64]>>,
}

impl SlabSet {
    /// An empty set with room for all numbers below `count`. Allocates.
    pub fn empty(count: usize) -> Self {
        let (mut levels, mut bits) = (Vec::new(), count);
        loop {
            let words = vec![0; bits.div_ceil(64)].into_boxed_slice();
            bits = words.len();
            levels.push(words);
            if bits <= 1 {
                return Self { levels };
            }
        }
    }

    /// Takes the lowest number out: low slabs are used first, so that the high end of the arena can
    /// be given back.
    pub fn take_first(&mut self) -> Option<usize> {
        let mut index = 0;
        for level in self.levels.iter().rev() {
            let word = *level.get(index)?;
            if word == 0 {
                return None;
            }
            index = index * 64 + word.trailing_zeros() as usize;
        }
        self.clear(index);
        Some(index)
    }

    /// The highest number. Numbers that may be given back are looked for from there.
    pub fn last(&self) -> Option<usize> {
        let mut index = 0;
        for level in self.levels.iter().rev() {
            let word = *level.get(index)?;
            index = index * 64 + word.checked_ilog2()? as usize;
        }
        Some(index)
    }

    /// Takes a number out. Panics if it is not in the set.
    pub fn take(&mut self, index: usize) {
        assert!(self.contains(index), "slab {index} is not in the set");
        self.clear(index);
    }

    #[inline]
    fn clear(&mut self, index: usize) {
        let mut at = index;
        for level in &mut self.levels {
            level[at / 64] &= !(1 << (at % 64));
            if level[at / 64] != 0 {
                break;
            }
            at /= 64;
        }
    }

    /// Puts a number back. Panics if it is in the set.
    pub fn put(&mut self, index: usize) {
        assert!(!self.contains(index), "slab {index} freed twice");
        let mut at = index;
        for level in &mut self.levels {
            level[at / 64] |= 1 << (at % 64);
            at /= 64;
        }
    }

    /// Whether the number is in the set.
    pub fn contains(&self, index: usize) -> bool {
        self.levels[0][index / 64] >> (index % 64) & 1 == 1
    }

    /// Memory it takes.
    pub fn bytes(&self) -> usize {
        self.levels.iter().map(|l| size_of_val::<[u64]>(l)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn full(count: usize) -> SlabSet {
        let mut set = SlabSet::empty(count);
        (0..count).for_each(|i| set.put(i));
        set
    }

    proptest! {
        #[test]
        fn a_slab_set_behaves_like_a_set(
            count in 1..9000usize,
            steps in proptest::collection::vec(any::<(bool, u16)>(), 1..400),
        ) {
            let mut set = full(count);
            let mut model: BTreeSet<usize> = (0..count).collect();
            for (take, pick) in steps {
                let index = usize::from(pick) % count;
                if take {
                    prop_assert_eq!(set.take_first(), model.pop_first());
                } else if model.remove(&index) {
                    set.take(index);
                } else if model.insert(index) {
                    set.put(index);
                }
                prop_assert_eq!(set.contains(index), model.contains(&index));
                prop_assert_eq!(set.last(), model.last().copied());
            }
        }
    }

    #[test]
    fn an_emptied_set_gives_nothing() {
        let mut set = full(65);
        for i in 0..65 {
            assert_eq!(set.take_first(), Some(i));
        }
        assert_eq!(set.take_first(), None);
    }

    #[test]
    fn owners_do_not_disturb_each_other_or_the_bits() {
        let bits = SlabBits::default();
        for i in 0..8 {
            assert_eq!(bits.take(8), i);
            bits.set_owner(i, SlotIndex(u32::MAX - i as u32));
        }
        assert!((0..8).all(|i| bits.owner(i) == SlotIndex(u32::MAX - i as u32)));
        assert_eq!(bits.used(8), 8);
        bits.give(3);
        assert!(!bits.is_used(3) && bits.is_used(4));
    }
}
