//! The program's heap: the system's, plus a count of calls from threads that promised to make none.
//!
//! A queue thread that allocates may wait for reclaim, and reclaim waits for the queue thread. So
//! after ready every queue thread is sealed; a call from a sealed thread is still served, since
//! refusing would kill the server, but it is counted, shown in `status`, and fails the tests.
//!
//! Work that may not wait for memory either, and cannot do without, has a region (`sys/region.rs`):
//! that is asked first, and is not the system's heap.

use super::region;
use crate::limits::SEGMENT_BYTES;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static SEALED: Cell<bool> = const { Cell::new(false) };
}

static SEALED_CALLS: AtomicU64 = AtomicU64::new(0);

/// Promises that this thread makes no more heap calls.
pub fn seal_thread() {
    SEALED.with(|s| s.set(true));
}

/// Takes the promise back: the thread is about to end.
pub fn unseal_thread() {
    SEALED.with(|s| s.set(false));
}

/// Heap calls made by sealed threads since the program began.
pub fn sealed_calls() -> u64 {
    SEALED_CALLS.load(Ordering::Relaxed)
}

/// From this size on an allocation is mapped apart, and unmapped when it is freed. More than a
/// segment of the spill, of which a standby needs some when it takes over: they have to come from
/// what [`reserve`] keeps.
const APART_BYTES: libc::c_int = 512 << 10;
const _: () = assert!(APART_BYTES as usize > SEGMENT_BYTES);

/// Makes the C heap keep what it has: one arena, nothing trimmed, nothing mapped apart but what is
/// large. With locked memory each of these would change mappings, and that takes the lock that page
/// faults of all threads need. Only background threads allocate so much at a time, to train a
/// dictionary or to recompress, and what they are done with has to go back: in the heap it would
/// stay, locked.
pub fn settle() {
    for (option, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_TRIM_THRESHOLD, i32::MAX),
        (libc::M_MMAP_THRESHOLD, APART_BYTES),
        (libc::M_TOP_PAD, 1 << 20),
    ] {
        // SAFETY: mallopt only changes tunables of the C heap. A refusal (0) leaves the default,
        // which is harmless.
        let _ = unsafe { libc::mallopt(option, value) };
    }
}

/// Takes `bytes` and gives them back to the heap, which keeps them ([`settle`]): later ones up to
/// that size then ask the kernel for nothing.
pub fn reserve(bytes: usize) {
    const PART: usize = APART_BYTES as usize / 2;
    let parts: Vec<Vec<u8>> = (0..bytes.div_ceil(PART)).map(|_| vec![1; PART]).collect();
    drop(std::hint::black_box(parts));
}

/// The allocator to install with `#[global_allocator]`.
#[derive(Debug)]
pub struct Heap;

#[inline]
fn note() {
    if SEALED.with(Cell::get) {
        SEALED_CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to `System` or to the region unchanged, and a block goes back to whom its
// address says it is from; `note` and the region touch const thread-locals without destructors,
// atomics and a lock, none of which allocates.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(block) = region::allocate(layout) {
            return block.as_ptr();
        }
        note();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if let Some(block) = region::allocate(layout) {
            // SAFETY: it is as large as the layout says, and nobody else's.
            unsafe { block.write_bytes(0, layout.size()) };
            return block.as_ptr();
        }
        note();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        region::note_free(layout);
        if region::owns(ptr) {
            // SAFETY: the caller's promises are passed on.
            return unsafe { region::free(ptr, layout) };
        }
        note();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if region::owns(ptr) || region::is_counting() {
            // SAFETY: the caller's promises are passed on.
            return unsafe { moved(self, ptr, layout, new_size) };
        }
        note();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Another block with the same contents, from wherever memory comes now.
///
/// # Safety
/// As for [`GlobalAlloc::realloc`].
unsafe fn moved(heap: &Heap, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    // SAFETY: the caller promises that the size is not zero and no overflow with the alignment.
    let wanted = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
    // SAFETY: as above.
    let new = unsafe { heap.alloc(wanted) };
    if !new.is_null() {
        let len = layout.size().min(new_size);
        // SAFETY: both are at least so long, and apart.
        unsafe { std::ptr::copy_nonoverlapping(ptr, new, len) };
        // SAFETY: the caller's promises are passed on.
        unsafe { heap.dealloc(ptr, layout) };
    }
    new
}
