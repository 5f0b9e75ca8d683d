//! What all threads share about segments: a few atomics for each.

use super::seal::{Identity, Place, TAG_BYTES, sealed_units};
use crate::limits::{SEGMENT_BYTES, SPILL_BLOCK_BYTES};
use crate::units::Location;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Units of [`Location::UNIT`] in a segment.
pub(super) const SEGMENT_UNITS: u64 = (SEGMENT_BYTES / Location::UNIT) as u64;

#[derive(Debug, Default)]
struct Cell {
    /// Number of the last write that was begun; 0 for none.
    sequence: AtomicU64,
    /// Units of objects that slots name.
    live: AtomicU32,
}

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
    cells: Box<[Cell]>,
}

impl Segments {
    /// As many as fit in `bytes`, all free. Allocates 16 bytes a segment.
    pub fn new(bytes: u64) -> Self {
        let count = bytes / SEGMENT_BYTES as u64;
        Self { cells: (0..count).map(|_| Cell::default()).collect() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.cells.len()
    }

    /// Bytes of memory that this takes.
    pub fn bookkeeping_bytes(&self) -> u64 {
        size_of_val::<[Cell]>(&self.cells) as u64
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
        let sequence = self.cells[Self::index(at)].sequence.load(Ordering::Acquire);
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
        let before = self.cells[Self::index(at)].live.fetch_sub(units, Ordering::Release);
        debug_assert!(before >= units, "more freed than there was at {at:?}");
    }

    /// Units of objects in a segment that slots name.
    pub fn live_units(&self, segment: usize) -> u32 {
        self.cells[segment].live.load(Ordering::Acquire)
    }

    /// Number of the last write of a segment that was begun.
    pub(super) fn sequence(&self, segment: usize) -> u64 {
        self.cells[segment].sequence.load(Ordering::Acquire)
    }

    /// The segment of a place.
    pub fn segment_of(at: Location) -> u32 {
        Self::index(at) as u32
    }

    /// Units that an object takes.
    pub const fn units_of(len: u16) -> u32 {
        sealed_units(len as usize)
    }

    /// A write of the segment begins.
    pub(super) fn begin(&self, segment: u32, sequence: u64) {
        self.cells[segment as usize].sequence.store(sequence, Ordering::Release);
    }

    /// Slots are about to name this much of the segment.
    pub(super) fn fill(&self, segment: u32, units: u32) {
        self.cells[segment as usize].live.store(units, Ordering::Release);
    }
}

impl Identity {
    /// Units that the object takes.
    pub const fn units(self) -> u32 {
        Segments::units_of(self.len)
    }
}
