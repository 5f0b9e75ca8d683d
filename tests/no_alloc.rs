//! After start nothing on the data path uses the heap: when memory is gone, an allocation here
//! waits for reclaim, and reclaim waits for us.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use uswap::codec::Stream;
use uswap::error::IoError;
use uswap::limits::SLAB_BYTES;
use uswap::stats::QueueStats;
use uswap::store::{Store, StoreCodec};
use uswap::sys::map::{Arena, Words};
use uswap::units::{PAGE_SIZE, Page, SlotIndex};

const SLOTS: u32 = 64;
/// Enough for a slab of each kind of page below, not for all the huge ones.
const SLABS: usize = 3;

thread_local! {
    /// Heap calls of this thread: the test harness has threads of its own.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged; the count is a thread-local without
// a destructor, which itself never allocates.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count();
        // SAFETY: `ptr` came from `System` by way of `alloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn heap_calls(work: impl FnOnce()) -> u64 {
    let before = CALLS.with(Cell::get);
    work();
    CALLS.with(Cell::get) - before
}

fn store() -> Store {
    let file = |len: usize| {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(len as u64).expect("size");
        file
    };
    let table = Words::new(&file(SLOTS as usize * 8), SLOTS as usize).expect("map");
    let arena = Arena::new(&file(SLABS * SLAB_BYTES), SLABS * SLAB_BYTES).expect("map");
    Store::new(table, arena, StoreCodec::Lz4)
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
fn the_counter_counts() {
    assert!(heap_calls(|| drop(std::hint::black_box(Box::new(1)))) >= 2);
}

#[test]
fn no_verb_of_the_store_touches_the_heap() {
    let (store, stats, mut stream) = (store(), QueueStats::default(), Stream::new());
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
    assert_eq!(calls, 0);
    let happened = [
        &stats.write_same_pages,
        &stats.write_lz4_pages,
        &stats.write_huge_pages,
        &stats.read_empty_pages,
        &stats.read_same_pages,
        &stats.read_lz4_pages,
        &stats.read_huge_pages,
        &stats.discard_pages,
    ];
    assert!(happened.iter().all(|c| c.get() > 0), "the run missed a path: {stats:?}");
}
