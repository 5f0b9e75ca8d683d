//! Requests that were committed before their pages were compressed: one queue's, oldest first.
//!
//! A filled buffer is taken from the request and a fresh one goes to the driver in its place; the
//! filled one stays as it is until all its pages have moved to the pool. The number of buffers is
//! fixed: when none is fresh, requests are stored before they are committed, which is what slows
//! reclaim down to the speed of compression.

use crate::sys::map::IoBuf;
use crate::ublk::Request;
use crate::units::{BufferPage, PAGE_SIZE, Page, SlotIndex};
use std::collections::VecDeque;

/// A filled buffer: pages below `next` have moved on.
#[derive(Debug)]
struct Filled {
    buffer: IoBuf,
    request: Request,
    next: u32,
}

/// Fresh and filled buffers of one queue.
#[derive(Debug)]
pub struct Staging {
    fresh: Vec<IoBuf>,
    /// Room for every buffer, so that it never grows.
    filled: VecDeque<Filled>,
}

impl Staging {
    /// Nothing staged. Allocates.
    pub fn new(fresh: Vec<IoBuf>) -> Self {
        let filled = VecDeque::with_capacity(fresh.len());
        Self { fresh, filled }
    }

    /// Whether nothing is staged.
    pub fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// Puts a fresh buffer in the place of a write's filled one, and keeps that; false if none is
    /// fresh.
    pub fn exchange(&mut self, request: &Request, buffer: &mut IoBuf) -> bool {
        let Some(fresh) = self.fresh.pop() else { return false };
        let buffer = std::mem::replace(buffer, fresh);
        self.filled.push_back(Filled { buffer, request: *request, next: 0 });
        true
    }

    /// Slots and pages of the newest filled buffer.
    pub fn newest(&self) -> impl Iterator<Item = (SlotIndex, BufferPage)> + use<> {
        let newest = self.filled.back();
        let first = newest.map_or(0, |f| f.buffer.first_page().0);
        let slots = newest.map(|f| f.request.slots());
        slots.into_iter().flatten().zip((first..).map(BufferPage))
    }

    /// Moves one page of the oldest buffer on with `settle`; on its error the page stays. A buffer
    /// whose last page has moved is fresh again.
    pub fn settle_one<E>(
        &mut self,
        settle: impl FnOnce(SlotIndex, BufferPage, &Page) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(oldest) = self.filled.front_mut() else { return Ok(()) };
        let Filled { buffer, request, next } = oldest;
        if let Some(page) = buffer.as_chunks::<PAGE_SIZE>().0.get(*next as usize) {
            let slot = SlotIndex(request.first.0 + *next);
            settle(slot, BufferPage(buffer.first_page().0 + *next), page)?;
        }
        *next += 1;
        if *next >= request.count
            && let Some(done) = self.filled.pop_front()
        {
            self.fresh.push(done.buffer);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ublk::Op;

    fn staging(buffers: usize) -> (Staging, Vec<IoBuf>) {
        let file = tempfile::tempfile().expect("file");
        let len = 2 * PAGE_SIZE;
        file.set_len((buffers * len) as u64).expect("size");
        let (mut all, _) = IoBuf::carve(&file, buffers, len).expect("map");
        let tags = all.split_off(buffers / 2);
        (Staging::new(all), tags)
    }

    fn write(first: u32, count: u32) -> Request {
        Request { op: Op::Write, first: SlotIndex(first), count }
    }

    #[test]
    fn pages_leave_in_the_order_they_came_and_buffers_come_back() {
        let (mut staging, mut tags) = staging(4);
        for (i, first) in [10, 20].into_iter().enumerate() {
            tags[i][0] = first as u8;
            assert!(staging.exchange(&write(first, 2), &mut tags[i]));
            let slots: Vec<u32> = staging.newest().map(|(slot, _)| slot.0).collect();
            assert_eq!(slots, [first, first + 1]);
        }
        assert!(!staging.exchange(&write(30, 1), &mut tags[0]), "no fresh buffer is left");
        let mut seen = Vec::new();
        while !staging.is_empty() {
            let settled = staging.settle_one(|slot, at, page| {
                seen.push((slot.0, at.0 % 2, page[0]));
                Ok::<(), ()>(())
            });
            assert_eq!(settled, Ok(()));
        }
        assert_eq!(seen, [(10, 0, 10), (11, 1, 0), (20, 0, 20), (21, 1, 0)]);
        assert!(staging.exchange(&write(30, 1), &mut tags[0]));
    }

    #[test]
    fn a_page_that_finds_no_room_stays() {
        let (mut staging, mut tags) = staging(2);
        assert!(staging.exchange(&write(1, 1), &mut tags[0]));
        assert_eq!(staging.settle_one(|_, _, _| Err(())), Err(()));
        assert!(!staging.is_empty());
        let settled = staging.settle_one(|slot, _, _| (slot.0 == 1).then_some(()).ok_or(()));
        assert_eq!(settled, Ok(()));
        assert!(staging.is_empty());
    }
}
