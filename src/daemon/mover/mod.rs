//! The mover: once a step it shows the policy how things stand and does what the plan allows:
//! makes pages denser, writes them to the spill, moves objects together, gives memory back.
//!
//! It works without a request, and may wait; it shares the store with the queue threads as any of
//! them does, one lock at a time, and while there is plenty of room it is nicer than all of them.
//! Queue threads wake it when room is low. It allocates only while the plan says that there is
//! memory for it: what makes room must not wait for some. Without it pages are stored and read all
//! the same, in RAM.

mod hand;
mod outlook;
mod pressure;
mod writeback;

use super::grower::Growth;
use super::worker::{Readiness, ThreadState};
use crate::codec::DenseStream;
use crate::stats::{QueueStats, Stats};
use crate::store::{Recompressed, Recompressor, SpillWriter, Store, Trainer};
use crate::sys::guard;
use crate::sys::spill_ring::SpillRing;
use crate::trace::{Kind, note_now};
use crate::units::SlotIndex;
use hand::{Found, Hand};
pub use outlook::Outlook;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;
use uswap_policy::{Action, Level, Machine, Plan, Policy};
use writeback::Writeback;

/// Slots that are tried for samples in a step: some milliseconds.
const SAMPLE_TRIES: u32 = 1024;
/// Steps without work after which the compressor's memory is let go.
const IDLE_STEPS_MAX: u32 = 30;
/// How long it does not listen after it was woken and could do nothing.
const NAP: Duration = Duration::from_millis(100);

/// What the mover lets others see, and how it is told to end.
#[derive(Debug, Default)]
pub struct Movement {
    thread: OnceLock<Thread>,
    ending: AtomicBool,
    shown: Mutex<Shown>,
    /// What is to guide it from the next step on.
    next: Mutex<Option<Policy>>,
}

/// The latest plan, for people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// The plan; none before the first step.
    pub plan: Option<Plan>,
    /// Age ticks so far.
    pub age_tick: u64,
    /// When they began to be counted, after boot.
    pub began: Duration,
}

impl Movement {
    /// What the mover was last told to do. Waits only for whoever else looks.
    pub fn shown(&self) -> Shown {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the mover guided by another policy from its next step on, with its own budgets.
    pub fn change(&self, policy: Policy) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(policy);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
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
}

/// What it keeps from step to step.
struct Work<'a> {
    policy: Policy,
    outlook: Outlook,
    hand: Hand,
    writeback: Option<Writeback<'a>>,
    trainer: Trainer,
    dense: Option<DenseStream>,
    recompressor: Option<Recompressor>,
    idle_steps: u32,
    /// It lets others go first.
    nice: bool,
}

impl<'a> Mover<'a> {
    /// The mover's life: a step, a sleep, until it is sent home. `writer` writes to the spill, if
    /// there is one.
    pub fn run(
        self,
        policy: Policy,
        outlook: Outlook,
        writer: Option<SpillWriter<SpillRing>>,
        ready: SyncSender<Readiness>,
    ) {
        self.movement.thread.get_or_init(thread::current);
        let mut work = self.begin(policy, outlook, writer);
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

    fn begin(
        &self,
        policy: Policy,
        outlook: Outlook,
        writer: Option<SpillWriter<SpillRing>>,
    ) -> Work<'a> {
        let shared = self.growth.spilling.as_ref().zip(writer);
        let writeback = shared.map(|(s, writer)| Writeback::new(s, self.store, self.stats, writer));
        writeback.iter().for_each(Writeback::attach);
        Work {
            policy,
            outlook,
            hand: Hand::default(),
            writeback,
            trainer: Trainer::new(),
            dense: None,
            recompressor: None,
            idle_steps: 0,
            nice: false,
        }
    }

