//! Views to plans, pages to verdicts.

mod advice;
mod quota;

use crate::adviser::{Adviser, Guide};
use crate::budget::{Bucket, Budget, Spent};
use crate::demand::{Need, Urge};
use crate::grant::{Standing, Straight};
use crate::histogram::Histogram;
use crate::housekeeping::Housekeeping;
use crate::memory::Keeper;
use crate::page::{Action, Denser, Page, Tier, Verdict};
use crate::plan::{Plan, Promote};
use crate::pressure::{Gauge, Pressure};
use crate::settings::{Settings, SettingsError};
use crate::victim::{Choice, Victim, victim};
use crate::view::View;
use crate::watermark::{Level, Watermarks};
use crate::work::Work;
use alloc::boxed::Box;

const GIB: u64 = 1 << 30;
/// Longest step that quotas grow with: after a suspend there is no catching up.
const ELAPSED_MAX_MS: u64 = 10_000;
/// How long the spill may be written faster than its rate.
const BURST_SECONDS: u64 = 10;
/// The decisions of a service. Same views and pages, same plans and verdicts.
#[derive(Debug)]
pub struct Policy {
    settings: Settings,
    victim: Box<dyn Victim>,
    adviser: Option<Box<dyn Adviser>>,
    /// What holds when the adviser is broken.
    base: Option<(Settings, Box<dyn Victim>)>,
    marks: Watermarks,
    capacity: u64,
    gauge: Gauge,
    budget: Budget,
    need: Need,
    keeper: Keeper,
    housekeeping: Housekeeping,
    cleaning: Standing,
    straight: Straight,
    last_ms: Option<u64>,
    /// The pool's pages as the last view had them, less what was decided since.
    slots: Histogram,
    counted: Option<u64>,
    work: Work,
    /// The age tick in which the hand found nothing, and for what need.
    vain: Option<(u64, Urge)>,
}

