//! What outlives the process about slabs: a byte each.
//!
//! It says whether the slab's memory is there and, once the slab has been opened, of which size
//! class it was last. A byte may say that a slab is there, or of a class, that is free; it never
//! says of a slab with an object that it is absent or of another class, because it is written
//! before
//! the slab is used, and before its memory is given back.

use super::class::{CLASSES, Class};
use crate::chaos::crash_point;
use crate::sys::map::Words;
use std::sync::atomic::Ordering;

const ABSENT: u8 = 0;
const THERE: u8 = 1;
const CLASS: u8 = 2;

const _: () = assert!(CLASSES + CLASS as usize <= u8::MAX as usize);

/// What is written down about a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlabNote {
    /// The kernel has its memory.
    Absent,
    /// It is there, and was never used.
    There,
    /// It is there, and was last of this class.
    Of(Class),
    /// No slab's byte has such a value.
    Bad,
}

/// A byte for each slab, eight to a word.
#[derive(Debug)]
pub(super) struct SlabMap {
    words: Words,
}

/// Slabs to a word.
pub(super) const PER_WORD: usize = size_of::<u64>();

impl SlabMap {
    /// The map in `words`, taken as they are.
    pub(super) const fn new(words: Words) -> Self {
        Self { words }
    }

    /// Words that it takes for so many slabs.
    pub(super) const fn words(slabs: usize) -> usize {
        slabs.div_ceil(PER_WORD)
    }

    /// The bytes of eight slabs.
    pub(super) fn word(&self, index: usize) -> u64 {
        self.words[index].load(Ordering::Acquire)
    }

    /// What a byte of a word means.
    pub(super) const fn meaning(word: u64, slab: usize) -> SlabNote {
        match (word >> (slab % PER_WORD * 8)) as u8 {
            ABSENT => SlabNote::Absent,
            THERE => SlabNote::There,
            byte => match Class::from_index(byte - CLASS) {
                Some(class) => SlabNote::Of(class),
                None => SlabNote::Bad,
            },
        }
    }

    /// What is written down about a slab.
    pub(super) fn get(&self, slab: usize) -> SlabNote {
        Self::meaning(self.word(slab / PER_WORD), slab)
    }

    /// Writes a slab's byte. Only under the pool's lock: neighbours share the word.
    pub(super) fn set(&self, slab: usize, note: SlabNote) {
        let byte = match note {
            SlabNote::Absent => ABSENT,
            SlabNote::There | SlabNote::Bad => THERE,
            SlabNote::Of(class) => CLASS + class.index() as u8,
        };
        let (word, shift) = (&self.words[slab / PER_WORD], slab % PER_WORD * 8);
        let others = word.load(Ordering::Relaxed) & !(0xff << shift);
        crash_point();
        word.store(others | u64::from(byte) << shift, Ordering::Release);
    }
}
