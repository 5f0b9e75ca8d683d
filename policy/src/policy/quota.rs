//! Quotas of each kind of work, from what is wanted and what is allowed.

use super::Policy;
use crate::demand::{Demand, Urge, settled};
use crate::page::{Denser, PAGE_BYTES, Page, Tier};
use crate::plan::{Recompress, Short, Writeback};
use crate::pressure::Pressure;
use crate::victim::Aim;
use crate::view::{Spill, View};
use crate::work::Work;

/// Segments of the spill that only cleaning may fill: without them it could not free any.
const CLEANING_SEGMENTS: u64 = 2;
/// Laps of the hand without a page that goes, after which the next one does if room is needed
/// badly, or the hand rests until pages are older if it is not.
const LAPS_IN_VAIN: u64 = 2;
/// Pages in a row that may stay while a write waits for room: two laps over a large table take
/// longer than it waits.
const KEPT_WHILE_REFUSED: u64 = 1024;
/// Of the usual recompression one in so many while the machine is critically short.
const CRITICAL_SHARE: u64 = 4;
/// Of so many pages that the hand meets one goes, at least. The line that admits the bytes of one
/// step and no more has the hand pass the whole table for them in every step: a step that needs
/// little meets as many pages as one that needs much.
const MET_FOR_ONE: u64 = 16;
/// Recompression is so many times the usual when nothing else can make room.
pub(super) const URGENT_TIMES: u64 = 8;

impl Policy {
    pub(super) fn clean(&mut self, view: &View, urgent: bool, elapsed_ms: u64) -> u64 {
        let Some(spill) = &view.spill else { return 0 };
        let wanted = self.housekeeping.clean(&self.settings, spill, elapsed_ms);
        // Half of what is left is for pages, which are waiting.
        let left = self.budget.left(urgent) / 2;
        let (quota, more) = self.cleaning.plan(wanted, view.since.cleaned_bytes, left);
        self.budget.grant(more);
        quota
    }

    pub(super) fn straight(&mut self, view: &View, pressed: bool) -> u64 {
        let open = view.spill.filter(|spill| !spill.failing && room(spill) > 0);
        let wanted = open.is_some() && (pressed || self.settings.spill.huge_straight);
        let most = open.map_or(0, |spill| room(&spill)).min(self.budget.left(false) / 2);
        let (quota, more) = self.straight.plan(wanted, self.work.huge_spilled(), most);
        self.budget.grant(more);
        quota
    }

    pub(super) fn writeback(&self, view: &View, demand: &Demand) -> (Writeback, Option<Short>) {
        let urgent = demand.urge == Urge::Now;
        let none = Writeback::default();
        if demand.urge == Urge::None {
            return (none, None);
        }
        let Some(spill) = &view.spill else { return (none, Some(Short::NoSpill)) };
        if spill.failing {
            return (none, Some(Short::Failing));
        }
        let idle = demand.urge == Urge::Idle;
        let goes = |page: &Page| page.age_ticks >= demand.age_min_ticks && (!idle || settled(page));
        // A count is as old as an age tick: it does not know a burst, which an urgent step takes.
        if !urgent && !self.slots.cells().any(|(page, _)| goes(&page)) {
            return (none, Some(Short::NothingOld));
        }
        let budget = self.budget.left(urgent);
        let bytes = demand.bytes.max(PAGE_BYTES).min(room(spill)).min(budget);
        let short = if bytes >= demand.bytes {
            None
        } else if budget < room(spill) {
            let day = self.budget.is_day_spent(urgent);
            Some(if day { Short::Budget } else { Short::Rate })
        } else {
            Some(Short::SpillFull)
        };
        if bytes < PAGE_BYTES {
            return (none, short);
        }
        let age_min_ticks = demand.age_min_ticks;
        (Writeback { bytes, age_min_ticks, urgent, huge_bytes: 0 }, short)
    }

