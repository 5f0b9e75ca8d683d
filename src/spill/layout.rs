//! The writer's view: which segments are free, and which to clean.
//!
//! Segments are taken in a circle, so that writes are in a row and a block rests as long as
//! possible before it is written again. A segment whose objects are all unwanted is free without
//! being read. When few are, one with something left is cleaned: it is read, what slots still name
//! is sealed again into the segment being filled, and then it is free as well.
//!
//! Which one: cost-benefit, after Rosenblum and Ousterhout's log-structured file system. Cleaning a
//! segment of which the share u is alive reads 1 and writes u, and gains 1 - u, for as long as that
//! stays free; what has been alive for long will stay so. So the best has the largest
//! (1 - u) age / (1 + u). The greedy choice (the smallest u) would wait until the segments of pages
//! that nobody touches any more are as empty as those that everybody does, which they never are,
//! and clean young ones instead that were about to empty by themselves. The age is counted in
//! segments written since, so there is no clock.

use super::segments::{SEGMENT_UNITS, Segments};
use crate::chaos::{Bug, planted};
use crate::limits::SPILL_RESERVE;

/// A segment with more than this alive is not cleaned: it would take eight times the writing that
/// it gains.
const LIVE_UNITS_MAX: u64 = SEGMENT_UNITS / 8 * 7;
/// Segments that have become free unseen are looked for when fewer than one in so many are known to
/// be: before a policy begins to clean.
const FREE_SHARE: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Being filled, or on its way to the disk.
    Writing,
    /// Written; slots may name what is in it.
    Full,
    /// Being cleaned: not free, whatever is left in it, before its objects have been looked at.
    Cleaning {
        /// Something of it did not get away.
        stays: bool,
    },
    /// Cleaned: what is left in it is about to move.
    Leaving,
    /// Something in it cannot be read: of no use until no slot names anything in it.
    Damaged,
}

/// Where a segment's summary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Where it begins, in units of `Location::UNIT`.
    pub unit: u32,
    /// How many records it has.
    pub objects: usize,
}

#[derive(Clone, Copy, Debug)]
struct Info {
    state: State,
    summary_unit: u16,
    objects: u16,
}

impl Info {
    /// What is written down about a segment. One that a dead server was writing is free: whoever
    /// takes it has waited for that write, because he has the disk's lock.
    fn of(segments: &Segments, index: usize) -> Self {
        let summary = segments.summary(index);
        let state = match summary {
            Some(_) if segments.live_units(index) > 0 => State::Full,
            _ => State::Free,
        };
        let Summary { unit, objects } = summary.unwrap_or(Summary { unit: 0, objects: 0 });
        Self { state, summary_unit: unit as u16, objects: objects as u16 }
    }
}

fn count_free(infos: &[Info]) -> usize {
    infos.iter().filter(|info| info.state == State::Free).count()
}

/// A segment to clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Which.
    pub segment: u32,
    /// The write that filled it.
    pub sequence: u64,
    /// Where its summary is.
    pub summary: Summary,
}

/// Which segments are free. One thread's.
#[derive(Debug)]
pub struct Layout {
    infos: Box<[Info]>,
    /// Segments in the state free; [`Layout::set`] keeps it right.
    free: usize,
    /// The segment that was taken last.
    cursor: usize,
    next_sequence: u64,
}

impl Layout {
    /// What is written down about the segments: all free if they are new. After a crash, call it
    /// when what slots name is counted. Allocates 6 bytes a segment.
    pub fn new(segments: &Segments) -> Self {
        let count = segments.count();
        let infos: Box<[Info]> = (0..count).map(|index| Info::of(segments, index)).collect();
        let free = count_free(&infos);
        let latest = (0..count).max_by_key(|&index| segments.sequence(index));
        let latest = latest.filter(|&index| segments.sequence(index) > 0);
        let cursor = latest.unwrap_or(count.saturating_sub(1));
        Self { infos, free, cursor, next_sequence: segments.next_sequence() }
    }

    fn set(&mut self, index: usize, state: State) {
        let info = &mut self.infos[index];
        self.free -= usize::from(info.state == State::Free);
        self.free += usize::from(state == State::Free);
        info.state = state;
    }

    /// Panics unless as many segments are free as are counted so. For tests.
    pub fn check(&self) {
        assert_eq!(self.free, count_free(&self.infos), "segments counted free, and free ones");
    }

    /// Number of the next write. No number may ever be used twice with a key.
    pub const fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Segments known to be free, the reserve included.
    pub const fn free(&self) -> usize {
        self.free
    }

    /// Bytes of memory that this takes.
    pub fn bookkeeping_bytes(&self) -> u64 {
        size_of_val::<[Info]>(&self.infos) as u64
    }

