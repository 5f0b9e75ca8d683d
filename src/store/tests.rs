//! The verbs one by one; `tests/model.rs` has the long runs.

use super::*;
use crate::codec::Stream;
use crate::error::IoError;
use crate::units::Page;

fn store(slots: usize, arena_bytes: usize, codec: StoreCodec) -> Store {
    let file = |len: usize| {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(len as u64).expect("size");
        file
    };
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
    let Entry::Zstd { at, len } = store.table.peek(SlotIndex(1)) else {
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
