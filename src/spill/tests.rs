//! The format against damage; the layout against a plain model.

use super::*;
use crate::limits::{SEGMENT_BYTES, SEGMENT_OBJECTS_MAX, SPILL_READ_BYTES_MAX, SPILL_RESERVE};
use crate::sys::buffers::{BufferArea, IoBuf, Search};
use crate::units::{Location, PAGE_SIZE, SlotIndex};
use proptest::prelude::*;

fn seal() -> Seal {
    Seal::new(&[7; KEY_BYTES])
}

fn buffer() -> IoBuf {
    let file = tempfile::tempfile().expect("file");
    file.set_len(SEGMENT_BYTES as u64).expect("size");
    let area = BufferArea::new(&file, 1).expect("map");
    area.take((SEGMENT_BYTES / PAGE_SIZE) as u32, Search::Low).expect("all of it")
}

fn data(slot: u32, len: u16) -> Vec<u8> {
    (0..len).map(|i| (u32::from(i) ^ slot.wrapping_mul(0x9e37)) as u8).collect()
}

/// A spill of 64 segments, and the fifth of them filled with objects of these lengths.
struct Filled {
    seal: Seal,
    segments: Segments,
    victim: Victim,
    objects: Vec<(Location, Identity)>,
    bytes: Vec<u8>,
}

fn filled(lengths: &[u16]) -> Filled {
    let (seal, segments) = (seal(), Segments::new(64 * SEGMENT_BYTES as u64));
    let mut layout = Layout::new(&segments);
    let (segment, sequence) =
        (0..5).filter_map(|_| layout.take(&segments, false)).last().expect("free");
    let mut draft = Draft::new(buffer());
    draft.begin(segment, sequence);
    let mut objects = Vec::new();
    for (i, &len) in lengths.iter().enumerate() {
        let record = Identity { slot: SlotIndex(i as u32 * 3), form: Form(i as u8 % 4), len };
        if draft.fits(len) {
            objects.push((draft.push(&seal, record, &data(record.slot.0, len)), record));
        }
    }
    let summary = draft.summary();
    let (job, buffer) = draft.close(&seal);
    assert_eq!((job.write, job.at), (true, 4 * SEGMENT_BYTES as u64));
    assert!(job.len <= SEGMENT_BYTES && job.len.is_multiple_of(PAGE_SIZE));
    let bytes = buffer[..job.len].to_vec();
    draft.put_back(buffer);
    layout.written(&segments, segment, summary);
    let victim = Victim { segment, sequence, summary };
    assert_eq!((victim.job().at, victim.job().len), (job.at, job.len));
    Filled { seal, segments, victim, objects, bytes }
}

/// Reads an object as a queue thread does: only the blocks that it is in.
fn open(filled: &Filled, bytes: &[u8], at: Location, record: Identity) -> Result<Vec<u8>, Broken> {
    let span = filled.segments.span(at, record.len);
    assert!(span.len as usize <= SPILL_READ_BYTES_MAX && span.at.is_multiple_of(4096));
    let start = span.at as usize - 4 * SEGMENT_BYTES;
    let mut blocks = bytes[start..start + span.len as usize].to_vec();
    let sealed = &mut blocks[span.skip as usize..][..span.sealed as usize];
    filled.seal.open(filled.segments.place(at), record, sealed).map(<[u8]>::to_vec)
}

