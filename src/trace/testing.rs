//! What tests of traces have in common.

use super::*;
use crate::units::{PAGE_SIZE, SlotIndex};
use proptest::prelude::*;

/// Slots of the device in these tests.
pub const SLOTS: u64 = 1 << 32;

pub fn header() -> Header {
    Header { service: "default".into(), slots: SLOTS, codec: "lz4".into(), ..Header::default() }
}

/// A trace of these events.
pub fn written(events: &[Event]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header()).expect("memory");
    for event in events {
        writer.push(event).expect("fit");
    }
    writer.finish(0, 0, 0).expect("memory").0
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let bytes = || 1..=PAGE_SIZE as u16;
    let sources = vec![
        Source::Empty,
        Source::Staged,
        Source::Same,
        Source::Pool,
        Source::Dense,
        Source::Huge,
        Source::Spill,
    ];
    prop_oneof![
        4 => Just(Kind::Write),
        4 => proptest::sample::select(sources).prop_map(Kind::Read),
        1 => (1..1000u32).prop_map(|count| Kind::Discard { count }),
        1 => Just(Kind::Stored(Stored::Same)),
        4 => bytes().prop_map(|bytes| Kind::Stored(Stored::Compressed { bytes })),
        1 => Just(Kind::Stored(Stored::Huge)),
        1 => bytes().prop_map(|bytes| Kind::Denser { bytes }),
        1 => Just(Kind::NotDenser),
        1 => Just(Kind::Spilled),
        1 => Just(Kind::Promoted),
        1 => any::<(u32, u16, u16)>().prop_map(|(available_mib, some_permille, full_permille)| {
            Kind::Machine { available_mib, some_permille, full_permille }
        }),
    ]
}

/// Any event of a device of [`SLOTS`], within about nine years.
pub fn any_event() -> impl Strategy<Value = Event> {
    let slot = prop_oneof![0..100u32, 0..u32::MAX - 1000];
    let time = prop_oneof![0..1000u64, 0..1u64 << 48];
    (time, slot, any_kind()).prop_map(|(time_us, slot, kind)| {
        let slot = if matches!(kind, Kind::Machine { .. }) { 0 } else { slot };
        Event { time_us, slot: SlotIndex(slot), kind }
    })
}
