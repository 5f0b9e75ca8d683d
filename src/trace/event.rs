//! One thing that happened.

use crate::units::SlotIndex;

/// What happened to a slot, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since the recording began; of a monotonic clock that goes on during suspend.
    pub time_us: u64,
    /// The slot; the first one of a [`Kind::Discard`], 0 for [`Kind::Machine`].
    pub slot: SlotIndex,
    /// What happened.
    pub kind: Kind,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel wrote the page. How large it is follows as [`Kind::Stored`], unless the slot is
    /// written again or discarded before.
    Write,
    /// The kernel read the page.
    Read(Source),
    /// So many slots, from this one on, are not needed any more.
    Discard {
        /// At least 1.
        count: u32,
    },
    /// What the last write of the slot became.
    Stored(Stored),
    /// The mover made the page denser: a zstd frame of so many bytes.
    Denser {
        /// Bytes of the frame.
        bytes: u16,
    },
    /// The mover tried to make it denser, and that did not pay.
    NotDenser,
    /// The page left the pool for the spill.
    Spilled,
    /// The page came back to the pool from the spill, because it is read.
    Promoted,
    /// How the machine stood when the policy looked.
    Machine {
        /// `MemAvailable`, MiB.
        available_mib: u32,
        /// PSI `some avg10`, permille.
        some_permille: u16,
        /// PSI `full avg10`, permille.
        full_permille: u16,
    },
}

/// Where a page was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Nowhere: it was never written, or discarded.
    Empty,
    /// Waiting to be compressed.
    Staged,
    /// In the slot alone.
    Same,
    /// In the pool as it arrived: LZ4, or zstd without a dictionary.
    Pool,
    /// In the pool, made denser.
    Dense,
    /// In the pool, as it is.
    Huge,
    /// In the spill.
    Spill,
}

/// What a written page became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The slot alone: one word repeated.
    Same,
    /// An object of so many bytes of data.
    Compressed {
        /// Bytes of data, without the object's header.
        bytes: u16,
    },
    /// The page as it is: it does not compress.
    Huge,
}
