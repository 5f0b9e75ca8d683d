//! Least recently used, by age.
//!
//! **Scan form.** The stamp in the slot is the time of the last write or read, so no list has to be
//! kept: the line is drawn through the histogram of ages, as kstaled and multi-generational LRU do
//! (Lagar-Cavilla et al., "Software-Defined Far Memory", ASPLOS'19). Pages of one age class go in
//! table order.

use super::{Aim, Choice, Threshold, Victim};
use crate::page::Page;

/// Takes pages above an age.
#[derive(Debug, Default)]
pub struct Lru(Threshold);

impl Victim for Lru {
    fn aim(&mut self, aim: &Aim<'_>) {
        self.0.aim(aim, |page| Some(page.age_ticks));
    }

    fn meet(&mut self, page: &Page) -> Choice {
        if self.0.admits(page, |page| Some(page.age_ticks)) { Choice::DEMOTE } else { Choice::KEEP }
    }
}
