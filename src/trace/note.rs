//! How a thread tells what it does, and how that is in its ring.

use super::code::{code_of, kind_of};
use super::{Event, Kind};
use crate::stats::QueueStats;
use crate::stats::tap::Packed;
use crate::units::SlotIndex;
use std::time::Instant;

/// Bits of the time in an event's first word; above them its code and the recording's number.
const TIME_BITS: u32 = 48;

/// Notes what this thread does to `slot`, at the time that its tap was told. A load and a branch
/// unless somebody records; never waits or allocates.
#[inline]
pub fn note(stats: &QueueStats, slot: SlotIndex, kind: Kind) {
    if stats.tap.is_on() {
        put(stats, slot, kind);
    }
}

/// The same at this moment: for threads that have looked at no clock.
#[inline]
pub fn note_now(stats: &QueueStats, slot: SlotIndex, kind: Kind) {
    if stats.tap.is_on() {
        stats.tap.set_time(Instant::now());
        put(stats, slot, kind);
    }
}

#[inline(never)]
fn put(stats: &QueueStats, slot: SlotIndex, kind: Kind) {
    let (recording, time_us) = stats.tap.moment();
    match stats.tap.put(pack(&Event { time_us, slot, kind }, recording)) {
        true => stats.trace_events.add(1),
        false => stats.trace_dropped_events.add(1),
    }
}

/// An event of the recording of this number as two words. A time beyond nine years is nine years.
#[inline]
fn pack(event: &Event, recording: u8) -> Packed {
    let (code, long, first, second) = code_of(event.kind);
    let time = event.time_us.min((1 << TIME_BITS) - 1);
    let head = time | u64::from(code) << TIME_BITS | u64::from(recording) << (TIME_BITS + 8);
    let (low, high) = match event.kind {
        Kind::Machine { .. } => (long, u32::from(first) | u32::from(second) << 16),
        Kind::Discard { .. } => (event.slot.0, long),
        _ => (event.slot.0, first.into()),
    };
    [head, u64::from(low) | u64::from(high) << 32]
}

/// What [`note`] put in, and the number of its recording; `None` if that is no event.
pub(super) fn unpack([head, words]: Packed) -> Option<(Event, u8)> {
    let (code, recording) = ((head >> TIME_BITS) as u8, (head >> (TIME_BITS + 8)) as u8);
    let (low, high) = (words as u32, (words >> 32) as u32);
    let (first, second) = (high as u16, (high >> 16) as u16);
    let (slot, coded) = match code {
        super::code::MACHINE => (0, (code, low, first, second)),
        super::code::DISCARD => (low, (code, high, 0, 0)),
        _ => (low, (code, 0, first, second)),
    };
    let event = Event {
        time_us: head & ((1 << TIME_BITS) - 1),
        slot: SlotIndex(slot),
        kind: kind_of(coded)?,
    };
    Some((event, recording))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::testing::any_event;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn events_come_back_from_two_words(event in any_event(), recording: u8) {
            prop_assert_eq!(unpack(pack(&event, recording)), Some((event, recording)));
        }

        #[test]
        fn any_two_words_are_an_event_or_none(words: [u64; 2]) {
            if let Some((event, recording)) = unpack(words) {
                prop_assert_eq!(unpack(pack(&event, recording)), Some((event, recording)));
            }
        }
    }
}
