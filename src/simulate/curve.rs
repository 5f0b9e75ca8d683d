//! The miss-ratio curve of LRU: for every size of the pool the share of reads that would go to the
//! spill, from one pass over the replay.
//!
//! LRU is a stack algorithm (Mattson et al., "Evaluation techniques for storage hierarchies",
//! 1970): a page is found in every pool that has room for what was touched since, and for itself.
//! How much that is is a sum over the pages in the order of their last touch, kept in a binary
//! indexed tree (Bennett and Kruskal, "LRU Stack Processing", 1975; P. M. Fenwick, 1994), here of
//! bytes.

use super::bound::bytes_of;
use super::outcome::share;
use super::replay::{Act, Replay};

/// Sizes of the pool are told apart by so many bytes.
const STEP_BYTES: u64 = 64 << 10;
/// Places for touches, for every slot: each time that they are used up all are numbered anew.
const PLACES: usize = 3;
/// No place: the page takes no room.
const NONE: u32 = 0;

/// How far apart reads are, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Curve {
    /// Reads by the least size of pool that serves them, in steps of [`STEP_BYTES`].
    distances: Vec<u64>,
    /// Reads of pages that take room, and of those that take none.
    reads: u64,
}

/// Bytes by the order of the last touch.
struct Tree {
    sums: Vec<u64>,
}

impl Tree {
    fn change(&mut self, place: u32, change: i64) {
        let mut at = place as usize;
        while at < self.sums.len() {
            self.sums[at] = self.sums[at].wrapping_add_signed(change);
            at += at & at.wrapping_neg();
        }
    }

    fn up_to(&self, place: u32) -> u64 {
        let (mut at, mut sum) = (place as usize, 0_u64);
        while at > 0 {
            sum += self.sums[at];
            at &= at - 1;
        }
        sum
    }
}

/// The stack, with sizes.
struct Stack {
    tree: Tree,
    /// Place of each slot, and slot of each place.
    place: Vec<u32>,
    owner: Vec<u32>,
    bytes: Vec<u32>,
    next: u32,
    all: u64,
}

impl Stack {
    fn new(slots: usize) -> Self {
        let places = slots * PLACES + 2;
        Self {
            tree: Tree { sums: vec![0; places] },
            place: vec![NONE; slots],
            owner: vec![u32::MAX; places],
            bytes: vec![0; slots],
            next: 1,
            all: 0,
        }
    }

    /// Takes a page out; bytes that were touched since, and its own.
    fn leave(&mut self, slot: usize) -> u64 {
        let place = std::mem::replace(&mut self.place[slot], NONE);
        if place == NONE {
            return 0;
        }
        let distance = self.all - self.tree.up_to(place - 1);
        self.tree.change(place, -i64::from(self.bytes[slot]));
        self.all -= u64::from(self.bytes[slot]);
        distance
    }

    /// Puts a page on top.
    fn touch(&mut self, slot: usize) {
        if self.bytes[slot] == 0 {
            return;
        }
        if self.next as usize == self.tree.sums.len() {
            self.renumber();
        }
        let place = self.next;
        self.next += 1;
        (self.place[slot], self.owner[place as usize]) = (place, slot as u32);
        self.tree.change(place, self.bytes[slot].into());
        self.all += u64::from(self.bytes[slot]);
    }

    fn renumber(&mut self) {
        let mut kept = 1;
        for place in 1..self.next {
            let owner = self.owner[place as usize];
            if self.place[owner as usize] == place {
                (self.place[owner as usize], self.owner[kept as usize]) = (kept, owner);
                kept += 1;
            }
        }
        self.next = kept;
        let sums = &mut self.tree.sums;
        sums.fill(0);
        for place in 1..kept as usize {
            sums[place] = self.bytes[self.owner[place] as usize].into();
        }
        for at in 1..sums.len() {
            let above = at + (at & at.wrapping_neg());
            if above < sums.len() {
                sums[above] += sums[at];
            }
        }
    }
}

impl Curve {
    /// Of a replay. Allocates 44 bytes a slot. Panics beyond 2^30 slots.
    pub fn new(replay: &Replay, is_dense: bool) -> Self {
        assert!(replay.slots < 1 << 30, "places are numbered with 32 bits");
        let (mut curve, mut stack) = (Self::default(), Stack::new(replay.slots));
        let mut stored = vec![false; replay.slots];
        for step in &replay.steps {
            let slot = step.slot();
            match step.act() {
                Act::Write { bytes, dense } => {
                    stack.leave(slot);
                    stored[slot] = true;
                    stack.bytes[slot] = bytes_of(bytes, dense, is_dense);
                    stack.touch(slot);
                }
                Act::Read(_) if stored[slot] => {
                    let distance = stack.leave(slot);
                    curve.count(distance);
                    stack.touch(slot);
                }
                Act::Discard(count) => {
                    for slot in slot..slot + count as usize {
                        stack.leave(slot);
                        (stack.bytes[slot], stored[slot]) = (0, false);
                    }
                }
                Act::Read(_) | Act::Machine { .. } => {}
            }
        }
        curve
    }

    fn count(&mut self, distance: u64) {
        let step = distance.div_ceil(STEP_BYTES) as usize;
        if step >= self.distances.len() {
            self.distances.resize(step + 1, 0);
        }
        self.distances[step] += 1;
        self.reads += 1;
    }

    /// Share of reads that go to the spill with a pool of so many bytes.
    pub fn miss_ratio(&self, pool_bytes: u64) -> f64 {
        let first = (pool_bytes / STEP_BYTES + 1) as usize;
        let missed: u64 = self.distances.iter().skip(first).sum();
        share(missed, self.reads)
    }

    /// Bytes of pool from which on every read is served from it.
    pub fn bytes_for_all(&self) -> u64 {
        (self.distances.len().saturating_sub(1)) as u64 * STEP_BYTES
    }
}
