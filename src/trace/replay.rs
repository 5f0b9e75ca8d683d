//! A trace in memory, small and ready to be replayed again and again.
//!
//! What the machine did to a page (made denser, spilled) is not in it: that is for whoever replays
//! to decide. What a page is like is: its sizes are joined to the write that brought it.

use super::{Event, Header, Kind, Reader, Source, Stored, TraceError, Trailer, summarize};
use crate::units::{PAGE_SIZE, SlotIndex};
use std::collections::HashMap;
use std::io::Read;

/// What the kernel asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A page was written.
    Write {
        /// What it became; `None`: it was gone before it was compressed, or that is not in the
        /// trace.
        stored: Option<Stored>,
        /// Bytes after it was made denser, [`PAGE_SIZE`] if that did not pay; `None`: never tried.
        dense_bytes: Option<u16>,
    },
    /// It was read, and was there.
    Read(Source),
    /// So many slots, from this one on, are not needed any more.
    Discard {
        /// At least 1.
        count: u32,
    },
    /// How the machine stood, see [`Kind::Machine`].
    Machine {
        /// `MemAvailable`, MiB, at most 2^24.
        available_mib: u32,
        /// PSI `some avg10`, permille.
        some_permille: u16,
        /// PSI `full avg10`, permille.
        full_permille: u16,
    },
}

/// One step of a replay: 16 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// From the top: 6 bits of code, 58 of microseconds.
    time_and_code: u64,
    slot: u32,
    /// Of a write the two sizes, of a discard its count.
    sizes: u32,
}

const _: () = assert!(size_of::<Step>() == 16);

const TIME_BITS: u32 = 58;
const WRITE: u64 = 0;
const DISCARD: u64 = 1;
const MACHINE: u64 = 2;
const READ: u64 = 3;

/// Sizes of a write: these, or bytes.
const UNKNOWN: u16 = u16::MAX;
const SAME: u16 = 0;
const HUGE: u16 = PAGE_SIZE as u16;

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
    /// Of an event that is one.
    fn of(event: &Event) -> Option<Self> {
        let (code, slot, sizes) = match event.kind {
            Kind::Write => (WRITE, event.slot.0, join(UNKNOWN, UNKNOWN)),
            Kind::Read(source) => (READ + source as u64, event.slot.0, 0),
            Kind::Discard { count } => (DISCARD, event.slot.0, count),
            Kind::Machine { available_mib, some_permille, full_permille } => {
                (MACHINE, available_mib, join(some_permille, full_permille))
            }
            _ => return None,
        };
        let time = event.time_us.min((1 << TIME_BITS) - 1);
        Some(Self { time_and_code: time | code << TIME_BITS, slot, sizes })
    }

    /// Microseconds since the recording began.
    #[inline]
    pub const fn time_us(&self) -> u64 {
        self.time_and_code & ((1 << TIME_BITS) - 1)
    }

    /// The slot, the first one of a discard.
    #[inline]
    pub const fn slot(&self) -> SlotIndex {
        SlotIndex(if self.time_and_code >> TIME_BITS == MACHINE { 0 } else { self.slot })
    }

    /// What was asked for.
    #[inline]
    pub fn op(&self) -> Op {
        let (first, second) = split(self.sizes);
        match self.time_and_code >> TIME_BITS {
            WRITE => Op::Write {
                stored: match first {
                    UNKNOWN => None,
                    SAME => Some(Stored::Same),
                    HUGE => Some(Stored::Huge),
                    bytes => Some(Stored::Compressed { bytes }),
                },
                dense_bytes: (second != UNKNOWN).then_some(second),
            },
            DISCARD => Op::Discard { count: self.sizes },
            MACHINE => Op::Machine {
                available_mib: self.slot,
                some_permille: first,
                full_permille: second,
            },
            read => Op::Read(SOURCES[(read - READ) as usize % SOURCES.len()]),
        }
    }
}

const fn join(first: u16, second: u16) -> u32 {
    first as u32 | (second as u32) << 16
}

const fn split(sizes: u32) -> (u16, u16) {
    (sizes as u16, (sizes >> 16) as u16)
}

/// A whole trace.
#[derive(Debug)]
pub struct Replay {
    /// Where it comes from.
    pub header: Header,
    /// What is in it.
    pub trailer: Trailer,
    /// What the kernel asked for, in the order of time.
    pub steps: Vec<Step>,
}

