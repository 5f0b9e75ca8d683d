//! Which counter or histogram of the threads (`crate::stats`) becomes which metric.

use super::{Labels, Metric, names};

/// A counter or histogram by its name in `crate::stats`, its metric, and labels.
pub type Row = (&'static str, &'static Metric, Labels<'static>);

/// Every counter. Those that are changes (`slots_*`, `*_bytes` held) become gauges.
pub const COUNTERS: &[Row] = &[
    ("read_requests", names::REQUESTS, &[("op", "read")]),
    ("write_requests", names::REQUESTS, &[("op", "write")]),
    ("discard_requests", names::REQUESTS, &[("op", "discard")]),
    ("write_zeroes_requests", names::REQUESTS, &[("op", "write_zeroes")]),
    ("flush_requests", names::REQUESTS, &[("op", "flush")]),
    ("refused_requests", names::REFUSED, &[]),
    ("throttled_tries", names::THROTTLED, &[]),
    ("read_empty_pages", names::READ, EMPTY),
    ("read_same_pages", names::READ, SAME),
    ("read_lz4_pages", names::READ, LZ4),
    ("read_zstd_pages", names::READ, ZSTD),
    ("read_dense_pages", names::READ, DENSE),
    ("read_huge_pages", names::READ, HUGE),
    ("read_staged_pages", names::READ, STAGED),
    ("read_spill_pages", names::READ, SPILL),
    ("read_corrupt_pages", names::READ_ERRORS, &[("reason", "corrupt")]),
    ("read_spill_errors", names::READ_ERRORS, &[("reason", "spill")]),
    ("read_spill_again", names::SPILL_AGAIN, &[]),
    ("write_staged_pages", names::COMMITTED, &[("path", "staged")]),
    ("write_direct_pages", names::COMMITTED, &[("path", "direct")]),
    ("staged_stale_pages", names::STAGED_STALE, &[]),
    ("write_same_pages", names::WRITTEN, SAME),
    ("write_lz4_pages", names::WRITTEN, LZ4),
    ("write_zstd_pages", names::WRITTEN, ZSTD),
    ("write_huge_pages", names::WRITTEN, HUGE),
    ("write_full_pages", names::WRITE_ERRORS, &[("reason", "full")]),
    ("discard_pages", names::DISCARDED, &[]),
    ("slots_same", names::PAGES, SAME),
    ("slots_lz4", names::PAGES, LZ4),
    ("slots_zstd", names::PAGES, ZSTD),
    ("slots_dense", names::PAGES, DENSE),
    ("slots_huge", names::PAGES, HUGE),
    ("slots_staged", names::PAGES, STAGED),
    ("slots_spilled", names::PAGES, SPILL),
    ("slots_poisoned", names::POISONED, &[]),
    ("stored_bytes", names::DATA_BYTES, &[("tier", "pool")]),
    ("spilled_bytes", names::DATA_BYTES, &[("tier", "spill")]),
    ("recompressed_pages", names::RECOMPRESSED, &[]),
    ("recompressed_from_bytes", names::RECOMPRESSED_FROM, &[]),
    ("recompressed_to_bytes", names::RECOMPRESSED_TO, &[]),
    ("recompress_useless_pages", names::USELESS, &[]),
    ("dictionaries_trained", names::TRAINED, &[("event", "trained")]),
    ("dictionaries_retired", names::TRAINED, &[("event", "retired")]),
    ("compacted_objects", names::COMPACTED_OBJECTS, &[]),
    ("compacted_slabs", names::COMPACTED_SLABS, &[]),
    ("given_back_bytes", names::GIVEN_BACK, &[]),
    ("spilled_pages", names::SPILLED, &[]),
    ("spill_stale_pages", names::SPILL_STALE, &[]),
    ("spill_moved_pages", names::SPILL_MOVED, &[]),
    ("spill_cleaned_segments", names::SPILL_CLEANED, &[]),
    ("spill_cleaned_bytes", names::SPILL_CLEANED_BYTES, &[]),
    ("spill_payload_bytes", names::SPILL_PAYLOAD, &[]),
    ("promoted_pages", names::PROMOTED, &[]),
    ("spill_write_bytes", names::SPILL_WRITTEN, &[]),
    ("spill_write_errors", names::SPILL_WRITE_ERRORS, &[]),
    ("backing_errors", names::BACKING_ERRORS, &[]),
    ("backing_short", names::BACKING_SHORT, &[]),
    ("file_begun", names::FILE_OPERATIONS, &[("event", "begun")]),
    ("file_ended", names::FILE_OPERATIONS, &[("event", "ended")]),
    ("batches", names::BATCHES, &[]),
    ("waits", names::WAITS, &[]),
    ("polls_hit", names::POLLS, &[("result", "hit")]),
    ("polls_missed", names::POLLS, &[("result", "miss")]),
    ("helper_wakes", names::HELPER_WAKES, &[]),
    ("trace_events", names::TRACED, &[("fate", "recorded")]),
    ("trace_dropped_events", names::TRACED, &[("fate", "dropped")]),
];

/// Every histogram.
pub const TIMES: &[Row] = &[
    ("commit", names::COMMIT_SECONDS, &[]),
    ("read_empty", names::READ_SECONDS, EMPTY),
    ("read_same", names::READ_SECONDS, SAME),
    ("read_lz4", names::READ_SECONDS, LZ4),
    ("read_zstd", names::READ_SECONDS, ZSTD),
    ("read_dense", names::READ_SECONDS, DENSE),
    ("read_huge", names::READ_SECONDS, HUGE),
    ("read_staged", names::READ_SECONDS, STAGED),
    ("read_spill", names::READ_SECONDS, SPILL),
    ("compress_lag", names::COMPRESS_LAG, &[]),
];

/// Tier and codec of a page. A same-filled page has its slot and nothing else; a spilled one is
/// kept as it was in the pool.
const EMPTY: Labels<'static> = &[("tier", "none"), ("codec", "none")];
const SAME: Labels<'static> = &[("tier", "slot"), ("codec", "same")];
const LZ4: Labels<'static> = &[("tier", "pool"), ("codec", "lz4")];
const ZSTD: Labels<'static> = &[("tier", "pool"), ("codec", "zstd")];
const DENSE: Labels<'static> = &[("tier", "pool"), ("codec", "dense")];
const HUGE: Labels<'static> = &[("tier", "pool"), ("codec", "none")];
const STAGED: Labels<'static> = &[("tier", "staging"), ("codec", "none")];
const SPILL: Labels<'static> = &[("tier", "spill"), ("codec", "as_in_pool")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stats;
    use std::collections::HashSet;

    #[test]
    fn every_counter_and_histogram_is_exported_once() {
        let stats = Stats::new(1, 0);
        let counted: Vec<_> = stats.totals().iter().map(|row| row.0).collect();
        let timed: Vec<_> = stats.times().iter().map(|row| row.0).collect();
        for (rows, known) in [(COUNTERS, counted), (TIMES, timed)] {
            for name in &known {
                let times = rows.iter().filter(|row| row.0 == *name).count();
                assert_eq!(times, 1, "{name}: give it one row in src/metrics/counters.rs");
            }
            for row in rows {
                assert!(known.contains(&row.0), "{}: there is no such counter", row.0);
            }
        }
    }

    #[test]
    fn no_two_rows_are_one_sample() {
        let rows = COUNTERS.iter().chain(TIMES);
        let samples: HashSet<_> = rows.map(|row| (row.1.name, row.2)).collect();
        assert_eq!(samples.len(), COUNTERS.len() + TIMES.len());
    }
}
