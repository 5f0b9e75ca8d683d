//! After start nothing on the data path uses the heap: when memory is gone, an allocation here
//! waits for reclaim, and reclaim waits for us.

use uswap::codec::zstd::Zstd;
use uswap::codec::{Dictionary, Stream};
use uswap::error::IoError;
use uswap::limits::SLAB_BYTES;
use uswap::stats::QueueStats;
use uswap::store::{Recompressed, Recompressor, Store, StoreCodec};
use uswap::sys::heap::{Heap, seal_thread, sealed_calls, unseal_thread};
use uswap::sys::map::{Arena, Words};
use uswap::units::{PAGE_SIZE, Page, SlotIndex};

const SLOTS: u32 = 64;
/// Enough for a slab of each kind of page below, not for all the huge ones.
const SLABS: usize = 3;

#[global_allocator]
static HEAP: Heap = Heap;

/// Heap calls of this thread while `work` runs. The count is one for the process, so only one test
/// may use it.
fn heap_calls(work: impl FnOnce()) -> u64 {
    let before = sealed_calls();
    seal_thread();
    work();
    unseal_thread();
    sealed_calls() - before
}

fn store(codec: StoreCodec) -> Store {
    let file = |len: usize| {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(len as u64).expect("size");
        file
    };
    let table = Words::new(&file(SLOTS as usize * 8), SLOTS as usize).expect("map");
    let arena = Arena::new(&file(SLABS * SLAB_BYTES), SLABS * SLAB_BYTES).expect("map");
    Store::new(table, arena, codec)
}

fn page(seed: u64) -> Page {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let random = [0, 300, PAGE_SIZE, 2000][seed as usize / 3 % 4];
    std::array::from_fn(|i| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if i < random { (state >> 32) as u8 } else { 7 }
    })
}

#[test]
fn no_verb_of_the_store_touches_the_heap() {
    assert!(heap_calls(|| drop(std::hint::black_box(Box::new(1)))) >= 2, "the count counts");
    assert!(heap_calls(|| std::mem::forget(Zstd::new())) >= 2, "the count counts calls from C");
    reads_of_dense_pages();
    for codec in [StoreCodec::Lz4, StoreCodec::Zstd] {
        let stats = every_verb(codec);
        let (written, read) = match codec {
            StoreCodec::Zstd => (&stats.write_zstd_pages, &stats.read_zstd_pages),
            _ => (&stats.write_lz4_pages, &stats.read_lz4_pages),
        };
        let happened = [
            written,
            read,
            &stats.write_same_pages,
            &stats.write_huge_pages,
            &stats.read_empty_pages,
            &stats.read_same_pages,
            &stats.read_huge_pages,
            &stats.discard_pages,
        ];
        assert!(happened.iter().all(|c| c.get() > 0), "the run missed a path: {stats:?}");
    }
}

/// Runs them all and returns what was counted; no heap call on the way.
fn every_verb(codec: StoreCodec) -> QueueStats {
    let (store, stats, mut stream) = (store(codec), QueueStats::default(), Stream::new());
    let mut back = [0; PAGE_SIZE];
    let calls = heap_calls(|| {
        for round in 0..2000u64 {
            let slot = SlotIndex((round * 29 % u64::from(SLOTS)) as u32);
            match store.write(slot, &page(round), &mut stream, &stats) {
                Ok(()) | Err(IoError::Full) => {}
                Err(error) => panic!("write: {error:?}"),
            }
            let other = SlotIndex((round * 31 % u64::from(SLOTS)) as u32);
            store.read(other, &mut back, &mut stream, &stats).expect("readable");
            if round % 50 == 0 {
                store.discard(SlotIndex(8), 20, &stats).expect("in range");
                store.write_zeroes(SlotIndex(40), 2, &stats).expect("in range");
            }
        }
    });
    assert_eq!(calls, 0, "{codec:?}");
    stats
}

/// What a queue thread does with pages that a background thread has recompressed: made with one
/// dictionary and another, read, overwritten and discarded; and compaction, which is no queue
/// thread's but does not allocate either.
fn reads_of_dense_pages() {
    let (store, stats, mut stream) = (store(StoreCodec::Lz4), QueueStats::default(), Stream::new());
    // Compressible ones only.
    let page = |slot: u32| page(u64::from(slot) * 12 + 3);
    for slot in 0..SLOTS {
        store.write(SlotIndex(slot), &page(slot), &mut stream, &stats).expect("room");
    }
    for half in 0..2 {
        let samples: Vec<Page> = (0..200).map(|i| page(i * 2 + half)).collect();
        let dictionary = Dictionary::train_to(&samples, 8 << 10).expect("zeros in common");
        store.install(dictionary, &stats).expect("a free number");
        let mut recompressor = Recompressor::new(&store).expect("memory");
        for slot in (half * SLOTS / 2..(half + 1) * SLOTS / 2).map(SlotIndex) {
            let done = store.recompress(slot, &mut recompressor, &stats);
            assert!(matches!(done, Recompressed::Denser { .. }), "{slot:?}: {done:?}");
        }
    }
    let mut back = [0; PAGE_SIZE];
    let calls = heap_calls(|| {
        for slot in 0..SLOTS {
            store.read(SlotIndex(slot), &mut back, &mut stream, &stats).expect("readable");
            assert!(back == page(slot), "slot {slot}");
        }
        store.write(SlotIndex(3), &page(4), &mut stream, &stats).expect("room");
        store.discard(SlotIndex(8), 40, &stats).expect("in range");
        while store.compact_step(&stats).is_some() {}
    });
    assert_eq!(stats.read_dense_pages.get(), u64::from(SLOTS));
    assert_eq!(calls, 0, "dense pages");
}
