//! Spilling, by a thread that may wait.
//!
//! Queue threads and helpers ring, once, when the pool is low; this thread writes objects back in
//! the order of slots, beginning where it stopped, until there is room again. It shares nothing
//! with them but the bell, atomics, and the locks of slots and pool for a moment each. When the
//! disk fails it pauses, for longer each time; everything stays where it was, and writes fail once
//! the pool is full, as they would without a spill.

use super::worker::{Readiness, ThreadState};
use crate::limits::{REQUEST_BYTES_MAX, SEGMENT_BYTES, STAGE_MARGIN_BYTES};
use crate::stats::QueueStats;
use crate::store::{Added, Cleaned, SpillWriter, Store};
use crate::sys::heap;
use crate::sys::spill_ring::SpillRing;
use crate::sys::wake::Bell;
use crate::units::SlotIndex;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use uswap_policy::Watermarks;

/// How much is made free for a write that found no room although the pool is not low.
const STEP_BYTES: u64 = 1 << 20;

/// Pause after the first failed write; each further one doubles it.
const PAUSE: Duration = Duration::from_secs(1);
/// Doublings, up to about a minute.
const PAUSE_DOUBLINGS: u32 = 6;
/// How long a pause may keep the service from ending.
const NAP: Duration = Duration::from_millis(100);

/// How long a write waits while nothing leaves the pool.
const STUCK_MAX: Duration = Duration::from_secs(1);
/// How long a write waits at all.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How spilling goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Well.
    Good,
    /// The spill has no room, and none can be made by cleaning.
    Full,
    /// The last write failed with this errno.
    Failing(i32),
    /// The ring failed with this errno: nothing is spilled any more.
    Broken(i32),
}

impl Health {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Full => "full",
            Self::Failing(_) => "failing",
            Self::Broken(_) => "broken",
        }
    }
}

/// What the spilling thread shares with the others.
#[derive(Debug)]
pub struct Spilling {
    bell: Bell,
    /// The bell was rung and nobody has looked yet.
    asked: AtomicBool,
    ending: AtomicBool,
    /// A write found no room, whatever the marks say.
    refused: AtomicBool,
    /// Free bytes of the pool below which spilling begins, and at which it ends.
    marks: (u64, u64),
    begin: Instant,
    /// When something last left the pool, after `begin`.
    freed_at_ms: AtomicU64,
    health: AtomicU8,
    errno: AtomicI32,
    segments: u64,
    segments_used: AtomicU64,
    writer_bytes: AtomicU64,
}

impl Spilling {
    /// Nothing asked for. `staging_bytes`: the most that can be staged.
    pub fn new(store: &Store, staging_bytes: u64) -> io::Result<Self> {
        let capacity = store.pool().capacity_bytes();
        let marks = Watermarks::new(capacity);
        // Below this nothing more is staged when staging is full, which is when it matters.
        let to_stage = staging_bytes + STAGE_MARGIN_BYTES + REQUEST_BYTES_MAX as u64;
        let low = marks.marks().0.max(to_stage).min(capacity / 2);
        Ok(Self {
            bell: Bell::new()?,
            asked: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            marks: (low, low + marks.band()),
            begin: Instant::now(),
            freed_at_ms: AtomicU64::new(0),
            health: AtomicU8::new(0),
            errno: AtomicI32::new(0),
            segments: store.spill().map_or(0, |spill| spill.segments.count() as u64),
            segments_used: AtomicU64::new(0),
            writer_bytes: AtomicU64::new(0),
        })
    }

    /// Asks for spilling if the pool is low. A few loads when there is nothing to ask; does not
    /// allocate or wait.
    #[inline]
    pub fn ask_if_low(&self, store: &Store) {
        if room(store) < self.marks.0 {
            self.ask();
        }
    }

    #[inline]
    fn ask(&self) {
        if !self.asked.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// Whether a write that found no room, and has waited that long, may find some soon: pages are
    /// leaving the pool, or are about to.
    pub fn may_help(&self, waited: Duration) -> bool {
        self.refused.store(true, Ordering::Relaxed);
        self.ask();
        let freed = Duration::from_millis(self.freed_at_ms.load(Ordering::Relaxed));
        let stuck = waited.min(self.begin.elapsed().saturating_sub(freed));
        self.health() == Health::Good && stuck < STUCK_MAX && waited < WAIT_MAX
    }

    /// How it goes.
    pub fn health(&self) -> Health {
        let errno = self.errno.load(Ordering::Relaxed);
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Good,
            1 => Health::Full,
            2 => Health::Failing(errno),
            _ => Health::Broken(errno),
        }
    }

    fn set_health(&self, health: Health) {
        let (code, errno) = match health {
            Health::Good => (0, 0),
            Health::Full => (1, 0),
            Health::Failing(errno) => (2, errno),
            Health::Broken(errno) => (3, errno),
        };
        self.errno.store(errno, Ordering::Relaxed);
        self.health.store(code, Ordering::Relaxed);
    }

    /// Segments of the spill, and how many of them hold something.
    pub fn segments(&self) -> (u64, u64) {
        (self.segments, self.segments_used.load(Ordering::Relaxed))
    }

    /// Bytes of private memory that the writer holds.
    pub fn writer_bytes(&self) -> u64 {
        self.writer_bytes.load(Ordering::Relaxed)
    }