impl Policy {
    /// The policy that the settings describe.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        let victim = victim(&settings.victim).expect("check knows its name");
        Ok(Self::with(settings, victim))
    }

    /// The same with a victim policy from elsewhere; the one that is named is not used.
    pub fn with_victim(settings: Settings, victim: Box<dyn Victim>) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self::with(settings, victim))
    }

    /// The policy of whoever is not built in, until its adviser is broken.
    pub fn guided(guide: Guide) -> Result<Self, SettingsError> {
        let Guide { settings, victim: own, adviser, base } = guide;
        settings.check()?;
        base.check()?;
        let named = |settings: &Settings| victim(&settings.victim).expect("check knows its name");
        let chosen = own.unwrap_or_else(|| named(&settings));
        let below = named(&base);
        Ok(Self { adviser, base: Some((base, below)), ..Self::with(settings, chosen) })
    }

    fn with(settings: Settings, victim: Box<dyn Victim>) -> Self {
        Self {
            adviser: None,
            base: None,
            marks: Watermarks::new(0, settings.watermarks),
            capacity: 0,
            gauge: Gauge::new(settings.pressure),
            budget: budget(&settings),
            need: Need::default(),
            keeper: Keeper::default(),
            housekeeping: Housekeeping::default(),
            cleaning: Standing::default(),
            straight: Straight::default(),
            last_ms: None,
            slots: Histogram::default(),
            counted: None,
            work: Work::default(),
            vain: None,
            settings,
            victim,
        }
    }

    /// Other settings from now on; what was spent of the budgets stays spent. Refused settings
    /// change nothing.
    pub fn reconfigure(&mut self, settings: Settings) -> Result<(), SettingsError> {
        settings.check()?;
        if settings.victim != self.settings.victim {
            self.victim = victim(&settings.victim).expect("check knows its name");
        }
        self.settle(settings);
        Ok(())
    }

    /// Takes settings that agree.
    fn settle(&mut self, settings: Settings) {
        self.marks = Watermarks::new(self.capacity, settings.watermarks);
        self.gauge.limit(settings.pressure);
        self.budget.limit(budget(&settings));
        self.settings = settings;
    }

    /// The settings in force.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Free bytes of the pool at and below which it is [`Level::Low`] and [`Level::Min`].
    pub const fn marks(&self) -> (u64, u64) {
        self.marks.marks()
    }

    /// What was written to the spill in the last day, to be kept across a restart.
    pub const fn spent(&self) -> Spent {
        self.budget.spent()
    }

    /// Continues with what had been spent before a restart. Needs the same zero of `now_ms`.
    pub const fn resume(&mut self, spent: Spent) {
        self.budget.resume(spent);
    }

    /// Looks at the world and says what to do until the next step. Does not allocate.
    pub fn tick(&mut self, view: &View) -> Plan {
        let since = self.last_ms.map(|last| view.now_ms.saturating_sub(last));
        self.last_ms = Some(view.now_ms);
        let written = view.spill.map_or(0, |spill| spill.written_bytes);
        self.budget.advance(view.now_ms, since.unwrap_or(0), written, view.since.payload_bytes);
        let elapsed_ms = since.unwrap_or(self.settings.time.step_ms).clamp(1, ELAPSED_MAX_MS);
        if self.counted != Some(view.slots.serial()) {
            self.counted = Some(view.slots.serial());
            self.slots.copy_from(&view.slots);
        }
        if view.pool.capacity_bytes != self.capacity {
            self.capacity = view.pool.capacity_bytes;
            self.marks = Watermarks::new(self.capacity, self.settings.watermarks);
        }
        let level = self.marks.level(view.pool.free_bytes());
        let pressure = self.gauge.pressure(&view.machine);
        let pressed = level > Level::Plenty || pressure > Pressure::Calm;

        let compact_bytes = self.housekeeping.compact(&self.settings, view, pressed, elapsed_ms);
        let compactable = self.housekeeping.compactable(&self.settings, view);
        let state = (level, pressure);
        let mut demand = self.need.look(
            &self.settings,
            (view, &self.marks, &self.slots),
            state,
            compactable,
            elapsed_ms,
        );
        let memory = self.keeper.plan(&self.settings, view, pressure, elapsed_ms);
        let urgent = demand.urge == Urge::Now;
        let clean_bytes = self.clean(view, urgent, elapsed_ms);
        let huge_bytes = self.straight(view, pressed);
        // Last, so that its quota knows what the others were granted.
        let (mut spill, short) = self.writeback(view, &demand);
        let recompress = self.recompress(view, &demand, (pressure, spill.bytes), elapsed_ms);
        spill.huge_bytes = huge_bytes;
        let calm = pressure == Pressure::Calm && level == Level::Plenty;
        let step_ms = self.settings.time.step_ms;
        let promoted = self.settings.spill.promote_pages_per_second * elapsed_ms / 1000;
        let plan = Plan {
            level,
            pressure,
            scan_pages: 0,
            recompress,
            spill,
            clean_bytes,
            compact_bytes,
            memory,
            promote: Promote {
                pages: if calm { promoted } else { 0 },
                reads_min: self.settings.spill.promote_reads as u8,
            },
            train: calm,
            next_ms: if pressed { step_ms.div_ceil(10) } else { step_ms } as u32,
            short,
        };
        let plan = self.advised(view, &mut demand, plan, elapsed_ms);
        let scan_pages = self.aim(view, &demand, &plan.spill, &plan.recompress, elapsed_ms);
        Plan { scan_pages, ..plan }
    }

    /// Whether pages need to be judged until the next tick. The hand may stop where it is once this
    /// is false: every verdict would be to keep.
    pub const fn wants_pages(&self) -> bool {
        !self.work.over()
    }

    /// Decides about a page that the hand meets. Constant time; does not allocate. The sum of the
    /// verdicts between two ticks stays within the plan.
    #[inline]
    pub fn judge(&mut self, page: &Page) -> Verdict {
        if self.work.over() {
            return Verdict::KEEP;
        }
        let verdict = self.decide(page);
        if verdict.action == Action::Keep {
            self.work.kept += 1;
        } else {
            self.work.kept = 0;
            self.slots.remove(page);
        }
        let mark = verdict.mark.unwrap_or(page.mark);
        match verdict.action {
            Action::Recompress => self.slots.add(&Page { mark, denser: Denser::No, ..*page }),
            Action::Keep if mark != page.mark => {
                self.slots.remove(page);
                self.slots.add(&Page { mark, ..*page });
            }
            Action::Keep | Action::Spill => {}
        }
        verdict
    }

    fn decide(&mut self, page: &Page) -> Verdict {
        let work = &mut self.work;
        if page.tier == Tier::Huge && work.spill_huge(page) {
            return Verdict { action: Action::Spill, mark: Some(page.mark.cleared()) };
        }
        let denser = page.denser != Denser::No && work.may_recompress(page);
        if denser && page.denser == Denser::Due {
            return work.recompress(page, None);
        }
        let spill = work.may_spill(page);
        let mut mark = None;
        if spill || (work.by_recompressing && denser && page.age_ticks >= work.age_min_ticks) {
            // Whoever cannot choose is not asked any more until the next step.
            work.overruled |= work.urge == Urge::Now && work.kept >= work.patience;
            let choice = if work.overruled { Choice::DEMOTE } else { self.victim.meet(page) };
            if choice.demote && spill {
                let bytes = work.spill(page);
                self.budget.grant(bytes);
                let action = if bytes > 0 { Action::Spill } else { Action::Keep };
                let mark = choice.mark.unwrap_or(page.mark.cleared());
                return Verdict { action, mark: (bytes > 0).then_some(mark) };
            }
            if choice.demote {
                return work.recompress(page, None);
            }
            mark = choice.mark;
        }
        if denser && self.victim.idle(page, work.idle_ticks) {
            return work.recompress(page, mark);
        }
        Verdict { action: Action::Keep, mark }
    }
}

fn budget(settings: &Settings) -> Budget {
    let spill = &settings.spill;
    let rate = spill.mib_per_second.map(|rate| Bucket::new(rate << 20, BURST_SECONDS));
    let day = spill.gib_per_day.map(|day| day * GIB);
    let reserve = day.map_or(0, |day| crate::permille(day, spill.urgent_reserve_permille));
    Budget::new(rate, day, reserve)
}
