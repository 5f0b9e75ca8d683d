//! What is left of a plan while pages are judged.

use crate::demand::{Demand, Urge, settled};
use crate::page::{Action, Page, Verdict};
use crate::plan::{Recompress, Writeback};
use crate::touch::Mark;

#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    pub(crate) urge: Urge,
    /// Bytes that may still be written back, of pages of this age and more.
    spill_bytes: u64,
    pub(crate) age_min_ticks: u8,
    /// Bytes of incompressible pages that may go besides, and that did.
    huge_bytes: u64,
    huge_spilled: u64,
    /// Pages and bytes that may still be recompressed.
    pages: u64,
    bytes: u64,
    /// Age from which pages are idle.
    pub(crate) idle_ticks: u8,
    /// Room is needed and nothing can be written back.
    pub(crate) by_recompressing: bool,
    /// Pages in a row that stayed, and how many of them are enough.
    pub(crate) kept: u64,
    pub(crate) patience: u64,
    /// The victim policy had its chance.
    pub(crate) overruled: bool,
}

impl Work {
    /// `huge`: there are incompressible pages.
    pub(crate) fn new(
        demand: &Demand,
        spill: &Writeback,
        recompress: &Recompress,
        huge: bool,
    ) -> Self {
        Self {
            urge: demand.urge,
            spill_bytes: spill.bytes,
            age_min_ticks: demand.age_min_ticks,
            huge_bytes: if huge { spill.huge_bytes } else { 0 },
            pages: recompress.pages,
            bytes: recompress.bytes,
            idle_ticks: recompress.age_min_ticks,
            by_recompressing: spill.bytes == 0 && demand.urge > Urge::Idle,
            ..Self::default()
        }
    }

    /// Nothing more to give to the hand, as with a plan of nothing.
    pub(crate) const fn stop(&mut self) {
        (self.spill_bytes, self.huge_bytes, self.pages, self.bytes) = (0, 0, 0, 0);
    }

    pub(crate) const fn over(&self) -> bool {
        self.spill_bytes + self.huge_bytes == 0 && (self.pages == 0 || self.bytes == 0)
    }

    pub(crate) fn may_spill(&self, page: &Page) -> bool {
        self.spill_bytes > 0
            && page.age_ticks >= self.age_min_ticks
            && (self.urge != Urge::Idle || settled(page))
    }

    /// Bytes granted for the page; 0 if the rest is too small for it, and then there is no rest.
    pub(crate) fn spill(&mut self, page: &Page) -> u64 {
        let bytes = u64::from(page.bytes.max(1));
        let granted = if bytes <= self.spill_bytes { bytes } else { 0 };
        self.spill_bytes = if granted > 0 { self.spill_bytes - bytes } else { 0 };
        granted
    }

    /// Whether an incompressible page goes for being one.
    pub(crate) fn spill_huge(&mut self, page: &Page) -> bool {
        let bytes = u64::from(page.bytes);
        let fits = bytes <= self.huge_bytes;
        if fits {
            self.huge_spilled += bytes;
        }
        // What is left is too small for any.
        self.huge_bytes = if fits { self.huge_bytes - bytes } else { 0 };
        fits
    }

    pub(crate) const fn huge_spilled(&self) -> u64 {
        self.huge_spilled
    }

    pub(crate) const fn may_recompress(&self, page: &Page) -> bool {
        self.pages > 0 && page.bytes as u64 <= self.bytes
    }

    pub(crate) const fn recompress(&mut self, page: &Page, mark: Option<Mark>) -> Verdict {
        self.pages -= 1;
        self.bytes -= page.bytes as u64;
        Verdict { action: Action::Recompress, mark }
    }
}
