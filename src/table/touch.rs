//! When and how a slot was last used: 11 bits of its entry.
//!
//! Times are ticks of the store's coarse clock (`Store::tick`), 8 bits that wrap. So that a page
//! left alone for a whole turn does not look young again, whoever goes over the table re-stamps
//! those older than [`Touch::AGE_MAX`] ([`Touch::held_back`]) at least once in the ticks between
//! that and 256.

const STAMP_SHIFT: u32 = 5;
const LAST_READ_SHIFT: u32 = 13;
const READS_SHIFT: u32 = 14;

/// The bits of an entry that hold a touch.
pub(super) const TOUCH_MASK: u64 = 0xffe0;

/// When a slot was last written or read, and how often it was read since it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// Tick of the last write or read.
    pub stamp: u8,
    /// The last touch was a read: the page is in RAM too.
    pub last_read: bool,
    /// Reads since the page was written, at most [`Touch::READS_MAX`].
    pub reads: u8,
}

impl Touch {
    /// Where counting reads ends.
    pub const READS_MAX: u8 = 3;
    /// Oldest age that is told apart, in ticks: 96 minutes at 30 s a tick.
    pub const AGE_MAX: u8 = 192;

    /// Just written.
    #[inline]
    pub const fn written(tick: u8) -> Self {
        Self { stamp: tick, last_read: false, reads: 0 }
    }

    /// The same page, just read.
    #[inline]
    #[must_use]
    pub const fn read(self, tick: u8) -> Self {
        let reads = if self.reads < Self::READS_MAX { self.reads + 1 } else { Self::READS_MAX };
        Self { stamp: tick, last_read: true, reads }
    }

    /// Ticks since the last touch, right while they are below 256.
    #[inline]
    pub const fn age(self, tick: u8) -> u8 {
        tick.wrapping_sub(self.stamp)
    }

    /// The same touch re-stamped to [`Touch::AGE_MAX`], if it is older.
    pub const fn held_back(self, tick: u8) -> Option<Self> {
        if self.age(tick) <= Self::AGE_MAX {
            return None;
        }
        Some(Self { stamp: tick.wrapping_sub(Self::AGE_MAX), ..self })
    }

    /// The bits in an entry.
    #[inline]
    pub(super) const fn pack(self) -> u64 {
        debug_assert!(self.reads <= Self::READS_MAX);
        (self.stamp as u64) << STAMP_SHIFT
            | (self.last_read as u64) << LAST_READ_SHIFT
            | (self.reads as u64) << READS_SHIFT
    }

    /// The touch in an entry, whatever its kind.
    #[inline]
    pub(super) const fn unpack(raw: u64) -> Self {
        Self {
            stamp: (raw >> STAMP_SHIFT) as u8,
            last_read: raw >> LAST_READ_SHIFT & 1 == 1,
            reads: (raw >> READS_SHIFT) as u8 & Self::READS_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_touch_survives_packing(stamp: u8, last_read: bool, reads in 0..=Touch::READS_MAX) {
            let touch = Touch { stamp, last_read, reads };
            prop_assert_eq!(touch.pack() & !TOUCH_MASK, 0);
            prop_assert_eq!(Touch::unpack(touch.pack() | !TOUCH_MASK), touch);
        }

        #[test]
        fn ages_count_across_the_wrap(stamp: u8, ticks in 0..=255u8) {
            let touch = Touch::written(stamp);
            let now = stamp.wrapping_add(ticks);
            prop_assert_eq!(touch.age(now), ticks);
            let held = touch.held_back(now).unwrap_or(touch);
            prop_assert_eq!(held.age(now), ticks.min(Touch::AGE_MAX));
        }
    }

    #[test]
    fn reads_are_counted_to_three() {
        let mut touch = Touch::written(7);
        for expected in [1, 2, 3, 3] {
            touch = touch.read(9);
            assert_eq!(touch, Touch { stamp: 9, last_read: true, reads: expected });
        }
    }
}
