//! Growth of the pool ahead of need, by a thread that may wait.
//!
//! Queue threads use only slabs that are resident. When few of those are free they ring, once, and
//! go on; this thread asks the kernel for more, a little at a time, until the reserve is full again
//! or the pool has its size. It shares nothing with the queue threads but the bell, atomics, and
//! the pool's lock for the moment of adding slabs. If the kernel has no memory, writes fail once
//! the reserve is used up, and reclaim keeps those pages.

use crate::limits::{GROW_BYTES, RESERVE_HIGH_BYTES, RESERVE_LOW_BYTES};
use crate::stats::Counter;
use crate::store::Store;
use crate::sys::wake::Bell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Pause after the kernel refused memory.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long writes wait for the pool to grow. Growing by a chunk takes well below a millisecond
/// where there is memory; where there is none, reclaim must soon learn that this way is closed.
const STARVED_MAX: Duration = Duration::from_secs(1);

/// What queue threads and the growing thread share.
#[derive(Debug)]
pub struct Growth {
    bell: Bell,
    /// The bell was rung and nobody has looked yet.
    asked: AtomicBool,
    ending: AtomicBool,
    /// Times that the kernel refused memory for the pool.
    pub failures: Counter,
}

impl Growth {
    /// Nothing asked for.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            bell: Bell::new()?,
            asked: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            failures: Counter::default(),
        })
    }

    /// Asks for growth if little is free. Two loads when there is nothing to ask; does not allocate
    /// or wait.
    #[inline]
    pub fn ask_if_low(&self, store: &Store) {
        let pool = store.pool();
        let low = pool.free_bytes() < RESERVE_LOW_BYTES;
        let can = pool.resident_bytes() < pool.capacity_bytes();
        if low && can && !self.asked.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// Whether a write that found no room may find some soon. `starved` is the caller's note of
    /// since when it found none; once that is too long ago the answer is no, until a write
    /// succeeds, so that nobody waits for memory that the machine does not have.
    pub fn may_help(&self, store: &Store, starved: &mut Option<Instant>) -> bool {
        let pool = store.pool();
        let since = *starved.get_or_insert_with(Instant::now);
        pool.resident_bytes() < pool.capacity_bytes() && since.elapsed() < STARVED_MAX
    }

    /// Ends the growing thread.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// The growing thread's life.
    pub fn run(&self, store: &Store) {
        while self.bell.wait().is_ok() && !self.ending.load(Ordering::Acquire) {
            // Cleared before looking: what is asked for from here on rings again.
            self.asked.store(false, Ordering::Release);
            self.fill(store);
        }
    }

    fn fill(&self, store: &Store) {
        let pool = store.pool();
        while pool.free_bytes() < RESERVE_HIGH_BYTES && !self.ending.load(Ordering::Acquire) {
            match pool.grow(GROW_BYTES) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => {
                    self.failures.add(1);
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }
}
