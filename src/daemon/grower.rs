//! Growth of the pool ahead of need, by a thread that may wait.
//!
//! Queue threads use only slabs that are resident. When few of those are free they ring, once, and
//! go on; this thread asks the kernel for more, a little at a time, until the reserve is full again
//! or the pool has its size. It shares nothing with the queue threads but the bell, atomics, and
//! the pool's lock for the moment of adding slabs. If the kernel has no memory, writes fail once
//! the reserve is used up, and reclaim keeps those pages.

use super::spilling::Spilling;
use super::worker::{Readiness, ThreadState};
use crate::limits::{GROW_BYTES, RESERVE_HIGH_BYTES, RESERVE_LOW_BYTES};
use crate::stats::Counter;
use crate::store::Store;
use crate::sys::wake::Bell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// Pause after the kernel refused memory.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long a write waits for a pool that does not grow. Growing by a chunk takes well below a
/// millisecond where there is memory; where there is none, reclaim must soon learn that this way is
/// closed.
const STARVED_MAX: Duration = Duration::from_secs(1);
/// How long a write waits for a pool that grows, but not fast enough for everybody.
const WAIT_MAX: Duration = Duration::from_secs(10);

const _: () = assert!(STARVED_MAX.as_millis() < WAIT_MAX.as_millis());

/// What queue threads and the growing thread share.
#[derive(Debug)]
pub struct Growth {
    bell: Bell,
    /// The bell was rung and nobody has looked yet.
    asked: AtomicBool,
    ending: AtomicBool,
    /// Size of the pool when a write last waited in vain.
    gave_up_at: AtomicU64,
    begin: Instant,
    /// When the pool last grew, after `begin`.
    grew_at_ms: AtomicU64,
    /// Empty bytes to keep ready.
    ready: AtomicU64,
    /// Times that the kernel refused memory for the pool.
    pub failures: Counter,
    /// What makes room in the pool once that has its size.
    pub spilling: Option<Spilling>,
}

