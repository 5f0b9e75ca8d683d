//! The program's allocator counts what it promises to count: heap calls of sealed threads, and
//! nothing else. One test, because the count is one for the whole process.

use std::hint::black_box;
use uswap::sys::heap::{Heap, seal_thread, sealed_calls, unseal_thread};

#[global_allocator]
static HEAP: Heap = Heap;

/// Counted calls while `work` runs.
fn counted(work: impl FnOnce()) -> u64 {
    let before = sealed_calls();
    work();
    sealed_calls() - before
}

fn allocate_and_free() {
    drop(black_box(Box::new(black_box([1u8; 100]))));
}

#[test]
fn only_calls_of_sealed_threads_count() {
    assert_eq!(counted(allocate_and_free), 0, "not sealed");

    seal_thread();
    let both = counted(allocate_and_free);
    let mut kept = None;
    let allocation = counted(|| kept = Some(black_box(vec![1u8; 100])));
    let growth = counted(|| {
        if let Some(bytes) = kept.as_mut() {
            bytes.reserve_exact(10_000);
        }
    });
    let release = counted(|| drop(black_box(kept.take())));
    let zeroed = counted(|| std::mem::forget(black_box(vec![0u8; 100])));
    let quiet = counted(|| {
        black_box([1u8; 100]);
    });
    unseal_thread();
    assert_eq!((both, allocation, growth, release), (2, 1, 1, 1));
    assert_eq!((zeroed, quiet), (1, 0));

    assert_eq!(counted(allocate_and_free), 0, "no longer sealed");

    // The other thread works while this one is sealed and makes no call of its own.
    let (start, end) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    let others = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            start.wait();
            (0..1000).for_each(|_| allocate_and_free());
            end.wait();
        });
        seal_thread();
        let others = counted(|| {
            start.wait();
            end.wait();
        });
        unseal_thread();
        other.join().expect("the other thread ends");
        others
    });
    assert_eq!(others, 0, "another thread's calls");
}
