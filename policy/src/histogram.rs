//! Pages of the pool by age, size, tier, use, and whether they can be made denser.
//!
//! Ages are exact up to 15 ticks and then in eight steps per doubling, sizes in steps of 512 bytes:
//! a rank's threshold is found in one pass over the cells instead of a sort of millions of slots.

use crate::page::{Denser, PAGE_BYTES, Page, Tier};
use crate::touch::{Mark, READS_MAX};
use alloc::boxed::Box;
use alloc::vec;

/// Age classes.
pub const AGES: usize = 48;
/// Size classes, of 512 bytes each.
pub const SIZES: usize = 8;
const SIZE_STEP: usize = 512;
/// Tiers, each with and without pages that can be made denser.
const KINDS: usize = 6;
const MARKS: usize = 2 * (READS_MAX as usize + 1);
/// Kinds of pages that are told apart: every combination of these classes.
pub const CELLS: usize = AGES * SIZES * KINDS * MARKS;

/// Class of an age in ticks.
pub const fn age_class(age_ticks: u8) -> usize {
    let age = age_ticks as usize;
    if age < 16 {
        return age;
    }
    let shift = age.ilog2() as usize - 3;
    8 * shift + (age >> shift)
}

/// The youngest age in a class, ticks.
pub const fn age_floor(class: usize) -> u8 {
    if class < 16 {
        return class as u8;
    }
    let shift = class / 8 - 1;
    ((class - 8 * shift) << shift) as u8
}

/// Counts of pages. One allocation when it is made, 72 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    cells: Box<[u32]>,
    pages: u64,
    bytes: u64,
    /// Counts afresh so far.
    serial: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { cells: vec![0; CELLS].into_boxed_slice(), pages: 0, bytes: 0, serial: 0 }
    }
}

impl Histogram {
    /// Forgets all pages, to count them afresh.
    pub fn clear(&mut self) {
        self.cells.fill(0);
        (self.pages, self.bytes) = (0, 0);
        self.serial += 1;
    }

    /// Tells one count from the next: how often it was cleared.
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// Takes over another's counts. Does not allocate.
    pub fn copy_from(&mut self, other: &Self) {
        self.cells.copy_from_slice(&other.cells);
        (self.pages, self.bytes, self.serial) = (other.pages, other.bytes, other.serial);
    }

    /// Forgets one such page, if there is one: it may have aged into the next class since.
    pub fn remove(&mut self, page: &Page) {
        let mut cell = cell_of(page);
        if self.cells[cell] == 0 && page.age_ticks > 0 {
            cell = cell_of(&Page { age_ticks: page.age_ticks - 1, ..*page });
        }
        if self.cells[cell] > 0 {
            self.cells[cell] -= 1;
            self.pages = self.pages.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(u64::from(page.bytes));
        }
    }

    /// Counts a page. Does not allocate.
    #[inline]
    pub fn add(&mut self, page: &Page) {
        let cell = &mut self.cells[cell_of(page)];
        *cell = cell.saturating_add(1);
        self.pages += 1;
        self.bytes += u64::from(page.bytes);
    }

    /// Counts so many pages that are like this one, and have so many bytes together. Does not
    /// allocate.
    pub fn add_alike(&mut self, page: &Page, pages: u32, bytes: u64) {
        let cell = &mut self.cells[cell_of(page)];
        *cell = cell.saturating_add(pages);
        self.pages += u64::from(pages);
        self.bytes += bytes;
    }

    /// Pages counted.
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Their bytes, exactly.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Every cell with pages: a page such as they are, with the youngest age and middle size of
    /// its classes, and their number.
    pub fn cells(&self) -> impl Iterator<Item = (Page, u64)> + '_ {
        let filled = self.cells.iter().enumerate().filter(|(_, pages)| **pages > 0);
        filled.map(|(cell, &pages)| (page_of(cell), u64::from(pages)))
    }

    /// Estimated bytes of the pages for which `of` holds. Huge pages count exactly.
    pub fn bytes_of(&self, of: impl Fn(&Page) -> bool) -> u64 {
        let cells = self.cells().filter(|(page, _)| of(page));
        cells.map(|(page, pages)| pages * u64::from(page.bytes)).sum()
    }
}

/// The cell that a page is counted in, below [`CELLS`].
#[inline]
pub fn cell_of(page: &Page) -> usize {
    let kind = 2 * page.tier as usize + usize::from(page.denser != Denser::No);
    let reads = usize::from(page.mark.reads.min(READS_MAX));
    let mark = 2 * reads + usize::from(page.mark.last_touch_was_read);
    let age_and_size = age_class(page.age_ticks) * SIZES + size_class(page.bytes);
    (age_and_size * KINDS + kind) * MARKS + mark
}