    /// Ends the spilling thread.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.bell.ring();
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// The spilling thread's life.
    pub fn run(
        &self,
        store: &Store,
        writer: SpillWriter<SpillRing>,
        stats: &QueueStats,
        ready: SyncSender<Readiness>,
    ) {
        self.writer_bytes.store(writer.bookkeeping_bytes(), Ordering::Relaxed);
        let mut thread = Thread { shared: self, store, writer, stats, hand: 0, failures: 0 };
        // The starting thread waits for exactly one message from each thread.
        let _ = ready.send(Ok(ThreadState::read()));
        drop(ready);
        heap::seal_thread();
        while self.bell.wait().is_ok() && !self.is_ending() {
            // Cleared before looking: what is asked for from here on rings again.
            self.asked.store(false, Ordering::Release);
            if !thread.relieve() && !self.is_ending() {
                // Nothing could be done, and every write asks again.
                std::thread::sleep(NAP);
            }
        }
        heap::unseal_thread();
    }
}

/// Free bytes of the pool, those that it can still grow by included.
fn room(store: &Store) -> u64 {
    let pool = store.pool();
    let used = pool.slab_bytes().saturating_sub(pool.free_bytes());
    pool.capacity_bytes().saturating_sub(used)
}

/// The spilling thread.
struct Thread<'a> {
    shared: &'a Spilling,
    store: &'a Store,
    writer: SpillWriter<SpillRing>,
    stats: &'a QueueStats,
    /// The next slot to look at.
    hand: u32,
    /// Writes that failed in a row.
    failures: u32,
}

impl Thread<'_> {
    /// Spills until the pool has room, there is nothing left to spill, or the spill is full.
    /// Whether anything was spilled.
    fn relieve(&mut self) -> bool {
        let before = self.stats.spilled_pages.get();
        let slots = self.store.slots() as u32;
        let mut passed = 0;
        let mut target = self.shared.marks.1;
        if self.shared.refused.swap(false, Ordering::Relaxed) {
            target = target.max(room(self.store) + STEP_BYTES);
        }
        let target = target.min(self.store.pool().capacity_bytes());
        while room(self.store) < target && self.goes_on() && passed < slots {
            match self.writer.add(self.store, SlotIndex(self.hand), self.stats) {
                Added::Taken => passed = 0,
                Added::NotInPool => passed += 1,
                Added::Busy => {
                    self.collect(true);
                    self.clean_if_short();
                    continue;
                }
                Added::NoSegment => {
                    if !self.make_segment() {
                        break;
                    }
                    continue;
                }
            }
            self.hand = (self.hand + 1) % slots;
        }
        if passed >= slots {
            // There is nothing more to come that would fill the segment.
            self.writer.flush(self.store, self.stats);
        }
        while self.writer.is_under_way() && self.goes_on() {
            self.collect(true);
        }
        self.stats.spilled_pages.get() > before
    }

    fn goes_on(&self) -> bool {
        !self.shared.is_ending() && !matches!(self.shared.health(), Health::Broken(_))
    }

    /// Publishes what has reached the disk; pauses if something failed. False if nothing ended.
    fn collect(&mut self, wait: bool) -> bool {
        let done = self.writer.collect(self.store, wait, self.stats);
        let used = self.writer.layout().used() as u64;
        self.shared.segments_used.store(used, Ordering::Relaxed);
        if let Some(errno) = self.writer.disk().broken() {
            self.shared.set_health(Health::Broken(errno));
            return false;
        }
        if let Some(errno) = done.error {
            self.shared.set_health(Health::Failing(errno));
            self.pause();
        } else if done.published > 0 {
            self.failures = 0;
            self.shared.set_health(Health::Good);
            let now = self.shared.begin.elapsed().as_millis() as u64;
            self.shared.freed_at_ms.store(now, Ordering::Relaxed);
        }
        done.published + done.stale > 0 || done.error.is_some()
    }

    fn pause(&mut self) {
        let pause = PAUSE * 2u32.pow(self.failures.min(PAUSE_DOUBLINGS));
        self.failures += 1;
        let begin = Instant::now();
        while begin.elapsed() < pause && !self.shared.is_ending() {
            std::thread::sleep(NAP);
        }
    }

    fn clean_if_short(&mut self) {
        if self.writer.is_cleaning() || self.writer.is_short(self.store) {
            self.writer.clean(self.store, self.stats);
        }
    }

    /// A step towards a free segment, by cleaning; false if there is none to be had.
    fn make_segment(&mut self) -> bool {
        match self.writer.clean(self.store, self.stats) {
            Cleaned::Moved(_) => return true,
            Cleaned::Nothing => self.writer.flush(self.store, self.stats),
            Cleaned::Reading | Cleaned::Busy => {}
        }
        if !self.writer.is_under_way() {
            self.shared.set_health(Health::Full);
            return false;
        }
        self.collect(true);
        self.goes_on()
    }
}

/// Watches the health, so that somebody hears of a change.
#[derive(Debug)]
pub struct SpillWatch {
    last: Health,
}

impl SpillWatch {
    /// Nothing has happened yet.
    pub const fn new() -> Self {
        Self { last: Health::Good }
    }

    /// A line for the administrator when spilling stopped, or goes on.
    pub fn look(&mut self, spilling: &Spilling) -> Option<String> {
        let now = spilling.health();
        let before = std::mem::replace(&mut self.last, now);
        let error = |errno| io::Error::from_raw_os_error(errno);
        match now {
            _ if now == before => None,
            Health::Good => Some("spilling goes on".to_owned()),
            Health::Full => Some(format!(
                "the spill is full: {} MiB; restart with a larger --spill-size",
                (spilling.segments * SEGMENT_BYTES as u64) >> 20
            )),
            Health::Failing(errno) => Some(format!(
                "spilling has stopped: the spill cannot be written ({}); no page is lost, they \
                 stay in RAM, and it is tried again from time to time; see the kernel log (dmesg)",
                error(errno)
            )),
            Health::Broken(errno) => Some(format!(
                "spilling has stopped for good: its io_uring failed ({}); no page is lost; \
                 restart the service when you can",
                error(errno)
            )),
        }
    }
}
