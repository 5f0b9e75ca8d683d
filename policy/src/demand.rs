//! How much has to leave the pool, how badly, and how old it must be.

use crate::histogram::Histogram;
use crate::page::{Denser, Page, Tier};
use crate::permille;
use crate::pressure::Pressure;
use crate::settings::Settings;
use crate::view::View;
use crate::watermark::{Level, Watermarks};

/// Why pages are to leave. The order is that of need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urge {
    /// They are not.
    #[default]
    None,
    /// There is room, but they have been idle for long.
    Idle,
    /// Room is low, or the machine is short of memory.
    Room,
    /// Writes will fail: any page will do.
    Now,
}

/// What has to leave the pool in this step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    pub(crate) urge: Urge,
    /// Bytes.
    pub(crate) bytes: u64,
    /// Age from which pages may go, ticks.
    pub(crate) age_min_ticks: u8,
}

/// How much goes for writes that found no room although there is some.
const REFUSED_BYTES: u64 = 1 << 20;

/// What is remembered between steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Need {
    /// Room was needed badly since the level was last [`Level::Plenty`].
    badly: bool,
}

/// Whether idleness alone sends a page away: it is as dense as it gets.
pub(crate) fn settled(page: &Page) -> bool {
    page.denser == Denser::No || page.tier == Tier::Huge
}

impl Need {
    /// What has to leave. `compactable` bytes will be won without it.
    pub(crate) fn look(
        &mut self,
        settings: &Settings,
        (view, marks, slots): (&View, &Watermarks, &Histogram),
        (level, pressure): (Level, Pressure),
        compactable: u64,
        elapsed_ms: u64,
    ) -> Demand {
        let free = view.pool.free_bytes();
        let used = view.pool.used_bytes;
        let (low, min) = marks.marks();
        if used == 0 {
            return Demand::default();
        }
        // As much again may arrive before the next step.
        let soon = free.saturating_sub(view.since.stored_bytes);
        self.badly = match level {
            Level::Plenty => false,
            Level::Low => self.badly || soon <= min,
            Level::Min | Level::Full => true,
        };
        let mut wanted = low + marks.band() + 1 - free.min(low + marks.band());
        if view.since.refused_writes > 0 {
            wanted = wanted.max(REFUSED_BYTES);
        }
        if self.badly || view.since.refused_writes > 0 {
            return Demand { urge: Urge::Now, bytes: wanted.min(used), age_min_ticks: 0 };
        }
        let age_min_ticks = match settings.spill.min_age_seconds {
            0 => 0,
            seconds => settings.ticks(seconds),
        };
        let room = if level == Level::Low { wanted.saturating_sub(compactable) } else { 0 };
        let rate = settings.pressure.demote_permille_per_second * pressure as u64;
        let relief = permille(permille(used, rate), elapsed_ms);
        let bytes = room.max(relief).min(used);
        if bytes > 0 {
            return Demand { urge: Urge::Room, bytes, age_min_ticks };
        }
        Self::idle(settings, view, slots, elapsed_ms)
    }

    fn idle(settings: &Settings, view: &View, slots: &Histogram, elapsed_ms: u64) -> Demand {
        let (Some(seconds), Some(spill)) = (settings.spill.idle_seconds, &view.spill) else {
            return Demand::default();
        };
        let age_min_ticks = settings.ticks(seconds);
        let idle = slots.bytes_of(|page| page.age_ticks >= age_min_ticks && settled(page));
        // Less than a segment would be written for the sake of writing.
        if idle == 0 || idle < spill.segment_bytes {
            return Demand::default();
        }
        let rate = settings.spill.idle_mib_per_second;
        let bytes = crate::housekeeping::per_step(rate, elapsed_ms).min(idle);
        Demand { urge: Urge::Idle, bytes, age_min_ticks }
    }
}
