//! The simulated mover: it looks, asks the policy, and does what the plan allows, in the order and
//! by the rules of the daemon's (`daemon::mover`). Where that one waits for the disk this one stops
//! in the middle of its step, and goes on when the time has come.

use super::deeds::{clean, collect, compact, end, recompress, replace, spill};
use super::machine::{Health, Machine};
use super::slot::{Form, Place, Slot};
use crate::limits::{DICTIONARY_SAMPLES, SEGMENT_BYTES, SLAB_BYTES, STAGE_MARGIN_BYTES};
use crate::spill::TAG_BYTES;
use crate::units::{Location, PAGE_SIZE};
use uswap_policy::{Action, Counts, Denser, Page, Plan, Policy, Short, Since, View};

/// What a step takes besides training, recompression and the disk, microseconds.
const STEP_US: u64 = 1000;
/// How long it does not listen after it was woken and could do nothing.
const NAP_US: u64 = 100_000;
/// Change of the pool's use, as a part of its size, after which ages are counted.
const RECOUNT_SHARE: u64 = 8;
/// Slots that are tried for samples in a step.
const SAMPLE_TRIES: u64 = 1024;

/// Where it is in its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between two steps; a writer may wake it.
    Asleep,
    /// The same, and it does not listen.
    Napping,
    Scanning,
    Compacting,
    Cleaning,
    Ending,
}

/// The step that it is in.
#[derive(Debug)]
struct Job {
    plan: Plan,
    asked: bool,
    refused: bool,
    spilled_before: u64,
    walked: usize,
    presented: u64,
    may_clean: u64,
    denser: bool,
    spills: bool,
    /// A page that the policy has sent away and that waits for the disk.
    waiting: Option<usize>,
    /// When it is done with the page or the dictionary at hand.
    busy_until_us: u64,
}

/// The mover.
pub(super) struct Mover {
    policy: Policy,
    view: View,
    phase: Phase,
    alarm_us: u64,
    job: Option<Job>,
    hand: usize,
    counts: Counts,
    counted: Option<(u64, u64)>,
    samples: u64,
    has_dictionary: bool,
    ticks: u64,
    judged: u64,
}

impl Mover {
    pub(super) fn new(policy: Policy, hand: usize) -> Self {
        Self {
            policy,
            view: View::default(),
            phase: Phase::Asleep,
            alarm_us: 0,
            job: None,
            hand,
            counts: Counts::default(),
            counted: None,
            samples: 0,
            has_dictionary: false,
            ticks: 0,
            judged: 0,
        }
    }

    /// When it has something to do.
    #[inline]
    pub(super) const fn alarm_us(&self) -> u64 {
        self.alarm_us
    }

