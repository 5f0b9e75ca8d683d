//! A made recording: pages of a program that swaps, as often read as Zipf's law says.

use uswap::trace::{Event, Kind, Source, Stored};
use uswap::units::SlotIndex;

/// Splitmix64: the same numbers on every machine.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        (u128::from(self.next()) * u128::from(n) >> 64) as u64
    }
}

/// First every page is written, then pages are read, half of them changed and written again, and
/// one of 64 reads is followed by a discard of eight pages, which come again one by one.
#[derive(Debug)]
pub struct Zipf {
    random: Random,
    /// log2 of the slots.
    shift: u32,
    made: u64,
    us_per_event: f64,
    waiting: Vec<Event>,
}

impl Zipf {
    /// Pages in 2 to the `shift` slots, with so many events a second.
    pub const fn new(shift: u32, events_per_second: f64) -> Self {
        let us_per_event = 1e6 / events_per_second;
        Self { random: Random(7), shift, made: 0, us_per_event, waiting: Vec::new() }
    }

    /// Of the ranks 1 to n each is met about as often as one over the rank.
    fn slot(&mut self) -> u32 {
        let unit = (self.random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let rank = (unit * f64::from(self.shift) * std::f64::consts::LN_2).exp() as u64 - 1;
        // Ranks are spread over the table, each to a slot of its own.
        let mask = (1_u64 << self.shift) - 1;
        (rank.wrapping_mul(0x9e37_79b9_7f4a_7c15 | 1) & mask) as u32
    }

    fn write(&mut self, time_us: u64, slot: SlotIndex) -> Event {
        let stored = match self.random.below(100) {
            0..4 => Stored::Same,
            4..12 => Stored::Huge,
            _ => Stored::Compressed { bytes: 300 + self.random.below(2600) as u16 },
        };
        self.waiting.push(Event { time_us, slot, kind: Kind::Stored(stored) });
        Event { time_us, slot, kind: Kind::Write }
    }
}

impl Iterator for Zipf {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.waiting.pop() {
            return Some(event);
        }
        let time_us = (self.made as f64 * self.us_per_event) as u64;
        self.made += 1;
        if self.made <= 1 << self.shift {
            return Some(self.write(time_us, SlotIndex(self.made as u32 - 1)));
        }
        let slot = SlotIndex(self.slot());
        match self.random.below(128) {
            0 => {
                let slot = SlotIndex(slot.0 & !7);
                Some(Event { time_us, slot, kind: Kind::Discard { count: 8 } })
            }
            1..64 => Some(self.write(time_us, slot)),
            _ => Some(Event { time_us, slot, kind: Kind::Read(Source::Pool) }),
        }
    }
}
