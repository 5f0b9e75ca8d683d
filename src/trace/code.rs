//! Events as bytes, see the parent module: small, because a slot is often behind the one before it
//! and happens at about the same time.

use super::event::{Event, Kind, Source, Stored};
use crate::units::{PAGE_SIZE, SlotIndex};

/// Most bytes of one event: its kind, time, slot, and at most three more numbers.
pub(super) const EVENT_BYTES_MAX: usize = 1 + 10 + 5 + 5 + 3 + 3;

const WRITE: u8 = 0;
const READ: u8 = 1;
pub(super) const DISCARD: u8 = 8;
const SAME: u8 = 9;
const COMPRESSED: u8 = 10;
const HUGE: u8 = 11;
const DENSER: u8 = 12;
const NOT_DENSER: u8 = 13;
const SPILLED: u8 = 14;
const PROMOTED: u8 = 15;
pub(super) const MACHINE: u8 = 16;

/// Where pages are read from, in the order of their codes.
const SOURCES: [Source; 7] = [
    Source::Empty,
    Source::Staged,
    Source::Same,
    Source::Pool,
    Source::Dense,
    Source::Huge,
    Source::Spill,
];

/// A kind as a code and what it needs: two numbers of 32 bits, the second of them two of 16.
pub(super) type Coded = (u8, u32, u16, u16);

/// The code of a kind, with its numbers; those that it does not need are 0.
pub(super) fn code_of(kind: Kind) -> Coded {
    match kind {
        Kind::Write => (WRITE, 0, 0, 0),
        Kind::Read(source) => (READ + source as u8, 0, 0, 0),
        Kind::Discard { count } => (DISCARD, count, 0, 0),
        Kind::Stored(Stored::Same) => (SAME, 0, 0, 0),
        Kind::Stored(Stored::Compressed { bytes }) => (COMPRESSED, 0, bytes, 0),
        Kind::Stored(Stored::Huge) => (HUGE, 0, 0, 0),
        Kind::Denser { bytes } => (DENSER, 0, bytes, 0),
        Kind::NotDenser => (NOT_DENSER, 0, 0, 0),
        Kind::Spilled => (SPILLED, 0, 0, 0),
        Kind::Promoted => (PROMOTED, 0, 0, 0),
        Kind::Machine { available_mib, some_permille, full_permille } => {
            (MACHINE, available_mib, some_permille, full_permille)
        }
    }
}

/// The kind that has this code; `None` if none has, or not with these numbers.
pub(super) fn kind_of((code, long, first, second): Coded) -> Option<Kind> {
    let size = || (1..=PAGE_SIZE as u16).contains(&first).then_some(first);
    Some(match code {
        WRITE => Kind::Write,
        READ..DISCARD => Kind::Read(SOURCES[usize::from(code - READ)]),
        DISCARD if long > 0 => Kind::Discard { count: long },
        SAME => Kind::Stored(Stored::Same),
        COMPRESSED => Kind::Stored(Stored::Compressed { bytes: size()? }),
        HUGE => Kind::Stored(Stored::Huge),
        DENSER => Kind::Denser { bytes: size()? },
        NOT_DENSER => Kind::NotDenser,
        SPILLED => Kind::Spilled,
        PROMOTED => Kind::Promoted,
        MACHINE => {
            Kind::Machine { available_mib: long, some_permille: first, full_permille: second }
        }
        _ => return None,
    })
}

/// Slots that an event is about: the first, and how many.
pub(super) fn slots_of(event: &Event) -> (u64, u64) {
    let count = match event.kind {
        Kind::Discard { count } => count.into(),
        Kind::Machine { .. } => 0,
        _ => 1,
    };
    (event.slot.0.into(), count)
}

/// What an event is told from: the one before it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    time_us: u64,
    /// The slot behind its own.
    next: u32,
}

impl Before {
    const fn of(event: &Event) -> Self {
        Self { time_us: event.time_us, next: event.slot.0.wrapping_add(1) }
    }
}

