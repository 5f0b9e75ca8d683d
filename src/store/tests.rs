//! The verbs one by one; `tests/model.rs` has the long runs.

use super::*;
use crate::codec::{DenseStream, Dictionary, Stream};
use crate::error::IoError;
use crate::units::Page;

fn file(len: usize) -> std::fs::File {
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len(len as u64).expect("size");
    file
}

fn store(slots: usize, arena_bytes: usize, codec: StoreCodec) -> Store {
    let table = Words::new(&file(slots * 8), slots).expect("map");
    Store::new(table, Arena::new(&file(arena_bytes), arena_bytes).expect("map"), codec)
}

/// A page without any repetition to speak of.
fn noise(seed: u64) -> Page {
    let mut state = seed | 1;
    std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
}

fn text(seed: u8) -> Page {
    std::array::from_fn(|i| (i % 97) as u8 ^ seed)
}

fn read(store: &Store, slot: u32, stats: &QueueStats) -> Result<Page, IoError> {
    let mut page = [0xee; PAGE_SIZE];
    store.read(SlotIndex(slot), &mut page, &mut Stream::new(), stats).map(|_| page)
}

#[test]
fn each_kind_of_page_comes_back_and_is_counted() {
    for codec in [StoreCodec::Lz4, StoreCodec::Zstd] {
        each_kind(codec);
    }
}

fn each_kind(codec: StoreCodec) {
    let store = store(8, 1 << 20, codec);
    let (stats, mut stream) = (QueueStats::default(), Stream::new());
    let mut odd = [0; PAGE_SIZE];
    crate::codec::same::expand(0x0123_4567_89ab_cdef, &mut odd);
    let pages = [[0x55; PAGE_SIZE], text(3), noise(9), odd];
    for (slot, page) in pages.iter().enumerate() {
        store.write(SlotIndex(slot as u32), page, &mut stream, &stats).expect("room");
    }
    for (slot, page) in pages.iter().enumerate() {
        assert_eq!(read(&store, slot as u32, &stats), Ok(*page));
    }
    assert_eq!(read(&store, 7, &stats), Ok([0; PAGE_SIZE]));
    let (slots, reads) = match codec {
        StoreCodec::Zstd => (&stats.slots_zstd, &stats.read_zstd_pages),
        _ => (&stats.slots_lz4, &stats.read_lz4_pages),
    };
    let counts = [&stats.slots_same, slots, &stats.slots_huge].map(|c| c.get());
    assert_eq!(counts, [1, 2, 1]);
    let reads = [&stats.read_same_pages, reads, &stats.read_huge_pages];
    assert_eq!(reads.map(|c| c.get()), [1, 2, 1]);
    assert_eq!(stats.read_empty_pages.get(), 1);
    let report = store.check().expect("consistent");
    assert_eq!(report.stored_bytes, stats.stored_bytes.get());
}

#[test]
fn a_full_pool_keeps_the_old_page() {
    let store = store(64, 32 << 10, StoreCodec::None);
    let (stats, mut stream) = (QueueStats::default(), Stream::new());
    for slot in 0..8 {
        store.write(SlotIndex(slot), &noise(slot.into()), &mut stream, &stats).expect("room");
    }
    let refused = store.write(SlotIndex(3), &noise(99), &mut stream, &stats);
    assert_eq!(refused, Err(IoError::Full));
    assert_eq!(read(&store, 3, &stats), Ok(noise(3)));
    store.write(SlotIndex(3), &[0; PAGE_SIZE], &mut stream, &stats).expect("needs no room");
    store.write(SlotIndex(9), &noise(99), &mut stream, &stats).expect("room again");
    store.check().expect("consistent");
}

#[test]
fn discarded_slots_read_as_zeros_and_free_their_objects() {
    let store = store(16, 1 << 20, StoreCodec::Lz4);
    let (stats, mut stream) = (QueueStats::default(), Stream::new());
    for slot in 0..16 {
        store.write(SlotIndex(slot), &text(slot as u8), &mut stream, &stats).expect("room");
    }
    assert_eq!(store.discard(SlotIndex(2), 15, &stats), Err(IoError::Invalid));
    store.discard(SlotIndex(2), 13, &stats).expect("in range");
    store.write_zeroes(SlotIndex(15), 1, &stats).expect("in range");
    assert_eq!(read(&store, 5, &stats), Ok([0; PAGE_SIZE]));
    assert_eq!(read(&store, 1, &stats), Ok(text(1)));
    assert_eq!(store.pool_usage().objects, 2);
    assert_eq!(stats.stored_bytes.get(), store.check().expect("consistent").stored_bytes);
}

