//! Plain counters, one set per queue thread and helper, on cache lines of its own.
//!
//! Contract: each set has one writer, its thread, so a bump is a load and a store, no locked
//! instruction. Anybody may read; sums over queues are exact once the writers pause, and never go
//! backwards for totals. The `slots_*` and `stored_bytes` rows are changes, wrapping: a slot stored
//! by one queue may be freed by another, so only their sum over all queues means something.

pub mod histogram;
pub mod tap;

use crossbeam::utils::CachePadded;
use histogram::{Counts, Histogram};
use std::sync::atomic::{AtomicU64, Ordering};
use tap::Tap;

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

    /// Makes it `n`. Only the owning thread may call this.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// Counters of one thread.
        #[derive(Debug, Default)]
        pub struct QueueStats {
            $($(#[doc = $help])+ pub $name: Counter,)+
            /// How long things took.
            pub times: Times,
            /// Where its events go while they are recorded.
            pub tap: Tap,
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
    /// Pages read by zstd decompression with a dictionary.
    read_dense_pages,
    /// Pages read that were stored uncompressed.
    read_huge_pages,
    /// Pages that could not be read back: damaged object. Any value but zero is a defect.
    read_corrupt_pages,
    /// Pages read that were still staged.
    read_staged_pages,
    /// Pages read from the spill.
    read_spill_pages,
    /// Reads of the spill that came too late: the slot had changed meanwhile.
    read_spill_again,
    /// Pages that could not be read because the spill's file or device failed.
    read_spill_errors,
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
    /// Change in the number of zstd slots made with a dictionary.
    slots_dense,
    /// Change in the number of uncompressed slots.
    slots_huge,
    /// Change in the number of staged slots.
    slots_staged,
    /// Change in the number of spilled slots.
    slots_spilled,
    /// Change in the number of slots whose pages were lost: found damaged after a crash.
    slots_poisoned,
    /// Change in the bytes of page data held in the pool, without headers and rounding.
    stored_bytes,
    /// Pages compressed again, to smaller objects.
    recompressed_pages,
    /// Bytes of the pool that their objects took before.
    recompressed_from_bytes,
    /// Bytes of the pool that their objects took after.
    recompressed_to_bytes,
    /// Pages that would not have become smaller. They are not tried again with the same dictionary.
    recompress_useless_pages,
    /// Dictionaries made from stored pages.
    dictionaries_trained,
    /// Dictionaries forgotten because nothing was made with them any more.
    dictionaries_retired,
    /// Objects moved by compaction.
    compacted_objects,
    /// Slabs emptied by compaction.
    compacted_slabs,
    /// Bytes of empty slabs given back to the kernel.
    given_back_bytes,
    /// Change in the bytes of page data held in the spill, without seals and rounding.
    spilled_bytes,
    /// Pages moved from the pool to the spill.
    spilled_pages,
    /// Pages on their way to the spill that were overwritten or discarded before they were there.
    spill_stale_pages,
    /// Pages moved within the spill by cleaning.
    spill_moved_pages,
    /// Segments of the spill that were cleaned.
    spill_cleaned_segments,
    /// Bytes of page data that cleaning moved within the spill.
    spill_cleaned_bytes,
    /// Bytes given to the spill's file or device to write.
    spill_write_bytes,
    /// Bytes of page data in these: the rest are seals, rounding, summaries and unfilled ends.
    spill_payload_bytes,
    /// Pages read from the spill that stayed in the pool.
    promoted_pages,
    /// Segments that could not be written; their pages stayed where they were.
    spill_write_errors,
    /// Requests that failed because the file or device behind ours did.
    backing_errors,
    /// Transfers that the file or device behind ours carried out in part; the rest was asked again.
    backing_short,
    /// Operations on the file or device behind ours that were begun for a request.
    file_begun,
    /// Of these, ended.
    file_ended,
    /// Batches of completions taken from the ring.
    batches,
    /// Calls of io_uring_enter that waited for work.
    waits,
    /// Waits that were spared because polling saw the next request.
    polls_hit,
    /// Polls that ended without a request.
    polls_missed,
    /// Times that a helper was woken to compress staged pages.
    helper_wakes,
    /// Events that were given to whoever records them.
    trace_events,
    /// Events that were to be recorded and had no room.
    trace_dropped_events,
}

macro_rules! times {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// Histograms of one thread, in nanoseconds.
        #[derive(Debug, Default)]
        pub struct Times {
            $($(#[doc = $help])+ pub $name: Histogram,)+
        }

        impl Times {
            /// Name, help text and histogram, in the order of declaration.
            pub fn rows(&self) -> [(&'static str, &'static str, &Histogram); TIMES] {
                [$((stringify!($name), concat!($($help),+).trim_ascii(), &self.$name),)+]
            }
        }

        /// How many histograms there are.
        pub const TIMES: usize = [$(stringify!($name)),+].len();
    };
}

times! {
    /// From a request's arrival in this process to its commit, all kinds of requests.
    commit,
    /// Answering one page that was never written.
    read_empty,
    /// Answering one page from a same-filled slot.
    read_same,
    /// Answering one page by lz4 decompression.
    read_lz4,
    /// Answering one page by zstd decompression.
    read_zstd,
    /// Answering one page by zstd decompression with a dictionary.
    read_dense,
    /// Answering one page that is stored uncompressed.
    read_huge,
    /// Answering one page that is still staged.
    read_staged,
    /// Answering one page from the spill, reading included.
    read_spill,
    /// From a staged page's arrival in this process to its having moved to the pool.
    compress_lag,
}

/// Threads that work without a request: the mover.
pub const BACKGROUND: u16 = 1;

/// Counters of all threads that work on requests or on what is stored.
#[derive(Debug)]
pub struct Stats {
    /// The queue threads', then the helpers', then the mover's.
    threads: Box<[CachePadded<QueueStats>]>,
    queues: usize,
}

impl Stats {
    /// Counters for `queues` queue threads, `helpers` helpers and the mover. Allocates; for
    /// start-up.
    pub fn new(queues: u16, helpers: u16) -> Self {
        let threads = queues + helpers + BACKGROUND;
        let threads = (0..threads).map(|_| CachePadded::default()).collect();
        Self { threads, queues: queues.into() }
    }

    /// Counters of one queue.
    pub fn queue(&self, id: crate::units::QueueId) -> &QueueStats {
        &self.threads[usize::from(id.0)]
    }

    /// Counters of one helper.
    pub fn helper(&self, index: u16) -> &QueueStats {
        &self.threads[self.queues + usize::from(index)]
    }

    /// Counters of the mover.
    pub fn mover(&self) -> &QueueStats {
        &self.threads[self.threads.len() - 1]
    }

    /// All threads' counters: the queue threads', then the helpers', then the mover's.
    pub fn threads(&self) -> impl Iterator<Item = &QueueStats> {
        self.threads.iter().map(|thread| &**thread)
    }

    /// Sum over all threads of one counter.
    pub fn sum(&self, counter: impl Fn(&QueueStats) -> &Counter) -> u64 {
        self.threads.iter().fold(0, |sum, thread| sum.wrapping_add(counter(thread).get()))
    }

    /// Name, help and sum over all threads of every counter.
    pub fn totals(&self) -> [(&'static str, &'static str, u64); COUNTERS] {
        let mut total = QueueStats::default().rows();
        for thread in &self.threads {
            for (sum, row) in total.iter_mut().zip(thread.rows()) {
                sum.2 = sum.2.wrapping_add(row.2);
            }
        }
        total
    }

    /// Name, help and sum over all threads of every histogram. Allocates.
    pub fn times(&self) -> Vec<(&'static str, &'static str, Counts)> {
        let rows = Times::default();
        let mut sums: Vec<_> = rows.rows().map(|(n, h, _)| (n, h, Counts::default())).into();
        for thread in &self.threads {
            for (sum, row) in sums.iter_mut().zip(thread.times.rows()) {
                row.2.add_to(&mut sum.2);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::QueueId;

    #[test]
    fn totals_sum_queues_and_wrap_changes() {
        let stats = Stats::new(2, 1);
        stats.queue(QueueId(0)).slots_lz4.add(3);
        stats.queue(QueueId(1)).slots_lz4.sub(4);
        stats.helper(0).slots_lz4.add(2);
        let rows = stats.totals();
        let row = rows.iter().find(|r| r.0 == "slots_lz4").expect("declared above");
        assert_eq!(row.2, 1);
    }

    #[test]
    fn histograms_of_all_threads_are_summed() {
        let stats = Stats::new(1, 1);
        stats.queue(QueueId(0)).times.commit.record(1000, 2);
        stats.helper(0).times.commit.record(3000, 1);
        let (name, _, counts) = &stats.times()[0];
        assert_eq!((*name, counts.count(), counts.sum_ns), ("commit", 3, 5000));
    }

    #[test]
    fn every_counter_has_help() {
        assert!(QueueStats::default().rows().iter().all(|r| r.1.ends_with('.')));
        assert!(Times::default().rows().iter().all(|r| r.1.ends_with('.')));
    }
}
