//! Look ahead: most of a rebuild, done while the other process still serves.
//!
//! A successor that waits adopts what slots name, as a rebuild does, and remembers which entry it
//! saw in each. When it takes over, what has changed is taken back first, all of it, and then
//! adopted anew; a slot that still holds what was seen costs one comparison. So the time without a
//! server goes by what was written since the last look, and hardly by what is stored.
//!
//! What is seen meanwhile may be half of a change: two slots that name one place, an object that is
//! just being made, a slab of another class. None of that is adopted; it is looked at again later.
//! If what outlives the process contradicts what was adopted, all of it is taken back.

use super::recover::{BATCH, Recovery};
use super::{Store, count_slot};
use crate::chaos::{Bug, planted};
use crate::stats::{Counter, QueueStats};
use crate::table::Entry;
use crate::units::SlotIndex;
use std::ops::Range;

/// Slots whose entries are remembered in one piece of memory (512 KiB).
const PIECE: usize = 1 << 16;

const _: () = assert!(PIECE.is_multiple_of(BATCH));

/// The entries that were adopted, packed; 0 for slots of which nothing was.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pieces: Vec<Box<[u64]>>,
}

impl Seen {
    /// None, with room to remember pieces for so many slots. Allocates.
    pub(super) fn with_room(slots: usize) -> Self {
        Self { pieces: Vec::with_capacity(slots.div_ceil(PIECE)) }
    }

    /// Slots that can be remembered.
    fn slots(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    /// Those of a batch of slots.
    #[inline]
    pub(super) fn of(&self, batch: &Range<usize>) -> &[u64] {
        const NOTHING: [u64; BATCH] = [0; BATCH];
        match self.pieces.get(batch.start / PIECE) {
            Some(piece) => &piece[batch.start % PIECE..][..batch.len()],
            None => &NOTHING[..batch.len()],
        }
    }

    fn get_mut(&mut self, slot: SlotIndex) -> Option<&mut u64> {
        self.pieces.get_mut(slot.index() / PIECE)?.get_mut(slot.index() % PIECE)
    }

    /// What was adopted of a slot: [`Entry::Empty`] if nothing was.
    pub(super) fn entry(&self, slot: SlotIndex) -> Entry {
        let piece = self.pieces.get(slot.index() / PIECE);
        piece.map_or(Entry::Empty, |piece| Entry::unpack(piece[slot.index() % PIECE]))
    }
}

/// Batches of so many slots.
pub(super) fn batches(slots: usize) -> impl Iterator<Item = Range<usize>> {
    (0..slots).step_by(BATCH).map(move |first| first..slots.min(first + BATCH))
}

/// Whether an entry can be adopted while somebody serves. Staged pages come and go.
const fn lasts(entry: Entry) -> bool {
    !matches!(entry, Entry::Empty | Entry::Staged { .. } | Entry::Poisoned | Entry::Unknown)
}

impl Recovery {
    /// Takes memory to look ahead at some more slots, and returns whether there are more. Without
    /// it slots are looked at when they are taken over. Allocates 8 bytes for each of up to 65536
    /// slots.
    pub fn remember(&mut self) -> bool {
        let left = self.store.slots() - self.seen.slots();
        if left > 0 {
            self.seen.pieces.push(vec![0; left.min(PIECE)].into());
        }
        left > PIECE
    }

    /// Adopts what slots name that have changed since the last call, and counts it in `stats`: the
    /// ones that [`Recovery::take_over`] gets. After [`Recovery::keep_up`]. O(slots), with a few
    /// instructions for one that has not changed; does not allocate or wait.
    pub fn look_ahead(&mut self, stats: &QueueStats) {
        for batch in batches(self.seen.slots()) {
            if self.differs(&batch) {
                batch.for_each(|slot| self.look_ahead_at(SlotIndex(slot as u32), stats));
            }
        }
    }

    /// Whether something else is in these slots than what was adopted, or somebody holds their
    /// locks.
    #[inline]
    pub(super) fn differs(&self, batch: &Range<usize>) -> bool {
        self.store.table.differs(SlotIndex(batch.start as u32), self.seen.of(batch))
    }

    fn look_ahead_at(&mut self, slot: SlotIndex, stats: &QueueStats) {
        let (now, before) = (self.store.table.peek_exactly(slot), self.seen.entry(slot));
        if now == before {
            return;
        }
        self.forget(slot, stats);
        if !lasts(now) {
            return;
        }
        let header = self.header(now);
        let adopted = self.adopt(slot, now, header, &mut |_, _| unreachable!("not staged"));
        if let (Ok(()), Some(seen)) = (adopted, self.seen.get_mut(slot)) {
            *seen = now.pack();
            count_slot(now, stats, Counter::add);
            self.rebuilt.slots += 1;
        }
    }

    /// Takes back what was adopted of a slot.
    pub(super) fn forget(&mut self, slot: SlotIndex, stats: &QueueStats) {
        let before = self.seen.entry(slot);
        if before == Entry::Empty || planted(Bug::SeenKept) {
            return;
        }
        self.seen.get_mut(slot).into_iter().for_each(|seen| *seen = 0);
        let Self { store: Store { pool, spill, dictionaries, .. }, rebuilt, .. } = self;
        match before {
            Entry::Lz4 { at, .. } | Entry::Zstd { at, .. } | Entry::Huge { at, .. } => {
                pool.take_back(at);
            }
            Entry::Spilled { at, len, .. } => {
                spill.iter().for_each(|spill| spill.segments.dead(at, len));
                rebuilt.spilled -= 1;
            }
            Entry::Same(_) => rebuilt.same -= 1,
            Entry::Empty | Entry::Staged { .. } | Entry::Poisoned | Entry::Unknown => {}
        }
        dictionaries.release(before.made_with());
        count_slot(before, stats, Counter::sub);
        rebuilt.slots -= 1;
    }

    /// Whether what outlives the process still says what it did when it was looked at: of which
    /// class slabs are, which dictionaries there are.
    pub(super) fn is_as_seen(&mut self) -> bool {
        self.store.pool.agrees() && self.store.dictionaries.are_there()
    }
}