impl Growth {
    /// Nothing asked for.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            bell: Bell::new()?,
            asked: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            gave_up_at: AtomicU64::new(u64::MAX),
            begin: Instant::now(),
            grew_at_ms: AtomicU64::new(0),
            ready: AtomicU64::new(RESERVE_HIGH_BYTES),
            failures: Counter::default(),
            spilling: None,
        })
    }

    /// Asks for growth if little is free, and for spilling. A few loads when there is nothing to
    /// ask; does not allocate or wait.
    #[inline]
    pub fn ask_if_low(&self, store: &Store) {
        let pool = store.pool();
        let low = pool.free_bytes() < self.ready() / 2;
        let can = pool.slab_bytes() < pool.capacity_bytes();
        if low && can && !self.asked.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
        if let Some(spilling) = &self.spilling {
            spilling.ask_if_low(store);
        }
    }

    /// Bytes of empty slabs that are kept ready.
    pub fn ready(&self) -> u64 {
        self.ready.load(Ordering::Relaxed)
    }

    /// How much shall be kept ready from now on: at least as much as arrives before the kernel has
    /// been asked, [`RESERVE_LOW_BYTES`].
    pub fn keep_ready(&self, bytes: u64) {
        self.ready.store(bytes.max(RESERVE_LOW_BYTES), Ordering::Relaxed);
    }

    /// Whether a write that found no room, and has waited that long, may find some soon, because
    /// the pool grows or because pages leave it.
    pub fn may_help(&self, store: &Store, waited: Duration) -> bool {
        self.growing_may_help(store, waited)
            || self.spilling.as_ref().is_some_and(|spilling| spilling.may_help(waited))
    }

    /// Whether growing may: the write has not waited for long, or the pool keeps growing meanwhile.
    /// Once a write has waited in vain the answer is no until the pool does grow, so that reclaim
    /// does not wait again and again for memory that the machine does not have.
    fn growing_may_help(&self, store: &Store, waited: Duration) -> bool {
        let there = store.pool().slab_bytes();
        let grows = self.since_growth() < STARVED_MAX;
        if waited >= WAIT_MAX || (waited >= STARVED_MAX && !grows) {
            self.gave_up_at.store(there, Ordering::Relaxed);
        }
        there < store.pool().capacity_bytes() && self.gave_up_at.load(Ordering::Relaxed) != there
    }

    fn since_growth(&self) -> Duration {
        let grew = Duration::from_millis(self.grew_at_ms.load(Ordering::Relaxed));
        self.begin.elapsed().saturating_sub(grew)
    }

    /// Ends the growing thread.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// The growing thread's life.
    pub fn run(&self, store: &Store, ready: SyncSender<Readiness>) {
        // The starting thread waits for exactly one message from each thread.
        let _ = ready.send(Ok(ThreadState::read()));
        drop(ready);
        while self.bell.wait().is_ok() && !self.ending.load(Ordering::Acquire) {
            // Cleared before looking: what is asked for from here on rings again.
            self.asked.store(false, Ordering::Release);
            self.fill(store);
        }
    }

    fn fill(&self, store: &Store) {
        let pool = store.pool();
        while pool.free_bytes() < self.ready() && !self.ending.load(Ordering::Acquire) {
            match pool.grow(GROW_BYTES) {
                Ok(true) => {
                    let now = self.begin.elapsed().as_millis() as u64;
                    self.grew_at_ms.store(now, Ordering::Relaxed);
                }
                Ok(false) => return,
                Err(_) => {
                    self.failures.add(1);
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreCodec;
    use crate::sys::map::{Arena, Words};
    use std::sync::mpsc::sync_channel;

    fn store(pool: usize) -> Store {
        let file = |len: usize| {
            let file = tempfile::tempfile().expect("file");
            file.set_len(len as u64).expect("size");
            file
        };
        let words = Words::new(&file(8 * 512), 512).expect("map");
        Store::new(words, Arena::sparse(&file(pool), pool).expect("map"), StoreCodec::None)
    }

    #[test]
    fn the_reserve_is_filled_when_asked_and_the_pool_never_exceeds_its_size() {
        let store = store(RESERVE_HIGH_BYTES as usize + 4096 * 8);
        let growth = Growth::new().expect("eventfd");
        assert!(growth.may_help(&store, Duration::ZERO));
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(1);
            scope.spawn(|| growth.run(&store, sender));
            receiver.recv().expect("it reports").expect("it starts");
            growth.ask_if_low(&store);
            let begin = std::time::Instant::now();
            while store.pool().free_bytes() < RESERVE_HIGH_BYTES {
                assert!(begin.elapsed() < Duration::from_secs(30), "it does not grow");
                std::thread::yield_now();
            }
            growth.end();
        });
        assert_eq!(store.pool().slab_bytes(), RESERVE_HIGH_BYTES);
        while store.pool().grow(GROW_BYTES).expect("memory") {}
        assert_eq!(store.pool().slab_bytes(), store.pool().capacity_bytes());
        assert!(!growth.may_help(&store, Duration::ZERO));
    }

    #[test]
    fn after_a_wait_in_vain_nobody_waits_until_the_pool_grows() {
        let store = store(1 << 20);
        let mut growth = Growth::new().expect("eventfd");
        growth.begin -= 2 * STARVED_MAX;
        assert!(growth.may_help(&store, STARVED_MAX / 2));
        assert!(!growth.may_help(&store, STARVED_MAX));
        assert!(!growth.may_help(&store, Duration::ZERO));
        assert!(store.pool().grow(1 << 16).expect("memory"));
        assert!(growth.may_help(&store, Duration::ZERO));
    }

    #[test]
    fn a_write_waits_longer_for_a_pool_that_grows_but_not_for_ever() {
        let store = store(1 << 20);
        let growth = Growth::new().expect("eventfd");
        growth.grew_at_ms.store(growth.begin.elapsed().as_millis() as u64, Ordering::Relaxed);
        assert!(growth.may_help(&store, STARVED_MAX));
        assert!(!growth.may_help(&store, WAIT_MAX));
    }
}
