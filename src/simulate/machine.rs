//! The simulated service: what every event does to the slot table, the pool and the spill. The
//! mover's work is in `mover`.

use super::census::Census;
use super::mover::Mover;
use super::outcome::{Costs, Outcome, Sample};
use super::replay::{Act, Replay, Step, UNSETTLED};
use super::slot::{Form, Place, Slot};
use super::spill::Spill;
use crate::limits::{
    REQUEST_BYTES_MAX, RESERVE_HIGH_BYTES, RESERVE_LOW_BYTES, SLAB_BYTES, STAGE_MARGIN_BYTES,
};
use crate::pool::Ledger;
use crate::sys::cache::{huge_table, prefetch};
use crate::trace::Source;
use crate::units::{Location, PAGE_SIZE, SlotIndex};
use std::sync::atomic::{AtomicU64, Ordering};
use uswap_policy::{Histogram, Policy};

/// Steps ahead of the one at hand of which the slot is asked for: a table is larger than caches,
/// and so the memory has time to answer.
const AHEAD: usize = 24;
/// Steps between two notes of progress.
const STRETCH: usize = 1 << 14;
/// How long a write waits while nothing leaves the pool, and at all, as in the daemon.
const STUCK_MAX_US: u64 = 10_000_000;
const WAIT_MAX_US: u64 = 30_000_000;
/// Moments of a run that are kept.
const SAMPLES: u64 = 240;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setup {
    /// Most bytes of the pool; rounded down to whole slabs.
    pub pool_bytes: u64,
    /// Bytes of the spill; 0 for none.
    pub spill_bytes: u64,
    /// Room for pages that are not compressed yet: the policy keeps as much of the pool free.
    pub staging_bytes: u64,
    /// Slots of the device: how often a slot taken at random has a page. Never less than are used.
    pub device_slots: u64,
    /// For how long ages had been counted when it began, microseconds: when age ticks come.
    pub aged_us: u64,
    /// Where the policy's hand is when it begins, of the slots that the recording has.
    pub hand: usize,
    /// RAM of the machine, for what its free memory is a share of; 0 if unknown.
    pub ram_bytes: u64,
    /// MiB a second that the spill's disk writes and reads.
    pub spill_mib_per_second: f64,
    /// Microseconds that the mover takes to make a page denser.
    pub denser_us: f64,
    /// Microseconds that the mover takes to train a dictionary.
    pub train_us: u64,
    /// What reads cost.
    pub costs: Costs,
}

/// How the spill is, as writers that wait see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    Full,
    Spent,
}

/// A service, without pages.
pub(super) struct Machine {
    pub(super) setup: Setup,
    pub(super) table: Vec<Slot>,
    pub(super) pool: Ledger,
    pub(super) spill: Option<Spill>,
    pub(super) census: Census,
    pub(super) age_tick: u64,
    pub(super) now_us: u64,
    /// By how much writes that waited hold up what comes after.
    late_us: u64,
    pub(super) machine: uswap_policy::Machine,
    /// Bytes of empty slabs that growth keeps.
    pub(super) ready_bytes: u64,
    pub(super) set_aside_bytes: u64,
    /// Room below which the mover wants to be woken.
    pub(super) wake_below: u64,
    pub(super) asked: bool,
    pub(super) refused: u64,
    pub(super) health: Health,
    pub(super) gave_up: bool,
    pub(super) freed_at_us: u64,
    pub(super) promotions: u64,
    pub(super) promote_reads: u8,
    pub(super) out: Outcome,
    sample_every_us: u64,
    sampled_us: u64,
    ram_us: u128,
    looked_us: u64,
}

