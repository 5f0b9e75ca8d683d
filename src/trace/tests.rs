//! Tests of whole traces.

use super::testing::{any_event, header, written};
use super::*;
use crate::units::SlotIndex;
use proptest::prelude::*;

fn read(file: &[u8]) -> Result<(Vec<Event>, Trailer), TraceError> {
    let mut events = Vec::new();
    let (_, trailer) = summarize(Reader::new(file)?, |event| events.push(*event))?;
    Ok((events, trailer))
}

/// Some events of all kinds, more than a block of them.
fn many(count: u64) -> Vec<Event> {
    let event = |i: u64| {
        let kind = match i % 5 {
            0 => Kind::Write,
            1 => Kind::Stored(Stored::Compressed { bytes: 1 + (i * 31 % 4000) as u16 }),
            2 => Kind::Read(Source::Pool),
            3 => Kind::Denser { bytes: 1 + (i * 17 % 4000) as u16 },
            _ => Kind::Discard { count: 1 + (i % 512) as u32 },
        };
        Event { time_us: i * 3, slot: SlotIndex((i * 2_654_435_761 % 5000) as u32), kind }
    };
    (0..count).map(event).collect()
}

proptest! {
    #[test]
    fn what_was_written_is_read(mut events in proptest::collection::vec(any_event(), 0..200)) {
        events.sort_by_key(|event| event.time_us);
        let (back, trailer) = read(&written(&events)).expect("whole");
        prop_assert_eq!(&back, &events);
        prop_assert_eq!(trailer.totals.events(), events.len() as u64);
        prop_assert_eq!(trailer.duration_us, events.last().map_or(0, |event| event.time_us));
    }

    #[test]
    fn a_flipped_bit_is_an_error(at: prop::sample::Index, bit in 0..8u32) {
        let mut file = written(&many(500));
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        prop_assert!(read(&file).is_err(), "byte {}", at);
    }
}

#[test]
fn blocks_follow_each_other_and_the_trailer_has_their_totals() {
    let events = many(3 * BLOCK_EVENTS_MAX as u64 + 7);
    let mut writer = Writer::new(Vec::new(), &header()).expect("memory");
    events.iter().for_each(|event| writer.push(event).expect("fit"));
    let bytes = writer.bytes();
    let (file, trailer) = writer.finish(1 << 40, 12, 3).expect("memory");
    assert!(bytes > 0 && bytes < file.len() as u64);
    assert_eq!((trailer.dropped, trailer.gaps, trailer.duration_us), (12, 3, 1 << 40));
    let mut reader = Reader::new(&file[..]).expect("header");
    assert_eq!(reader.header(), &header());
    assert_eq!(reader.trailer(), None, "not before all is read");
    for event in &events {
        assert_eq!(reader.next().expect("one more").expect("whole"), *event);
    }
    assert!(reader.next().is_none());
    assert_eq!(reader.trailer(), Some(&trailer));
    assert_eq!(reader.bytes(), file.len() as u64);
    let Totals { writes, stored_compressed, discards, .. } = trailer.totals;
    let fifth = events.len() as u64 / 5;
    assert!([writes, stored_compressed, discards].iter().all(|n| n.abs_diff(fifth) <= 1));
}

#[test]
fn a_cut_trace_is_truncated_wherever_it_is_cut() {
    let file = written(&many(50));
    for len in 0..file.len() {
        let error = read(&file[..len]).expect_err("cut");
        let wanted = matches!(error, TraceError::Truncated);
        assert!(wanted || len < 8 && matches!(error, TraceError::NotATrace), "{len}: {error}");
    }
    assert!(read(&[&file[..], b"x"].concat()).is_err(), "and one with more behind it is damaged");
}

#[test]
fn a_damaged_block_gives_no_event() {
    let mut file = written(&many(100));
    let middle = file.len() / 2;
    file[middle] ^= 1;
    let mut reader = Reader::new(&file[..]).expect("the header is whole");
    assert!(matches!(reader.next(), Some(Err(TraceError::Damaged { .. }))));
    assert!(reader.next().is_none() && reader.trailer().is_none());
}

#[test]
fn a_missing_block_is_seen_at_the_end() {
    let one = written(&many(1));
    let header_end = 12 + frame::HEAD_BYTES + serde_json::to_vec(&header()).expect("json").len();
    let two = written(&[many(1), many(1)].concat());
    // Header of one, and the trailer of a trace with other totals.
    let tail_len =
        frame::HEAD_BYTES + serde_json::to_vec(&read(&two).expect("whole").1).expect("json").len();
    let file = [&one[..header_end], &two[two.len() - tail_len..]].concat();
    assert!(matches!(read(&file), Err(TraceError::Damaged { .. })));
}

#[test]
fn other_files_and_other_versions_are_told_apart() {
    for other in [&b""[..], b"PAR1", b"uswaptrx1234567890123456789012345678901234567890"] {
        assert!(matches!(read(other), Err(TraceError::NotATrace)));
    }
    let mut file = written(&many(3));
    file[8] = 9;
    let error = read(&file).expect_err("another version");
    assert!(matches!(error, TraceError::Foreign { version: 9 }));
    assert!(error.to_string().contains("version 9, and this uswap reads 1; use the uswap that"));
}

#[test]
fn what_cannot_be_is_not_written() {
    let small = Header { slots: 10, ..header() };
    let mut writer = Writer::new(Vec::new(), &small).expect("memory");
    let mut push = |slot, kind| writer.push(&Event { time_us: 0, slot: SlotIndex(slot), kind });
    assert!(push(9, Kind::Write).is_ok());
    assert!(push(10, Kind::Write).is_err());
    assert!(push(5, Kind::Discard { count: 5 }).is_ok());
    assert!(push(5, Kind::Discard { count: 6 }).is_err());
    assert!(push(5, Kind::Discard { count: 0 }).is_err());
    assert!(push(5, Kind::Denser { bytes: 4097 }).is_err());
    assert!(push(5, Kind::Stored(Stored::Compressed { bytes: 0 })).is_err());
    let (file, trailer) = writer.finish(0, 0, 0).expect("memory");
    assert_eq!((read(&file).expect("whole").1, trailer.totals.events()), (trailer, 2));
}

#[test]
fn time_never_goes_back() {
    let at = |time_us| Event { time_us, slot: SlotIndex(1), kind: Kind::Write };
    let (events, _) = read(&written(&[at(5), at(3), at(9)])).expect("whole");
    assert_eq!(events.iter().map(|event| event.time_us).collect::<Vec<_>>(), [5, 5, 9]);
}
