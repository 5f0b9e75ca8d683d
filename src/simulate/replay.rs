//! A recording made ready to be replayed again and again: 16 bytes a step, sizes beside the write
//! that they belong to, slots numbered without gaps and in the same order.

use super::estimate::Sizes;
use super::pace::{Pace, Pacer};
use crate::trace::{Event, Kind, Source, Stored};
use crate::units::PAGE_SIZE;
use serde::Serialize;

/// One step of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Microseconds in the low 44 bits, the kind above.
    head: u64,
    /// The slot in the low half, what goes with the kind in the high one.
    tail: u64,
}

const TIME_BITS: u32 = 44;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// What happens in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The kernel writes the page.
    Write {
        /// Bytes of data: 0 for a word repeated, a page for one that does not compress,
        /// [`UNSETTLED`] for one that never gets as far.
        bytes: u16,
        /// Bytes when made denser; 0 if that does not pay.
        dense: u16,
    },
    /// The kernel reads the page; it was there when that was recorded.
    Read(Source),
    /// The kernel does not need so many slots, from this one on.
    Discard(u32),
    /// How the machine stood.
    Machine {
        /// `MemAvailable`, MiB.
        available_mib: u32,
        /// PSI `some avg10`, permille.
        some_permille: u16,
        /// PSI `full avg10`, permille.
        full_permille: u16,
    },
}

/// Bytes of a page that is written again, or not needed any more, before it is compressed.
pub const UNSETTLED: u16 = 8191;
/// A dense size that is not known.
const UNKNOWN: u16 = 8191;

const WRITE: u64 = 0;
const READ: u64 = 1;
const DISCARD: u64 = 2;
const MACHINE: u64 = 3;
/// Only while the array is made.
const STORED: u64 = 4;
const DENSER: u64 = 5;

const SOURCES: [Source; 7] = [
    Source::Empty,
    Source::Staged,
    Source::Same,
    Source::Pool,
    Source::Dense,
    Source::Huge,
    Source::Spill,
];

impl Step {
    const fn new(time_us: u64, kind: u64, slot: u32, with: u32) -> Self {
        let time_us = if time_us > TIME_MASK { TIME_MASK } else { time_us };
        Self { head: time_us | kind << TIME_BITS, tail: slot as u64 | (with as u64) << 32 }
    }

    /// Microseconds since the recording began.
    #[inline]
    pub const fn time_us(self) -> u64 {
        self.head & TIME_MASK
    }

    const fn kind(self) -> u64 {
        self.head >> TIME_BITS
    }

    /// The slot, as numbered in the replay.
    #[inline]
    pub const fn slot(self) -> usize {
        self.tail as u32 as usize
    }

    const fn with(self) -> u32 {
        (self.tail >> 32) as u32
    }

    /// What happens.
    #[inline]
    pub const fn act(self) -> Act {
        let with = self.with();
        match self.kind() {
            WRITE => Act::Write { bytes: with as u16, dense: (with >> 16) as u16 },
            READ => Act::Read(SOURCES[if with < 7 { with as usize } else { 0 }]),
            DISCARD => Act::Discard(with),
            _ => Act::Machine {
                available_mib: self.tail as u32,
                some_permille: with as u16,
                full_permille: (with >> 16) as u16,
            },
        }
    }

    /// Whether the kernel reads a page.
    #[inline]
    pub const fn is_read(self) -> bool {
        self.kind() == READ
    }

    /// Whether it is about the one slot, and not a read.
    #[inline]
    pub const fn is_write(self) -> bool {
        self.kind() == WRITE
    }

    const fn of(event: &Event) -> Option<Self> {
        let (kind, with) = match event.kind {
            Kind::Write => (WRITE, UNSETTLED as u32 | (UNKNOWN as u32) << 16),
            Kind::Read(source) => (READ, code(source)),
            Kind::Discard { count } => (DISCARD, count),
            Kind::Stored(Stored::Same) => (STORED, 0),
            Kind::Stored(Stored::Compressed { bytes }) => (STORED, bytes as u32),
            Kind::Stored(Stored::Huge) => (STORED, PAGE_SIZE as u32),
            Kind::Denser { bytes } => (DENSER, bytes as u32),
            Kind::NotDenser => (DENSER, 0),
            Kind::Spilled | Kind::Promoted => return None,
            Kind::Machine { available_mib, some_permille, full_permille } => {
                let with = some_permille as u32 | (full_permille as u32) << 16;
                return Some(Self::new(event.time_us, MACHINE, available_mib, with));
            }
        };
        Some(Self::new(event.time_us, kind, event.slot.0, with))
    }
}

const fn code(source: Source) -> u32 {
    match source {
        Source::Empty => 0,
        Source::Staged => 1,
        Source::Same => 2,
        Source::Pool => 3,
        Source::Dense => 4,
        Source::Huge => 5,
        Source::Spill => 6,
    }
}

