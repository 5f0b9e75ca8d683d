//! Units of the device: pages, sectors, slots, queues, tags.
//!
//! The device is addressed in 4 KiB pages because swap is; sectors exist only at the edge ([`crate::ublk`]).

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
