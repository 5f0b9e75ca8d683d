//! Hints to the processor and the kernel about large tables that are read here and there. They
//! change how fast memory is, and nothing else.

use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

/// Asks for the cache line of `place` without waiting for it. A load would do that too, but
/// everything after it would soon wait until it is there. Does nothing where the processor is not
/// known.
#[inline]
pub fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction; it changes nothing and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// `count` of what `make` makes, in huge pages where the kernel has them: of a table of many MiB
/// the addresses of small pages are not at hand either. Allocates.
pub fn huge_table<T>(make: impl FnMut() -> T, count: usize) -> Vec<T> {
    let mut table = Vec::with_capacity(count);
    let range = table.spare_capacity_mut().as_mut_ptr_range();
    let begin = range.start.addr().next_multiple_of(page_size());
    let end = range.end.addr() / page_size() * page_size();
    if end > begin {
        // SAFETY: the whole pages within an allocation of ours; the advice leaves what is in them
        // as it is. That it is not taken changes nothing.
        let _ = unsafe {
            madvise(range.start.with_addr(begin).cast(), end - begin, Advice::LinuxHugepage)
        };
    }
    table.resize_with(count, make);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_what_it_is_filled_with() {
        for count in [0, 1, 5000, 1 << 20] {
            let table = huge_table(|| 7_u64, count);
            assert_eq!((table.len(), table.iter().sum()), (count, 7 * count as u64));
            table.last().inspect(|last| prefetch(*last));
        }
    }
}
