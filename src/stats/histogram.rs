//! Histograms of times with one writer, cheap enough to be always on.
//!
//! Four buckets for each doubling: a bucket is at most a quarter wider than its lower bound, so a
//! quantile read from it is at most that much off. Recording is a few shifts and two plain stores.

use super::Counter;

/// Times below 2 to this power, in nanoseconds, share the first bucket.
const FIRST_BITS: u32 = 8;
/// Times of 2 to this power and more share the last: 17 s, longer than any wait is allowed to take.
const LAST_BITS: u32 = 34;
/// Buckets for each doubling, as a power of two.
const STEP_BITS: u32 = 2;
/// Buckets of a histogram.
pub const BUCKETS: usize = ((LAST_BITS - FIRST_BITS) << STEP_BITS) as usize + 2;

/// Counts of times, in nanoseconds. One thread records, anybody reads.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_ns: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Counter::default()), sum_ns: Counter::default() }
    }
}

/// The bucket that a time belongs to.
#[inline]
fn bucket(ns: u64) -> usize {
    if ns < 1 << FIRST_BITS {
        return 0;
    }
    let bits = ns.ilog2();
    if bits >= LAST_BITS {
        return BUCKETS - 1;
    }
    let step = (ns >> (bits - STEP_BITS)) as usize & ((1 << STEP_BITS) - 1);
    1 + (((bits - FIRST_BITS) << STEP_BITS) as usize | step)
}

/// The end of the last bucket, which has none.
pub const OPEN_END_NS: u64 = u64::MAX;

/// First time beyond a bucket, in nanoseconds; the last bucket has no end.
pub fn bucket_end_ns(bucket: usize) -> u64 {
    if bucket >= BUCKETS - 1 {
        return OPEN_END_NS;
    }
    let (doubling, step) = (bucket as u32 >> STEP_BITS, bucket as u64 & ((1 << STEP_BITS) - 1));
    ((1 << STEP_BITS) + step) << (doubling + FIRST_BITS - STEP_BITS)
}

/// The bucket ends that are powers of two, in nanoseconds: every one of them ends a bucket.
pub fn doublings_ns() -> impl Iterator<Item = u64> {
    (FIRST_BITS..=LAST_BITS).map(|bits| 1 << bits)
}

impl Histogram {
    /// Counts `times` events that took `ns` nanoseconds each. Only the owning thread may call this.
    #[inline]
    pub fn record(&self, ns: u64, times: u64) {
        self.buckets[bucket(ns)].add(times);
        self.sum_ns.add(ns.wrapping_mul(times));
    }

    /// Adds what this one has counted to `sum`.
    pub fn add_to(&self, sum: &mut Counts) {
        for (count, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *count += bucket.get();
        }
        sum.sum_ns = sum.sum_ns.wrapping_add(self.sum_ns.get());
    }
}

/// What histograms have counted, summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Events by bucket.
    pub buckets: [u64; BUCKETS],
    /// Sum of all times.
    pub sum_ns: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_ns: 0 }
    }
}

impl Counts {
    /// All events.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The buckets with something in them: where each ends, in nanoseconds, and how many.
    pub fn filled(&self) -> Vec<(u64, u64)> {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(i, &count)| (bucket_end_ns(i), count)).collect()
    }

    /// A time that at least `share` of the events did not pass, up to the width of a bucket; 0
    /// without events.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (i, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return bucket_end_ns(i);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_time_lies_in_its_bucket(ns: u64) {
            let at = bucket(ns);
            prop_assert!(ns < bucket_end_ns(at) || at == BUCKETS - 1);
            prop_assert!(at == 0 || ns >= bucket_end_ns(at - 1));
        }

        #[test]
        fn buckets_are_narrow(at in 1..BUCKETS - 1) {
            let (begin, end) = (bucket_end_ns(at - 1), bucket_end_ns(at));
            prop_assert!(begin < end && (end - begin) * 4 <= begin);
        }
    }

    #[test]
    fn quantiles_are_the_ends_of_buckets() {
        let histogram = Histogram::default();
        histogram.record(1000, 98);
        histogram.record(50_000, 2);
        let mut counts = Counts::default();
        histogram.add_to(&mut counts);
        assert_eq!((counts.count(), counts.sum_ns), (100, 198_000));
        assert_eq!(counts.quantile_ns(0.5), 1024);
        assert_eq!(counts.quantile_ns(0.98), 1024);
        assert_eq!(counts.quantile_ns(0.99), 57_344);
        assert_eq!(Counts::default().quantile_ns(0.5), 0);
        assert_eq!(counts.filled(), [(1024, 98), (57_344, 2)]);
    }

    #[test]
    fn doublings_are_ends_of_buckets() {
        let ends: Vec<u64> = (0..BUCKETS).map(bucket_end_ns).collect();
        assert!(doublings_ns().all(|end| ends.contains(&end)));
        assert_eq!(doublings_ns().last(), Some(ends[BUCKETS - 2]));
    }
}