/// Replays `replay` through `policy`; adds the steps that are done to `progress` on the way.
/// Deterministic. Allocates 16 bytes a slot, 0.4 % of the pool, and 8 bytes a spilled page.
pub fn run(replay: &Replay, setup: &Setup, policy: Policy, progress: &AtomicU64) -> Outcome {
    let mut machine = Machine::new(replay, setup);
    let mut mover = Mover::new(policy, setup.hand.min(replay.slots.saturating_sub(1)));
    for (at, steps) in replay.steps.chunks(STRETCH).enumerate() {
        let first = at * STRETCH;
        for (i, step) in steps.iter().enumerate() {
            if let Some(next) = replay.steps.get(first + i + AHEAD) {
                machine.table.get(next.slot()).inspect(|slot| prefetch(*slot));
            }
            if let Some(next) = replay.steps.get(first + i + AHEAD / 2) {
                machine.look_at(*next);
            }
            machine.advance(step.time_us(), &mut mover);
            machine.step(*step, &mut mover);
        }
        progress.fetch_add(steps.len() as u64, Ordering::Relaxed);
    }
    machine.finish(replay, &mover)
}

impl Machine {
    pub(super) fn new(replay: &Replay, setup: &Setup) -> Self {
        let mut pool = Ledger::new(setup.pool_bytes);
        let capacity = pool.capacity_bytes();
        pool.grow(RESERVE_HIGH_BYTES.min(capacity));
        let to_stage = setup.staging_bytes + STAGE_MARGIN_BYTES + REQUEST_BYTES_MAX as u64;
        let has_spill = setup.spill_bytes > 0;
        let set_aside_bytes = if has_spill { to_stage.min(capacity / 2) } else { 0 };
        Self {
            table: huge_table(Slot::default, replay.slots),
            spill: has_spill.then(|| Spill::new(setup.spill_bytes, setup.spill_mib_per_second)),
            pool,
            setup: *setup,
            census: Census::new(),
            age_tick: 0,
            now_us: 0,
            late_us: 0,
            machine: uswap_policy::Machine::default(),
            ready_bytes: RESERVE_HIGH_BYTES,
            set_aside_bytes,
            wake_below: set_aside_bytes,
            asked: false,
            refused: 0,
            health: Health::Good,
            gave_up: false,
            freed_at_us: 0,
            promotions: 0,
            promote_reads: 0,
            out: Outcome::default(),
            sample_every_us: (replay.duration_us() / SAMPLES).max(1),
            sampled_us: 0,
            ram_us: 0,
            looked_us: 0,
        }
    }

    /// Asks for what a write will free and take, so that it is in the cache by then.
    #[inline]
    fn look_at(&self, step: Step) {
        let Act::Write { bytes, .. } = step.act() else { return };
        if bytes > 0 && bytes != UNSETTLED {
            self.pool.look_for(bytes.into());
        }
        let slot = self.table.get(step.slot());
        let pooled = slot.filter(|slot| matches!(slot.place(), Place::Pool(_)));
        pooled.inspect(|slot| self.pool.look(slot.location()));
    }

    /// Time passes until `time_us` of the recording, and the mover works in it.
    #[inline]
    fn advance(&mut self, time_us: u64, mover: &mut Mover) {
        self.now_us = self.now_us.max(time_us + self.late_us);
        if self.now_us >= mover.alarm_us() {
            mover.work(self);
        }
    }

    #[inline]
    fn step(&mut self, step: Step, mover: &mut Mover) {
        match step.act() {
            Act::Write { bytes, dense } => self.write(step.slot(), bytes, dense, mover),
            Act::Read(_) => self.read(step.slot()),
            Act::Discard(count) => self.discard(step.slot(), count),
            Act::Machine { available_mib, some_permille, full_permille } => {
                self.machine = uswap_policy::Machine {
                    total_bytes: self.setup.ram_bytes,
                    available_bytes: u64::from(available_mib) << 20,
                    some_permille,
                    full_permille,
                };
            }
        }
    }

    /// Free bytes of the pool, those that it can still grow by included.
    pub(super) fn room(&self) -> u64 {
        let used = self.pool.usage().slabs_used * SLAB_BYTES as u64;
        self.pool.capacity_bytes() - used
    }

