//! A hand over the slot table: shows a policy the pages of the pool, one after another, round and
//! round.

use crate::store::Store;
use crate::table::{Entry, Touch};
use crate::units::SlotIndex;
use uswap_policy::{Denser, Histogram, Mark, Page, Tier};

/// Where it stands.
#[derive(Debug, Default)]
pub struct Hand {
    next: u32,
}

/// A page, and what its slot held when it was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The page as a policy sees it.
    pub page: Page,
    /// For changing its touch.
    pub seen: (Entry, Touch),
}

impl Hand {
    /// Moves on by one slot; the page in it, if it is one of the pool.
    pub fn step(&mut self, store: &Store) -> Option<Found> {
        let slot = SlotIndex(self.next);
        self.next = if slot.index() + 1 < store.slots() { self.next + 1 } else { 0 };
        let seen = store.glance(slot);
        page(store, slot, seen).map(|page| Found { page, seen })
    }
}

/// The page of a slot that holds this, if it is one of the pool.
fn page(store: &Store, slot: SlotIndex, (entry, touch): (Entry, Touch)) -> Option<Page> {
    let (tier, bytes) = match entry {
        Entry::Lz4 { len, .. } => (Tier::Lz4, len),
        Entry::Zstd { len, .. } => (Tier::Zstd, len),
        Entry::Huge { .. } => (Tier::Huge, crate::units::PAGE_SIZE as u16),
        _ => return None,
    };
    let (age_ticks, denser) = (touch.age_ticks(store.tick()), denser(store, entry));
    Some(Page { slot: slot.0, age_ticks, mark: touch.mark, bytes, tier, denser })
}

/// Whether the page can be made denser with the dictionary that there is. Before there is one none
/// can: it would have to be done again with it.
fn denser(store: &Store, entry: Entry) -> Denser {
    if !store.may_be_denser(entry) {
        return Denser::No;
    }
    match entry {
        Entry::Zstd { dictionary, .. } if store.is_last_of_dictionaries(dictionary) => Denser::Due,
        // What another dictionary has made dense is dense enough.
        Entry::Zstd { dictionary, .. } if dictionary.index().is_some() => Denser::No,
        _ => Denser::Untried,
    }
}

/// Gives a touch another mark, if the slot has not been used since.
pub fn remark(store: &Store, seen: (Entry, Touch), slot: u32, mark: Mark) {
    let touch = Touch { mark, ..seen.1 };
    if touch != seen.1 {
        store.retouch(SlotIndex(slot), seen, touch);
    }
}

/// Counts all pages of the pool afresh and pins the stamps that would come round: one lap
/// over the table, some nanoseconds for each slot. Stops early, with what it has, when told to.
pub fn count(store: &Store, into: &mut Histogram, stop: impl Fn() -> bool) {
    /// Slots between two looks at `stop`.
    const STRETCH: usize = 1 << 16;
    into.clear();
    let tick = store.tick();
    for slot in 0..store.slots() {
        if slot.is_multiple_of(STRETCH) && stop() {
            return;
        }
        let slot = SlotIndex(slot as u32);
        let (entry, touch) = store.glance(slot);
        if entry == Entry::Empty {
            continue;
        }
        let pinned = touch.pinned(tick);
        if pinned != touch {
            store.retouch(slot, (entry, touch), pinned);
        }
        if let Some(page) = page(store, slot, (entry, pinned)) {
            into.add(&page);
        }
    }
}
