//! Pages of the pool by stamp, size, tier and use, kept up to date with every event: what the
//! service finds out by a lap over its table is here one pass over the cells.

use super::slot::{Form, Slot};
use uswap_policy::{AGE_PINNED_TICKS, Denser, Histogram, Mark, Page, SIZES};

/// Rows: stamps, and all that are older than a table lets them be.
const STAMPS: usize = 256;
const OLD: usize = STAMPS;
/// Kinds of pages: forms, each with and without those that were not tried.
const KINDS: usize = 6;
const MARKS: usize = 8;
const ROW: usize = SIZES * KINDS * MARKS;
const SIZE_STEP: u16 = 512;

/// The counts.
#[derive(Debug)]
pub struct Census {
    cells: Box<[u32]>,
    /// Bytes in each row.
    bytes: Box<[u64]>,
    /// The age tick that it is for.
    tick: u64,
}

impl Census {
    /// Nothing counted, in the age tick 0.
    pub fn new() -> Self {
        let cells = vec![0; (STAMPS + 1) * ROW].into_boxed_slice();
        Self { cells, bytes: vec![0; STAMPS + 1].into_boxed_slice(), tick: 0 }
    }

    #[inline]
    fn row(&self, slot: Slot) -> usize {
        match slot.age_ticks(self.tick) {
            AGE_PINNED_TICKS => OLD,
            _ => slot.stamp() as usize % STAMPS,
        }
    }

    #[inline]
    fn column(slot: Slot, form: Form, len: u16) -> usize {
        let size = usize::from((len.max(1) - 1) / SIZE_STEP);
        let untried = form != Form::Dense && !slot.is_tried();
        let mark = slot.mark();
        let mark = usize::from(mark.reads) * 2 + usize::from(mark.last_touch_was_read);
        (size * KINDS + 2 * form as usize + usize::from(untried)) * MARKS + mark
    }

    /// Counts a page of the pool in.
    #[inline]
    pub fn add(&mut self, slot: Slot, form: Form) {
        let (row, len) = (self.row(slot), slot.len(form));
        self.cells[row * ROW + Self::column(slot, form, len)] += 1;
        self.bytes[row] += u64::from(len);
    }

    /// Counts it out.
    #[inline]
    pub fn remove(&mut self, slot: Slot, form: Form) {
        let (row, len) = (self.row(slot), slot.len(form));
        self.cells[row * ROW + Self::column(slot, form, len)] -= 1;
        self.bytes[row] -= u64::from(len);
    }

    /// The next age tick has begun.
    pub fn advance(&mut self) {
        self.tick += 1;
        let Some(aged) = self.tick.checked_sub(AGE_PINNED_TICKS.into()) else { return };
        let row = aged as usize % STAMPS;
        let (young, old) = self.cells.split_at_mut(OLD * ROW);
        let aging = &mut young[row * ROW..(row + 1) * ROW];
        for (old, aging) in old.iter_mut().zip(aging) {
            *old += std::mem::take(aging);
        }
        self.bytes[OLD] += std::mem::take(&mut self.bytes[row]);
    }

    /// Counts all pages into a policy's histogram, afresh. `has_dictionary`: without one no page
    /// can be made denser.
    pub fn count(&self, into: &mut Histogram, has_dictionary: bool) {
        into.clear();
        for age in 0..=AGE_PINNED_TICKS {
            let Some(stamp) = self.tick.checked_sub(age.into()) else { break };
            let row = if age == AGE_PINNED_TICKS { OLD } else { stamp as usize % STAMPS };
            if self.bytes[row] == 0 {
                continue;
            }
            let cells = &self.cells[row * ROW..(row + 1) * ROW];
            let filled = cells.iter().enumerate().filter(|(_, pages)| **pages > 0);
            let mut bytes = self.bytes[row];
            for (column, &pages) in filled {
                // The row's bytes are exact only in sum.
                into.add_alike(&page(column, age, has_dictionary), pages, bytes);
                bytes = 0;
            }
        }
    }
}

/// A page of a column.
fn page(column: usize, age_ticks: u8, has_dictionary: bool) -> Page {
    let (rest, mark) = (column / MARKS, column % MARKS);
    let (size, kind) = (rest / KINDS, rest % KINDS);
    let form = [Form::Lz4, Form::Dense, Form::Huge][kind / 2];
    let untried = kind % 2 == 1 && has_dictionary;
    Page {
        slot: 0,
        age_ticks,
        mark: Mark { last_touch_was_read: mark % 2 == 1, reads: (mark / 2) as u8 },
        bytes: size as u16 * SIZE_STEP + SIZE_STEP / 2,
        tier: form.tier(),
        denser: if untried { Denser::Untried } else { Denser::No },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::slot::Place;
    use proptest::prelude::*;

    fn counted(slots: &[(Slot, Form)], tick: u64) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.clear();
        for (slot, form) in slots {
            let untried = *form != Form::Dense && !slot.is_tried();
            histogram.add(&Page {
                slot: 0,
                age_ticks: slot.age_ticks(tick),
                mark: slot.mark(),
                bytes: slot.len(*form),
                tier: form.tier(),
                denser: if untried { Denser::Untried } else { Denser::No },
            });
        }
        histogram
    }

    proptest! {
        /// The same as a lap over the table finds.
        #[test]
        fn what_is_kept_up_to_date_is_what_a_lap_counts(
            steps in proptest::collection::vec((0..24usize, 0..5u8, 2..3600u16), 1..600),
        ) {
            let (mut census, mut tick) = (Census::new(), 0);
            let mut slots: Vec<Option<(Slot, Form)>> = vec![None; 24];
            for (i, what, bytes) in steps {
                if let Some((slot, form)) = slots[i] {
                    census.remove(slot, form);
                }
                slots[i] = match (what, slots[i]) {
                    (0, _) => None,
                    (1, Some((slot, form))) => Some((slot.read(tick), form)),
                    (2, Some((slot, Form::Lz4))) => Some((slot.tried(), Form::Lz4)),
                    (3, Some((slot, _))) => Some((slot, Form::Dense)),
                    _ => Some((Slot::written(Place::Empty, 0, bytes, bytes / 2, tick), Form::Lz4)),
                };
                if let Some((slot, form)) = slots[i] {
                    census.add(slot, form);
                }
                for _ in 0..bytes % 7 {
                    census.advance();
                    tick += 1;
                }
                let mut found = Histogram::default();
                census.count(&mut found, true);
                let live: Vec<_> = slots.iter().copied().flatten().collect();
                prop_assert_eq!(found, counted(&live, tick));
            }
        }
    }
}
