//! Pages of the pool by stamp, size, tier and use, kept up to date with every event: what the
//! service finds out by a lap over its table is here one pass over the cells.

use super::slot::{Form, KINDS, Slot};
use uswap_policy::{AGE_PINNED_TICKS, Denser, Histogram, Page, SIZES};

/// Rows: stamps, and all that are older than a table lets them be.
const STAMPS: usize = 256;
const OLD: usize = STAMPS;
const ROW: usize = SIZES * KINDS;
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
    fn column(slot: Slot, len: u16) -> usize {
        usize::from((len.max(1) - 1) / SIZE_STEP) * KINDS + slot.kind()
    }

    /// Counts a page of the pool in.
    #[inline]
    pub fn add(&mut self, slot: Slot) {
        let (row, len) = (self.row(slot), slot.len());
        self.cells[row * ROW + Self::column(slot, len)] += 1;
        self.bytes[row] += u64::from(len);
    }

    /// Counts it out.
    #[inline]
    pub fn remove(&mut self, slot: Slot) {
        let (row, len) = (self.row(slot), slot.len());
        self.cells[row * ROW + Self::column(slot, len)] -= 1;
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
    let (size, (mark, tried, form)) = (column / KINDS, Slot::of_kind(column % KINDS));
    let untried = form != Form::Dense && !tried && has_dictionary;
    Page {
        slot: 0,
        age_ticks,
        mark,
        bytes: size as u16 * SIZE_STEP + SIZE_STEP / 2,
        tier: form.tier(),
        denser: if untried { Denser::Untried } else { Denser::No },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::slot::Place;
    use crate::units::PAGE_SIZE;
    use proptest::prelude::*;

    fn counted(slots: &[Slot], tick: u64) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.clear();
        for slot in slots {
            let Place::Pool(form) = slot.place() else { panic!("{slot:?} is in the pool") };
            let untried = form != Form::Dense && !slot.is_tried();
            histogram.add(&Page {
                slot: 0,
                age_ticks: slot.age_ticks(tick),
                mark: slot.mark(),
                bytes: slot.len(),
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
            steps in proptest::collection::vec((0..24usize, 0..6u8, 2..3600u16), 1..600),
        ) {
            let (mut census, mut tick) = (Census::new(), 0);
            let mut slots: Vec<Option<Slot>> = vec![None; 24];
            for (i, what, bytes) in steps {
                if let Some(slot) = slots[i] {
                    census.remove(slot);
                }
                let new = |form, bytes| {
                    Some(Slot::written(Place::Pool(form), 0, bytes, bytes / 2, tick))
                };
                slots[i] = match (what, slots[i]) {
                    (0, _) => None,
                    (1, Some(slot)) => Some(slot.read(tick)),
                    (2, Some(slot)) if slot.place() != Place::Pool(Form::Dense) => {
                        Some(slot.tried())
                    }
                    (3, Some(slot)) => Some(slot.moved(Place::Pool(Form::Dense), 0)),
                    (4, _) => new(Form::Huge, PAGE_SIZE as u16),
                    _ => new(Form::Lz4, bytes),
                };
                if let Some(slot) = slots[i] {
                    census.add(slot);
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
