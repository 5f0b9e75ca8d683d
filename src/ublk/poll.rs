//! Polling before sleep: whether the next request is worth waiting for awake, and how long.
//!
//! To sleep and be woken costs a swap-in two trips through the scheduler and, on an idle machine,
//! two wake-ups of a CPU. When requests follow one another closely (a program that faults page
//! after page) a short look at the ring saves one of them. The time is bounded and adapts as the
//! kernel's halt polling does (Linux drivers/cpuidle/governors/haltpoll.c): it begins after a pause
//! that was short enough to have been polled through, grows while pauses stay below the bound, and
//! goes to zero after one that was longer. A queue that nobody uses therefore sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Least time of polling once it has begun.
const POLL_MIN: Duration = Duration::from_micros(20);

/// The polling of one queue.
#[derive(Clone, Debug)]
pub struct Poll {
    budget: Duration,
    max_us: Arc<AtomicU32>,
}

impl Poll {
    /// Polls up to `max_us` microseconds at a time, which somebody may change; never, if that is
    /// zero.
    pub const fn new(max_us: Arc<AtomicU32>) -> Self {
        Self { budget: Duration::ZERO, max_us }
    }

    /// How long to poll now.
    pub const fn budget(&self) -> Duration {
        self.budget
    }

    /// Learns how long the queue had nothing to do, polling included.
    pub fn learn(&mut self, pause: Duration) {
        let max = Duration::from_micros(self.max_us.load(Ordering::Relaxed).into());
        self.budget = if pause > max {
            Duration::ZERO
        } else {
            self.budget.max(2 * pause).max(POLL_MIN).min(max)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    #[test]
    fn short_pauses_are_polled_through_and_a_long_one_ends_that() {
        let max = Arc::new(AtomicU32::new(200));
        let mut poll = Poll::new(Arc::clone(&max));
        assert_eq!(poll.budget(), Duration::ZERO, "a new queue sleeps");
        poll.learn(5 * MICROSECOND);
        assert_eq!(poll.budget(), POLL_MIN);
        poll.learn(60 * MICROSECOND);
        assert_eq!(poll.budget(), 120 * MICROSECOND);
        poll.learn(199 * MICROSECOND);
        assert_eq!(poll.budget(), 200 * MICROSECOND);
        max.store(90, Ordering::Relaxed);
        poll.learn(2 * MICROSECOND);
        assert_eq!(poll.budget(), 90 * MICROSECOND, "changed meanwhile");
        max.store(200, Ordering::Relaxed);
        poll.learn(201 * MICROSECOND);
        assert_eq!(poll.budget(), Duration::ZERO);
    }

    #[test]
    fn without_time_there_is_no_polling() {
        let mut poll = Poll::new(Arc::default());
        poll.learn(Duration::ZERO);
        poll.learn(MICROSECOND);
        assert_eq!(poll.budget(), Duration::ZERO);
    }
}