    pub(super) fn recompress(
        &self,
        view: &View,
        demand: &Demand,
        (pressure, spill): (Pressure, u64),
        elapsed_ms: u64,
    ) -> Recompress {
        let keys = &self.settings.recompress;
        let pool = &view.pool;
        // With nothing else to make room with, every page that gets denser helps.
        let alone = demand.urge > Urge::Idle && spill == 0;
        let idle = self.settings.ticks(keys.idle_seconds);
        let age_min_ticks = if alone { idle.min(demand.age_min_ticks) } else { idle };
        let any = self.slots.cells().any(|(page, _)| {
            page.denser == Denser::Due
                || (page.denser == Denser::Untried && self.victim.idle(&page, age_min_ticks))
        });
        let usual = keys.pages_per_second * elapsed_ms / 1000;
        let pages = match (demand.urge, pressure) {
            (Urge::Now, _) if alone => usual * URGENT_TIMES,
            // Writes wait for room, which the spill makes many times as fast: thousands of pages
            // made denser first are seconds in which they fail.
            (Urge::Now, _) => 0,
            (_, Pressure::Critical) => usual / CRITICAL_SHARE,
            _ => usual,
        };
        // A new object is made before the old one is freed: then only where there is memory.
        let there = pool.resident_bytes.saturating_sub(pool.used_bytes);
        let fits = if pressure > Pressure::Calm { there } else { u64::MAX };
        let fits = if alone { fits.max(PAGE_BYTES) } else { fits };
        let bytes = pages.saturating_mul(PAGE_BYTES).min(pool.used_bytes.max(PAGE_BYTES)).min(fits);
        // The count does not know the latest burst; when room is needed badly the hand finds out.
        if pages == 0 || bytes < PAGE_BYTES || !(any || (alone && demand.urge == Urge::Now)) {
            return Recompress::default();
        }
        Recompress { pages, bytes, age_min_ticks }
    }

    /// Prepares for [`Policy::judge`]; pages that the hand may pass.
    pub(super) fn aim(
        &mut self,
        view: &View,
        demand: &Demand,
        spill: &Writeback,
        recompress: &Recompress,
        elapsed_ms: u64,
    ) -> u64 {
        // The count may be from before a burst.
        let stored = self.slots.pages().max(view.pool.used_bytes / PAGE_BYTES).max(1);
        let patience = LAPS_IN_VAIN * stored;
        let movable = |(page, _): (Page, u64)| page.denser != Denser::No;
        let urgent = demand.urge == Urge::Now
            && (spill.bytes > 0 || (recompress.pages > 0 && self.slots.cells().any(movable)));
        let in_vain = self.work.kept >= patience && !urgent;
        if in_vain && self.vain.is_none() {
            self.vain = Some((view.age_tick, self.work.urge));
        }
        // The laps of one need say nothing about a greater one.
        if demand.urge > self.work.urge {
            self.work.kept = 0;
        }
        if self.vain.is_some_and(|(tick, urge)| tick != view.age_tick || demand.urge > urge) {
            self.vain = None;
            self.work.kept = 0;
        }
        let kept = self.work.kept;
        let huge = self.slots.cells().any(|(page, _)| page.tier == Tier::Huge);
        self.work = Work::new(demand, spill, recompress, huge);
        let waits = view.since.refused_writes > 0;
        let enough = if waits { patience.min(KEPT_WHILE_REFUSED) } else { patience };
        (self.work.kept, self.work.patience) = (kept, enough);
        if self.work.over() || (self.vain.is_some() && !urgent) {
            self.work.stop();
            return 0;
        }
        let rate = self.settings.scan.pages_per_second * elapsed_ms / 1000;
        let scan_pages = rate.min(patience).max(1);
        if spill.bytes == 0 && !self.work.by_recompressing {
            return scan_pages;
        }
        let wanted = if spill.bytes > 0 { spill.bytes } else { recompress.bytes };
        let may_go = self.slots.bytes_of(|page| page.age_ticks >= demand.age_min_ticks);
        let aim = Aim {
            slots: &self.slots,
            bytes: wanted.saturating_mul(stored.div_ceil(scan_pages)).max(may_go / MET_FOR_ONE),
            age_min_ticks: demand.age_min_ticks,
            age_tick: view.age_tick,
        };
        self.victim.aim(&aim);
        scan_pages
    }
}

/// Bytes that writeback may still fill.
pub(super) const fn room(spill: &Spill) -> u64 {
    spill.free_bytes().saturating_sub(CLEANING_SEGMENTS * spill.segment_bytes)
}
