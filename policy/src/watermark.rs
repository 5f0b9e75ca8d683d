//! How full the pool is, in words that do not flap.
//!
//! The service says so in `status` and on stderr while writes still succeed: after the pool is full
//! the kernel keeps what it cannot write in RAM, which is the RAM that was short.

use crate::permille;
use serde::Deserialize;

/// How much room is left. The order is that of need: a later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing to say.
    Plenty,
    /// Time to make room, or for the administrator to look.
    Low,
    /// The next burst of writes may fail.
    Min,
    /// There is no room at all: writes fail now.
    Full,
}

/// Watermarks over the pool's free units, in the manner of the kernel's zone watermarks.
///
/// Contract: a level gets worse at once, when free units fall to its mark. It gets better only when
/// they are above the mark by the hysteresis band, so free units that move inside a band never
/// change the level back and forth. [`Level::Full`] is the exception: it is a fact and not a
/// warning, and holds exactly while nothing is free.
#[derive(Clone, Debug)]
pub struct Watermarks {
    low: u64,
    min: u64,
    band: u64,
    level: Level,
}

/// Where the marks are, in thousandths of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// Free room at and below which room is made: [`Level::Low`].
    pub low_permille: u64,
    /// Free room at and below which everything may go: [`Level::Min`].
    pub min_permille: u64,
    /// By how much a mark has to be overcome.
    pub band_permille: u64,
}

impl Watermarks {
    /// Marks for a pool of `capacity_units`, which starts with plenty.
    pub const fn new(capacity_units: u64, marks: Marks) -> Self {
        Self {
            low: permille(capacity_units, marks.low_permille),
            min: permille(capacity_units, marks.min_permille),
            band: permille(capacity_units, marks.band_permille),
            level: Level::Plenty,
        }
    }

    /// Free units at and below which a falling level becomes [`Level::Low`] and [`Level::Min`].
    pub const fn marks(&self) -> (u64, u64) {
        (self.low, self.min)
    }

    /// Free units by which a level has to be overcome before it is left.
    pub const fn band(&self) -> u64 {
        self.band
    }

    /// The level now that `free_units` are free.
    pub fn level(&mut self, free_units: u64) -> Level {
        let falling = self.at(free_units);
        // As seen on the way up: the same marks, a band higher. Full has none.
        let rising = match self.at(free_units.saturating_sub(self.band)) {
            Level::Full if free_units > 0 => Level::Min,
            level => level,
        };
        self.level = self.level.clamp(falling, rising);
        self.level
    }

    const fn at(&self, free_units: u64) -> Level {
        if free_units == 0 {
            Level::Full
        } else if free_units <= self.min {
            Level::Min
        } else if free_units <= self.low {
            Level::Low
        } else {
            Level::Plenty
        }
    }
}
