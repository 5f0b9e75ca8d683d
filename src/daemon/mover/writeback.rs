//! The mover's way to the spill: adds what the policy sends away, publishes what has reached the
//! disk, cleans segments, and rests when the disk fails.
//!
//! When the disk fails it is left alone for a while, longer each time; everything stays where it
//! was, and writes fail once the pool is full, as they would without a spill.

use crate::daemon::spilling::{Health, Spilling};
use crate::limits::SEGMENT_BYTES;
use crate::spill::TAG_BYTES;
use crate::stats::QueueStats;
use crate::store::{Added, Cleaned, SpillWriter, Store};
use crate::sys::spill_ring::SpillRing;
use crate::units::{Location, SlotIndex};
use std::time::{Duration, Instant};
use uswap_policy as policy;

/// Pause after the first failed write; each further one doubles it.
const PAUSE: Duration = Duration::from_secs(1);
/// Doublings, up to about a minute.
const PAUSE_DOUBLINGS: u32 = 6;
/// How long the transfers of a dead server may take before somebody hears of it.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Everything that spilling works with.
#[derive(Debug)]
pub struct Writeback<'a> {
    /// What others see of it.
    pub shared: &'a Spilling,
    store: &'a Store,
    stats: &'a QueueStats,
    writer: SpillWriter<SpillRing>,
    /// Writes that failed in a row.
    failures: u32,
    /// When the disk is tried again.
    rests_until: Option<Instant>,
    /// Since when it waits for the spill's lock.
    locked_since: Option<Instant>,
    /// Live bytes that cleaning may still move in this step.
    may_clean: u64,
}

impl<'a> Writeback<'a> {
    /// Nothing spilled yet.
    pub fn new(
        shared: &'a Spilling,
        store: &'a Store,
        stats: &'a QueueStats,
        writer: SpillWriter<SpillRing>,
    ) -> Self {
        let (rests_until, locked_since) = (None, None);
        let (failures, may_clean) = (0, 0);
        Self { shared, store, stats, writer, failures, rests_until, locked_since, may_clean }
    }

    /// The calling thread is the one that spills.
    pub fn attach(&self) {
        self.shared.attach(self.writer.bookkeeping_bytes());
    }

    /// Publishes what has reached the disk, and says how the spill stands. Does not wait.
    pub fn look(&mut self, totals: &Totals) -> policy::Spill {
        // At once, and not when there is something to write: until then anybody could take it.
        let ours = self.take_lock();
        self.collect(false);
        self.writer.find_free(self.store);
        if self.rests_until.is_some_and(|until| until <= Instant::now()) {
            self.rests_until = None;
        }
        let segment_bytes = SEGMENT_BYTES as u64;
        let (count, used) = (self.shared.segments().0, self.writer.layout().used() as u64);
        // An object takes whole units, with its seal.
        let each = (TAG_BYTES + Location::UNIT / 2) as u64;
        policy::Spill {
            capacity_bytes: count * segment_bytes,
            used_bytes: used * segment_bytes,
            live_bytes: (totals.data_bytes + totals.pages * each).min(used * segment_bytes),
            segment_bytes,
            written_bytes: totals.written_bytes,
            failing: self.rests_until.is_some() || self.is_broken() || !ours,
        }
    }

    /// What cleaning may move until the next call, bytes.
    pub const fn allow_cleaning(&mut self, bytes: u64) {
        self.may_clean = bytes;
    }

    /// Takes the page of `slot` along to the spill; waits for the disk when segments are on their
    /// way to it faster than it writes. False when nothing more can be taken in this step.
    pub fn add(&mut self, slot: SlotIndex) -> bool {
        while self.rests_until.is_none() && !self.is_broken() {
            match self.writer.add(self.store, slot, self.stats) {
                Added::Taken => {
                    self.shared.note_freed();
                    return true;
                }
                Added::NotInPool => return true,
                Added::Busy => {
                    self.collect(true);
                }
                Added::NoSegment => {
                    if !self.make_segment() {
                        return false;
                    }
                }
                Added::NotOurs => return false,
            }
        }
        false
    }

