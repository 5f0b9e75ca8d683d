//! The mover: once a step it shows the policy how things stand and does what the plan allows:
//! makes pages denser, moves objects together, gives memory back.
//!
//! It works without a request, and may wait and allocate; it shares the store with the queue
//! threads as any of them does, one lock at a time, and is nicer than all of them. Without it pages
//! are stored and read all the same.

use super::grower::Growth;
use super::hand::{self, Found, Hand};
use super::pressure::machine;
use super::worker::{Readiness, ThreadState};
use crate::codec::DenseStream;
use crate::limits::SLAB_BYTES;
use crate::stats::{QueueStats, Stats};
use crate::store::{Recompressed, Recompressor, Store, Trainer};
use crate::sys::guard;
use crate::units::{PAGE_SIZE, SlotIndex};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use uswap_policy::{Action, Plan, Policy, Pool, Settings, Since, View};

/// Slots that are tried for samples in a step: some milliseconds.
const SAMPLE_TRIES: u32 = 1024;
/// Steps without work after which the compressor's memory is let go.
const IDLE_STEPS_MAX: u32 = 30;
/// Change of the pool's use, as a part of its size, after which ages are counted before the next
/// tick: what the policy chooses from must be what is there.
const RECOUNT_SHARE: u64 = 8;

/// What the mover lets others see, and how it is told to end.
#[derive(Debug, Default)]
pub struct Movement {
    thread: OnceLock<Thread>,
    ending: AtomicBool,
    shown: Mutex<Shown>,
}

/// The latest plan, for people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// The plan; none before the first step.
    pub plan: Option<Plan>,
    /// Age ticks so far.
    pub age_tick: u64,
}

impl Movement {
    /// What the mover was last told to do. Waits only for whoever else looks.
    pub fn shown(&self) -> Shown {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the mover home: it ends after the page it works on.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn show(&self, shown: Shown) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }
}

/// Everything the mover works with.
#[derive(Debug)]
pub struct Mover<'a> {
    /// What it keeps in shape.
    pub store: &'a Store,
    /// Growth of the pool.
    pub growth: &'a Growth,
    /// What it lets others see.
    pub movement: &'a Movement,
    /// All threads' counters.
    pub all: &'a Stats,
    /// Its own.
    pub stats: &'a QueueStats,
    /// Where /proc is.
    pub root: &'a Path,
}

/// What it keeps from step to step.
struct Work {
    policy: Policy,
    view: View,
    hand: Hand,
    trainer: Trainer,
    recompressor: Option<Recompressor>,
    begin: Instant,
    counts: Counts,
    /// Age tick and bytes in use when ages were last counted.
    counted: Option<(u64, u64)>,
    idle_steps: u32,
}

