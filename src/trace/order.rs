//! Puts the events of all threads in the order of their time.

use super::{Event, Kind};

/// How long an event waits for earlier ones of other threads, microseconds: a page's size is told
/// by the thread that compresses it, at the time that it was written.
const WAIT_US: u64 = 1_000_000;

/// Events that wait for earlier ones.
#[derive(Debug, Default)]
pub struct Order {
    waiting: Vec<Event>,
}

impl Order {
    /// One more. Those of one time stay in the order in which they came, but what pages became
    /// comes after them: the rings of two threads are looked at one after the other.
    pub fn push(&mut self, event: Event) {
        self.waiting.push(event);
    }

    /// Hands those out, in order, that nothing earlier can be expected before any more. `now_us`:
    /// the time of the recording; `u64::MAX` for all of them.
    pub fn settle<E>(
        &mut self,
        now_us: u64,
        mut each: impl FnMut(&Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let is_stored = |event: &Event| matches!(event.kind, Kind::Stored(_));
        self.waiting.sort_by_key(|event| (event.time_us, is_stored(event)));
        let until = now_us.saturating_sub(WAIT_US);
        let over = self.waiting.partition_point(|event| event.time_us < until);
        self.waiting.drain(..over).try_for_each(|event| each(&event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Stored;
    use crate::units::SlotIndex;

    fn settled(order: &mut Order, now_us: u64) -> Vec<(u64, u32)> {
        let mut events = Vec::new();
        let each = |event: &Event| -> Result<(), ()> {
            events.push((event.time_us, event.slot.0));
            Ok(())
        };
        order.settle(now_us, each).expect("it never fails");
        events
    }

    #[test]
    fn events_come_in_the_order_of_their_time_and_those_of_one_time_as_they_came() {
        let mut order = Order::default();
        let push = |order: &mut Order, time_us, slot| {
            order.push(Event { time_us, slot: SlotIndex(slot), kind: Kind::Write });
        };
        for (time_us, slot) in [(10, 1), (30, 2), (20, 3), (20, 4), (2_000_000, 5)] {
            push(&mut order, time_us, slot);
        }
        assert_eq!(settled(&mut order, 1_000_020), [(10, 1)], "others may come with 20");
        push(&mut order, 20, 6);
        push(&mut order, 25, 7);
        let wanted = [(20, 3), (20, 4), (20, 6), (25, 7), (30, 2)];
        assert_eq!(settled(&mut order, 1_500_000), wanted);
        assert_eq!(settled(&mut order, u64::MAX), [(2_000_000, 5)]);
        assert!(settled(&mut order, u64::MAX).is_empty());
    }

    #[test]
    fn what_a_page_became_comes_after_its_write_of_the_same_time() {
        let mut order = Order::default();
        let kinds = [Kind::Stored(Stored::Same), Kind::Write, Kind::Promoted];
        for (slot, kind) in (0..).zip(kinds) {
            order.push(Event { time_us: 5, slot: SlotIndex(slot), kind });
        }
        assert_eq!(settled(&mut order, u64::MAX), [(5, 1), (5, 2), (5, 0)]);
    }
}
