//! What a slot remembers of its use, in 11 bits, and how these change.
//!
//! The daemon keeps them in the slot's entry, the simulator beside its model of one; both change
//! them only through here, so that a policy sees the same pages in both.

/// Most age ticks that a stamp is let to fall behind. The stamp has 8 bits and wraps; whoever owns
/// the slots passes over all of them at least every [`PIN_EVERY_TICKS`] and stores
/// [`Touch::pinned`], so that an age never exceeds 255.
pub const AGE_PINNED_TICKS: u8 = 192;
/// How often, in age ticks, every slot has to be pinned.
pub const PIN_EVERY_TICKS: u8 = u8::MAX - AGE_PINNED_TICKS;
/// Reads are counted up to this.
pub const READS_MAX: u8 = 3;

/// The use of a slot's page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// Low 8 bits of the age tick of the last write or read.
    pub stamp: u8,
    /// The part that a policy may change.
    pub mark: Mark,
}

/// The part of a slot's use that belongs to the victim policy. Whoever owns the slot sets it anew
/// on a write and advances it on a read; between these it holds what the policy last stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The last touch was a read: the page is, or was, in RAM as well.
    pub last_touch_was_read: bool,
    /// Reads since the page was written, [`READS_MAX`] at most.
    pub reads: u8,
}

impl Mark {
    /// A page that was written and not read.
    pub const WRITTEN: Self = Self { last_touch_was_read: false, reads: 0 };

    /// After one more read.
    #[inline]
    pub const fn read(self) -> Self {
        // No branch: how often a page is read cannot be foreseen.
        Self { last_touch_was_read: true, reads: self.reads + (self.reads < READS_MAX) as u8 }
    }

    /// With the reads forgotten; whether the last touch was a read stays known.
    #[inline]
    pub const fn cleared(self) -> Self {
        Self { last_touch_was_read: self.last_touch_was_read, reads: 0 }
    }
}

impl Touch {
    /// Bits that a touch takes.
    pub const BITS: u32 = 11;

    /// Just written, in the age tick `now`.
    #[inline]
    pub const fn written(now: u8) -> Self {
        Self { stamp: now, mark: Mark::WRITTEN }
    }

    /// Just read, in the age tick `now`. A page that moves between tiers keeps its touch.
    #[inline]
    pub const fn read(self, now: u8) -> Self {
        Self { stamp: now, mark: self.mark.read() }
    }

    /// Age ticks since the last write or read.
    #[inline]
    pub const fn age_ticks(self, now: u8) -> u8 {
        now.wrapping_sub(self.stamp)
    }

    /// The same, no older than [`AGE_PINNED_TICKS`]; see there.
    #[inline]
    pub const fn pinned(self, now: u8) -> Self {
        if self.age_ticks(now) <= AGE_PINNED_TICKS {
            return self;
        }
        Self { stamp: now.wrapping_sub(AGE_PINNED_TICKS), mark: self.mark }
    }

    /// Bits 0..8 stamp, 8 last touch was a read, 9..11 reads: as in the slot table's entries.
    #[inline]
    pub const fn to_bits(self) -> u16 {
        self.stamp as u16
            | (self.mark.last_touch_was_read as u16) << 8
            | ((self.mark.reads & READS_MAX) as u16) << 9
    }

    /// The inverse of [`Touch::to_bits`]. Higher bits are ignored.
    #[inline]
    pub const fn from_bits(bits: u16) -> Self {
        let mark =
            Mark { last_touch_was_read: bits & 1 << 8 != 0, reads: (bits >> 9) as u8 & READS_MAX };
        Self { stamp: bits as u8, mark }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bits_survive() {
        for bits in 0..1 << Touch::BITS {
            assert_eq!(Touch::from_bits(bits).to_bits(), bits);
        }
        assert_eq!(Touch::from_bits(u16::MAX).to_bits(), (1 << Touch::BITS) - 1);
    }

    #[test]
    fn reads_saturate_and_a_write_forgets_them() {
        let mut touch = Touch::written(250);
        for reads in [1, 2, 3, 3] {
            touch = touch.read(3);
            assert_eq!((touch.mark.reads, touch.mark.last_touch_was_read), (reads, true));
        }
        assert_eq!(touch.age_ticks(3), 0);
        assert_eq!(touch.mark.cleared(), Mark { last_touch_was_read: true, reads: 0 });
        assert_eq!(Touch::written(3).mark, Mark::WRITTEN);
    }

    #[test]
    fn a_pinned_stamp_never_comes_round() {
        let mut touch = Touch::written(7);
        for now in 7..7 + 4 * 256_u32 {
            let age = touch.age_ticks(now as u8);
            assert!(u32::from(age) >= (now - 7).min(AGE_PINNED_TICKS.into()), "{now}: {age}");
            if now % u32::from(PIN_EVERY_TICKS) == 0 {
                touch = touch.pinned(now as u8);
            }
        }
    }
}
