//! Memory for work that has to do without the kernel's: a region of fixed size, taken once, and an
//! account of what somebody holds.
//!
//! The mover makes room in a machine that has none, so it may not wait for memory; a script that it
//! asks allocates with every value. While [`Held::within`] runs, what the thread asks the heap for
//! comes from the region ([`crate::sys::heap::Heap`] looks here first), where TLSF allocates and
//! frees in constant time: what a script keeps from call to call is freed like anything else. Where
//! a value is freed does not matter: its address says whose it is.
//!
//! A library that cannot be told "no" (Rhai's values cannot) has to be stopped before the region is
//! empty: it asks [`held_bytes`] while it works. Should the region be empty all the same, the
//! system's heap serves, and [`outside_calls`] counts: slow beats dead.

use rlsf::Tlsf;
use std::alloc::Layout;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// Size of the region. Several scripts, the one that runs and those that are about to or have just
/// been replaced, and for each of them what one of its steps may ask for at once.
pub const REGION_BYTES: usize = 1 << 20;

/// Blocks up to 2 MiB, in sixteenths.
type Blocks = Tlsf<'static, u32, u16, 16, 16>;

static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks::new());
/// Where the region begins; 0 while there is none, and nothing is ever allocated below 1 MiB.
static BEGIN: AtomicUsize = AtomicUsize::new(0);
static OUTSIDE_CALLS: AtomicU64 = AtomicU64::new(0);

/// Where a thread's memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The heap, uncounted.
    Heap,
    /// The heap, counted.
    Counted,
    /// The region, counted.
    Region,
}

thread_local! {
    static SOURCE: Cell<Source> = const { Cell::new(Source::Heap) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Takes the region, if that has not been done: every page of it is written, so that it is there,
/// and locked where the process locks its memory. May wait for memory.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Larger than what the heap keeps together: mapped apart, and never given back.
        let bytes: &'static mut [MaybeUninit<u8>] =
            Box::leak(vec![MaybeUninit::new(1); REGION_BYTES].into_boxed_slice());
        let begin = bytes.as_ptr().addr();
        BLOCKS.lock().unwrap_or_else(PoisonError::into_inner).insert_free_block(bytes);
        BEGIN.store(begin, Ordering::Release);
    });
}

/// Bytes that the work in this thread holds; 0 outside [`Held::within`].
pub fn held_bytes() -> usize {
    usize::try_from(HELD.get()).unwrap_or(0)
}

/// Times that the region was empty, or not there, and the system's heap served.
pub fn outside_calls() -> u64 {
    OUTSIDE_CALLS.load(Ordering::Relaxed)
}

/// What somebody holds from call to call.
#[derive(Debug)]
pub struct Held {
    source: Source,
    bytes: isize,
    peak: isize,
}

/// Puts a thread's own things back, also when the work panics.
struct Back<'a>(&'a mut Held);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        SOURCE.set(Source::Heap);
        self.0.bytes = HELD.replace(0);
        self.0.peak = self.0.peak.max(PEAK.replace(0));
    }
}

impl Held {
    /// Nothing, and its memory will be the region's, which is taken now if need be.
    pub fn in_region() -> Self {
        prepare();
        Self { source: Source::Region, bytes: 0, peak: 0 }
    }

    /// Nothing; memory is the heap's and is counted.
    pub const fn on_heap() -> Self {
        Self { source: Source::Counted, bytes: 0, peak: 0 }
    }

    /// Does the work and counts what it allocates and frees. Work within work counts as the outer
    /// one's.
    pub fn within<T>(&mut self, work: impl FnOnce() -> T) -> T {
        if SOURCE.get() != Source::Heap {
            return work();
        }
        HELD.set(self.bytes);
        PEAK.set(self.bytes);
        SOURCE.set(self.source);
        let _back = Back(self);
        work()
    }

    /// The most bytes that were ever held.
    pub fn peak_bytes(&self) -> usize {
        usize::try_from(self.peak).unwrap_or(0)
    }
}

/// Memory for this thread's work, if it works with the region.
#[inline]
pub(super) fn allocate(layout: Layout) -> Option<NonNull<u8>> {
    match SOURCE.get() {
        Source::Heap => None,
        Source::Counted => {
            count(layout.size() as isize);
            None
        }
        Source::Region => {
            count(layout.size() as isize);
            let block = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner).allocate(layout);
            if block.is_none() {
                OUTSIDE_CALLS.fetch_add(1, Ordering::Relaxed);
            }
            block
        }
    }
}

/// Notes that something of this size is freed.
#[inline]
pub(super) fn note_free(layout: Layout) {
    if SOURCE.get() != Source::Heap {
        count(-(layout.size() as isize));
    }
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

/// Whether this address is in the region.
#[inline]
pub(super) fn owns(block: *const u8) -> bool {
    block.addr().wrapping_sub(BEGIN.load(Ordering::Relaxed)) < REGION_BYTES
}

/// Whether this thread's memory is counted.
#[inline]
pub(super) fn is_counting() -> bool {
    SOURCE.get() != Source::Heap
}

/// Gives a block back.
///
/// # Safety
/// It is from [`allocate`] with this layout, and nobody uses it any more.
pub(super) unsafe fn free(block: *mut u8, layout: Layout) {
    let Some(block) = NonNull::new(block) else { return };
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: as promised to us; `owns` told the caller that it is one of these blocks.
    unsafe { blocks.deallocate(block, layout.align()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_can_be_used_up_and_is_there_again_when_it_is_freed() {
        let layout = Layout::from_size_align(64 << 10, 64).expect("a layout");
        let mut counts = Vec::new();
        for _ in 0..3 {
            let (mut held, mut blocks) = (Held::in_region(), Vec::new());
            let before = outside_calls();
            held.within(|| {
                while let Some(block) = allocate(layout) {
                    blocks.push(block)
                }
            });
            assert!(outside_calls() > before && held_bytes() == 0);
            assert!(blocks.iter().all(|block| owns(block.as_ptr())));
            // The call that had nothing counts too: somebody else serves it.
            assert_eq!(held.peak_bytes(), (blocks.len() + 1) * layout.size());
            counts.push(blocks.len());
            for block in blocks {
                // SAFETY: it is from `allocate`, with this layout, and nobody uses it.
                unsafe { free(block.as_ptr(), layout) };
            }
        }
        assert!(counts[0] >= 14 && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
        assert_eq!(allocate(layout), None, "outside of work nothing comes from it");
        assert!(!owns(std::ptr::null()) && !owns((&raw const layout).cast()));
    }
}
