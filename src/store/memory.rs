//! What of a store outlives the process.
//!
//! The notes, in words: the age tick; then for each version of a dictionary its number of
//! installation (0: none), its length in bytes, a checksum, and the bytes. A dictionary counts once
//! its number is there, which is written last; it is gone once the number is zero, which is written
//! when no slot names anything made with it.

use super::dictionaries::VERSIONS;
use crate::chaos::{Bug, crash_point, planted};
use crate::limits::DICTIONARY_BYTES;
use crate::pool::Pool;
use crate::sys::map::{Arena, Words};
use std::sync::atomic::Ordering;

/// The memory that a store is in.
#[derive(Debug)]
pub struct StoreMemory {
    /// A word for each slot.
    pub table: Words,
    /// Objects.
    pub arena: Arena,
    /// [`StoreMemory::slab_words`] of them: which slabs are there, and their size classes.
    pub slabs: Words,
    /// [`StoreMemory::NOTE_WORDS`] of them: dictionaries and the age tick.
    pub notes: Words,
}

impl StoreMemory {
    /// Words of notes.
    pub const NOTE_WORDS: usize = FIRST + VERSIONS * EACH;

    /// Words for the slabs of an arena of this size.
    pub const fn slab_words(arena_bytes: u64) -> usize {
        Pool::map_words(arena_bytes)
    }

    /// Table and arena, and new memory of this process for what belongs to them. Panics if there is
    /// none.
    pub fn private(table: Words, arena: Arena) -> Self {
        let words = |count| Words::private(count).expect("memory for what belongs to a store");
        let slabs = words(Self::slab_words(arena.len() as u64));
        Self { table, arena, slabs, notes: words(Self::NOTE_WORDS) }
    }
}

const TICK: usize = 0;
const FIRST: usize = 8;
const ID: usize = 0;
const LEN: usize = 1;
const SUM: usize = 2;
const BYTES: usize = 8;
const EACH: usize = BYTES + DICTIONARY_BYTES / size_of::<u64>();

/// The notes of a store.
#[derive(Debug)]
pub(super) struct Notes {
    words: Words,
}

impl Notes {
    /// The notes in `words`, taken as they are. Panics if there are too few.
    pub(super) fn new(words: Words) -> Self {
        assert!(words.len() >= StoreMemory::NOTE_WORDS, "room for all dictionaries");
        Self { words }
    }

    /// The age tick that was noted last.
    pub(super) fn tick(&self) -> u8 {
        self.words[TICK].load(Ordering::Relaxed) as u8
    }

    /// Notes the age tick.
    pub(super) fn set_tick(&self, tick: u8) {
        self.words[TICK].store(tick.into(), Ordering::Relaxed);
    }

    /// Number of a version's dictionary; 0: none.
    pub(super) fn id_of(&self, index: usize) -> u64 {
        self.words[FIRST + index * EACH + ID].load(Ordering::Acquire)
    }

    /// Writes a dictionary down in the place of one that no slot needs. False, with nothing there,
    /// if it is too long.
    pub(super) fn publish(&self, index: usize, id: u64, bytes: &[u8]) -> bool {
        if planted(Bug::DictionaryUnwritten) {
            return true;
        }
        self.withdraw(index);
        let first = FIRST + index * EACH;
        if bytes.len() > DICTIONARY_BYTES {
            return false;
        }
        self.words.write(first + BYTES, bytes);
        crash_point();
        self.words[first + LEN].store(bytes.len() as u64, Ordering::Relaxed);
        let sum = self.sum(index, bytes.len());
        crash_point();
        self.words[first + SUM].store(sum, Ordering::Relaxed);
        crash_point();
        self.words[first + ID].store(id, Ordering::Release);
        true
    }

    /// Forgets a dictionary.
    pub(super) fn withdraw(&self, index: usize) {
        crash_point();
        self.words[FIRST + index * EACH + ID].store(0, Ordering::Release);
    }

    /// The bytes of a version's dictionary; `None` if there is none, or it is not as it was
    /// written.
    /// Allocates.
    pub(super) fn dictionary(&self, index: usize) -> Option<Box<[u8]>> {
        let (first, id) = (FIRST + index * EACH, self.id_of(index));
        let word = |at: usize| self.words[first + at].load(Ordering::Relaxed);
        let len = usize::try_from(word(LEN)).ok().filter(|&len| len <= DICTIONARY_BYTES)?;
        // The number in `current` leaves two bits for the version.
        if id == 0 || id >> 62 != 0 || word(SUM) != self.sum(index, len) {
            return None;
        }
        let mut bytes = vec![0; len].into_boxed_slice();
        self.words.read(first + BYTES, &mut bytes);
        Some(bytes)
    }

    fn sum(&self, index: usize, len: usize) -> u64 {
        let first = FIRST + index * EACH;
        let words = first + BYTES..first + BYTES + len.div_ceil(size_of::<u64>());
        self.words.sum(words) ^ len as u64
    }
}
