//! What the daemon may do until the next tick.
//!
//! A plan is quotas: the verbs are the daemon's, and doing less is always allowed. Everything is
//! bounded, and 0 means "leave it".

use crate::pressure::Pressure;
use crate::watermark::Level;

/// Work until the next tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The pool's level, for people.
    pub level: Level,
    /// The machine's pressure, for people.
    pub pressure: Pressure,
    /// Pages that the hand may present to [`Policy::judge`](crate::Policy::judge). 0: the hand
    /// stays where it is.
    pub scan_pages: u64,
    /// Making pages denser.
    pub recompress: Recompress,
    /// Writing pages back.
    pub spill: Writeback,
    /// Live bytes of the spill's segments that cleaning may write again, to free these segments.
    /// Segments without live bytes are free anyway. What is not used of it is part of the next
    /// plan's.
    pub clean_bytes: u64,
    /// Bytes of objects to move from sparse slabs into others.
    pub compact_bytes: u64,
    /// Memory of the pool.
    pub memory: Memory,
    /// Pages read from the spill come back to the pool.
    pub promote: Promote,
    /// A dictionary may be trained now.
    pub train: bool,
    /// Milliseconds after which the next tick is due, at the latest.
    pub next_ms: u32,
    /// Why less is written back than was wanted.
    pub short: Option<Short>,
}

/// Quota of recompression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recompress {
    /// Pages at most.
    pub pages: u64,
    /// Bytes, before, of these pages at most.
    pub bytes: u64,
    /// Age from which pages are idle, ticks.
    pub age_min_ticks: u8,
}

/// Quota of writeback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writeback {
    /// Bytes in the pool of the pages at most.
    pub bytes: u64,
    /// Age from which pages may go, ticks.
    pub age_min_ticks: u8,
    /// Room is needed now: what waits for the disk is waited for.
    pub urgent: bool,
    /// Bytes of incompressible pages that may go besides, of any age.
    pub huge_bytes: u64,
}

/// Memory of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes to take from the kernel now, ahead of need.
    pub grow_bytes: u64,
    /// Bytes of empty slabs to give back now.
    pub give_back_bytes: u64,
    /// Bytes of empty slabs that whoever grows the pool between ticks may keep ready.
    pub ready_bytes: u64,
    /// Recompression, compaction and training may make the pool or the process larger. If not
    /// they use what is resident, or do less.
    pub may_grow: bool,
}

/// Rule of promotion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promote {
    /// Pages at most until the next tick.
    pub pages: u64,
    /// Reads a spilled page must have, counting the one that is served.
    pub reads_min: u8,
}

/// Why less is written back than was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// There is no spill.
    NoSpill,
    /// The spill does not take writes.
    Failing,
    /// The spill is full; cleaning it may help.
    SpillFull,
    /// The day's write budget is spent.
    Budget,
    /// The spill is written as fast as it may be.
    Rate,
    /// Nothing in the pool is old enough.
    NothingOld,
}

impl Short {
    /// A few words for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoSpill => "there is no spill",
            Self::Failing => "the spill does not take writes",
            Self::SpillFull => "the spill is full",
            Self::Budget => "the day's write budget of the spill is spent",
            Self::Rate => "the spill is written as fast as it may be",
            Self::NothingOld => "nothing is old enough to be written back",
        }
    }
}
