//! What all threads share about segments, most of it in memory that outlives the process:
//!
//! | words | what |
//! |---|---|
//! | 0 | number of the next write: written before the number is used |
//! | 1..5 | the key |
//! | 8, 10, ... | number of a segment's last write that was begun |
//! | 9, 11, ... | of its last write that ended: low half of the number, records, summary's unit |
//!
//! A segment whose two words name different writes was begun and not finished: no slot names
//! anything in it.

use super::draft::end_of;
use super::layout::Summary;
use super::seal::{Identity, KEY_BYTES, Place, TAG_BYTES, sealed_units};
use crate::chaos::{Bug, crash_point, planted};
use crate::limits::{SEGMENT_BYTES, SEGMENT_OBJECTS_MAX, SPILL_BLOCK_BYTES};
use crate::sys::map::Words;
use crate::units::Location;
use std::sync::atomic::{AtomicU32, Ordering};
use zeroize::Zeroizing;

/// Units of [`Location::UNIT`] in a segment.
pub(super) const SEGMENT_UNITS: u64 = (SEGMENT_BYTES / Location::UNIT) as u64;

const NEXT: usize = 0;
const KEY: usize = 1;
const FIRST_CELL: usize = 8;
const CELL_WORDS: usize = 2;

/// Numbers of writes stay below this for any age of the machine; what is above was never written.
const SEQUENCE_END: u64 = 1 << 48;
/// How far the next number is from the highest one known if the word that says it is damaged.
const SEQUENCE_LEAP: u64 = 1 << 32;

const _: () = assert!(KEY + KEY_BYTES / size_of::<u64>() <= FIRST_CELL);

/// Blocks to read for an object, and where in them it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte to read, at a block.
    pub at: u64,
    /// Bytes to read, whole blocks.
    pub len: u32,
    /// First byte of the object in what was read.
    pub skip: u32,
    /// Bytes of the sealed object.
    pub sealed: u32,
}

/// The segments of a spill, as seen by whoever reads or frees what is in them.
#[derive(Debug)]
pub struct Segments {
    /// Units of objects that slots name, for each segment.
    live: Box<[AtomicU32]>,
    words: Words,
}

impl Segments {
    /// As many as fit in `bytes`, all free, for nobody to take over. Allocates; panics without
    /// memory.
    pub fn new(bytes: u64) -> Self {
        let words = Words::private(Self::words(bytes)).expect("memory for a few words");
        Self::attach(words, bytes)
    }

    /// As many as fit in `bytes`, with what is written down about them in [`Segments::words`]
    /// words, all zero for a new spill. What slots name in them is still to be counted
    /// ([`Segments::adopt`]). Allocates 4 bytes a segment. Panics if there are too few words.
    pub fn attach(words: Words, bytes: u64) -> Self {
        assert!(words.len() >= Self::words(bytes), "two words for each segment");
        let count = bytes / SEGMENT_BYTES as u64;
        Self { live: (0..count).map(|_| AtomicU32::new(0)).collect(), words }
    }

    /// Words for the segments of a spill of `bytes`.
    pub const fn words(bytes: u64) -> usize {
        FIRST_CELL + (bytes / SEGMENT_BYTES as u64) as usize * CELL_WORDS
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.live.len()
    }

    /// Bytes of memory that this takes.
    pub fn bookkeeping_bytes(&self) -> u64 {
        (size_of_val::<[AtomicU32]>(&self.live) + self.words.len() * size_of::<u64>()) as u64
    }

    /// Writes the key down, where only whoever serves these segments sees it.
    pub fn set_key(&self, key: &[u8; KEY_BYTES]) {
        self.words.write(KEY, key);
    }

    /// The key; zeros if there is none, or it was wiped.
    pub fn key(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        self.words.read(KEY, &mut *key);
        key
    }

    #[inline]
    fn begun(&self, segment: usize) -> u64 {
        self.words[FIRST_CELL + segment * CELL_WORDS].load(Ordering::Acquire)
    }

    #[inline]
    fn ended(&self, segment: usize) -> u64 {
        self.words[FIRST_CELL + segment * CELL_WORDS + 1].load(Ordering::Acquire)
    }

    /// The segment that a place is in.
    #[inline]
    pub(super) fn index(at: Location) -> usize {
        (at.units() / SEGMENT_UNITS) as usize
    }

    /// Where in the spill a position of a segment is.
    #[inline]
    pub fn location(segment: u32, unit: u32) -> Location {
        Location::from_units(u64::from(segment) * SEGMENT_UNITS + u64::from(unit))
    }

    /// Whether `len` bytes of data can be at `at`.
    #[inline]
    pub fn contains(&self, at: Location, len: u16) -> bool {
        let inside = at.units() % SEGMENT_UNITS + u64::from(sealed_units(len.into()));
        Self::index(at) < self.count() && inside <= SEGMENT_UNITS
    }

