//! Train: a dictionary from the pages that are stored, when there is none or it has become a bad
//! one.

use super::{Recompressed, Store};
use crate::codec::{DenseStream, Dictionary};
use crate::limits::{DICTIONARY_SAMPLES, DICTIONARY_WATCH_PAGES};
use crate::units::{Page, SlotIndex};

/// Steps through the table in an order that has nothing to do with how slots are handed out: by the
/// golden section, so that every part of the table is seen soon.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;
/// A dictionary is worse than it was when pages take a tenth more with it.
const WORSE_NUMERATOR: u64 = 11;
const WORSE_DENOMINATOR: u64 = 10;

/// Collects samples, trains, and watches how well the result does.
#[derive(Debug, Default)]
pub struct Trainer {
    samples: Vec<Page>,
    position: u64,
    /// Bytes of the first pages recompressed with the current dictionary.
    first: Sum,
    /// Bytes of the latest.
    latest: Sum,
    /// How the latest compare with the first: known once there are enough.
    worse: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    pages: u64,
    bytes: u64,
}

impl Trainer {
    /// Nothing collected, nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it is time to collect samples: enough objects are stored to learn from, and there is
    /// no dictionary or pages take a tenth more than when it was new.
    pub fn is_due(&self, store: &Store) -> bool {
        let enough = store.pool_usage().objects >= 2 * DICTIONARY_SAMPLES as u64;
        let none = store.dictionaries.current().index().is_none();
        enough && (none || self.worse)
    }

    /// Looks at up to `tries` slots and keeps the pages of those that have an object in the pool,
    /// without touching them. True once there are enough. Takes 4 MiB until [`Trainer::train`];
    /// decompresses at most `tries` pages.
    pub fn collect(&mut self, store: &Store, dense: &mut DenseStream, tries: u32) -> bool {
        self.samples.reserve_exact(DICTIONARY_SAMPLES - self.samples.len());
        for _ in 0..tries {
            if self.samples.len() == DICTIONARY_SAMPLES {
                return true;
            }
            self.position = self.position.wrapping_add(STRIDE);
            let index = (u128::from(self.position) * store.slots() as u128) >> u64::BITS;
            let slot = SlotIndex(index as u32);
            if store.glance(slot).0.object().is_some()
                && let Ok(Some(_)) = store.fetch(slot, dense)
            {
                self.samples.push(*dense.page);
            }
        }
        self.samples.len() == DICTIONARY_SAMPLES
    }

    /// Learns from the samples and lets them go. `None` if there is nothing to learn from them.
    /// Blocks for about 50 ms; takes 3 MiB besides the samples meanwhile.
    pub fn train(&mut self) -> Option<Dictionary> {
        let samples = std::mem::take(&mut self.samples);
        (self.first, self.latest, self.worse) = Default::default();
        Dictionary::train(&samples)
    }

    /// Lets samples go without training: memory is short.
    pub fn forget(&mut self) {
        self.samples = Vec::new();
    }

    /// Takes note of how a page was recompressed, to notice when others have taken the place of
    /// those that the dictionary was trained on.
    pub fn note(&mut self, result: Recompressed) {
        let bytes = match result {
            Recompressed::Denser { after, .. } => after,
            Recompressed::NotWorthIt => crate::units::PAGE_SIZE,
            _ => return,
        };
        let sum = match self.first.pages {
            pages if pages < DICTIONARY_WATCH_PAGES => &mut self.first,
            _ => &mut self.latest,
        };
        sum.pages += 1;
        sum.bytes += bytes as u64;
        if self.latest.pages == DICTIONARY_WATCH_PAGES {
            self.worse |=
                self.latest.bytes * WORSE_DENOMINATOR > self.first.bytes * WORSE_NUMERATOR;
            self.latest = Sum::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_is_worse_when_pages_take_a_tenth_more() {
        let mut trainer = Trainer::new();
        let denser = |after| Recompressed::Denser { before: 2000, after };
        let note = |trainer: &mut Trainer, after, pages: u64| {
            (0..pages).for_each(|_| trainer.note(denser(after)));
        };
        note(&mut trainer, 1000, DICTIONARY_WATCH_PAGES);
        note(&mut trainer, 1090, DICTIONARY_WATCH_PAGES);
        assert!(!trainer.worse);
        note(&mut trainer, 1200, DICTIONARY_WATCH_PAGES - 1);
        trainer.note(Recompressed::Changed);
        assert!(!trainer.worse, "not enough is known yet");
        note(&mut trainer, 1200, 1);
        assert!(trainer.worse);
        assert!(trainer.train().is_none(), "no samples");
        assert!(!trainer.worse, "a new dictionary has a new chance");
    }
}
