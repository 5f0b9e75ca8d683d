//! What the mover, which spills, shares with those who need room: a request to wake up, and how
//! spilling goes.
//!
//! Queue threads and helpers wake the mover, once, when the pool has less room than the mover said
//! it wants to hear of, and when a write found none at all. Everything else is the mover's.

use crate::limits::{REQUEST_BYTES_MAX, SEGMENT_BYTES, STAGE_MARGIN_BYTES};
use crate::store::Store;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a write waits while nothing leaves the pool: cards and loaded disks stand still for
/// seconds, and so does the mover on a machine that has nothing but reclaim on its mind.
const STUCK_MAX: Duration = Duration::from_secs(10);
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
    /// Room is needed, and the day's write budget is spent.
    Spent,
    /// Another process has the spill's lock: nothing is written.
    Locked,
}

impl Health {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Full => "full",
            Self::Failing(_) => "failing",
            Self::Broken(_) => "broken",
            Self::Spent => "spent",
            Self::Locked => "locked",
        }
    }
}

/// What the mover shares with the others.
#[derive(Debug)]
pub struct Spilling {
    mover: OnceLock<Thread>,
    /// Somebody woke the mover, and it has not looked yet.
    asked: AtomicBool,
    /// Writes that found no room, whatever the marks say.
    refused: AtomicU64,
    /// Bytes of the pool that staging relies on; see [`Spilling::set_aside_bytes`].
    set_aside: u64,
    /// Free bytes of the pool below which the mover wants to be woken.
    wake_below: AtomicU64,
    begin: Instant,
    /// When something last left the pool, or was taken to, after `begin`.
    freed_at_ms: AtomicU64,
    health: AtomicU8,
    errno: AtomicI32,
    segments: u64,
    segments_used: AtomicU64,
    /// A write has waited for that in vain.
    gave_up: AtomicBool,
    writer_bytes: AtomicU64,
}

impl Spilling {
    /// Nothing asked for. `staging_bytes`: the most that can be staged.
    pub fn new(store: &Store, staging_bytes: u64) -> Self {
        let capacity = store.pool().capacity_bytes();
        // Below this nothing more is staged when staging is full, which is when it matters.
        let to_stage = staging_bytes + STAGE_MARGIN_BYTES + REQUEST_BYTES_MAX as u64;
        let set_aside = to_stage.min(capacity / 2);
        Self {
            mover: OnceLock::new(),
            asked: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            set_aside,
            wake_below: AtomicU64::new(set_aside),
            begin: Instant::now(),
            freed_at_ms: AtomicU64::new(0),
            health: AtomicU8::new(0),
            errno: AtomicI32::new(0),
            segments: store.spill().map_or(0, |spill| spill.segments.count() as u64),
            segments_used: AtomicU64::new(0),
            gave_up: AtomicBool::new(false),
            writer_bytes: AtomicU64::new(0),
        }
    }

    /// Bytes of the pool that must be free for what may be staged: below it pages are stored before
    /// they are committed.
    pub const fn set_aside_bytes(&self) -> u64 {
        self.set_aside
    }

    /// Wakes the mover if the pool has less room than it wants. A few loads when it has; does not
    /// allocate or wait.
    #[inline]
    pub fn ask_if_low(&self, store: &Store) {
        if room(store) < self.wake_below.load(Ordering::Relaxed) {
            self.ask();
        }
    }

    #[inline]
    fn ask(&self) {
        if !self.asked.swap(true, Ordering::AcqRel)
            && let Some(mover) = self.mover.get()
        {
            mover.unpark();
        }
    }

    /// Whether a write that found no room, and has waited that long, may find some soon: pages are
    /// leaving the pool, or are about to. Once a write has waited in vain the answer is no until
    /// one does, so that a machine whose spilling stands still does so once.
    pub fn may_help(&self, waited: Duration) -> bool {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.ask();
        let freed = Duration::from_millis(self.freed_at_ms.load(Ordering::Relaxed));
        let stuck = waited.min(self.begin.elapsed().saturating_sub(freed));
        if stuck >= STUCK_MAX {
            self.gave_up.store(true, Ordering::Relaxed);
        }
        let gave_up = self.gave_up.load(Ordering::Relaxed);
        self.health() == Health::Good && !gave_up && waited < WAIT_MAX
    }