impl Replay {
    /// Reads all of a trace. Takes 16 bytes for each step, and while it reads about as much for
    /// each slot that was written.
    pub fn load<R: Read>(reader: Reader<R>) -> Result<Self, TraceError> {
        let mut loading = Loading::default();
        let (header, trailer) = summarize(reader, |event| loading.add(event))?;
        let mut steps = loading.steps;
        steps.shrink_to_fit();
        Ok(Self { header, trailer, steps })
    }
}

#[derive(Default)]
struct Loading {
    steps: Vec<Step>,
    /// For each slot the step that wrote what is there now.
    writers: HashMap<u32, usize>,
}

impl Loading {
    fn add(&mut self, event: &Event) {
        let slot = event.slot.0;
        match event.kind {
            Kind::Write => {
                self.writers.insert(slot, self.steps.len());
            }
            Kind::Discard { count } => self.forget(slot, count),
            Kind::Stored(Stored::Same) => self.size(slot, |sizes| sizes.0 = SAME),
            Kind::Stored(Stored::Compressed { bytes }) => self.size(slot, |sizes| sizes.0 = bytes),
            Kind::Stored(Stored::Huge) => self.size(slot, |sizes| sizes.0 = HUGE),
            Kind::Denser { bytes } => self.size(slot, |sizes| sizes.1 = bytes),
            Kind::NotDenser => self.size(slot, |sizes| sizes.1 = HUGE),
            _ => {}
        }
        self.steps.extend(Step::of(event));
    }

    /// Changes the sizes of the page in a slot, if it is known who wrote it.
    fn size(&mut self, slot: u32, change: impl FnOnce(&mut (u16, u16))) {
        if let Some(step) = self.writers.get(&slot).and_then(|at| self.steps.get_mut(*at)) {
            let mut sizes = split(step.sizes);
            change(&mut sizes);
            step.sizes = join(sizes.0, sizes.1);
        }
    }

    fn forget(&mut self, first: u32, count: u32) {
        if count as usize > self.writers.len() {
            self.writers.retain(|slot, _| slot.wrapping_sub(first) >= count);
        } else {
            for slot in (0..count).map(|i| first.wrapping_add(i)) {
                self.writers.remove(&slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::testing::written;

    fn event(time_us: u64, slot: u32, kind: Kind) -> Event {
        Event { time_us, slot: SlotIndex(slot), kind }
    }

    #[test]
    fn sizes_are_joined_to_the_write_that_brought_the_page() {
        let machine = Kind::Machine { available_mib: 70_000, some_permille: 1, full_permille: 2 };
        let file = written(&[
            event(1, 7, Kind::Write),
            event(2, 7, Kind::Stored(Stored::Compressed { bytes: 900 })),
            event(3, 7, Kind::Denser { bytes: 700 }),
            event(4, 7, Kind::Spilled),
            event(5, 7, Kind::Promoted),
            event(5, 7, Kind::Read(Source::Spill)),
            event(6, 7, Kind::Write),
            event(7, 8, Kind::Write),
            event(8, 8, Kind::Stored(Stored::Huge)),
            event(9, 8, Kind::NotDenser),
            event(10, 6, Kind::Discard { count: 3 }),
            event(11, 8, Kind::Denser { bytes: 5 }),
            event(12, 0, machine),
            event(13, 9, Kind::Write),
            event(14, 9, Kind::Stored(Stored::Same)),
        ]);
        let replay = Replay::load(Reader::new(&file[..]).expect("header")).expect("whole");
        let steps: Vec<_> =
            replay.steps.iter().map(|step| (step.time_us(), step.slot().0, step.op())).collect();
        let write = |stored, dense_bytes| Op::Write { stored, dense_bytes };
        assert_eq!(
            steps,
            [
                (1, 7, write(Some(Stored::Compressed { bytes: 900 }), Some(700))),
                (5, 7, Op::Read(Source::Spill)),
                (6, 7, write(None, None)),
                (7, 8, write(Some(Stored::Huge), Some(4096))),
                (10, 6, Op::Discard { count: 3 }),
                (12, 0, Op::Machine { available_mib: 70_000, some_permille: 1, full_permille: 2 }),
                (13, 9, write(Some(Stored::Same), None)),
            ]
        );
    }

    #[test]
    fn nothing_is_loaded_of_a_trace_that_is_cut() {
        let file = written(&[event(1, 7, Kind::Write)]);
        let reader = Reader::new(&file[..file.len() - 1]).expect("header");
        assert!(matches!(Replay::load(reader), Err(TraceError::Truncated)));
    }
}
