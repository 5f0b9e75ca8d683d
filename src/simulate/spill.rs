//! The simulated spill: segments being filled, on their way to a disk that takes its time, and
//! cleaned. What is where, and which segment is cleaned, is the spill's own bookkeeping.

use crate::limits::{SEGMENT_BYTES, SPILL_DRAFTS};
use crate::spill::{Layout, Segments, Summary};
use crate::units::Location;
use std::collections::VecDeque;

/// An object in a draft: whose it is, and where it was.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Its slot.
    pub slot: u32,
    /// Position in the segment, units.
    pub unit: u16,
    /// Bytes of data.
    pub len: u16,
    /// Where it was, in units.
    pub from: u64,
    /// That was in the spill.
    pub cleaned: bool,
}

/// A segment being filled or written.
#[derive(Debug, Default)]
struct Draft {
    segment: u32,
    used: u32,
    moves: Vec<Move>,
}

impl Draft {
    fn summary(&self) -> Summary {
        Summary { unit: self.used, objects: self.moves.len() }
    }
}

/// A segment being cleaned.
#[derive(Debug)]
struct Cleaning {
    segment: u32,
    next: usize,
}

/// The disk and what is under way to it.
#[derive(Debug)]
pub struct Spill {
    segments: Segments,
    layout: Layout,
    /// Slot and position of everything that was written to each segment.
    records: Vec<Box<[(u32, u16)]>>,
    open: Option<Draft>,
    under_way: VecDeque<(u64, Draft)>,
    idle: Vec<Vec<Move>>,
    cleaning: Option<Cleaning>,
    bytes_per_us: f64,
    free_at_us: u64,
    /// All bytes written.
    pub written_bytes: u64,
    /// Live bytes written again.
    pub cleaned_bytes: u64,
    /// Bytes of objects written.
    pub payload_bytes: u64,
    /// Pages in the spill, and bytes of their data.
    pub pages: u64,
    /// Bytes of their data.
    pub data_bytes: u64,
}

/// Why an object was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All segments in memory are on their way.
    Busy,
    /// No segment is free.
    NoSegment,
}

/// What a step of cleaning did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// There is nothing worth it.
    Nothing,
    /// All segments in memory are on their way.
    Busy,
    /// A segment is done.
    Segment,
}

impl Spill {
    /// An empty one of so many bytes on a disk of so many MiB a second.
    pub fn new(bytes: u64, mib_per_second: f64) -> Self {
        let segments = Segments::new(bytes);
        let layout = Layout::new(&segments);
        Self {
            records: vec![Box::default(); segments.count()],
            segments,
            layout,
            open: None,
            under_way: VecDeque::new(),
            idle: vec![Vec::new(); SPILL_DRAFTS],
            cleaning: None,
            bytes_per_us: mib_per_second * (1 << 20) as f64 / 1e6,
            free_at_us: 0,
            written_bytes: 0,
            cleaned_bytes: 0,
            payload_bytes: 0,
            pages: 0,
            data_bytes: 0,
        }
    }

    /// Bytes of all segments, and of those in use.
    pub fn bytes(&self) -> (u64, u64) {
        let segment = SEGMENT_BYTES as u64;
        (self.segments.count() as u64 * segment, self.layout.used() as u64 * segment)
    }

    /// Looks for free segments if few are known to be.
    pub fn find_free(&mut self) {
        self.layout.find_free_if_few(&self.segments);
    }

    /// A slot no longer names this object.
    #[inline]
    pub fn dead(&mut self, at: Location, len: u16) {
        self.segments.dead(at, len);
        self.pages -= 1;
        self.data_bytes -= u64::from(len);
    }

    /// Whether something is on its way to the disk.
    pub fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// When the next transfer ends, microseconds.
    pub fn next_end_us(&self) -> Option<u64> {
        self.under_way.front().map(|(end, _)| *end)
    }

    fn transfer(&mut self, bytes: u64, now_us: u64) -> u64 {
        let begin = self.free_at_us.max(now_us);
        self.free_at_us = begin + (bytes as f64 / self.bytes_per_us).ceil() as u64;
        self.free_at_us
    }