impl Mover<'_> {
    /// The mover's life: a step, a sleep, until it is sent home. Panics on settings that were not
    /// checked.
    pub fn run(self, settings: Settings, ready: SyncSender<Readiness>) {
        self.movement.thread.get_or_init(thread::current);
        // Only for speed, as where threads run is.
        let _ = guard::be_nice();
        let mut work = Work::new(settings);
        // The starting thread waits for exactly one message from each thread.
        let _ = ready.send(Ok(ThreadState::read()));
        drop(ready);
        while !self.movement.is_ending() {
            let pause = self.step(&mut work);
            if !self.movement.is_ending() {
                thread::park_timeout(pause);
            }
        }
    }

    /// Looks, plans, and works; how long to sleep then.
    fn step(&self, work: &mut Work) -> Duration {
        self.look(work);
        let plan = work.policy.tick(&work.view);
        self.movement.show(Shown { plan: Some(plan), age_tick: work.view.age_tick });
        self.keep_memory(&plan);
        self.train(work, &plan);
        let moved = self.scan(work, &plan);
        self.compact(&plan);
        self.store.retire_dictionaries(self.stats);
        work.rest(moved);
        Duration::from_millis(plan.next_ms.into())
    }

    /// Fills in the view.
    fn look(&self, work: &mut Work) {
        let Work { view, policy, .. } = work;
        let elapsed = work.begin.elapsed();
        let tick = elapsed.as_secs() / policy.settings().time.age_tick_seconds.max(1);
        while view.age_tick < tick {
            self.store.advance_tick();
            view.age_tick += 1;
        }
        let usage = self.store.pool_usage();
        let resident_bytes = usage.slabs * SLAB_BYTES as u64;
        view.now_ms = elapsed.as_millis() as u64;
        view.pool = Pool {
            capacity_bytes: self.store.pool().capacity_bytes(),
            used_bytes: usage.object_bytes,
            resident_bytes,
            waste_bytes: usage.slabs_used * SLAB_BYTES as u64 - usage.object_bytes,
        };
        view.machine = machine(self.root);
        let now = Counts::of(self.all);
        let each = usage.object_bytes.checked_div(usage.objects).unwrap_or(PAGE_SIZE as u64);
        view.since = now.since(&work.counts, each);
        work.counts = now;
        let (used, share) = (usage.object_bytes, view.pool.capacity_bytes / RECOUNT_SHARE);
        let stale = work
            .counted
            .is_none_or(|(tick, bytes)| tick != view.age_tick || bytes.abs_diff(used) > share);
        if stale {
            work.counted = Some((view.age_tick, used));
            hand::count(self.store, &mut view.slots, || self.movement.is_ending());
        }
    }

    /// Takes memory ahead of need, or gives back what is not needed.
    fn keep_memory(&self, plan: &Plan) {
        self.growth.keep_ready(plan.memory.ready_bytes);
        if plan.memory.grow_bytes > 0 {
            self.growth.ask_if_low(self.store);
        }
        if plan.memory.give_back_bytes > 0 {
            let keep = self.growth.ready();
            // What the kernel refuses is tried again in the next step.
            let _ = self.store.give_back(keep, plan.memory.give_back_bytes, self.stats);
        }
    }

    /// Collects samples over some steps, and makes a dictionary of them.
    fn train(&self, work: &mut Work, plan: &Plan) {
        let trainer = &mut work.trainer;
        if !plan.train || !plan.memory.may_grow {
            return trainer.forget();
        }
        if !trainer.is_due(self.store) {
            return;
        }
        let mut dense = DenseStream::new();
        if trainer.collect(self.store, &mut dense, SAMPLE_TRIES)
            && let Some(dictionary) = trainer.train()
            && self.store.install(dictionary, self.stats).is_some()
        {
            // What can be made denser is another question now.
            work.counted = None;
        }
    }

    /// Moves the hand and does what the policy says of each page; pages that were worked on.
    fn scan(&self, work: &mut Work, plan: &Plan) -> u64 {
        let (mut moved, mut room) = (0, true);
        for _ in 0..plan.scan_pages {
            if !work.policy.wants_pages() || self.movement.is_ending() {
                break;
            }
            let Some(Found { page, seen }) = work.hand.step(self.store) else { continue };
            let verdict = work.policy.judge(&page);
            if let Some(mark) = verdict.mark {
                hand::remark(self.store, seen, page.slot, mark);
            }
            if verdict.action == Action::Recompress && room {
                moved += 1;
                room = self.recompress(work, SlotIndex(page.slot), plan);
            }
        }
        moved
    }

    /// False if there is no memory to go on with.
    fn recompress(&self, work: &mut Work, slot: SlotIndex, plan: &Plan) -> bool {
        let outdated = |r: &Recompressor| r.is_outdated(self.store);
        if work.recompressor.as_ref().is_none_or(outdated) {
            let may = plan.memory.may_grow || work.recompressor.is_some();
            work.recompressor = if may { Recompressor::new(self.store) } else { None };
        }
        let Some(recompressor) = &mut work.recompressor else { return false };
        let result = self.store.recompress(slot, recompressor, self.stats);
        work.trainer.note(result);
        self.growth.ask_if_low(self.store);
        result != Recompressed::Full
    }

    fn compact(&self, plan: &Plan) {
        let mut left = plan.compact_bytes;
        while left > 0 && !self.movement.is_ending() {
            let Some(moved) = self.store.compact_step(self.stats) else { return };
            if moved.objects == 0 {
                return;
            }
            left = left.saturating_sub(moved.bytes);
        }
    }
}

impl Work {
    fn new(settings: Settings) -> Self {
        Self {
            policy: Policy::new(settings).expect("settings were checked at start"),
            view: View::default(),
            hand: Hand::default(),
            trainer: Trainer::new(),
            recompressor: None,
            begin: Instant::now(),
            counts: Counts::default(),
            counted: None,
            idle_steps: 0,
        }
    }

    /// Lets the compressor's memory go when it has not been used for a while.
    fn rest(&mut self, moved: u64) {
        self.idle_steps = if moved > 0 { 0 } else { self.idle_steps + 1 };
        if self.idle_steps >= IDLE_STEPS_MAX {
            (self.idle_steps, self.recompressor) = (0, None);
        }
    }
}

/// Counters that a policy wants the change of.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    written: u64,
    reads: [u64; 3],
    recompressed: u64,
}

impl Counts {
    fn of(stats: &Stats) -> Self {
        let totals = stats.totals();
        let sum = |names: &[&str]| -> u64 {
            totals.iter().filter(|row| names.contains(&row.0)).map(|row| row.2).sum()
        };
        Self {
            written: sum(&["write_staged_pages", "write_direct_pages"]),
            reads: [
                sum(&["read_lz4_pages"]),
                sum(&["read_zstd_pages", "read_dense_pages"]),
                sum(&["read_huge_pages"]),
            ],
            recompressed: sum(&["recompressed_pages"]),
        }
    }

