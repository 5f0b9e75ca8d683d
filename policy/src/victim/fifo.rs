//! First in, first out, as far as a table knows it.
//!
//! **Scan form.** The queue is the slot table and the hand its end. Linux hands out swap slots
//! cluster by cluster in rising order, so on the way through the device table order is write order;
//! once slots are reused it is not, and this is what it costs least to do: no reads counted, no
//! line to draw, the first pages met go.

use super::{Choice, Victim};
use crate::page::Page;

/// Takes pages as they come.
#[derive(Debug, Default)]
pub struct Fifo;

impl Victim for Fifo {
    fn meet(&mut self, _: &Page) -> Choice {
        Choice::DEMOTE
    }
}
