//! A slot of the simulated table: sixteen bytes, so that a page's event touches one cache line.

use crate::units::{Location, PAGE_SIZE};
use uswap_policy::{AGE_PINNED_TICKS, Mark, READS_MAX, Tier};

/// How an object is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it arrived.
    Lz4,
    /// Made denser.
    Dense,
    /// The page itself.
    Huge,
}

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Empty,
    /// In staging: it is written again, or not needed any more, before it is compressed.
    Staged,
    /// In the slot alone.
    Same,
    /// With the kernel, which could not write it.
    Refused,
    /// In the pool.
    Pool(Form),
    /// In the spill.
    Spill(Form),
}

/// A slot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    /// From the low end: stamp 28 bits, mark 3, place 4, bytes 13, dense 13, tried 1, draft 1.
    about: u64,
    /// Where its object is, in units of a location.
    at: u64,
}

const MARK: u32 = 28;
const PLACE: u32 = 31;
const BYTES: u32 = 35;
const DENSE: u32 = 48;
const TRIED: u64 = 1 << 61;
const DRAFT: u64 = 1 << 62;
const STAMP_MASK: u64 = (1 << MARK) - 1;
const SIZE_MASK: u64 = (1 << 13) - 1;

const FORMS: [Form; 3] = [Form::Lz4, Form::Dense, Form::Huge];

impl Place {
    const fn code(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Staged => 1,
            Self::Same => 2,
            Self::Refused => 3,
            Self::Pool(form) => 4 + form as u64,
            Self::Spill(form) => 8 + form as u64,
        }
    }

    const fn of(code: u64) -> Self {
        match code {
            0 => Self::Empty,
            1 => Self::Staged,
            2 => Self::Same,
            3 => Self::Refused,
            4..8 => Self::Pool(FORMS[(code & 3) as usize]),
            _ => Self::Spill(FORMS[(code & 3) as usize]),
        }
    }
}

impl Form {
    /// The policy's word for it.
    pub const fn tier(self) -> Tier {
        match self {
            Self::Lz4 => Tier::Lz4,
            Self::Dense => Tier::Zstd,
            Self::Huge => Tier::Huge,
        }
    }
}

impl Slot {
    /// A page just written in the age tick `tick`, that is at `place`, of so many bytes and, made
    /// denser, so many; 0 if that does not pay.
    #[inline]
    pub const fn written(place: Place, at: u64, bytes: u16, dense: u16, tick: u64) -> Self {
        let sizes = (bytes as u64) << BYTES | (dense as u64) << DENSE;
        Self { about: tick & STAMP_MASK | place.code() << PLACE | sizes, at }
    }

    /// Where the page is.
    #[inline]
    pub const fn place(self) -> Place {
        Place::of(self.about >> PLACE & 15)
    }

    /// Where its object is, in units. Means something in the pool and the spill only.
    #[inline]
    pub const fn at(self) -> u64 {
        self.at
    }

    /// The same.
    #[inline]
    pub fn location(self) -> Location {
        Location::from_units(self.at)
    }

    /// Bytes of its object in this form.
    #[inline]
    pub const fn len(self, form: Form) -> u16 {
        match form {
            Form::Lz4 => (self.about >> BYTES & SIZE_MASK) as u16,
            Form::Dense => self.dense(),
            Form::Huge => PAGE_SIZE as u16,
        }
    }

    /// Bytes that it would have made denser; 0 if that does not pay.
    #[inline]
    pub const fn dense(self) -> u16 {
        (self.about >> DENSE & SIZE_MASK) as u16
    }

    /// Whether making it denser was tried and did not pay.
    #[inline]
    pub const fn is_tried(self) -> bool {
        self.about & TRIED != 0
    }

    /// Whether its object is on its way to the spill.
    #[inline]
    pub const fn is_drafted(self) -> bool {
        self.about & DRAFT != 0
    }

    /// What a policy may remember.
    #[inline]
    pub const fn mark(self) -> Mark {
        let bits = self.about >> MARK;
        Mark { last_touch_was_read: bits & 1 != 0, reads: (bits >> 1) as u8 & READS_MAX }
    }

    /// The age tick of the last write or read.
    #[inline]
    pub const fn stamp(self) -> u64 {
        self.about & STAMP_MASK
    }

    /// Age ticks since then, as a table that pins its stamps says.
    #[inline]
    pub const fn age_ticks(self, tick: u64) -> u8 {
        let age = (tick & STAMP_MASK).wrapping_sub(self.stamp()) & STAMP_MASK;
        if age > AGE_PINNED_TICKS as u64 { AGE_PINNED_TICKS } else { age as u8 }
    }

    /// After a read in the age tick `tick`.
    #[inline]
    #[must_use]
    pub const fn read(self, tick: u64) -> Self {
        let about = self.about & !STAMP_MASK | tick & STAMP_MASK;
        Self { about, ..self }.marked(self.mark().read())
    }

    /// With another mark.
    #[inline]
    #[must_use]
    pub const fn marked(self, mark: Mark) -> Self {
        let bits = mark.last_touch_was_read as u64 | (mark.reads as u64) << 1;
        Self { about: self.about & !(7 << MARK) | bits << MARK, ..self }
    }

    /// Elsewhere. What was tried is forgotten, and it is in no draft.
    #[inline]
    #[must_use]
    pub const fn moved(self, place: Place, at: u64) -> Self {
        let about = self.about & !(15 << PLACE | TRIED | DRAFT) | place.code() << PLACE;
        Self { about, at }
    }

    /// Its object elsewhere in the pool.
    #[inline]
    #[must_use]
    pub const fn compacted(self, at: u64) -> Self {
        Self { about: self.about & !DRAFT, at }
    }

    /// Marked as tried.
    #[inline]
    #[must_use]
    pub const fn tried(self) -> Self {
        Self { about: self.about | TRIED, ..self }
    }

    /// On its way to the spill.
    #[inline]
    #[must_use]
    pub const fn drafted(self) -> Self {
        Self { about: self.about | DRAFT, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_keeps_what_it_is_given() {
        let place = Place::Pool(Form::Lz4);
        let slot = Slot::written(place, (1 << Location::BITS) - 1, 3600, 1200, 5);
        assert_eq!((slot.place(), slot.at()), (place, (1 << Location::BITS) - 1));
        assert_eq!([Form::Lz4, Form::Dense, Form::Huge].map(|f| slot.len(f)), [3600, 1200, 4096]);
        assert_eq!((slot.mark(), slot.stamp()), (Mark::WRITTEN, 5));
        let read = slot.read(7).read(9).tried().drafted();
        assert_eq!((read.mark().reads, read.mark().last_touch_was_read), (2, true));
        assert!(read.is_tried() && read.is_drafted() && !slot.is_tried());
        assert_eq!((read.age_ticks(9), read.age_ticks(20), read.age_ticks(1000)), (0, 11, 192));
        for form in FORMS {
            let moved = read.moved(Place::Spill(form), 1);
            assert_eq!(
                (moved.place(), moved.at(), moved.is_drafted()),
                (Place::Spill(form), 1, false)
            );
            assert_eq!(moved.mark(), read.mark());
            assert_eq!(Place::of(Place::Pool(form).code()), Place::Pool(form));
        }
        for place in [Place::Empty, Place::Staged, Place::Same, Place::Refused] {
            assert_eq!(Place::of(place.code()), place);
        }
    }
}
