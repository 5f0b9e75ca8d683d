//! Pages that were just read go first: they are in RAM too.
//!
//! After a swap-in on a read fault the kernel keeps slot and page (Linux mm/memory.c,
//! `should_try_to_free_swap`): as long as the page stays in RAM nobody asks for the copy, and if it
//! is written to the copy is garbage. Storage servers below a cache know the same: what the layer
//! above has just fetched is the best to drop (Wong and Wilkes, "My Cache or Yours? Making Storage
//! More Exclusive", ATC'02).
//!
//! Who goes first: pages read once since they were written, the latest first; then, by age, all
//! others, where a page read twice counts as older by an hour at the usual tick. A page read three
//! times has been dropped by RAM and fetched again unchanged, and will be again: it counts as one
//! that was never read.
//!
//! **Scan form.** Whether the page still is in RAM is not known here; how lately it was read
//! stands for it.

use super::{Aim, Choice, Threshold, Victim};
use crate::page::Page;

/// Takes copies of what is in RAM, then the longest untouched.
#[derive(Debug, Default)]
pub struct SwapAware(Threshold);

/// Half of the ranks are for pages read once.
const READ_ONCE: u8 = 128;
/// Ranks that a second read adds: two ticks each.
const READ_TWICE: u8 = 60;

fn rank(page: &Page) -> Option<u8> {
    let age = page.age_ticks / 2;
    Some(match (page.mark.last_touch_was_read, page.mark.reads) {
        (true, 0 | 1) => u8::MAX - age,
        (true, 2) => (age + READ_TWICE).min(READ_ONCE - 1),
        _ => age,
    })
}

impl Victim for SwapAware {
    fn aim(&mut self, aim: &Aim<'_>) {
        self.0.aim(aim, rank);
    }

    fn meet(&mut self, page: &Page) -> Choice {
        // The reads are kept, so that a page that is promoted does not count as read once again.
        if self.0.admits(page, rank) { Choice::demote(page.mark) } else { Choice::KEEP }
    }
}