    /// Ticks, and pages judged.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.ticks, self.judged)
    }

    /// Somebody asked for it: it works at once, unless it is working or does not listen.
    pub(super) fn wake(&mut self, machine: &Machine) {
        if machine.asked && self.phase == Phase::Asleep {
            self.alarm_us = self.alarm_us.min(machine.now_us);
        }
    }

    /// Does everything that is due by now.
    #[cold]
    pub(super) fn work(&mut self, machine: &mut Machine) {
        while self.alarm_us <= machine.now_us {
            let now_us = self.alarm_us;
            if matches!(self.phase, Phase::Asleep | Phase::Napping) {
                self.begin(machine, now_us);
            }
            match self.go_on(machine, now_us) {
                Some(until_us) => self.alarm_us = until_us.max(now_us + 1),
                None => self.sleep(machine, now_us),
            }
        }
    }

    fn begin(&mut self, machine: &mut Machine, now_us: u64) {
        let asked = std::mem::take(&mut machine.asked);
        self.look(machine, now_us);
        let plan = self.policy.tick(&self.view);
        self.ticks += 1;
        self.keep_memory(machine, &plan);
        let trained = self.train(machine, &plan);
        self.job = Some(Job {
            asked,
            refused: self.view.since.refused_writes > 0,
            spilled_before: machine.out.spilled_pages,
            walked: 0,
            presented: 0,
            may_clean: plan.clean_bytes,
            denser: true,
            spills: true,
            waiting: None,
            busy_until_us: now_us + if trained { machine.setup.train_us } else { 0 },
            plan,
        });
        self.phase = Phase::Scanning;
    }

    fn look(&mut self, machine: &mut Machine, now_us: u64) {
        machine.look(now_us);
        while collect(machine, now_us) {}
        let tick_us = 1_000_000 * self.policy.settings().time.age_tick_seconds.max(1);
        let tick = (machine.setup.aged_us % tick_us + now_us) / tick_us;
        while machine.age_tick < tick {
            machine.age_tick += 1;
            machine.census.advance();
        }
        let usage = machine.pool.usage();
        let view = &mut self.view;
        view.age_tick = machine.age_tick;
        view.now_ms = now_us / 1000;
        view.pool = uswap_policy::Pool {
            capacity_bytes: machine.pool.capacity_bytes(),
            used_bytes: usage.object_bytes,
            resident_bytes: usage.slabs * SLAB_BYTES as u64,
            waste_bytes: usage.slabs_used * SLAB_BYTES as u64 - usage.object_bytes,
            set_aside_bytes: machine.set_aside_bytes,
        };
        view.machine = machine.machine;
        view.spill = machine.spill.as_mut().map(|spill| {
            spill.find_free();
            let (capacity_bytes, used_bytes) = spill.bytes();
            let each = (TAG_BYTES + Location::UNIT / 2) as u64;
            uswap_policy::Spill {
                capacity_bytes,
                used_bytes,
                live_bytes: (spill.data_bytes + spill.pages * each).min(used_bytes),
                segment_bytes: SEGMENT_BYTES as u64,
                written_bytes: spill.written_bytes,
                failing: false,
            }
        });
        let now = counts(machine);
        let each = usage.object_bytes.checked_div(usage.objects).unwrap_or(PAGE_SIZE as u64);
        let refused_writes = std::mem::take(&mut machine.refused);
        view.since = Since { refused_writes, ..now.since(&self.counts, each) };
        self.counts = now;
        let (used, share) = (usage.object_bytes, view.pool.capacity_bytes / RECOUNT_SHARE);
        let is_stale =
            |(tick, bytes): (u64, u64)| tick != view.age_tick || bytes.abs_diff(used) > share;
        if self.counted.is_none_or(is_stale) {
            self.counted = Some((view.age_tick, used));
            machine.count(&mut view.slots, self.has_dictionary);
        }
    }

    fn keep_memory(&mut self, machine: &mut Machine, plan: &Plan) {
        machine.keep_ready(plan.memory.ready_bytes);
        if plan.memory.grow_bytes > 0 {
            machine.grow_if_low();
        }
        if plan.memory.give_back_bytes > 0 {
            let keep = machine.ready_bytes.max(STAGE_MARGIN_BYTES);
            machine.pool.give_back(keep, plan.memory.give_back_bytes);
        }
    }

    /// Samples are found as often as slots have objects; whether a dictionary is made of them.
    fn train(&mut self, machine: &Machine, plan: &Plan) -> bool {
        let objects = machine.pool.usage().objects;
        if !plan.train || !plan.memory.may_grow {
            self.samples = 0;
        } else if !self.has_dictionary && objects >= 2 * DICTIONARY_SAMPLES as u64 {
            let slots = machine.setup.device_slots.max(machine.table.len() as u64).max(1);
            self.samples += SAMPLE_TRIES * objects / slots;
            if self.samples >= DICTIONARY_SAMPLES as u64 {
                self.has_dictionary = true;
                self.counted = None;
                return true;
            }
        }
        false
    }

    /// Goes on with the step; until when it waits, or `None` at its end.
    fn go_on(&mut self, machine: &mut Machine, now_us: u64) -> Option<u64> {
        let mut job = self.job.take().expect("a step has begun");
        let mut wait = Some(job.busy_until_us).filter(|until_us| *until_us > now_us);
        while wait.is_none() && self.phase != Phase::Asleep {
            wait = match self.phase {
                Phase::Scanning => self.scan(machine, &mut job, now_us),
                Phase::Compacting => {
                    compact(machine, job.plan.compact_bytes);
                    None
                }
                Phase::Cleaning => clean(machine, &mut job.may_clean, now_us),
                _ => end(machine, (job.refused, job.plan.spill.urgent), now_us),
            };
            if wait.is_none() {
                self.phase = match self.phase {
                    Phase::Scanning => Phase::Compacting,
                    Phase::Compacting => Phase::Cleaning,
                    Phase::Cleaning => Phase::Ending,
                    _ => Phase::Asleep,
                };
            }
        }
        self.job = Some(job);
        wait
    }

    /// Ends the step: how long it sleeps.
    fn sleep(&mut self, machine: &mut Machine, now_us: u64) {
        let job = self.job.take().expect("a step has begun");
        let plan = &job.plan;
        if machine.spill.is_some() {
            let stuck = plan.spill.bytes == 0;
            machine.health = match plan.short {
                Some(Short::SpillFull) if stuck => Health::Full,
                Some(Short::Budget) if stuck => Health::Spent,
                _ => Health::Good,
            };
            let (low, min) = self.policy.marks();
            let next = if self.view.pool.free_bytes() > low { low } else { min };
            machine.wake_below = machine.set_aside_bytes + next;
        }
        machine.promotions = plan.promote.pages;
        machine.promote_reads = plan.promote.reads_min;
        let end_us = now_us + STEP_US;
        let pause_us = u64::from(plan.next_ms) * 1000;
        let moved = machine.out.spilled_pages > job.spilled_before;
        self.phase = Phase::Asleep;
        self.alarm_us = end_us
            + match (moved, job.asked) {
                (true, true) => 0,
                (false, true) => {
                    self.phase = Phase::Napping;
                    NAP_US.min(pause_us)
                }
                _ if machine.asked => 0,
                _ => pause_us,
            };
    }

    /// Moves the hand, at most once around; until when it waits for the disk or is busy with a
    /// page.
    fn scan(&mut self, machine: &mut Machine, job: &mut Job, now_us: u64) -> Option<u64> {
        loop {
            if let Some(slot) = job.waiting {
                match spill(machine, &mut job.may_clean, slot, now_us) {
                    Ok(taken) => job.spills &= taken,
                    Err(until_us) => return Some(until_us),
                }
                job.waiting = None;
            }
            let over = job.presented == job.plan.scan_pages || !self.policy.wants_pages();
            if over
                || job.walked == machine.table.len()
                || (!job.plan.spill.urgent && machine.asked)
            {
                return None;
            }
            let at = self.hand;
            self.hand = if at + 1 < machine.table.len() { at + 1 } else { 0 };
            job.walked += 1;
            let slot = machine.table[at];
            let Place::Pool(form) = slot.place() else { continue };
            job.presented += 1;
            self.judged += 1;
            let verdict = self.policy.judge(&self.page(at, slot, form, machine.age_tick));
            if let Some(mark) = verdict.mark.filter(|mark| *mark != slot.mark()) {
                replace(machine, at, slot.marked(mark));
            }
            match verdict.action {
                Action::Recompress if job.denser => {
                    job.denser = recompress(machine, at);
                    job.busy_until_us = now_us + machine.setup.denser_us as u64;
                    return Some(job.busy_until_us);
                }
                Action::Spill if job.spills => job.waiting = Some(at),
                _ => {}
            }
        }
    }

    #[inline]
    fn page(&self, at: usize, slot: Slot, form: Form, age_tick: u64) -> Page {
        let untried = form != Form::Dense && !slot.is_tried() && self.has_dictionary;
        Page {
            slot: at as u32,
            age_ticks: slot.age_ticks(age_tick),
            mark: slot.mark(),
            bytes: slot.len(),
            tier: form.tier(),
            denser: if untried { Denser::Untried } else { Denser::No },
        }
    }
}

/// All that happened so far.
fn counts(machine: &Machine) -> Counts {
    let out = &machine.out;
    let of = |get: fn(&super::spill::Spill) -> u64| machine.spill.as_ref().map_or(0, get);
    Counts {
        written_pages: out.writes - out.refused_writes,
        pool_reads: [out.reads.pool, out.reads.dense, out.reads.huge],
        spill_reads: out.reads.spill,
        spilled_pages: out.spilled_pages,
        payload_bytes: of(|spill| spill.payload_bytes),
        cleaned_bytes: of(|spill| spill.cleaned_bytes),
        recompressed_pages: out.denser_pages,
    }
}
