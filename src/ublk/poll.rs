//! Polling before sleep: whether the next request is worth waiting for awake, and how long.
//!
//! To sleep and be woken costs a swap-in two trips through the scheduler and, on an idle machine,
//! two wake-ups of a CPU. When requests follow one another closely (a program that faults page
//! after page) a short look at the ring saves one of them. The time is bounded and adapts as the
//! kernel's halt polling does (Linux drivers/cpuidle/governors/haltpoll.c): it begins after a pause
//! that was short enough to have been polled through, grows while pauses stay below the bound, and
//! goes to zero after one that was longer. A queue that nobody uses therefore sleeps.

use std::time::Duration;

/// Least time of polling once it has begun.
const POLL_MIN: Duration = Duration::from_micros(20);

/// The polling of one queue.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    budget: Duration,
    max: Duration,
}

impl Poll {
    /// Polls up to `max` at a time; never, if that is zero.
    pub const fn new(max: Duration) -> Self {
        Self { budget: Duration::ZERO, max }
    }

    /// How long to poll now.
    pub const fn budget(&self) -> Duration {
        self.budget
    }

    /// Learns how long the queue had nothing to do, polling included.
    pub fn learn(&mut self, pause: Duration) {
        self.budget = if pause > self.max {
            Duration::ZERO
        } else {
            self.budget.max(2 * pause).max(POLL_MIN).min(self.max)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL_MAX: Duration = Duration::from_micros(200);
    const MICROSECOND: Duration = Duration::from_micros(1);

    #[test]
    fn short_pauses_are_polled_through_and_a_long_one_ends_that() {
        let mut poll = Poll::new(POLL_MAX);
        assert_eq!(poll.budget(), Duration::ZERO, "a new queue sleeps");
        poll.learn(5 * MICROSECOND);
        assert_eq!(poll.budget(), POLL_MIN);
        poll.learn(60 * MICROSECOND);
        assert_eq!(poll.budget(), 120 * MICROSECOND);
        poll.learn(199 * MICROSECOND);
        assert_eq!(poll.budget(), POLL_MAX);
        poll.learn(201 * MICROSECOND);
        assert_eq!(poll.budget(), Duration::ZERO);
    }

    #[test]
    fn without_time_there_is_no_polling() {
        let mut poll = Poll::new(Duration::ZERO);
        poll.learn(Duration::ZERO);
        poll.learn(MICROSECOND);
        assert_eq!(poll.budget(), Duration::ZERO);
    }
}
