//! SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi: "SIEVE is Simpler than LRU", NSDI'24).
//!
//! One queue in the order of arrival, one bit for each page, one hand that goes from the oldest to
//! the newest: a visited page loses its bit and stays **where it is**, an unvisited one goes.
//! Unlike CLOCK's ring new pages come in at the head and are met soon: popular old pages lie behind
//! the hand, and what comes and is never read again is sifted out quickly.
//!
//! **Scan form.** Arrival order is the order of stamps, not of slots. The hand is a window of age
//! ticks, wide enough for the bytes wanted; pages in it are judged in table order, pages outside
//! are not met. When all of the table has passed the window moves on to newer pages, and past the
//! newest it starts with the oldest again. The bit is "reads > 0". Two differences remain: order
//! within a window is the table's, and a read also renews the stamp, so a page read at t is met
//! when the hand comes to t rather than to its arrival.

use super::{Aim, Choice, Victim};
use crate::histogram::{AGES, age_class, age_floor};
use crate::page::Page;

/// Sifts from old to new.
#[derive(Debug)]
pub struct Sieve {
    /// Age ticks that the hand covers, both included.
    from: u64,
    to: u64,
    /// The age tick now, and the latest that may be met.
    now: u64,
    newest: u64,
    /// Bytes of unread pages by age class, and how many are wanted in the window.
    unread: [u64; AGES],
    wanted: u64,
    /// Pages presented since the window was set, and how many make a lap.
    passed: u64,
    lap: u64,
}

impl Default for Sieve {
    fn default() -> Self {
        let (from, to, now, newest, passed, lap) = (0, 0, 0, 0, 0, 0);
        Self { from, to, now, newest, unread: [0; AGES], wanted: 0, passed, lap }
    }
}

impl Sieve {
    /// The end of a window from `from` with enough unread bytes.
    fn reach(&self) -> u64 {
        let mut sum = 0;
        for class in (age_class((self.now - self.newest) as u8)..AGES).rev() {
            let to = self.now.saturating_sub(age_floor(class).into());
            if to >= self.from {
                sum += self.unread[class];
                if sum >= self.wanted {
                    return to.min(self.newest);
                }
            }
        }
        self.newest
    }

    /// Nothing has been aimed at yet.
    const fn lap_unset(&self) -> bool {
        self.to == 0 && self.passed == 0
    }

    fn advance(&mut self) {
        self.from = if self.to >= self.newest { 0 } else { self.to + 1 };
        self.to = self.reach();
        self.passed = 0;
    }
}

impl Victim for Sieve {
    fn aim(&mut self, aim: &Aim<'_>) {
        self.now = aim.age_tick;
        self.newest = aim.age_tick.saturating_sub(aim.age_min_ticks.into());
        self.wanted = aim.bytes;
        self.lap = aim.slots.pages();
        self.unread = [0; AGES];
        for (page, pages) in aim.slots.cells().filter(|(page, _)| page.mark.reads == 0) {
            self.unread[age_class(page.age_ticks)] += pages * u64::from(page.bytes);
        }
        // The hand stays where it is: a window ends when all pages have passed, not when the need
        // does, or the oldest pages would be met again and again.
        if self.from > self.newest || self.lap_unset() {
            (self.from, self.passed) = (0, 0);
            self.to = self.reach();
        }
    }

    fn meet(&mut self, page: &Page) -> Choice {
        if self.passed >= self.lap {
            self.advance();
        }
        self.passed += 1;
        let arrived = self.now.saturating_sub(page.age_ticks.into());
        if !(self.from..=self.to).contains(&arrived) {
            Choice::KEEP
        } else if page.mark.reads > 0 {
            Choice::keep(page.mark.cleared())
        } else {
            Choice::DEMOTE
        }
    }
}