    /// Keeps empty slabs ready, as the growing thread does.
    #[inline]
    pub(super) fn grow_if_low(&mut self) {
        let usage = self.pool.usage();
        let free = (usage.slabs - usage.slabs_used) * SLAB_BYTES as u64;
        if free < self.ready_bytes / 2 {
            self.pool.grow(self.ready_bytes - free);
            self.note_ram();
        }
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.pool.usage().slabs * SLAB_BYTES as u64
    }

    pub(super) fn note_ram(&mut self) {
        self.out.ram_max_bytes = self.out.ram_max_bytes.max(self.resident_bytes());
    }

    #[inline]
    fn write(&mut self, slot: usize, bytes: u16, dense: u16, mover: &mut Mover) {
        self.out.writes += 1;
        let form = if usize::from(bytes) == PAGE_SIZE { Form::Huge } else { Form::Lz4 };
        let (place, at) = match bytes {
            UNSETTLED => (Place::Staged, 0),
            0 => (Place::Same, 0),
            _ => match self.take(slot, bytes).or_else(|| self.wait_for_room(slot, bytes, mover)) {
                Some(at) => (Place::Pool(form), at.units()),
                None => {
                    self.out.refused_writes += 1;
                    (Place::Refused, 0)
                }
            },
        };
        self.release(slot);
        let new = Slot::written(place, at, bytes, dense, self.age_tick);
        self.table[slot] = new;
        if place == Place::Pool(form) {
            self.census.add(new);
            self.ask_if_low();
            self.grow_if_low();
            if self.asked {
                mover.wake(self);
            }
        }
    }

    #[inline]
    pub(super) fn take(&mut self, slot: usize, bytes: u16) -> Option<Location> {
        self.pool.take(bytes.into(), SlotIndex(slot as u32))
    }

    #[inline]
    pub(super) fn ask_if_low(&mut self) {
        self.asked |= self.spill.is_some() && self.room() < self.wake_below;
    }

    /// What leaves the slot frees its object.
    #[inline]
    fn release(&mut self, slot: usize) -> Place {
        let old = self.table[slot];
        let place = old.place();
        match place {
            Place::Pool(_) => {
                self.census.remove(old);
                self.pool.give(old.location());
            }
            Place::Spill(_) => {
                let spill = self.spill.as_mut().expect("it has pages");
                spill.dead(old.location(), old.len());
            }
            _ => {}
        }
        place
    }

    fn discard(&mut self, first: usize, count: u32) {
        for slot in first..first + count as usize {
            if self.release(slot) != Place::Empty {
                self.out.discarded_pages += 1;
                self.table[slot] = Slot::default();
            }
        }
    }

    #[inline]
    fn read(&mut self, slot: usize) {
        let old = self.table[slot];
        let new = old.read(self.age_tick);
        let reads = &mut self.out.reads;
        match old.place() {
            Place::Empty => {
                reads.empty += 1;
                return;
            }
            Place::Staged => reads.staged += 1,
            Place::Same => reads.same += 1,
            Place::Refused => reads.refused += 1,
            Place::Pool(form) => {
                let source = match form {
                    Form::Lz4 => Source::Pool,
                    Form::Dense => Source::Dense,
                    Form::Huge => Source::Huge,
                };
                *reads.of(source) += 1;
                // A page that is read again and again changes nothing.
                if new != old {
                    self.census.remove(old);
                    self.census.add(new);
                }
            }
            Place::Spill(form) => {
                reads.spill += 1;
                self.table[slot] = new;
                return self.promote(slot, form);
            }
        }
        self.table[slot] = new;
    }

    /// A page that was read from the spill comes back if the quota has room for it and the pool
    /// does.
    fn promote(&mut self, slot: usize, form: Form) {
        let old = self.table[slot];
        if old.mark().reads < self.promote_reads || self.promotions == 0 {
            return;
        }
        self.promotions -= 1;
        let Some(at) = self.take(slot, old.len()) else { return };
        self.release(slot);
        let new = old.moved(Place::Pool(form), at.units());
        self.table[slot] = new;
        self.census.add(new);
        self.out.promoted_pages += 1;
    }

