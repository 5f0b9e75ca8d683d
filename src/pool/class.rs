//! Size classes: into what equal objects a slab is cut.
//!
//! Every class is the largest size of which its number still fits a slab, so that a slab has no
//! tail to speak of; neighbours are at least [`CLASS_STEP_BYTES`] apart. The last class is the page
//! itself, for huge pages, without a header.

use crate::limits::{
    CLASS_STEP_BYTES, HUGE_BYTES, OBJECT_BYTES_MIN, OBJECT_HEADER_BYTES, SLAB_BYTES,
};
use crate::sys::map::checksum;
use crate::units::{Location, PAGE_SIZE};

/// The next class at or above `bytes`.
const fn widen(bytes: usize) -> usize {
    let objects = SLAB_BYTES / bytes;
    (SLAB_BYTES / objects) & !(Location::UNIT - 1)
}

const fn count() -> usize {
    let (mut count, mut bytes) = (1, widen(OBJECT_BYTES_MIN));
    while bytes < PAGE_SIZE {
        count += 1;
        bytes = widen(bytes + CLASS_STEP_BYTES);
    }
    count
}

const fn sizes() -> [u16; CLASSES] {
    let (mut sizes, mut class, mut bytes) = ([0; CLASSES], 0, widen(OBJECT_BYTES_MIN));
    while class < CLASSES {
        sizes[class] = bytes as u16;
        bytes = widen(bytes + CLASS_STEP_BYTES);
        class += 1;
    }
    sizes
}

const fn fits() -> [u8; PAGE_SIZE / Location::UNIT + 1] {
    let mut fits = [0; PAGE_SIZE / Location::UNIT + 1];
    let (mut units, mut class) = (0, 0);
    while units < fits.len() {
        if units * Location::UNIT > SIZES[class] as usize {
            class += 1;
        }
        fits[units] = class as u8;
        units += 1;
    }
    fits
}

/// How many classes there are.
pub(super) const CLASSES: usize = count();
const SIZES: [u16; CLASSES] = sizes();
/// Objects in a slab, by class: a table is read faster than a slab is divided.
const OBJECTS: [u16; CLASSES] = {
    let (mut objects, mut class) = ([0; CLASSES], 0);
    while class < CLASSES {
        objects[class] = (SLAB_BYTES / SIZES[class] as usize) as u16;
        class += 1;
    }
    objects
};
/// A number that differs between programs that divide slabs in different ways: one cannot go on
/// with the other's.
pub fn division() -> u64 {
    let others = [OBJECT_HEADER_BYTES, Location::UNIT, HUGE_BYTES].map(|bytes| bytes as u64);
    checksum(SIZES.into_iter().map(u64::from).chain(others))
}

/// Class by size in units, rounded up.
const FITS: [u8; PAGE_SIZE / Location::UNIT + 1] = fits();
/// Most objects in a slab.
pub(super) const OBJECTS_MAX: usize = SLAB_BYTES / OBJECT_BYTES_MIN;

const _: () = assert!(CLASSES <= 1 << 8);
const _: () = assert!(SIZES[CLASSES - 1] as usize == PAGE_SIZE);
const _: () = assert!(SIZES[CLASSES - 2] as usize == HUGE_BYTES + OBJECT_HEADER_BYTES);

/// A size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(u8);

impl Class {
    /// The class of whole pages, stored uncompressed.
    pub(super) const HUGE: Self = Self(CLASSES as u8 - 1);

    /// The class for `len` bytes of data. Panics if `len` is neither a page nor at most
    /// [`HUGE_BYTES`].
    #[inline]
    pub(super) fn of(len: usize) -> Self {
        if len == PAGE_SIZE {
            return Self::HUGE;
        }
        assert!(len <= HUGE_BYTES, "no class for {len} bytes");
        Self(FITS[(len + OBJECT_HEADER_BYTES).div_ceil(Location::UNIT)])
    }

    /// The class at a position among the classes.
    pub(super) const fn from_index(index: u8) -> Option<Self> {
        if (index as usize) < CLASSES { Some(Self(index)) } else { None }
    }

    /// All classes, smallest first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES as u8).map(Self)
    }

    /// Position among the classes.
    #[inline]
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Bytes of an object, header included.
    #[inline]
    pub(super) fn bytes(self) -> usize {
        SIZES[self.index()].into()
    }

    /// Objects in a slab.
    #[inline]
    pub(super) fn objects(self) -> usize {
        OBJECTS[self.index()].into()
    }

    /// The larger classes that also have room for a header, smallest first.
    pub(super) fn larger(self) -> impl Iterator<Item = Self> {
        (self.0 + 1..Self::HUGE.0).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_the_smallest_class_that_holds_it() {
        for len in 1..=HUGE_BYTES {
            let class = Class::of(len);
            let need = len + OBJECT_HEADER_BYTES;
            assert!(class.bytes() >= need);
            assert!(class.0 == 0 || usize::from(SIZES[class.index() - 1]) < need);
        }
        assert_eq!(Class::of(PAGE_SIZE), Class::HUGE);
        assert_eq!(Class::HUGE.bytes(), PAGE_SIZE);
    }

    #[test]
    fn classes_grow_and_are_aligned() {
        assert!(SIZES.is_sorted_by(|a, b| usize::from(*b - *a) >= CLASS_STEP_BYTES));
        assert!(SIZES.iter().all(|s| usize::from(*s).is_multiple_of(Location::UNIT)));
        assert!(usize::from(SIZES[0]) >= OBJECT_BYTES_MIN);
    }
}