#[test]
fn a_slot_outside_is_invalid() {
    let store = store(512, 1 << 20, StoreCodec::Lz4);
    let stats = QueueStats::default();
    assert_eq!(read(&store, 512, &stats), Err(IoError::Invalid));
    let refused = store.write(SlotIndex(512), &text(0), &mut Stream::new(), &stats);
    assert_eq!(refused, Err(IoError::Invalid));
    assert_eq!(store.discard(SlotIndex(u32::MAX), u32::MAX, &stats), Err(IoError::Invalid));
}

#[test]
fn a_damaged_object_is_an_error_and_counted() {
    let store = store(8, 1 << 20, StoreCodec::Lz4);
    let stats = QueueStats::default();
    store.write(SlotIndex(1), &text(1), &mut Stream::new(), &stats).expect("room");
    let Entry::Lz4 { at, .. } = store.table.peek(SlotIndex(1)) else {
        panic!("text is compressible");
    };
    store.pool.write(at, SlotIndex(2), &[]);
    assert_eq!(read(&store, 1, &stats), Err(IoError::Corrupt));
    store.pool.write(at, SlotIndex(1), &[0xff; 8]);
    assert_eq!(read(&store, 1, &stats), Err(IoError::Corrupt));
    assert_eq!(stats.read_corrupt_pages.get(), 2);
}

#[test]
fn a_damaged_zstd_object_is_an_error_and_the_next_page_is_right() {
    let store = store(8, 1 << 20, StoreCodec::Zstd);
    let (stats, mut stream) = (QueueStats::default(), Stream::new());
    for slot in [1, 2] {
        store.write(SlotIndex(slot), &text(slot as u8), &mut stream, &stats).expect("room");
    }
    let Entry::Zstd { at, len, .. } = store.table.peek(SlotIndex(1)) else {
        panic!("text is compressible");
    };
    let mut page = [0; PAGE_SIZE];
    store.pool.write(at, SlotIndex(1), &vec![0xff; len.into()]);
    let refused = store.read(SlotIndex(1), &mut page, &mut stream, &stats);
    assert_eq!(refused, Err(IoError::Corrupt));
    store.pool.write(at, SlotIndex(2), &[]);
    assert_eq!(read(&store, 1, &stats), Err(IoError::Corrupt), "another slot's object");
    assert_eq!(stats.read_corrupt_pages.get(), 2);
    store.read(SlotIndex(2), &mut page, &mut stream, &stats).expect("not damaged");
    assert_eq!(page, text(2));
}

#[test]
fn what_one_codec_stored_is_read_whatever_the_other_writes() {
    let mut store = store(8, 1 << 20, StoreCodec::Lz4);
    let (stats, mut stream) = (QueueStats::default(), Stream::new());
    store.write(SlotIndex(0), &text(1), &mut stream, &stats).expect("room");
    store.codec = StoreCodec::Zstd;
    store.write(SlotIndex(1), &text(2), &mut stream, &stats).expect("room");
    assert_eq!([0, 1].map(|slot| read(&store, slot, &stats)), [Ok(text(1)), Ok(text(2))]);
    store.write(SlotIndex(0), &text(3), &mut stream, &stats).expect("room");
    let report = store.check().expect("consistent");
    assert_eq!((report.slots_lz4, report.slots_zstd), (0, 2));
}