/// What the service did while it was recorded, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Live {
    /// Pages written.
    pub writes: u64,
    /// Pages read, by where they were.
    pub reads: super::Reads,
    /// Discarded slots.
    pub discards: u64,
    /// Pages made denser.
    pub denser_pages: u64,
    /// Attempts that did not pay.
    pub not_denser_pages: u64,
    /// Pages that left the pool for the spill.
    pub spilled_pages: u64,
    /// Pages that came back.
    pub promoted_pages: u64,
}

impl Live {
    fn count(&mut self, kind: &Kind) {
        match kind {
            Kind::Write => self.writes += 1,
            Kind::Read(source) => *self.reads.of(*source) += 1,
            Kind::Discard { count } => self.discards += u64::from(*count),
            Kind::Denser { .. } => self.denser_pages += 1,
            Kind::NotDenser => self.not_denser_pages += 1,
            Kind::Spilled => self.spilled_pages += 1,
            Kind::Promoted => self.promoted_pages += 1,
            Kind::Stored(_) | Kind::Machine { .. } => {}
        }
    }
}

/// A recording, ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// In the order of time.
    pub steps: Vec<Step>,
    /// Slots that a page was written to or read from.
    pub slots: usize,
    /// What the service did.
    pub live: Live,
    /// Where the sizes are from.
    pub sizes: SizesKnown,
    /// How fast the machine was.
    pub pace: Pace,
}

/// Where the sizes of a replay are from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SizesKnown {
    /// Writes whose page was compressed, and its size known.
    pub stored_pages: u64,
    /// Writes that were undone before, or whose size was not recorded.
    pub unsettled_pages: u64,
    /// Stored pages of which it is known what they are made denser.
    pub dense_known_pages: u64,
    /// Those of which it was estimated.
    pub dense_estimated_pages: u64,
}

impl Replay {
    /// Reads all events. The first error ends it. Allocates 16 bytes an event and 4 a slot.
    pub fn new<E>(events: impl IntoIterator<Item = Result<Event, E>>) -> Result<Self, E> {
        let (mut steps, mut live, mut used) = (Vec::new(), Live::default(), Used::default());
        let (mut pacer, mut latest) = (Pacer::default(), 0);
        for event in events {
            let event = event?;
            live.count(&event.kind);
            // Several threads write events: neighbours may have changed places.
            latest = event.time_us.max(latest);
            let event = Event { time_us: latest, ..event };
            pacer.note(&event);
            let Some(step) = Step::of(&event) else { continue };
            if matches!(step.kind(), WRITE | READ) {
                used.add(step.slot());
            }
            steps.push(step);
        }
        used.rank();
        let mut sizes = SizesKnown::default();
        join(&mut steps, &used);
        let known = Sizes::learn(steps.iter().filter_map(|step| match step.act() {
            Act::Write { bytes, dense } if dense != UNKNOWN => Some((bytes, dense)),
            _ => None,
        }));
        for step in steps.iter_mut().filter(|step| step.is_write()) {
            let Act::Write { bytes, dense } = step.act() else { continue };
            match bytes {
                UNSETTLED => sizes.unsettled_pages += 1,
                _ => sizes.stored_pages += 1,
            }
            let is_object = bytes > 0 && bytes != UNSETTLED;
            sizes.dense_known_pages += u64::from(is_object && dense != UNKNOWN);
            sizes.dense_estimated_pages += u64::from(is_object && dense == UNKNOWN);
            let dense = if dense == UNKNOWN { known.dense(bytes) } else { dense };
            step.set_with(u32::from(bytes) | u32::from(dense) << 16);
        }
        Ok(Self { steps, slots: used.count as usize, live, sizes, pace: pacer.pace() })
    }

    /// The first so many steps of it.
    pub fn part(&self, steps: usize) -> Self {
        Self { steps: self.steps[..steps.min(self.steps.len())].to_vec(), ..*self }
    }

    /// Microseconds from the beginning to the last step.
    pub fn duration_us(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.time_us())
    }
}

impl Step {
    const fn set_with(&mut self, with: u32) {
        self.tail = self.tail as u32 as u64 | (with as u64) << 32;
    }
}