    /// A write that found no room waits while pages leave the pool; everything after it comes later
    /// by as much.
    #[cold]
    fn wait_for_room(&mut self, slot: usize, bytes: u16, mover: &mut Mover) -> Option<Location> {
        self.grow_if_low();
        if let Some(at) = self.take(slot, bytes) {
            return Some(at);
        }
        self.spill.as_ref()?;
        let began_us = self.now_us;
        loop {
            self.refused += 1;
            self.asked = true;
            let waited = self.now_us - began_us;
            if waited.min(self.now_us - self.freed_at_us.min(self.now_us)) >= STUCK_MAX_US {
                self.gave_up = true;
            }
            if self.health != Health::Good || self.gave_up || waited >= WAIT_MAX_US {
                self.note_wait(waited);
                return None;
            }
            mover.wake(self);
            self.now_us = self.now_us.max(mover.alarm_us());
            mover.work(self);
            if let Some(at) = self.take(slot, bytes) {
                self.note_wait(self.now_us - began_us);
                return Some(at);
            }
        }
    }

    fn note_wait(&mut self, waited_us: u64) {
        self.late_us += waited_us;
        self.out.stalled_writes += u64::from(waited_us > 0);
        self.out.write_stall_seconds += waited_us as f64 / 1e6;
    }

    /// Counts all pages of the pool for a policy.
    pub(super) fn count(&self, into: &mut Histogram, has_dictionary: bool) {
        self.census.count(into, has_dictionary);
    }

    /// Something left the pool, or is about to.
    pub(super) fn note_freed(&mut self) {
        self.freed_at_us = self.now_us;
        self.gave_up = false;
    }

    /// Looks at the memory in use: at every tick.
    pub(super) fn look(&mut self, now_us: u64) {
        let elapsed = now_us.saturating_sub(self.looked_us);
        self.ram_us += u128::from(self.resident_bytes()) * u128::from(elapsed);
        self.looked_us = self.looked_us.max(now_us);
        self.note_ram();
        if now_us >= self.sampled_us || self.out.series.is_empty() {
            self.sampled_us = now_us + self.sample_every_us;
            self.out.series.push(Sample {
                at_ms: now_us / 1000,
                resident_bytes: self.resident_bytes(),
                used_bytes: self.pool.usage().object_bytes,
                spill_bytes: self.spill.as_ref().map_or(0, |spill| spill.bytes().1),
            });
        }
    }

    /// The outcome. Panics if what is in the tiers is not what the tiers say.
    fn finish(mut self, replay: &Replay, mover: &Mover) -> Outcome {
        self.look(self.now_us);
        for slot in &self.table {
            match slot.place() {
                Place::Empty => {}
                Place::Pool(_) => self.out.left.pool += 1,
                Place::Spill(_) => self.out.left.spill += 1,
                _ => self.out.left.elsewhere += 1,
            }
        }
        assert_eq!(self.out.left.pool, self.pool.usage().objects, "pages of the pool");
        let mut out = self.out;
        if let Some(spill) = &self.spill {
            assert_eq!(out.left.spill, spill.pages, "pages of the spill");
            out.spill_written_bytes = spill.written_bytes;
            out.cleaned_bytes = spill.cleaned_bytes;
        }
        out.steps = replay.steps.len() as u64;
        out.seconds = self.now_us as f64 / 1e6;
        out.ram_mean_bytes = match self.looked_us {
            0 => self.pool.usage().slabs * SLAB_BYTES as u64,
            looked => (self.ram_us / u128::from(looked)) as u64,
        };
        let days = out.seconds / 86_400.0;
        out.spill_written_bytes_per_day =
            if days > 0.0 { out.spill_written_bytes as f64 / days } else { 0.0 };
        out.read_seconds = self.setup.costs.seconds(&out.reads);
        (out.ticks, out.judged_pages) = mover.counts();
        out
    }

    /// Never less than this is kept ready by growth.
    pub(super) fn keep_ready(&mut self, bytes: u64) {
        self.ready_bytes = bytes.max(RESERVE_LOW_BYTES);
    }
}