#[test]
fn writes_and_reads_stamp_and_settling_does_not() {
    let area = crate::sys::buffers::BufferArea::new(&file(4 << 20), 1).expect("map");
    let mut buffer = area.take(1, crate::sys::buffers::Search::Low).expect("free");
    let store = store(8, 16 << 20, StoreCodec::Lz4).with_buffers(area);
    let (stats, mut stream) = (QueueStats::default(), Stream::new());
    let slot = SlotIndex(3);
    read(&store, 3, &stats).expect("zeros");
    assert_eq!(store.glance(slot), (Entry::Empty, Touch::default()), "nobody wrote it");
    buffer.copy_from_slice(&text(1));
    let at = buffer.first_page();
    store.advance_tick();
    store.stage(slot, at, &stats).expect("in range");
    store.advance_tick();
    read(&store, 3, &stats).expect("staged");
    store.advance_tick();
    let page = buffer.first_chunk().expect("a page");
    store.settle(slot, at, page, &mut stream, &stats).expect("room");
    let (entry, touch) = store.glance(slot);
    assert!(matches!(entry, Entry::Lz4 { .. }));
    assert_eq!(touch, Touch::written(1).read(2));

    let held = Touch { stamp: 200, ..touch };
    while !store.retouch(slot, (entry, touch), held) {}
    assert_eq!(store.glance(slot), (entry, held));
    assert!(!store.retouch(slot, (entry, touch), touch), "it is not as it was seen");
    store.write(slot, &text(2), &mut stream, &stats).expect("room");
    assert_eq!(store.glance(slot).1, Touch::written(3));
    store.discard(slot, 1, &stats).expect("in range");
    assert_eq!(store.glance(slot), (Entry::Empty, Touch::default()));
}

/// A page of records that share words and differ in numbers.
fn records(seed: usize) -> Page {
    let mut text = String::new();
    for i in 0..PAGE_SIZE {
        if text.len() >= PAGE_SIZE {
            break;
        }
        let (a, b) = (seed * 7919 + i * 31, seed.wrapping_mul(i * i + 1) % 977);
        text += &format!("<object id={a:x} class=widget.{b} flags=0x{:04x} next=", a ^ b);
    }
    *text.as_bytes().first_chunk().expect("a page of text")
}

fn dictionary(first: usize) -> Dictionary {
    let samples: Vec<Page> = (first..first + 200).map(records).collect();
    Dictionary::train_to(&samples, 8 << 10).expect("pages that have something in common")
}

fn store_of_records(slots: u32, stats: &QueueStats) -> Store {
    let (store, mut stream) = (store(slots as usize, 16 << 20, StoreCodec::Lz4), Stream::new());
    for slot in 0..slots {
        store.write(SlotIndex(slot), &records(slot as usize), &mut stream, stats).expect("room");
    }
    store
}

fn is_denser(store: &Store, slots: std::ops::Range<u32>, stats: &QueueStats) -> bool {
    let mut recompressor = Recompressor::new(store).expect("memory");
    slots.map(SlotIndex).all(|slot| {
        let result = store.recompress(slot, &mut recompressor, stats);
        matches!(result, Recompressed::Denser { .. })
    })
}

#[test]
fn at_most_three_dictionaries_live_and_unused_ones_go() {
    let stats = QueueStats::default();
    let store = store_of_records(60, &stats);
    assert!(is_denser(&store, 0..5, &stats), "without a dictionary");
    assert_eq!((stats.slots_zstd.get(), stats.slots_dense.get()), (5, 0));
    for (i, number) in [1, 2, 3].into_iter().enumerate() {
        let version = store.install(dictionary(i * 100), &stats).expect("a free number");
        assert_eq!(version.number(), number);
        let first = i as u32 * 20;
        assert!(is_denser(&store, first..first + 20, &stats));
    }
    assert_eq!(store.install(dictionary(7), &stats), None, "all are in use");
    assert_eq!(store.retire_dictionaries(&stats), 0);
    let (oldest, objects) = store.oldest_dictionary().expect("two are old");
    assert_eq!((oldest.number(), objects), (1, 20));
    for slot in 0..60 {
        assert_eq!(read(&store, slot, &stats), Ok(records(slot as usize)));
    }
    assert_eq!(stats.read_dense_pages.get(), 60);
    store.check().expect("consistent");

    // Half of the oldest's pages go, the others are made again with the newest.
    store.discard(SlotIndex(0), 10, &stats).expect("in range");
    assert_eq!(store.retire_dictionaries(&stats), 0);
    assert!(is_denser(&store, 10..20, &stats));
    assert_eq!(store.retire_dictionaries(&stats), 1);
    assert_eq!(store.dictionaries_alive().0, 2);
    assert_eq!(store.install(dictionary(7), &stats).map(|v| v.number()), Some(1));
    let mut outdated = Recompressor::new(&store).expect("memory");
    assert!(is_denser(&store, 10..60, &stats));
    assert_eq!(store.retire_dictionaries(&stats), 2);
    assert!(store.install(dictionary(9), &stats).is_some());
    assert!(store.install(dictionary(11), &stats).is_some());
    assert!(is_denser(&store, 10..60, &stats));
    assert_eq!(store.retire_dictionaries(&stats), 2, "the second of them was never used");
    assert!(store.install(dictionary(13), &stats).is_some());
    assert!(outdated.is_outdated(&store));
    let late = store.recompress(SlotIndex(10), &mut outdated, &stats);
    assert_eq!(late, Recompressed::Nothing, "its dictionary is gone, its number is not");
    for slot in 10..60 {
        assert_eq!(read(&store, slot, &stats), Ok(records(slot as usize)));
    }
    store.check().expect("consistent");
}