/// The page as [`page_of`] says it of its cell, but in its own slot.
#[inline]
pub fn typical(page: &Page) -> Page {
    let huge = page.tier == Tier::Huge;
    let bytes = if huge { PAGE_BYTES as u16 } else { middle(size_class(page.bytes)) };
    Page { age_ticks: age_floor(age_class(page.age_ticks)), bytes, ..*page }
}

/// The size class of so many bytes, below [`SIZES`].
#[inline]
fn size_class(bytes: u16) -> usize {
    ((usize::from(bytes.max(1)) - 1) / SIZE_STEP).min(SIZES - 1)
}

/// Bytes in the middle of a size class.
const fn middle(size: usize) -> u16 {
    (size * SIZE_STEP + SIZE_STEP / 2) as u16
}

/// A page such as they are in a cell: the youngest age and middle size of its classes, in slot 0.
/// Panics unless `cell` is below [`CELLS`].
pub fn page_of(cell: usize) -> Page {
    let (rest, mark) = (cell / MARKS, cell % MARKS);
    let (rest, kind) = (rest / KINDS, rest % KINDS);
    let (age, size) = (rest / SIZES, rest % SIZES);
    let tier = [Tier::Lz4, Tier::Zstd, Tier::Huge][kind / 2];
    let denser = match (kind % 2 == 1, tier) {
        (false, _) => Denser::No,
        (true, Tier::Zstd) => Denser::Due,
        (true, _) => Denser::Untried,
    };
    Page {
        slot: 0,
        age_ticks: age_floor(age),
        mark: Mark { last_touch_was_read: mark % 2 == 1, reads: (mark / 2) as u8 },
        bytes: if tier == Tier::Huge { PAGE_BYTES as u16 } else { middle(size) },
        tier,
        denser,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_age_has_a_class_that_starts_at_or_below_it() {
        let mut last = 0;
        for age in 0..=u8::MAX {
            let class = age_class(age);
            assert!(class == last || class == last + 1, "{age}");
            let width = (age_floor(class) / 8).max(1);
            assert!(age_floor(class) <= age && age - age_floor(class) < width, "{age}");
            last = class;
        }
        assert_eq!(last, AGES - 1);
    }

    #[test]
    fn a_page_is_found_as_it_was_counted() {
        let mut slots = Histogram::default();
        for (tier, denser, bytes) in [
            (Tier::Lz4, Denser::Untried, 256),
            (Tier::Lz4, Denser::No, 1280),
            (Tier::Zstd, Denser::No, 256),
            (Tier::Zstd, Denser::Due, 3840),
            (Tier::Huge, Denser::Untried, 4096),
            (Tier::Huge, Denser::No, 4096),
        ] {
            for bits in 0..8 {
                let mark = Mark { last_touch_was_read: bits % 2 == 1, reads: bits / 2 };
                let page = Page { slot: 0, age_ticks: 8, mark, bytes, tier, denser };
                slots.clear();
                slots.add(&page);
                assert!(slots.cells().eq([(page, 1)]));
                assert_eq!((slots.bytes_of(|_| true), slots.bytes()), (bytes.into(), bytes.into()));
            }
        }
    }

    #[test]
    fn the_typical_page_is_that_of_the_cell() {
        let tiers =
            [(Tier::Lz4, Denser::Untried), (Tier::Zstd, Denser::Due), (Tier::Huge, Denser::No)];
        for (tier, denser) in tiers {
            for age_ticks in 0..=u8::MAX {
                for bytes in (0..=4096).step_by(97) {
                    let mark = Mark { last_touch_was_read: true, reads: age_ticks % 4 };
                    let page = Page { slot: 0, age_ticks, mark, bytes, tier, denser };
                    assert_eq!(typical(&page), page_of(cell_of(&page)), "{page:?}");
                }
            }
        }
    }

    #[test]
    fn a_page_that_has_aged_since_is_still_removed() {
        let mark = Mark::WRITTEN;
        let young =
            Page { slot: 0, age_ticks: 3, mark, bytes: 256, tier: Tier::Lz4, denser: Denser::No };
        let mut slots = Histogram::default();
        slots.add(&young);
        slots.remove(&Page { age_ticks: 4, ..young });
        slots.remove(&young);
        assert_eq!((slots.cells().count(), slots.pages(), slots.bytes()), (0, 0, 0));
    }
}