    /// Takes an object along; it is published when its segment has been written.
    pub fn add(&mut self, slot: u32, len: u16, from: u64, now_us: u64) -> Result<(), Refusal> {
        self.make_room(len, false, now_us)?;
        self.push(Move { slot, unit: 0, len, from, cleaned: false });
        self.payload_bytes += u64::from(len);
        Ok(())
    }

    fn push(&mut self, moved: Move) {
        let draft = self.open.as_mut().expect("room was made in it");
        draft.moves.push(Move { unit: draft.used as u16, ..moved });
        draft.used += Segments::units_of(moved.len);
    }

    fn make_room(&mut self, len: u16, cleaning: bool, now_us: u64) -> Result<(), Refusal> {
        if self.open.as_ref().is_some_and(|draft| draft.summary().fits(len)) {
            return Ok(());
        }
        self.flush(now_us);
        let Some(mut moves) = self.idle.pop() else { return Err(Refusal::Busy) };
        let Some((segment, _)) = self.layout.take(&self.segments, cleaning) else {
            self.idle.push(moves);
            return Err(Refusal::NoSegment);
        };
        moves.clear();
        self.open = Some(Draft { segment, used: 0, moves });
        Ok(())
    }

    /// Sends the segment being filled off.
    pub fn flush(&mut self, now_us: u64) {
        let Some(draft) = self.open.take() else { return };
        let bytes = draft.summary().written_bytes() as u64;
        self.written_bytes += bytes;
        let end = self.transfer(bytes, now_us);
        self.under_way.push_back((end, draft));
    }

    /// Publishes one segment that has been written by now: `publish` is told every object and where
    /// it is, and says whether its slot names it from now on.
    pub fn collect(
        &mut self,
        now_us: u64,
        mut publish: impl FnMut(&Move, Location) -> bool,
    ) -> bool {
        if self.next_end_us().is_none_or(|end| end > now_us) {
            return false;
        }
        let Some((_, draft)) = self.under_way.pop_front() else { return false };
        self.layout.written(&self.segments, draft.segment, draft.summary());
        for moved in &draft.moves {
            let at = Segments::location(draft.segment, moved.unit.into());
            let gone = match (publish(moved, at), moved.cleaned) {
                (true, false) => {
                    self.pages += 1;
                    self.data_bytes += u64::from(moved.len);
                    continue;
                }
                (true, true) => Location::from_units(moved.from),
                (false, _) => at,
            };
            self.segments.dead(gone, moved.len);
        }
        let records = draft.moves.iter().map(|moved| (moved.slot, moved.unit));
        self.records[draft.segment as usize] = records.collect();
        self.idle.push(draft.moves);
        true
    }

    /// Goes on with cleaning a segment, or begins with the best one. `named`: the length of a
    /// slot's object if it is at this place.
    pub fn clean(
        &mut self,
        now_us: u64,
        mut named: impl FnMut(u32, Location) -> Option<u16>,
    ) -> Cleaned {
        let mut cleaning = match self.cleaning.take() {
            Some(cleaning) => cleaning,
            None => {
                let Some(victim) = self.layout.victim(&self.segments) else {
                    return Cleaned::Nothing;
                };
                self.layout.cleaning(victim.segment);
                self.transfer(victim.summary.written_bytes() as u64, now_us);
                Cleaning { segment: victim.segment, next: 0 }
            }
        };
        let segment = cleaning.segment;
        while let Some(&(slot, unit)) = self.records[segment as usize].get(cleaning.next) {
            let at = Segments::location(segment, unit.into());
            let Some(len) = named(slot, at) else {
                cleaning.next += 1;
                continue;
            };
            if self.make_room(len, true, now_us).is_err() {
                self.cleaning = Some(cleaning);
                return Cleaned::Busy;
            }
            cleaning.next += 1;
            self.push(Move { slot, unit: 0, len, from: at.units(), cleaned: true });
            self.cleaned_bytes += u64::from(len);
            self.payload_bytes += u64::from(len);
        }
        self.layout.leaving(segment);
        Cleaned::Segment
    }

    /// Whether a cleaning is begun and not finished.
    pub const fn is_cleaning(&self) -> bool {
        self.cleaning.is_some()
    }
}