    /// Looks, plans, and works; how long to sleep then.
    fn step(&self, work: &mut Work<'_>) -> Duration {
        let next = self.movement.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(policy) = next {
            work.policy = policy;
            work.outlook.recount();
        }
        let asked = work.writeback.as_ref().is_some_and(|writeback| writeback.shared.take_asked());
        let age_tick = Duration::from_secs(work.policy.settings().time.age_tick_seconds);
        let stop = || self.movement.is_ending();
        work.outlook.look(self.store, self.all, work.writeback.as_mut(), age_tick, stop);
        note_now(self.stats, SlotIndex(0), look_of(&work.outlook.view.machine));
        let plan = work.policy.tick(&work.outlook.view);
        let age_tick = work.outlook.view.age_tick;
        let began = work.outlook.begin;
        self.movement.show(Shown { plan: Some(plan), age_tick, began });
        work.set_nice(plan.level == Level::Plenty);
        self.keep_memory(&plan);
        self.train(work, &plan);
        let before = self.stats.spilled_pages.get();
        if let Some(writeback) = &mut work.writeback {
            writeback.allow_cleaning(plan.clean_bytes);
        }
        let moved = self.scan(work, &plan);
        self.compact(&plan);
        work.spill_besides(&plan);
        self.store.allow_promotion(plan.promote.pages, plan.promote.reads_min);
        self.store.retire_dictionaries(self.stats);
        work.rest(moved);
        let pause = Duration::from_millis(plan.next_ms.into());
        match self.stats.spilled_pages.get() > before {
            // More may be wanted at once.
            true if asked => Duration::ZERO,
            true => pause,
            false if asked => {
                // Nothing could be done, and every write asks again: so it is not woken.
                thread::sleep(NAP.min(pause));
                Duration::ZERO
            }
            false => pause,
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
    fn train(&self, work: &mut Work<'_>, plan: &Plan) {
        let trainer = &mut work.trainer;
        if !plan.train || !plan.memory.may_grow {
            work.dense = None;
            return trainer.forget();
        }
        if !trainer.is_due(self.store) {
            work.dense = None;
            return;
        }
        let dense = work.dense.get_or_insert_with(DenseStream::new);
        if trainer.collect(self.store, dense, SAMPLE_TRIES)
            && let Some(dictionary) = trainer.train()
            && self.store.install(dictionary, self.stats).is_some()
        {
            // What can be made denser is another question now.
            work.outlook.recount();
        }
    }

    /// Moves the hand, at most once around, and does what the policy says of each page; pages that
    /// were recompressed. Ends early when somebody needs room and this step makes none.
    fn scan(&self, work: &mut Work<'_>, plan: &Plan) -> u64 {
        let (mut moved, mut denser, mut spills) = (0, true, true);
        let mut presented = 0;
        for _ in 0..self.store.slots() {
            let over = presented == plan.scan_pages || !work.policy.wants_pages();
            if over || self.movement.is_ending() || (!plan.spill.urgent && work.is_asked()) {
                break;
            }
            let Some(Found { page, seen }) = work.hand.step(self.store) else { continue };
            presented += 1;
            let verdict = work.policy.judge(&page);
            if let Some(mark) = verdict.mark {
                hand::remark(self.store, seen, page.slot, mark);
            }
            let slot = SlotIndex(page.slot);
            match verdict.action {
                Action::Recompress if denser => {
                    moved += 1;
                    denser = self.recompress(work, slot, plan);
                }
                Action::Spill if spills => {
                    spills = work.writeback.as_mut().is_some_and(|writeback| writeback.add(slot));
                }
                _ => {}
            }
        }
        moved
    }

    /// False if there is no memory to go on with.
    fn recompress(&self, work: &mut Work<'_>, slot: SlotIndex, plan: &Plan) -> bool {
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

impl Work<'_> {
    /// Whether somebody needs room.
    fn is_asked(&self) -> bool {
        self.writeback.as_ref().is_some_and(|writeback| writeback.shared.is_asked())
    }

    /// Cleans the spill, ends the step of writing to it, and says how it goes.
    fn spill_besides(&mut self, plan: &Plan) {
        let Some(writeback) = &mut self.writeback else { return };
        writeback.clean();
        writeback.end(plan.spill.urgent, self.outlook.view.since.refused_writes > 0);
        writeback.note(plan);
        self.outlook.wake(writeback.shared, self.policy.marks());
    }

    /// Lets others go first, or not while room is made that they may wait for.
    fn set_nice(&mut self, nice: bool) {
        if self.nice != nice {
            // Only for speed.
            let _ = guard::set_nice(nice);
            self.nice = nice;
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

/// How the machine stands, for whoever records it.
fn look_of(machine: &Machine) -> Kind {
    Kind::Machine {
        available_mib: (machine.available_bytes >> 20) as u32,
        some_permille: machine.some_permille,
        full_permille: machine.full_permille,
    }
}

#[cfg(test)]
mod tests;