#[test]
fn a_page_that_gets_no_smaller_is_not_tried_again() {
    let (store, stats) = (store(8, 1 << 20, StoreCodec::Lz4), QueueStats::default());
    store.write(SlotIndex(1), &noise(5), &mut Stream::new(), &stats).expect("room");
    for rounds in 1..3 {
        let mut recompressor = Recompressor::new(&store).expect("memory");
        let entry = || store.glance(SlotIndex(1)).0;
        assert!(recompressor.may_help(entry()));
        let mut again = || store.recompress(SlotIndex(1), &mut recompressor, &stats);
        assert_eq!([again(), again()], [Recompressed::NotWorthIt, Recompressed::Nothing]);
        assert!(!recompressor.may_help(entry()));
        assert_eq!(stats.recompress_useless_pages.get(), rounds);
        assert!(store.install(dictionary(0), &stats).is_some());
    }
    assert_eq!(read(&store, 1, &stats), Ok(noise(5)));
    let mut recompressor = Recompressor::new(&store).expect("memory");
    let empty = store.recompress(SlotIndex(0), &mut recompressor, &stats);
    assert_eq!(empty, Recompressed::Nothing);
}

#[test]
fn a_slot_whose_object_is_another_in_the_same_place_is_left_alone() {
    let (store, stats) = (store_of_records(1, &QueueStats::default()), QueueStats::default());
    let slot = SlotIndex(0);
    let mut recompressor = Recompressor::new(&store).expect("memory");
    let old = store.glance(slot).0;
    let (at, len) = old.object().expect("an object");
    // What an overwrite leaves that got the same place and length again while zstd worked.
    let mut bytes = vec![0; len];
    store.pool.read(at, slot, &mut bytes).expect("its own");
    assert_eq!(
        recompressor.stale_by(
            &store,
            slot,
            || {
                bytes[len / 2] ^= 1;
                store.pool.write(at, slot, &bytes);
            },
            &stats
        ),
        Recompressed::Changed
    );
    assert_eq!(store.glance(slot).0, old);
    assert_eq!(store.pool_usage().objects, 1);
}

#[test]
fn a_dictionary_is_trained_on_what_is_stored_without_touching_it() {
    let stats = QueueStats::default();
    let few = store_of_records(100, &stats);
    assert!(!Trainer::new().is_due(&few), "too little is stored");
    let store = store_of_records(2 * crate::limits::DICTIONARY_SAMPLES as u32, &stats);
    let touches = || (0..100).map(|slot| store.glance(SlotIndex(slot)).1).collect::<Vec<_>>();
    let before = touches();
    store.advance_tick();
    let (mut trainer, mut dense) = (Trainer::new(), DenseStream::new());
    assert!(trainer.is_due(&store));
    let steps = (1..).find(|_| trainer.collect(&store, &mut dense, 100)).expect("enough is stored");
    assert!((10..50).contains(&steps), "{steps} steps of 100 slots");
    store.install(trainer.train().expect("it learns"), &stats).expect("a free number");
    assert!(!trainer.is_due(&store));
    assert_eq!(touches(), before);
    assert!(is_denser(&store, 0..100, &stats));
    assert_eq!(touches(), before);
}
