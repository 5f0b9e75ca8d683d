//! CLOCK, or second chance (F. J. Corbató, "A Paging Experiment with the Multics System", 1969).
//!
//! A read page loses its reads and stays; the hand takes it if it comes back before the next read.
//!
//! **Scan form.** The ring is the slot table. In the paper a new page takes the place behind the
//! hand and has a whole lap before it is looked at; here it has, by where its slot is, half a lap
//! on average.

use super::{Choice, Victim};
use crate::page::Page;

/// Takes pages not read since the hand passed.
#[derive(Debug, Default)]
pub struct Clock;

impl Victim for Clock {
    fn meet(&mut self, page: &Page) -> Choice {
        if page.mark.reads > 0 { Choice::keep(page.mark.cleared()) } else { Choice::DEMOTE }
    }
}