    /// Cleans while that is allowed and worth it: waits for the disk.
    pub fn clean(&mut self) {
        while self.may_clean > 0 && self.rests_until.is_none() && !self.is_broken() {
            match self.clean_some() {
                Cleaned::Moved(_) => {}
                Cleaned::Nothing => return,
                Cleaned::Reading | Cleaned::Busy => {
                    if !self.collect(true) {
                        return;
                    }
                }
            }
        }
    }

    /// Says whether room is needed that the plan cannot give.
    pub fn note(&self, plan: &policy::Plan) {
        let was = self.shared.health();
        let stuck = plan.spill.bytes == 0;
        match plan.short {
            _ if was == Health::Locked => {}
            Some(policy::Short::SpillFull) if stuck => self.shared.set_health(Health::Full),
            Some(policy::Short::Budget) if stuck => self.shared.set_health(Health::Spent),
            _ if matches!(was, Health::Full | Health::Spent) => {
                self.shared.set_health(Health::Good);
            }
            _ => {}
        }
    }

    /// Ends a step. When room is needed now, waits for what is on its way to the disk, and does not
    /// wait for a segment to be full while a write does for the room.
    pub fn end(&mut self, urgent: bool, refused: bool) {
        if refused && !self.writer.is_under_way() {
            self.writer.flush(self.store, self.stats);
        }
        while urgent && self.writer.is_under_way() && !self.is_broken() && self.collect(true) {}
    }

    /// Takes the spill's lock as soon as a dead server's last transfer has ended.
    fn take_lock(&mut self) -> bool {
        let ours = self.writer.take_lock();
        let now = Instant::now();
        if ours {
            if self.locked_since.take().is_some() && self.shared.health() == Health::Locked {
                self.shared.set_health(Health::Good);
            }
        } else if now > *self.locked_since.get_or_insert(now) + LOCK_WAIT && !self.is_broken() {
            self.shared.set_health(Health::Locked);
        }
        ours
    }

    fn is_broken(&self) -> bool {
        matches!(self.shared.health(), Health::Broken(_))
    }

    /// Publishes what has reached the disk; rests if something failed. False if nothing ended.
    fn collect(&mut self, wait: bool) -> bool {
        let done = self.writer.collect(self.store, wait, self.stats);
        self.shared.note_segments(self.writer.layout().used() as u64);
        if let Some(errno) = self.writer.disk().broken() {
            self.shared.set_health(Health::Broken(errno));
            return false;
        }
        if let Some(errno) = done.error {
            self.shared.set_health(Health::Failing(errno));
            let pause = PAUSE * 2u32.pow(self.failures.min(PAUSE_DOUBLINGS));
            self.failures += 1;
            self.rests_until = Some(Instant::now() + pause);
        } else if done.published > 0 {
            self.failures = 0;
            self.shared.set_health(Health::Good);
            self.shared.note_freed();
        }
        done.ended > 0
    }

    /// Goes on with a cleaning, or begins one if the step has any left.
    fn clean_some(&mut self) -> Cleaned {
        if self.may_clean == 0 && !self.writer.is_cleaning() {
            return Cleaned::Nothing;
        }
        let before = self.stats.spill_cleaned_bytes.get();
        let result = self.writer.clean(self.store, self.stats);
        let moved = self.stats.spill_cleaned_bytes.get() - before;
        self.may_clean = self.may_clean.saturating_sub(moved);
        result
    }

    /// A step towards a free segment; false if there is none to be had now.
    fn make_segment(&mut self) -> bool {
        match self.clean_some() {
            Cleaned::Moved(_) => return true,
            Cleaned::Nothing => self.writer.flush(self.store, self.stats),
            Cleaned::Reading | Cleaned::Busy => {}
        }
        self.writer.is_under_way() && self.collect(true)
    }
}

/// Sums of counters that a view of the spill is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Pages in the spill.
    pub pages: u64,
    /// Bytes of their data.
    pub data_bytes: u64,
    /// Bytes ever written.
    pub written_bytes: u64,
}