    /// What happened since `before`, where a page takes `each` bytes.
    fn since(&self, before: &Self, each: u64) -> Since {
        let written_pages = self.written - before.written;
        Since {
            written_pages,
            stored_bytes: written_pages * each,
            pool_reads: std::array::from_fn(|i| self.reads[i] - before.reads[i]),
            recompressed_pages: self.recompressed - before.recompressed,
            ..Since::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Stream;
    use crate::store::StoreCodec;
    use crate::sys::map::{Arena, Words};
    use crate::units::Page;
    use std::fs::File;

    const SLOTS: u32 = 8192;
    const POOL: usize = 64 << 20;

    fn file(len: usize) -> File {
        let file = tempfile::tempfile().expect("file");
        file.set_len(len as u64).expect("size");
        file
    }

    /// Text of words that many pages share, so that a dictionary helps.
    fn page(slot: u32) -> Page {
        let mut text = String::new();
        let mut state = u64::from(slot) + 1;
        while text.len() < PAGE_SIZE {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            text.push_str(&format!("field_{:03} = {slot}; ", (state >> 40) % 400));
        }
        text.as_bytes()[..PAGE_SIZE].try_into().expect("long enough")
    }

    fn with_mover(test: impl FnOnce(&Mover<'_>, &mut Work)) {
        let words = Words::new(&file(8 * SLOTS as usize), SLOTS as usize).expect("map");
        let arena = Arena::sparse(&file(POOL), POOL).expect("map");
        let store = Store::new(words, arena, StoreCodec::Lz4);
        while store.pool().grow(1 << 20).expect("memory") {}
        let (growth, movement) = (Growth::new().expect("eventfd"), Movement::default());
        let stats = Stats::new(1, 0);
        let root = tempfile::tempdir().expect("directory");
        let mover = Mover {
            store: &store,
            growth: &growth,
            movement: &movement,
            all: &stats,
            stats: stats.mover(),
            root: root.path(),
        };
        test(&mover, &mut Work::new(Settings::named("balanced").expect("a preset")));
    }

    fn fill(mover: &Mover<'_>, slots: u32) {
        let mut stream = Stream::new();
        for slot in 0..slots {
            mover
                .store
                .write(SlotIndex(slot), &page(slot), &mut stream, mover.stats)
                .expect("room");
        }
    }

    /// Steps as if `seconds` passed before each.
    fn steps(mover: &Mover<'_>, work: &mut Work, count: u32, seconds: u64) {
        for _ in 0..count {
            work.begin -= Duration::from_secs(seconds);
            mover.step(work);
        }
    }

    #[test]
    fn idle_pages_become_dense_and_read_back_the_same() {
        with_mover(|mover, work| {
            fill(mover, 2600);
            let before = mover.store.pool_usage().object_bytes;
            steps(mover, work, 3, 1);
            assert_eq!(mover.stats.recompressed_pages.get(), 0, "nothing is idle yet");
            steps(mover, work, 60, 10);
            assert_eq!(mover.stats.dictionaries_trained.get(), 1);
            assert!(mover.stats.recompressed_pages.get() > 2500, "{:?}", mover.movement.shown());
            let after = mover.store.pool_usage().object_bytes;
            assert!(after * 4 < before * 3, "{after} of {before} bytes");
            let (mut stream, mut found) = (Stream::new(), [0; PAGE_SIZE]);
            for slot in 0..2600 {
                let read = mover.store.read(SlotIndex(slot), &mut found, &mut stream, mover.stats);
                assert!(read.is_ok() && found == page(slot), "slot {slot}");
            }
        });
    }

    #[test]
    fn memory_of_discarded_pages_goes_back_to_the_kernel() {
        with_mover(|mover, work| {
            fill(mover, SLOTS);
            steps(mover, work, 3, 1);
            mover.store.discard(SlotIndex(0), SLOTS, mover.stats).expect("all slots");
            steps(mover, work, 20, 10);
            let (there, ready) = (mover.store.pool().slab_bytes(), mover.growth.ready());
            assert!(there <= ready + (1 << 20), "{there} bytes are there, {ready} are to be ready");
            assert!(there >= ready.min(POOL as u64), "what is to be ready stays");
        });
    }

    #[test]
    fn a_mover_that_is_sent_home_ends_soon() {
        with_mover(|mover, work| {
            fill(mover, 2600);
            mover.movement.end();
            steps(mover, work, 60, 10);
            assert_eq!(mover.stats.recompressed_pages.get(), 0);
        });
    }
}