/// Gives slots their numbers, and writes their sizes.
fn join(steps: &mut Vec<Step>, used: &Used) {
    let mut last = vec![u32::MAX; used.count as usize];
    let mut kept = 0_usize;
    for i in 0..steps.len() {
        let mut step = steps[i];
        let kind = step.kind();
        if kind == MACHINE {
            steps[kept] = step;
            kept += 1;
            continue;
        }
        let (first, end) = match kind {
            DISCARD => {
                (used.of(step.slot()), used.of(step.slot().saturating_add(step.with() as usize)))
            }
            _ => (used.of(step.slot()), used.of(step.slot().saturating_add(1))),
        };
        let written = || last.get(first as usize).filter(|_| end > first).copied();
        match kind {
            STORED | DENSER => {
                let Some(write) = written().filter(|at| *at != u32::MAX) else { continue };
                let about = &mut steps[write as usize];
                let with = about.with();
                about.set_with(match kind {
                    STORED => with & 0xffff_0000 | step.with() & 0xffff,
                    _ => with & 0xffff | step.with() << 16,
                });
                continue;
            }
            DISCARD if end == first => continue,
            DISCARD => step.set_with(end - first),
            WRITE => last[first as usize] = kept as u32,
            _ => {}
        }
        step.tail = step.tail & !u64::from(u32::MAX) | u64::from(first);
        steps[kept] = step;
        kept += 1;
    }
    steps.truncate(kept);
    steps.shrink_to_fit();
}

/// Slots in use, and how many of them are below each.
#[derive(Debug, Default)]
struct Used {
    bits: Vec<u64>,
    below: Vec<u32>,
    count: u32,
}

impl Used {
    fn add(&mut self, slot: usize) {
        if slot / 64 >= self.bits.len() {
            self.bits.resize(slot / 64 + 1, 0);
        }
        self.bits[slot / 64] |= 1 << (slot % 64);
    }

    fn rank(&mut self) {
        self.below = self
            .bits
            .iter()
            .map(|word| {
                let below = self.count;
                self.count += word.count_ones();
                below
            })
            .collect();
    }

    /// How many are below `slot`.
    fn of(&self, slot: usize) -> u32 {
        match self.bits.get(slot / 64) {
            Some(word) => self.below[slot / 64] + (word & ((1 << (slot % 64)) - 1)).count_ones(),
            None => self.count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SlotIndex;

    fn event(time_us: u64, slot: u32, kind: Kind) -> Result<Event, ()> {
        Ok(Event { time_us, slot: SlotIndex(slot), kind })
    }

    fn stored(bytes: u16) -> Kind {
        Kind::Stored(Stored::Compressed { bytes })
    }

    #[test]
    fn sizes_go_to_the_write_that_they_are_of_and_slots_close_up() {
        let replay = Replay::new([
            event(1, 900, Kind::Write),
            event(2, 5, Kind::Write),
            event(9, 900, stored(1000)),
            event(4, 5, Kind::Stored(Stored::Same)),
            event(10, 900, Kind::Denser { bytes: 500 }),
            event(11, 900, Kind::Read(Source::Dense)),
            event(12, 900, Kind::Write),
            event(13, 900, Kind::Spilled),
            event(14, 6, Kind::Discard { count: 10 }),
            event(15, 0, Kind::Discard { count: 901 }),
        ])
        .expect("no errors");
        let acts: Vec<_> = replay.steps.iter().map(|s| (s.time_us(), s.slot(), s.act())).collect();
        assert_eq!(
            acts,
            [
                (1, 1, Act::Write { bytes: 1000, dense: 500 }),
                (2, 0, Act::Write { bytes: 0, dense: 0 }),
                (11, 1, Act::Read(Source::Dense)),
                (12, 1, Act::Write { bytes: UNSETTLED, dense: 0 }),
                (15, 0, Act::Discard(2)),
            ]
        );
        assert_eq!(replay.slots, 2);
        let live = replay.live;
        assert_eq!((live.writes, live.reads.dense, live.denser_pages), (3, 1, 1));
        assert_eq!((live.spilled_pages, live.discards), (1, 911));
        let known = replay.sizes;
        assert_eq!((known.stored_pages, known.unsettled_pages), (2, 1));
        assert_eq!((known.dense_known_pages, known.dense_estimated_pages), (1, 0));
    }

    #[test]
    fn time_never_goes_back_and_the_machine_keeps_its_numbers() {
        let machine =
            Kind::Machine { available_mib: 70_000, some_permille: 999, full_permille: 12 };
        let replay = Replay::new([event(50, 0, machine), event(20, 7, Kind::Read(Source::Spill))])
            .expect("no errors");
        assert_eq!(replay.steps.iter().map(|s| s.time_us()).collect::<Vec<_>>(), [50, 50]);
        let act = Act::Machine { available_mib: 70_000, some_permille: 999, full_permille: 12 };
        assert_eq!(replay.steps[0].act(), act);
        assert_eq!(replay.steps[1].act(), Act::Read(Source::Spill));
        assert_eq!(size_of::<Step>(), 16);
    }

    #[test]
    fn the_first_error_ends_it() {
        let bad = [event(1, 0, Kind::Write), Err(()), event(2, 0, Kind::Write)];
        assert_eq!(Replay::new(bad), Err(()));
    }
}