/// Adds an event, which is not earlier than the one before it.
pub(super) fn put(event: &Event, before: &mut Before, bytes: &mut Vec<u8>) {
    let (code, long, first, second) = code_of(event.kind);
    bytes.push(code);
    put_number(event.time_us - before.time_us, bytes);
    let away = event.slot.0.wrapping_sub(before.next) as i32;
    put_number(u64::from((away << 1 ^ away >> 31) as u32), bytes);
    if matches!(code, DISCARD | MACHINE) {
        put_number(long.into(), bytes);
    }
    if matches!(code, COMPRESSED | DENSER | MACHINE) {
        put_number(first.into(), bytes);
    }
    if code == MACHINE {
        put_number(second.into(), bytes);
    }
    *before = Before::of(event);
}

/// Takes an event from the front of `bytes`; `None` if there is none.
pub(super) fn take(bytes: &mut &[u8], before: &mut Before) -> Option<Event> {
    let (&code, rest) = bytes.split_first()?;
    *bytes = rest;
    let time_us = before.time_us.checked_add(take_number(bytes)?)?;
    let away = u32::try_from(take_number(bytes)?).ok()?;
    let away = away >> 1 ^ (away & 1).wrapping_neg();
    let slot = SlotIndex(before.next.wrapping_add(away));
    let mut number = |is: bool| if is { take_number(bytes) } else { Some(0) };
    let long = u32::try_from(number(matches!(code, DISCARD | MACHINE))?).ok()?;
    let first = u16::try_from(number(matches!(code, COMPRESSED | DENSER | MACHINE))?).ok()?;
    let second = u16::try_from(number(code == MACHINE)?).ok()?;
    let event = Event { time_us, slot, kind: kind_of((code, long, first, second))? };
    *before = Before::of(&event);
    Some(event)
}

fn put_number(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        let part = u64::from(byte & 0x7f);
        number |= part << (7 * i);
        if byte & 0x80 == 0 {
            *bytes = &bytes[i + 1..];
            // Of the tenth byte one bit is left.
            return (i < 9 || part <= 1).then_some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::testing::any_event;
    use proptest::prelude::*;

    #[test]
    fn every_source_has_its_code() {
        for (i, source) in SOURCES.into_iter().enumerate() {
            assert_eq!(source as usize, i);
            assert_eq!(kind_of(code_of(Kind::Read(source))), Some(Kind::Read(source)));
        }
    }

    #[test]
    fn numbers_of_any_length_come_back_and_longer_ones_do_not() {
        for shift in 0..64 {
            for number in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put_number(number, &mut bytes);
                assert_eq!(take_number(&mut &bytes[..]), Some(number));
                assert_eq!(take_number(&mut &bytes[..bytes.len() - 1]), None);
            }
        }
        assert_eq!(take_number(&mut &[0xff; 10][..]), None);
        assert_eq!(take_number(&mut &[&[0xff; 9][..], &[2]].concat()[..]), None, "65 bits");
    }

    #[test]
    fn a_page_behind_the_last_one_takes_three_bytes() {
        let (mut bytes, mut before) = (Vec::new(), Before::default());
        for slot in 0..100 {
            let event = Event { time_us: 5, slot: SlotIndex(slot), kind: Kind::Write };
            put(&event, &mut before, &mut bytes);
        }
        assert_eq!(bytes.len(), 300);
    }

    proptest! {
        #[test]
        fn events_come_back(mut events in proptest::collection::vec(any_event(), 1..50)) {
            events.sort_by_key(|event| event.time_us);
            let (mut bytes, mut before) = (Vec::new(), Before::default());
            for event in &events {
                let len = bytes.len();
                put(event, &mut before, &mut bytes);
                prop_assert!(bytes.len() - len <= EVENT_BYTES_MAX);
            }
            let (mut rest, mut before) = (&bytes[..], Before::default());
            for event in &events {
                prop_assert_eq!(take(&mut rest, &mut before), Some(*event));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn noise_is_an_event_or_nothing(noise in proptest::collection::vec(any::<u8>(), 0..40)) {
            let (mut rest, mut before) = (&noise[..], Before::default());
            while take(&mut rest, &mut before).is_some() {}
        }
    }
}