    /// The write that put there what is there now. Call it under the lock of a slot that names the
    /// place. Panics outside the spill.
    #[inline]
    pub fn place(&self, at: Location) -> Place {
        let sequence = self.begun(Self::index(at));
        Place { sequence, unit: (at.units() % SEGMENT_UNITS) as u32 }
    }

    /// What to read for an object.
    #[inline]
    pub fn span(&self, at: Location, len: u16) -> Span {
        let block = SPILL_BLOCK_BYTES;
        let (skip, sealed) = (at.offset() % block, usize::from(len) + TAG_BYTES);
        let len = (skip + sealed).next_multiple_of(block) as u32;
        Span { at: (at.offset() - skip) as u64, len, skip: skip as u32, sealed: sealed as u32 }
    }

    /// A slot no longer names this object. One atomic subtraction.
    #[inline]
    pub fn dead(&self, at: Location, len: u16) {
        let units = sealed_units(len.into());
        // Release: whoever sees that nothing is left also sees that no slot names anything here.
        let before = self.live[Self::index(at)].fetch_sub(units, Ordering::Release);
        debug_assert!(before >= units, "more freed than there was at {at:?}");
    }

    /// Units of objects in a segment that slots name.
    pub fn live_units(&self, segment: usize) -> u32 {
        self.live[segment].load(Ordering::Acquire)
    }

    /// Number of the last write of a segment that was begun.
    pub(super) fn sequence(&self, segment: usize) -> u64 {
        self.begun(segment)
    }

    /// The segment of a place.
    pub fn segment_of(at: Location) -> u32 {
        Self::index(at) as u32
    }

    /// Units that an object takes.
    pub const fn units_of(len: u16) -> u32 {
        sealed_units(len as usize)
    }

    /// The number of the next write: higher than any that was ever used with this key.
    pub(super) fn next_sequence(&self) -> u64 {
        let sane = |&number: &u64| number < SEQUENCE_END;
        let highest = (0..self.count()).map(|segment| self.begun(segment)).filter(sane).max();
        let used = highest.unwrap_or(0);
        if planted(Bug::SequenceReused) {
            return 1;
        }
        match self.words[NEXT].load(Ordering::Acquire) {
            next if next <= used || sane(&next) => next.max(used + 1),
            _ => used + SEQUENCE_LEAP,
        }
    }

    /// A write of the segment begins, numbered `sequence`, which is never used again, whatever
    /// happens now.
    pub(super) fn begin(&self, segment: u32, sequence: u64) {
        crash_point();
        self.words[NEXT].store(sequence + 1, Ordering::Release);
        let cell = FIRST_CELL + segment as usize * CELL_WORDS;
        crash_point();
        self.words[cell].store(sequence, Ordering::Release);
    }

    /// A segment is on the disk as it was begun last, and slots are about to name everything in it.
    pub(super) fn fill(&self, segment: u32, summary: Summary) {
        let segment = segment as usize;
        let ended = u64::from(summary.unit) << 48
            | (summary.objects as u64 & 0xffff) << 32
            | self.begun(segment) & u64::from(u32::MAX);
        crash_point();
        self.words[FIRST_CELL + segment * CELL_WORDS + 1].store(ended, Ordering::Release);
        self.live[segment].store(summary.unit, Ordering::Release);
    }

    /// Where the summary of a segment is; `None` if its last write did not end, or nothing was ever
    /// written there.
    pub(super) fn summary(&self, segment: usize) -> Option<Summary> {
        let (begun, ended) = (self.begun(segment), self.ended(segment));
        let unit = (ended >> 48) as u32;
        let objects = (ended >> 32 & 0xffff) as usize;
        let whole = (1..SEQUENCE_END).contains(&begun) && begun as u32 == ended as u32;
        let summary = Summary { unit, objects };
        // All of it in the segment: whoever cleans that reads so much.
        let fits = objects <= SEGMENT_OBJECTS_MAX && end_of(summary) <= SEGMENT_BYTES;
        (whole && fits).then_some(summary)
    }

    /// Counts an object in that a slot names, for whoever goes over the table after a crash. False
    /// if it cannot be: no such place, or nothing was written there.
    pub fn adopt(&self, at: Location, len: u16) -> bool {
        if !self.contains(at, len) {
            return false;
        }
        let (segment, units) = (Self::index(at), sealed_units(len.into()));
        let Some(Summary { unit: end, .. }) = self.summary(segment) else { return false };
        let live = self.live[segment].load(Ordering::Relaxed) + units;
        let inside = self.place(at).unit + units <= end && live <= end;
        if inside && !planted(Bug::StaleLiveCount) {
            self.live[segment].store(live, Ordering::Relaxed);
        }
        inside
    }
}

impl Identity {
    /// Units that the object takes.
    pub const fn units(self) -> u32 {
        Segments::units_of(self.len)
    }
}
