//! Memory of the pool: taken ahead of need while there is some, given back when it is not needed,
//! and taken for need alone when the machine is short.

use crate::plan::Memory;
use crate::pressure::Pressure;
use crate::settings::Settings;
use crate::view::View;

const MIB: u64 = 1 << 20;
/// Ready memory is at most this share of the pool, so that a small pool is not all reserve.
const SHARE: u64 = 8;

/// What is ready beyond its mark by this share of it is a surplus: below it the reserve would be
/// given back and taken again by turns. When nothing arrives, all that is beyond the mark is.
const SURPLUS_SHARE: u64 = 4;

/// What is remembered between steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keeper {
    /// Since when there has been a surplus, milliseconds.
    surplus_since: Option<u64>,
    /// Bytes that pages take in a step, the latest peak, decaying.
    need: u64,
}

impl Keeper {
    /// What to take and give back now. `elapsed_ms` since the last step, at least 1.
    pub(crate) fn plan(
        &mut self,
        settings: &Settings,
        view: &View,
        pressure: Pressure,
        elapsed_ms: u64,
    ) -> Memory {
        let pool = &view.pool;
        let high = (settings.memory.ready_mib * MIB).min(pool.capacity_bytes / SHARE);
        let ready = pool.ready_bytes();
        let arrived = view.since.stored_bytes.saturating_mul(settings.time.step_ms) / elapsed_ms;
        self.need = arrived.min(high).max(self.need - self.need / 8 - u64::from(self.need > 0));
        let may_grow = pressure == Pressure::Calm;
        let (low, keep, surplus) = if may_grow {
            (high / 2, high, self.rested(settings, view, ready, high))
        } else {
            self.surplus_since = None;
            (self.need, self.need, ready > 2 * self.need)
        };
        let ceiling = pool.capacity_bytes.saturating_sub(pool.resident_bytes);
        let grow_bytes = if ready < low { (keep - ready).min(ceiling) } else { 0 };
        let beyond_cap = pool.resident_bytes.saturating_sub(pool.capacity_bytes).min(ready);
        let back = if surplus { ready.saturating_sub(keep) } else { 0 };
        Memory { grow_bytes, give_back_bytes: back.max(beyond_cap), ready_bytes: keep, may_grow }
    }

    /// Whether there has been a surplus for so long that it is not coming back at once.
    fn rested(&mut self, settings: &Settings, view: &View, ready: u64, high: u64) -> bool {
        let begun = self.surplus_since.is_some() || self.need == 0;
        if ready <= if begun { high } else { high + high / SURPLUS_SHARE } {
            self.surplus_since = None;
            return false;
        }
        let since = *self.surplus_since.get_or_insert(view.now_ms);
        view.now_ms.saturating_sub(since) >= settings.memory.give_back_seconds * 1000
    }
}