fn lengths() -> impl Strategy<Value = Vec<u16>> {
    let len = prop_oneof![3 => 1..=4096u16, 1 => 1..64u16, 1 => Just(4096u16)];
    proptest::collection::vec(len, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_object_and_every_record_comes_back(lengths in lengths()) {
        let mut filled = filled(&lengths);
        prop_assert!(!filled.objects.is_empty());
        for &(at, record) in &filled.objects {
            prop_assert!(filled.segments.contains(at, record.len));
            let found = open(&filled, &filled.bytes, at, record);
            prop_assert_eq!(found, Ok(data(record.slot.0, record.len)));
        }
        let mut found = Vec::new();
        let victim = filled.victim;
        read_summary(&filled.seal, &victim, &mut filled.bytes, &mut found).expect("whole");
        let found: Vec<_> =
            found.iter().map(|&(unit, r)| (Segments::location(victim.segment, unit), r)).collect();
        prop_assert_eq!(found, filled.objects);
    }

    #[test]
    fn a_flipped_bit_is_noticed_wherever_it_is(lengths in lengths(), bit: usize, pick: usize) {
        let mut filled = filled(&lengths);
        let (at, record) = filled.objects[pick % filled.objects.len()];
        let span = filled.segments.span(at, record.len);
        let start = span.at as usize - 4 * SEGMENT_BYTES + span.skip as usize;
        let bit = bit % (span.sealed as usize * 8);
        let mut bytes = filled.bytes.clone();
        bytes[start + bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(open(&filled, &bytes, at, record), Err(Broken));
        let summary = filled.victim.summary.unit as usize * Location::UNIT;
        let bit = bit % (filled.objects.len() * 64 + 128);
        filled.bytes[summary + bit / 8] ^= 1 << (bit % 8);
        let mut found = Vec::new();
        let read = read_summary(&filled.seal, &filled.victim, &mut filled.bytes, &mut found);
        prop_assert_eq!((read, found.len()), (Err(Broken), 0));
    }
}

#[test]
fn another_slot_form_length_place_write_or_key_does_not_open() {
    let filled = filled(&[1000, 1000, 4096]);
    let (at, record) = filled.objects[0];
    for wrong in [
        Identity { slot: SlotIndex(3), ..record },
        Identity { form: Form(1), ..record },
        Identity { len: 999, ..record },
    ] {
        assert_eq!(open(&filled, &filled.bytes, at, wrong), Err(Broken), "{wrong:?}");
    }
    assert_eq!(open(&filled, &filled.bytes, filled.objects[1].0, record), Err(Broken));
    let place = filled.segments.place(at);
    let open =
        |seal: &Seal, place| seal.open(place, record, &mut filled.bytes[..1016].to_vec()).is_ok();
    assert!(open(&filled.seal, place));
    assert!(!open(&filled.seal, Place { sequence: place.sequence + 1, ..place }), "a former write");
    assert!(!open(&filled.seal, Place { unit: place.unit + 1, ..place }));
    assert!(!open(&Seal::new(&[8; KEY_BYTES]), place), "another run's key");
}

#[test]
fn what_is_on_the_disk_shows_nothing_of_the_pages() {
    let seal = seal();
    let mut draft = Draft::new(buffer());
    draft.begin(0, 1);
    let text = b"correct horse battery staple".repeat(100);
    let record = Identity { slot: SlotIndex(1), form: Form(0), len: text.len() as u16 };
    draft.push(&seal, record, &text);
    draft.push(&seal, record, &text);
    let (_, bytes) = draft.close(&seal);
    assert!(!bytes.windows(8).any(|w| w == b"battery "));
    assert_ne!(bytes[..text.len()], bytes[text.len() + TAG_BYTES..][..text.len()]);
}

#[test]
fn a_draft_takes_what_fits_and_no_more_objects_than_its_summary_has_room_for() {
    for len in [1, 100, 1356, 4096] {
        let filled = filled(&vec![len; 20_000]);
        let units = filled.objects.len() as u32 * Segments::units_of(len);
        let full = (units + Segments::units_of(len)) as usize * 16 + filled.objects.len() * 8;
        let most = filled.objects.len() == SEGMENT_OBJECTS_MAX;
        assert!(most || full > SEGMENT_BYTES - 32, "{len}: {} objects", filled.objects.len());
        assert_eq!(filled.segments.live_units(4), units);
    }
}

#[test]
fn a_segment_is_free_when_no_slot_names_anything_in_it_and_not_before() {
    let filled = filled(&[500, 600]);
    // What somebody else finds: one is written, four were begun.
    let mut layout = Layout::new(&filled.segments);
    assert_eq!((layout.free(), layout.next_sequence()), (64 - 1, 6));
    for _ in 0..63 - SPILL_RESERVE {
        let (segment, _) = layout.take(&filled.segments, false).expect("free");
        layout.written(&filled.segments, segment, filled.victim.summary);
    }
    assert_eq!(layout.take(&filled.segments, false), None, "the reserve is for cleaning");
    let reserve: Vec<_> =
        std::iter::from_fn(|| layout.take(&filled.segments, true)).map(|t| t.0).collect();
    assert_eq!((reserve.len(), layout.used()), (SPILL_RESERVE, 64));
    reserve.iter().for_each(|&segment| layout.dropped(segment));
    let [(first, a), (second, b)] = [filled.objects[0], filled.objects[1]];
    filled.segments.dead(first, a.len);
    assert_eq!(layout.take(&filled.segments, false), None, "one object is alive");
    filled.segments.dead(second, b.len);
    let (segment, sequence) = layout.take(&filled.segments, false).expect("free again");
    assert!(sequence > 5 + 60);
    assert!(segment == 4 || reserve.contains(&segment), "in a circle");
}

#[test]
fn the_victim_is_old_and_empty_and_never_one_that_is_nearly_full() {
    let segments = Segments::new(64 * SEGMENT_BYTES as u64);
    let mut layout = Layout::new(&segments);
    let units = (SEGMENT_BYTES / 16) as u32 - 100;
    let summary = Summary { unit: units, objects: 9 };
    let free_eighths = |segment: u32, shares: u32| {
        // In pieces of whole objects, as slots do.
        let piece = 64;
        for i in 0..units / piece * shares / 8 {
            let at = Segments::location(segment, i * piece);
            segments.dead(at, (piece * 16 - 16) as u16);
        }
    };
    for _ in 0..20 {
        let (segment, _) = layout.take(&segments, false).expect("free");
        layout.written(&segments, segment, summary);
    }
    assert_eq!(layout.victim(&segments), None, "all of them are full");
    free_eighths(3, 4);
    free_eighths(18, 5);
    assert_eq!(layout.victim(&segments).map(|v| v.segment), Some(3), "older, not much fuller");
    free_eighths(12, 7);
    assert_eq!(layout.victim(&segments).map(|v| v.segment), Some(12), "nearly empty");
    layout.cleaning(12);
    layout.leaving(12);
    layout.cleaning(3);
    layout.damaged(3);
    assert_eq!(layout.victim(&segments).map(|v| (v.segment, v.sequence)), Some((18, 19)));
    layout.stays(12);
    layout.stays(3);
    assert_eq!(layout.victim(&segments).map(|v| v.segment), Some(12), "damaged stays damaged");
    layout.cleaning(12);
    assert_eq!(layout.victim(&segments).map(|v| v.segment), Some(18), "one cleaning is enough");
    // A draft fails before the rest has been looked at.
    layout.stays(12);
    layout.leaving(12);
    assert_eq!(layout.victim(&segments).map(|v| v.segment), Some(12), "not stranded");
}

#[test]
fn a_segment_that_empties_while_it_is_cleaned_is_free_once_and_afterwards() {
    let filled = filled(&[500]);
    let Filled { segments, objects, .. } = &filled;
    for damaged in [false, true] {
        let mut layout = Layout::new(segments);
        let victim = layout.victim(segments).expect("nearly empty");
        layout.cleaning(victim.segment);
        // Few are free, so that others are looked for.
        let mut taken: Vec<_> = std::iter::from_fn(|| layout.take(segments, true)).collect();
        segments.dead(objects[0].0, objects[0].1.len);
        assert_eq!(layout.take(segments, true), None, "its objects are still being looked at");
        match damaged {
            true => layout.damaged(victim.segment),
            false => layout.leaving(victim.segment),
        }
        assert_eq!((layout.free(), taken.len()), (0, 63));
        taken.extend(layout.take(segments, true));
        assert_eq!(taken.last().map(|last| last.0), Some(victim.segment));
        assert_eq!(layout.take(segments, true), None, "once");
        layout.check();
        segments.fill(victim.segment, Summary { unit: objects[0].1.units(), objects: 1 });
    }
}

#[test]
fn a_number_is_never_used_again_whatever_becomes_of_the_writer() {
    let bytes = 64 * SEGMENT_BYTES as u64;
    let file = tempfile::tempfile().expect("file");
    file.set_len(Segments::words(bytes) as u64 * 8).expect("size");
    let words = || Words::new(&file, Segments::words(bytes)).expect("map");
    let mut used = 0;
    // What happens to the word with the next number between two writers.
    for damage in [None, None, Some(0), Some(u64::MAX), None, Some(3), None] {
        let segments = Segments::attach(words(), bytes);
        let mut layout = Layout::new(&segments);
        for _ in 0..90 {
            let (segment, sequence) = layout.take(&segments, true).expect("free");
            assert!(sequence > used, "{sequence} after {used}");
            used = sequence;
            layout.dropped(segment);
        }
        if let Some(value) = damage {
            words()[0].store(value, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

#[test]
fn only_what_was_written_can_be_adopted() {
    let filled = filled(&[500, 600]);
    let Filled { segments, objects, .. } = &filled;
    let (first, a) = objects[0];
    objects.iter().for_each(|(at, record)| segments.dead(*at, record.len));
    assert!(segments.adopt(first, a.len), "as it was");
    assert!(!segments.adopt(first, 4096), "reaches into the summary");
    assert!(!segments.adopt(Segments::location(3, 0), 10), "begun, never written");
    assert!(!segments.adopt(Segments::location(60, 0), 10), "never begun");
    assert!(!segments.adopt(Segments::location(64, 0), 10), "outside");
    assert!(segments.adopt(objects[1].0, 600));
    assert!(!segments.adopt(first, a.len), "more than there is");
    assert_eq!(segments.live_units(4), a.units() + objects[1].1.units());
}

#[test]
fn a_summary_that_would_go_past_its_segment_is_none() {
    let segments = Segments::new(8 * SEGMENT_BYTES as u64);
    segments.begin(2, 1);
    for (bytes, fits) in [(0, true), (Location::UNIT, false), (800, false)] {
        let objects = 100;
        let last = SEGMENT_BYTES - (objects * 8 + TAG_BYTES).next_multiple_of(Location::UNIT);
        let unit = ((last + bytes) / Location::UNIT) as u32;
        segments.fill(2, Summary { unit, objects });
        assert_eq!(segments.summary(2).is_some(), fits, "{unit}");
        let victim = Layout::new(&segments).victim(&segments);
        assert!(victim.is_none_or(|victim| victim.job().len <= SEGMENT_BYTES));
    }
}

#[test]
fn a_key_is_found_until_it_is_wiped() {
    let bytes = 64 * SEGMENT_BYTES as u64;
    let file = tempfile::tempfile().expect("file");
    file.set_len(Segments::words(bytes) as u64 * 8).expect("size");
    let words = || Words::new(&file, Segments::words(bytes)).expect("map");
    assert!(Spill::attach(words(), bytes).is_none(), "nobody made one");
    let made = Spill::create(words(), bytes, &[7; KEY_BYTES]);
    let found = Spill::attach(words(), bytes).expect("a key");
    let (place, whose) =
        (Place { sequence: 3, unit: 8 }, Identity { slot: SlotIndex(5), form: Form(1), len: 4 });
    let mut sealed = [0; 4 + TAG_BYTES];
    made.seal.seal(place, whose, b"page", &mut sealed);
    assert_eq!(found.seal.open(place, whose, &mut sealed), Ok(b"page".as_slice()));
    made.segments.set_key(&[0; KEY_BYTES]);
    assert!(Spill::attach(words(), bytes).is_none(), "wiped");
}
