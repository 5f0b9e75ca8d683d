//! Units of the device: pages, sectors, slots, queues, tags.
//!
//! The device is addressed in 4 KiB pages because swap is; sectors exist only at the edge
//! ([`crate::ublk`]).

/// Bytes in a page, the unit of the device and of every store operation.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// log2 of the block layer's sector, 512 bytes.
pub const SECTOR_SHIFT: u32 = 9;
/// Sectors in one page.
pub const SECTORS_PER_PAGE: u32 = 1 << (PAGE_SHIFT - SECTOR_SHIFT);

const _: () = assert!(PAGE_SIZE == 1 << PAGE_SHIFT);

/// The contents of one page.
pub type Page = [u8; PAGE_SIZE];

/// Index of a slot: the device's page number. 32 bits address 16 TiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotIndex(pub u32);

impl SlotIndex {
    /// The slot as an index into the table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A page in the request buffers of all queues, counted from the first byte of the first buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferPage(pub u32);

/// Number of a dictionary: 1 to [`DictionaryVersion::MAX`], or none. Numbers are used again once
/// nothing is left that was made with the old dictionary of that number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DictionaryVersion(u8);

impl DictionaryVersion {
    /// No dictionary.
    pub const NONE: Self = Self(0);
    /// The highest number: a slot entry has two bits for it.
    pub const MAX: u8 = 3;

    /// The version of this number, 0 for none. Panics beyond [`DictionaryVersion::MAX`].
    #[inline]
    pub const fn new(number: u8) -> Self {
        assert!(number <= Self::MAX, "a dictionary version has two bits");
        Self(number)
    }

    /// The number, 0 for none.
    #[inline]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Position among the versions that are dictionaries.
    #[inline]
    pub const fn index(self) -> Option<usize> {
        (self.0 as usize).checked_sub(1)
    }
}

/// Number of a ublk hardware queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u16);

/// Id of a request within its queue, below the queue's depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u16);

impl Tag {
    /// The tag as an index into per-tag arrays.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where an object lies in the arena, in units of [`Location::UNIT`] bytes: a position, never a
/// pointer, so that it means the same in every process that maps the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(u64);

impl Location {
    /// Bytes that one step of a location stands for; every object starts at a multiple of it.
    pub const UNIT: usize = 16;
    /// Bits of a location: what a slot entry has room for.
    pub const BITS: u32 = 34;

    /// The location of byte `offset`. Panics unless that is a multiple of the unit within
    /// [`Location::BITS`].
    #[inline]
    pub fn from_offset(offset: usize) -> Self {
        assert!(offset.is_multiple_of(Self::UNIT), "object at {offset} is not aligned");
        Self::from_units((offset / Self::UNIT) as u64)
    }

    /// The location `units` units into the arena. Panics beyond [`Location::BITS`].
    #[inline]
    pub fn from_units(units: u64) -> Self {
        assert!(units >> Self::BITS == 0, "location {units} does not fit a slot entry");
        Self(units)
    }

    /// The number of units, below 2 to the [`Location::BITS`].
    #[inline]
    pub const fn units(self) -> u64 {
        self.0
    }

    /// The position in bytes.
    #[inline]
    pub const fn offset(self) -> usize {
        self.0 as usize * Self::UNIT
    }
}
