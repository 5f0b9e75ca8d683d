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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// From the low end: location 34 bits, mark 3, tried 1, place 4, draft 1. What a census tells
    /// pages apart by lies together.
    at: u64,
    stamp: u32,
    /// Of its object as it arrived, and made denser.
    bytes: u16,
    dense: u16,
}

const AT_MASK: u64 = (1 << Location::BITS) - 1;
const MARK: u32 = Location::BITS;
const TRIED: u32 = MARK + 3;
const PLACE: u32 = TRIED + 1;
const DRAFT: u64 = 1 << (PLACE + 4);

/// Kinds of pages of the pool: by mark, whether it was tried, and form.
pub const KINDS: usize = 1 << (PLACE + 2 - MARK);

/// By the low two bits of a place, of which the last is not used.
const FORMS: [Form; 4] = [Form::Lz4, Form::Dense, Form::Huge, Form::Huge];

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
        Self { at: at & AT_MASK | place.code() << PLACE, stamp: tick as u32, bytes, dense }
    }

    /// Where the page is.
    #[inline]
    pub const fn place(self) -> Place {
        Place::of(self.at >> PLACE & 15)
    }

    /// Where its object is, in units. Means something in the pool and the spill only.
    #[inline]
    pub const fn at(self) -> u64 {
        self.at & AT_MASK
    }

    /// The same.
    #[inline]
    pub fn location(self) -> Location {
        Location::from_units(self.at())
    }

    /// How its object is coded. Means something in the pool and the spill only.
    #[inline]
    const fn form(self) -> Form {
        FORMS[(self.at >> PLACE & 3) as usize]
    }

    /// Bytes of its object.
    #[inline]
    pub const fn len(self) -> u16 {
        match self.form() {
            Form::Lz4 => self.bytes,
            Form::Dense => self.dense,
            Form::Huge => PAGE_SIZE as u16,
        }
    }

    /// Bytes that it would have made denser; 0 if that does not pay.
    #[inline]
    pub const fn dense(self) -> u16 {
        self.dense
    }

    /// Whether making it denser was tried and did not pay.
    #[inline]
    pub const fn is_tried(self) -> bool {
        self.at >> TRIED & 1 != 0
    }

    /// Whether its object is on its way to the spill.
    #[inline]
    pub const fn is_drafted(self) -> bool {
        self.at & DRAFT != 0
    }

    /// Of which of the [`KINDS`] it is, if it is in the pool.
    #[inline]
    pub const fn kind(self) -> usize {
        (self.at >> MARK) as usize % KINDS
    }

    /// What is alike of pages of a kind: mark, whether it was tried, and form.
    pub const fn of_kind(kind: usize) -> (Mark, bool, Form) {
        let slot = Self { at: (kind as u64) << MARK, stamp: 0, bytes: 0, dense: 0 };
        (slot.mark(), slot.is_tried(), slot.form())
    }

    /// What a policy may remember.
    #[inline]
    pub const fn mark(self) -> Mark {
        let bits = self.at >> MARK;
        Mark { last_touch_was_read: bits & 1 != 0, reads: (bits >> 1) as u8 & READS_MAX }
    }

    /// The age tick of the last write or read.
    #[inline]
    pub const fn stamp(self) -> u32 {
        self.stamp
    }

    /// Age ticks since then, as a table that pins its stamps says.
    #[inline]
    pub const fn age_ticks(self, tick: u64) -> u8 {
        let age = (tick as u32).wrapping_sub(self.stamp);
        if age > AGE_PINNED_TICKS as u32 { AGE_PINNED_TICKS } else { age as u8 }
    }

    /// After a read in the age tick `tick`.
    #[inline]
    #[must_use]
    pub const fn read(self, tick: u64) -> Self {
        Self { stamp: tick as u32, ..self }.marked(self.mark().read())
    }

    /// With another mark.
    #[inline]
    #[must_use]
    pub const fn marked(self, mark: Mark) -> Self {
        let bits = mark.last_touch_was_read as u64 | (mark.reads as u64) << 1;
        Self { at: self.at & !(7 << MARK) | bits << MARK, ..self }
    }

    /// Elsewhere. What was tried is forgotten, and it is in no draft.
    #[inline]
    #[must_use]
    pub const fn moved(self, place: Place, at: u64) -> Self {
        Self { at: self.at & 7 << MARK | at & AT_MASK | place.code() << PLACE, ..self }
    }

    /// Its object elsewhere in the pool.
    #[inline]
    #[must_use]
    pub const fn compacted(self, at: u64) -> Self {
        Self { at: self.at & !(AT_MASK | DRAFT) | at & AT_MASK, ..self }
    }

    /// Marked as tried.
    #[inline]
    #[must_use]
    pub const fn tried(self) -> Self {
        Self { at: self.at | 1 << TRIED, ..self }
    }

    /// On its way to the spill.
    #[inline]
    #[must_use]
    pub const fn drafted(self) -> Self {
        Self { at: self.at | DRAFT, ..self }
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
        let forms = [Form::Lz4, Form::Dense, Form::Huge];
        let lens = forms.map(|form| slot.moved(Place::Pool(form), 0).len());
        assert_eq!(lens, [3600, 1200, 4096]);
        assert_eq!((slot.mark(), slot.stamp()), (Mark::WRITTEN, 5));
        let read = slot.read(7).read(9).tried().drafted();
        assert_eq!((read.mark().reads, read.mark().last_touch_was_read), (2, true));
        assert!(read.is_tried() && read.is_drafted() && !slot.is_tried());
        assert_eq!((read.age_ticks(9), read.age_ticks(20), read.age_ticks(1000)), (0, 11, 192));
        for form in forms {
            let moved = read.moved(Place::Spill(form), 1);
            assert_eq!(
                (moved.place(), moved.at(), moved.is_drafted()),
                (Place::Spill(form), 1, false)
            );
            assert_eq!(moved.mark(), read.mark());
            assert_eq!(Slot::of_kind(moved.kind()), (read.mark(), false, form));
            assert_eq!(Slot::of_kind(moved.tried().kind()), (read.mark(), true, form));
            assert_eq!(Place::of(Place::Pool(form).code()), Place::Pool(form));
        }
        for place in [Place::Empty, Place::Staged, Place::Same, Place::Refused] {
            assert_eq!(Place::of(place.code()), place);
        }
    }
}
