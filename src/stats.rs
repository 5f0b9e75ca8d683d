//! Plain counters, one set per queue thread on cache lines of its own.
//!
//! Contract: each set has one writer, its queue thread, so a bump is a load and a store, no locked
//! instruction. Anybody may read; sums over queues are exact once the writers pause, and never go
//! backwards for totals. The `slots_*` and `stored_bytes` rows are changes, wrapping: a slot stored
//! by one queue may be freed by another, so only their sum over all queues means something.

use crossbeam::utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

/// One counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`, wrapping. Only the owning thread may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` away, wrapping. Only the owning thread may call this.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// Counters of one queue thread.
        #[derive(Debug, Default)]
        pub struct QueueStats {
            $($(#[doc = $help])+ pub $name: Counter,)+
        }

        impl QueueStats {
            /// Name, help text and value of every counter, in the order of declaration.
            pub fn rows(&self) -> [(&'static str, &'static str, u64); COUNTERS] {
                [$((stringify!($name), concat!($($help),+).trim_ascii(), self.$name.get()),)+]
            }
        }

        /// How many counters there are.
        pub const COUNTERS: usize = [$(stringify!($name)),+].len();
    };
}

counters! {
    /// Read requests taken from the driver.
    read_requests,
    /// Write requests taken from the driver.
    write_requests,
    /// Discard requests taken from the driver.
    discard_requests,
    /// Write-zeroes requests taken from the driver.
    write_zeroes_requests,
    /// Flush requests taken from the driver.
    flush_requests,
    /// Requests refused because they were malformed or not advertised.
    refused_requests,
    /// Times that a write waited for the pool to grow. A request that waits long counts often.
    throttled_tries,
    /// Pages read that no one had written: answered with zeros.
    read_empty_pages,
    /// Pages read from a same-filled slot.
    read_same_pages,
    /// Pages read by lz4 decompression.
    read_lz4_pages,
    /// Pages read by zstd decompression.
    read_zstd_pages,
    /// Pages read that were stored uncompressed.
    read_huge_pages,
    /// Pages that could not be read back: damaged object. Any value but zero is a defect.
    read_corrupt_pages,
    /// Pages read that were still staged.
    read_staged_pages,
    /// Pages committed before they were compressed.
    write_staged_pages,
    /// Pages compressed before their commit, because staging was full or the pool nearly so.
    write_direct_pages,
    /// Staged pages that were overwritten or discarded before they were compressed.
    staged_stale_pages,
    /// Pages written as same-filled.
    write_same_pages,
    /// Pages written as lz4 objects.
    write_lz4_pages,
    /// Pages written as zstd objects.
    write_zstd_pages,
    /// Pages written uncompressed because compression did not pay.
    write_huge_pages,
    /// Pages refused because the pool was full: the kernel kept them in RAM.
    write_full_pages,
    /// Pages freed or skipped by discards.
    discard_pages,
    /// Change in the number of same-filled slots.
    slots_same,
    /// Change in the number of lz4 slots.
    slots_lz4,
    /// Change in the number of zstd slots.
    slots_zstd,
    /// Change in the number of uncompressed slots.
    slots_huge,
    /// Change in the number of staged slots.
    slots_staged,
    /// Change in the bytes of page data held in the pool, without headers and rounding.
    stored_bytes,
    /// Batches of completions taken from the ring.
    batches,
    /// Calls of io_uring_enter that waited for work.
    waits,
}

/// All queues' counters.
#[derive(Debug)]
pub struct Stats {
    queues: Box<[CachePadded<QueueStats>]>,
}

impl Stats {
    /// Counters for `queues` queues. Allocates; for start-up.
    pub fn new(queues: u16) -> Self {
        Self { queues: (0..queues).map(|_| CachePadded::default()).collect() }
    }

    /// Counters of one queue.
    pub fn queue(&self, id: crate::units::QueueId) -> &QueueStats {
        &self.queues[usize::from(id.0)]
    }

    /// Name, help and sum over all queues of every counter.
    pub fn totals(&self) -> [(&'static str, &'static str, u64); COUNTERS] {
        let mut total = QueueStats::default().rows();
        for queue in &self.queues {
            for (sum, row) in total.iter_mut().zip(queue.rows()) {
                sum.2 = sum.2.wrapping_add(row.2);
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::QueueId;

    #[test]
    fn totals_sum_queues_and_wrap_changes() {
        let stats = Stats::new(2);
        stats.queue(QueueId(0)).slots_lz4.add(3);
        stats.queue(QueueId(1)).slots_lz4.sub(2);
        let rows = stats.totals();
        let row = rows.iter().find(|r| r.0 == "slots_lz4").expect("declared above");
        assert_eq!(row.2, 1);
    }

    #[test]
    fn every_counter_has_help() {
        assert!(QueueStats::default().rows().iter().all(|r| r.1.ends_with('.')));
    }
}
