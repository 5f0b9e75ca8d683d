//! S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO Queues are All You Need for Cache Eviction",
//! SOSP'23).
//!
//! A small queue for new pages, a main queue, and a ghost queue that remembers names. What leaves
//! the small queue unread or read once goes, and leaves its name; what was read twice moves to the
//! main queue. The main queue is FIFO with reinsertion: a page with reads loses one and stays. A
//! page whose name is remembered comes in to the main queue. Pages are taken from the small queue
//! while it has a tenth of all bytes or more.
//!
//! **Scan form.** Queues are not lists but marks. A page of the main queue says "last touch was a
//! write" and yet has reads, which no page gets by itself: reads - 1 of them are its count. A read
//! then makes it the same as a page of the small queue with that many reads, which stays in either
//! queue: nothing is lost but that the main queue's count ends at two. The ghost queue is the
//! spill: its slots keep their marks, and are all remembered. The small queue's order is that of
//! stamps, up to the line for the bytes wanted (a read renews the stamp, so a page read once leaves
//! later than in the paper); the main queue's order is the table's, as in CLOCK.

use super::{Aim, Choice, Threshold, Victim};
use crate::page::Page;
use crate::touch::Mark;

/// Takes new pages first.
#[derive(Debug, Default)]
pub struct S3Fifo {
    small: Threshold,
    from_small: bool,
    from_main: bool,
}

/// The small queue's share, one in so many bytes.
const SMALL_SHARE: u64 = 10;

enum Queue {
    /// Came lately, read once at most.
    Small,
    /// Read twice or more, in either queue.
    Frequent,
    /// In the main queue, and read so often less since the hand passed.
    Main(u8),
}

const fn queue(mark: Mark) -> Queue {
    match (mark.last_touch_was_read, mark.reads) {
        (_, 0) | (true, 1) => Queue::Small,
        (true, _) => Queue::Frequent,
        (false, reads) => Queue::Main(reads - 1),
    }
}

/// In the main queue with that count.
const fn main(count: u8) -> Mark {
    Mark { last_touch_was_read: false, reads: count + 1 }
}

const fn age_if_small(page: &Page) -> Option<u8> {
    if matches!(queue(page.mark), Queue::Small) { Some(page.age_ticks) } else { None }
}

impl Victim for S3Fifo {
    fn aim(&mut self, aim: &Aim<'_>) {
        let small = |page: &Page| age_if_small(page).is_some();
        let share = aim.slots.bytes_of(small);
        let old = aim.slots.bytes_of(|page| small(page) && page.age_ticks >= aim.age_min_ticks);
        self.from_small = share.saturating_mul(SMALL_SHARE) >= aim.slots.bytes();
        self.from_main = !self.from_small || old < aim.bytes;
        self.small.aim(aim, age_if_small);
    }

    fn meet(&mut self, page: &Page) -> Choice {
        let at_end = self.from_small && self.small.admits(page, |page| Some(page.age_ticks));
        match queue(page.mark) {
            // A ghost in the main queue: the read that brings it back makes it `Frequent`.
            Queue::Small if at_end => Choice::demote(main(0)),
            Queue::Frequent if at_end || self.from_main => Choice::keep(main(page.mark.reads - 2)),
            Queue::Main(0) if self.from_main => Choice::demote(Mark::WRITTEN),
            Queue::Main(count) if self.from_main => Choice::keep(main(count - 1)),
            _ => Choice::KEEP,
        }
    }
}