    /// Takes the next free segment and numbers its write. `None`: none is free, but for the
    /// reserve, which is for cleaning. O(segments) when few are free.
    pub fn take(&mut self, segments: &Segments, cleaning: bool) -> Option<(u32, u64)> {
        let kept = if cleaning { 0 } else { SPILL_RESERVE };
        if self.free <= SPILL_RESERVE {
            self.find_free(segments);
        }
        if self.free <= kept {
            return None;
        }
        let count = self.infos.len();
        let mut circle = (1..=count).map(|step| (self.cursor + step) % count);
        self.cursor = circle.find(|&index| self.infos[index].state == State::Free)?;
        self.set(self.cursor, State::Writing);
        let (segment, sequence) = (self.cursor as u32, self.next_sequence);
        self.next_sequence += 1;
        segments.begin(segment, sequence);
        Some((segment, sequence))
    }

    /// Makes the segments free of which no slot names anything any more.
    fn find_free(&mut self, segments: &Segments) {
        for index in 0..self.infos.len() {
            let idle = match self.infos[index].state {
                State::Full | State::Leaving | State::Damaged => true,
                State::Free | State::Writing => false,
                // Its cleaning says what it is when it ends.
                State::Cleaning { .. } => planted(Bug::VictimFreed),
            };
            if idle && segments.live_units(index) == 0 {
                self.set(index, State::Free);
            }
        }
    }

    /// A segment is on the disk, and slots are about to name `units` of it.
    pub fn written(&mut self, segments: &Segments, segment: u32, summary: Summary) {
        let Summary { unit, objects } = summary;
        segments.fill(segment, summary);
        self.set(segment as usize, State::Full);
        let info = &mut self.infos[segment as usize];
        (info.summary_unit, info.objects) = (unit as u16, objects as u16);
    }

    /// A segment could not be written; no slot names anything in it. Its turn comes again when all
    /// others have had theirs.
    pub fn dropped(&mut self, segment: u32) {
        self.set(segment as usize, State::Free);
    }

    /// Makes the segments free of which no slot names anything any more, if few are known to be.
    /// O(segments) then.
    pub fn find_free_if_few(&mut self, segments: &Segments) {
        if self.free < SPILL_RESERVE + self.infos.len() / FREE_SHARE {
            self.find_free(segments);
        }
    }

    /// The segment best cleaned now; `None` if none is worth it. O(segments).
    pub fn victim(&self, segments: &Segments) -> Option<Victim> {
        let scored = self.infos.iter().enumerate().filter_map(|(index, info)| {
            let live = u64::from(segments.live_units(index));
            let good = info.state == State::Full && live > 0 && live <= LIVE_UNITS_MAX;
            let sequence = segments.sequence(index);
            let age = self.next_sequence.saturating_sub(sequence).min(u64::from(u32::MAX));
            let score = (SEGMENT_UNITS - live) * age * 256 / (SEGMENT_UNITS + live);
            good.then_some((score, index, sequence))
        });
        let (_, index, sequence) = scored.max_by_key(|&(score, ..)| score)?;
        let Info { summary_unit, objects, .. } = self.infos[index];
        let summary = Summary { unit: summary_unit.into(), objects: objects.into() };
        Some(Victim { segment: index as u32, sequence, summary })
    }

    /// A segment's cleaning begins. It ends with [`Layout::leaving`] or [`Layout::damaged`], and
    /// until then the segment is neither free nor a victim, whatever becomes of its objects.
    pub fn cleaning(&mut self, segment: u32) {
        debug_assert_eq!(self.infos[segment as usize].state, State::Full, "a victim");
        self.set(segment as usize, State::Cleaning { stays: false });
    }

    /// Everything that slots name in a segment being cleaned is on its way to another one.
    pub fn leaving(&mut self, segment: u32) {
        let stays = self.infos[segment as usize].state == State::Cleaning { stays: true };
        self.end_cleaning(segment, if stays { State::Full } else { State::Leaving });
    }

    /// Something in a segment being cleaned cannot be read.
    pub fn damaged(&mut self, segment: u32) {
        self.end_cleaning(segment, State::Damaged);
    }

    fn end_cleaning(&mut self, segment: u32, state: State) {
        if planted(Bug::VictimFreed) {
            self.infos[segment as usize].state = state;
        }
        if matches!(self.infos[segment as usize].state, State::Cleaning { .. }) {
            self.set(segment as usize, state);
        }
    }

    /// Something of a segment that is or was cleaned did not get away: it may be cleaned again.
    pub fn stays(&mut self, segment: u32) {
        match self.infos[segment as usize].state {
            State::Leaving => self.set(segment as usize, State::Full),
            State::Cleaning { .. } => {
                self.set(segment as usize, State::Cleaning { stays: true });
            }
            _ => {}
        }
    }

    /// How many segments hold something, or are being written.
    pub fn used(&self) -> usize {
        self.infos.len() - self.free
    }
}
