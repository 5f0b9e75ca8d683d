//! One page of the pool as the hand meets it, and what shall become of it.

use crate::touch::Mark;

/// Bytes of a page that is not compressed.
pub const PAGE_BYTES: u64 = 4096;

/// How a page lies in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// An LZ4 block, as pages arrive.
    Lz4,
    /// A zstd frame with a trained dictionary.
    Zstd,
    /// The page itself: LZ4 made nothing of it.
    Huge,
}

/// Whether a page can be made denser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denser {
    /// Not tried yet.
    Untried,
    /// It is as dense as it gets, or the attempt did not pay: do not try it in every lap.
    No,
    /// It has to be made anew, because its dictionary is about to be dropped.
    Due,
}

/// A page of the pool. Staged, same-filled and spilled slots are not presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its slot.
    pub slot: u32,
    /// Age ticks since its last write or read.
    pub age_ticks: u8,
    /// What is remembered of its use.
    pub mark: Mark,
    /// Bytes of its data, at most 4096.
    pub bytes: u16,
    /// How it lies there.
    pub tier: Tier,
    /// Whether recompressing it makes sense.
    pub denser: Denser,
}

/// What to do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Make it denser, in the pool. If that does not pay the daemon remembers it as
    /// [`Denser::No`].
    Recompress,
    /// Write it back to the spill and free its object.
    Spill,
}

/// The answer to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do with it.
    pub action: Action,
    /// What to remember of its use from now on, in the pool or in the spill; `None` changes
    /// nothing. Losing it against a write or read of the same slot is no harm.
    pub mark: Option<Mark>,
}

impl Verdict {
    /// Leave it as it is.
    pub const KEEP: Self = Self { action: Action::Keep, mark: None };
}
