//! The offline optimum: of the pages in the pool the one leaves whose next read is farthest
//! (L. A. Belady, "A Study of Replacement Algorithms for a Virtual-Storage Computer", 1966).
//!
//! Nobody can know the future; it is the line to compare policies with. With pages of one size no
//! policy reads the spill less often. With sizes, finding the optimum is NP-hard; the farthest next
//! read by bytes is a good heuristic, not a bound.

use super::replay::{Act, Replay, UNSETTLED};
use crate::pool::{NumberSet, object_bytes};

/// No read before the page is written again or discarded.
const NEVER: u32 = u32::MAX;

/// Bytes that a page takes in the pool, rounding included; 0 if none. `dense`: as if everything
/// were made denser at once.
pub fn bytes_of(bytes: u16, dense: u16, is_dense: bool) -> u32 {
    let len = if is_dense && dense > 0 { dense } else { bytes };
    if bytes == 0 || bytes == UNSETTLED { 0 } else { object_bytes(len.into()) as u32 }
}

/// The future of a replay: for every write and read the step that reads the page next.
#[derive(Debug)]
pub struct Bound<'a> {
    replay: &'a Replay,
    next: Vec<u32>,
}

impl<'a> Bound<'a> {
    /// Looks ahead. Allocates 4 bytes a step and a slot. Panics beyond 2^32 steps.
    pub fn new(replay: &'a Replay) -> Self {
        assert!(replay.steps.len() < NEVER as usize, "steps are numbered with 32 bits");
        let mut upcoming = vec![NEVER; replay.slots];
        let mut next = vec![NEVER; replay.steps.len()];
        for (at, step) in replay.steps.iter().enumerate().rev() {
            let slot = step.slot();
            match step.act() {
                Act::Write { .. } => next[at] = std::mem::replace(&mut upcoming[slot], NEVER),
                Act::Read(_) => next[at] = std::mem::replace(&mut upcoming[slot], at as u32),
                Act::Discard(count) => upcoming[slot..slot + count as usize].fill(NEVER),
                Act::Machine { .. } => {}
            }
        }
        Self { replay, next }
    }

    /// Reads that the spill has to serve with a pool of so many bytes.
    pub fn misses(&self, pool_bytes: u64, is_dense: bool) -> u64 {
        let mut sizes = vec![0_u32; self.replay.slots];
        let mut reads = NumberSet::empty(self.replay.steps.len().max(1));
        let (mut used, mut misses) = (0_u64, 0);
        for (at, step) in self.replay.steps.iter().enumerate() {
            let slot = step.slot();
            match step.act() {
                Act::Write { bytes, dense } => sizes[slot] = bytes_of(bytes, dense, is_dense),
                Act::Read(_) if sizes[slot] == 0 => continue,
                Act::Read(_) if reads.contains(at) => {
                    reads.take(at);
                    used -= u64::from(sizes[slot]);
                }
                Act::Read(_) => misses += 1,
                Act::Discard(count) => {
                    sizes[slot..slot + count as usize].fill(0);
                    continue;
                }
                Act::Machine { .. } => continue,
            }
            if self.next[at] == NEVER || sizes[slot] == 0 {
                continue;
            }
            reads.put(self.next[at] as usize);
            used += u64::from(sizes[slot]);
            while used > pool_bytes {
                let farthest = reads.last().expect("there are bytes in use");
                reads.take(farthest);
                used -= u64::from(sizes[self.replay.steps[farthest].slot()]);
            }
        }
        misses
    }
}
