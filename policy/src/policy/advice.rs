//! An adviser's say in a plan: whatever it is, every promise about plans is kept.

use super::Policy;
use super::quota::{URGENT_TIMES, room};
use crate::demand::{Demand, Urge};
use crate::page::PAGE_BYTES;
use crate::plan::{Plan, Promote, Recompress, Writeback};
use crate::pressure::Pressure;
use crate::touch::{AGE_PINNED_TICKS, READS_MAX};
use crate::view::View;

/// Pages a millisecond that come back from the spill at most, as the key's range says.
const PROMOTED_PER_MS: u64 = 10_000;
/// Of the usual step, how much sooner the next one may be asked for.
const SOONER: u32 = 10;

impl Policy {
    /// Asks the adviser, if there is one and nobody waits for room: the plan that holds. What is
    /// needed is changed to what the plan says.
    pub(super) fn advised(
        &mut self,
        view: &View,
        demand: &mut Demand,
        base: Plan,
        elapsed_ms: u64,
    ) -> Plan {
        let Some(adviser) = self.adviser.as_mut().filter(|_| demand.urge != Urge::Now) else {
            return base;
        };
        let mut wanted = base;
        if adviser.advise(view, &mut wanted).is_err() {
            self.fall_back();
            return base;
        }
        let plan = self.bounded(view, base, &wanted, elapsed_ms);
        if plan.spill != base.spill && plan.spill.bytes > 0 {
            // Pages that nobody else would have sent away go like those for which room is needed.
            demand.urge = demand.urge.max(Urge::Room);
            demand.age_min_ticks = plan.spill.age_min_ticks;
        }
        plan
    }

    /// The base decides from now on; what was spent of the budgets stays spent.
    fn fall_back(&mut self) {
        self.adviser = None;
        if let Some((settings, victim)) = self.base.take() {
            self.victim = victim;
            self.settle(settings);
        }
    }

    /// As much of what is wanted as may be.
    fn bounded(&self, view: &View, base: Plan, wanted: &Plan, elapsed_ms: u64) -> Plan {
        let step_ms = self.settings.time.step_ms as u32;
        let soonest_ms = step_ms.div_ceil(SOONER).min(base.next_ms);
        let calm = base.train;
        Plan {
            spill: self.writeback_of(view, base.spill, wanted.spill),
            recompress: self.recompress_of(view, &base, wanted.recompress, elapsed_ms),
            // Granted when it was planned: only less can be had of it.
            clean_bytes: wanted.clean_bytes.min(base.clean_bytes),
            compact_bytes: wanted
                .compact_bytes
                .min(view.pool.waste_bytes.saturating_mul(2).min(view.pool.used_bytes))
                .max(wanted.compact_bytes.min(base.compact_bytes)),
            promote: Promote {
                pages: if calm {
                    wanted.promote.pages.min(PROMOTED_PER_MS * elapsed_ms)
                } else {
                    base.promote.pages
                },
                reads_min: wanted.promote.reads_min.clamp(1, READS_MAX),
            },
            train: base.train && wanted.train,
            next_ms: wanted.next_ms.clamp(soonest_ms, base.next_ms),
            ..base
        }
    }

    fn writeback_of(&self, view: &View, base: Writeback, wanted: Writeback) -> Writeback {
        let open = view.spill.filter(|spill| !spill.failing);
        let most = open.map_or(0, |spill| room(&spill));
        let most = most.min(self.budget.left(false)).min(view.pool.used_bytes.max(PAGE_BYTES));
        let bytes = wanted.bytes.min(most.max(base.bytes));
        Writeback {
            bytes: if bytes < PAGE_BYTES { 0 } else { bytes },
            age_min_ticks: wanted.age_min_ticks.min(AGE_PINNED_TICKS),
            urgent: base.urgent,
            huge_bytes: wanted.huge_bytes.min(base.huge_bytes),
        }
    }

    fn recompress_of(
        &self,
        view: &View,
        base: &Plan,
        wanted: Recompress,
        elapsed_ms: u64,
    ) -> Recompress {
        let pool = &view.pool;
        let usual = self.settings.recompress.pages_per_second.saturating_mul(elapsed_ms) / 1000;
        let pages = wanted.pages.min((usual * URGENT_TIMES).max(base.recompress.pages));
        // A new object is made before the old one is freed.
        let there = pool.resident_bytes.saturating_sub(pool.used_bytes);
        let fits = if base.pressure > Pressure::Calm { there } else { u64::MAX };
        let more = pool.used_bytes.max(PAGE_BYTES).min(fits).max(base.recompress.bytes);
        let bytes = pages.saturating_mul(PAGE_BYTES).min(more);
        if bytes < PAGE_BYTES {
            return Recompress::default();
        }
        Recompress { pages, bytes, age_min_ticks: wanted.age_min_ticks.min(AGE_PINNED_TICKS) }
    }
}