    /// How it goes.
    pub fn health(&self) -> Health {
        let errno = self.errno.load(Ordering::Relaxed);
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Good,
            1 => Health::Full,
            2 => Health::Failing(errno),
            3 => Health::Broken(errno),
            4 => Health::Spent,
            _ => Health::Locked,
        }
    }

    /// Segments of the spill, and how many of them hold something.
    pub fn segments(&self) -> (u64, u64) {
        (self.segments, self.segments_used.load(Ordering::Relaxed))
    }

    /// Bytes of private memory that the writer holds.
    pub fn writer_bytes(&self) -> u64 {
        self.writer_bytes.load(Ordering::Relaxed)
    }

    /// The calling thread is the mover.
    pub(super) fn attach(&self, writer_bytes: u64) {
        self.mover.get_or_init(thread::current);
        self.writer_bytes.store(writer_bytes, Ordering::Relaxed);
    }

    /// Whether the mover was woken since the last call; from here on it can be again.
    pub(super) fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }

    /// Whether somebody waits for the mover to look.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Writes that found no room since the last call.
    pub(super) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// From what room on the mover wants to be woken.
    pub(super) fn wake_below(&self, bytes: u64) {
        self.wake_below.store(bytes, Ordering::Relaxed);
    }

    /// Something left the pool just now, or is about to.
    pub(super) fn note_freed(&self) {
        let now = self.begin.elapsed().as_millis() as u64;
        self.freed_at_ms.store(now, Ordering::Relaxed);
        self.gave_up.store(false, Ordering::Relaxed);
    }

    pub(super) fn note_segments(&self, used: u64) {
        self.segments_used.store(used, Ordering::Relaxed);
    }

    pub(super) fn set_health(&self, health: Health) {
        let (code, errno) = match health {
            Health::Good => (0, 0),
            Health::Full => (1, 0),
            Health::Failing(errno) => (2, errno),
            Health::Broken(errno) => (3, errno),
            Health::Spent => (4, 0),
            Health::Locked => (5, 0),
        };
        self.errno.store(errno, Ordering::Relaxed);
        self.health.store(code, Ordering::Relaxed);
    }
}

/// Free bytes of the pool, those that it can still grow by included.
fn room(store: &Store) -> u64 {
    let pool = store.pool();
    let used = pool.slab_bytes().saturating_sub(pool.free_bytes());
    pool.capacity_bytes().saturating_sub(used)
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
            Health::Spent => Some(
                "spilling has stopped: the day's write budget is spent; pages stay in RAM; raise \
                 spill.gib_per_day of the policy if the disk may be written more"
                    .to_owned(),
            ),
            Health::Locked => Some(
                "spilling waits: a dead server's last writes have not ended, or another process \
                 has locked the spill; pages stay in RAM; see the kernel log (dmesg) and `lslocks`"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreCodec;
    use crate::sys::map::{Arena, Words};

    fn file(len: usize) -> std::fs::File {
        crate::sys::statefs::anonymous_file("spilling", len as u64).expect("memory")
    }

    #[test]
    fn a_write_waits_while_pages_leave_and_not_for_a_spill_that_fails() {
        let words = Words::new(&file(4096), 512).expect("map");
        let arena = Arena::new(&file(1 << 20), 1 << 20).expect("map");
        let store = Store::new(words, arena, StoreCodec::Lz4);
        let mut spilling = Spilling::new(&store, 8 << 20);
        assert_eq!(spilling.set_aside_bytes(), 1 << 19, "never more than half of the pool");
        assert!(spilling.may_help(Duration::ZERO));
        assert!(spilling.take_asked() && !spilling.take_asked());
        spilling.begin -= 2 * STUCK_MAX;
        assert!(spilling.may_help(STUCK_MAX / 2), "soon");
        assert!(!spilling.may_help(STUCK_MAX), "nothing leaves the pool");
        assert!(!spilling.may_help(Duration::ZERO), "nor does anybody else wait for it");
        spilling.note_freed();
        assert!(spilling.may_help(STUCK_MAX), "something does");
        assert!(!spilling.may_help(WAIT_MAX), "but nobody waits for ever");
        assert_eq!((spilling.take_refused(), spilling.take_refused()), (6, 0));
        let failing = [Health::Failing(5), Health::Broken(5)];
        for health in [Health::Full, Health::Spent, Health::Locked].into_iter().chain(failing) {
            spilling.set_health(health);
            assert_eq!(spilling.health(), health);
            assert!(!spilling.may_help(Duration::ZERO), "{health:?}");
        }
    }

    #[test]
    fn the_mover_is_woken_for_the_room_that_it_wants_and_once() {
        let words = Words::new(&file(4096), 512).expect("map");
        let arena = Arena::new(&file(1 << 20), 1 << 20).expect("map");
        let store = Store::new(words, arena, StoreCodec::Lz4);
        let spilling = Spilling::new(&store, 0);
        spilling.ask_if_low(&store);
        assert!(!spilling.is_asked(), "half of the pool is free");
        spilling.wake_below(2 << 20);
        spilling.ask_if_low(&store);
        assert!(spilling.is_asked());
    }
}
