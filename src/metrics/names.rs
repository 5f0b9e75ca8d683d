//! Every metric there is, once.

use super::{Kind, Metric};

macro_rules! metrics {
    ($($kind:ident $constant:ident $name:literal: $help:literal;)+) => {
        $(#[doc = $help] pub const $constant: &Metric =
            &Metric { name: $name, kind: Kind::$kind, help: $help };)+

        /// All of them, in the order of declaration.
        pub const ALL: &[&Metric] = &[$($constant),+];
    };
}

metrics! {
    Gauge INFO "uswap_info": "Always 1; what is served is in the labels.";
    Gauge UPTIME "uswap_uptime_seconds":
        "Time since this server began to serve; from 0 again when a standby has taken over.";
    Gauge DEVICE_BYTES "uswap_device_size_bytes": "Size of the device.";
    Gauge SWAP_ACTIVE "uswap_swap_active": "Whether the kernel uses the device as swap.";
    Gauge SWAP_BYTES "uswap_swap_size_bytes": "Size of the swap area.";
    Gauge SWAP_USED "uswap_swap_used_bytes": "Slots that the kernel has in use, as bytes.";
    Gauge SWAP_PRIORITY "uswap_swap_priority": "Priority of the swap area.";

    Gauge PARENT_ALIVE "uswap_parent_alive": "Whether the process that makes standbys lives.";
    Gauge STANDBY_READY "uswap_standby_ready":
        "Whether a standby is warm: it would take over at once if the server died.";
    Counter RECOVERIES "uswap_recoveries_total":
        "Times that a standby took over, upgrades included.";
    Gauge LAST_RECOVERY "uswap_last_recovery_seconds":
        "How long the last time took, from the server's end to the first request served.";
    Gauge LONGEST_RECOVERY "uswap_longest_recovery_seconds": "How long the longest took.";

    Counter REQUESTS "uswap_requests_total": "Requests taken from the driver.";
    Counter REFUSED "uswap_refused_requests_total":
        "Requests refused because they were malformed or not advertised.";
    Histogram COMMIT_SECONDS "uswap_commit_seconds":
        "From a request's arrival in the server to its commit, all kinds of requests.";
    Counter COMMITTED "uswap_committed_pages_total":
        "Pages written, by whether they were compressed after (staged) or before the commit.";
    Counter WRITTEN "uswap_written_pages_total": "Pages stored, by what they became.";
    Counter WRITE_ERRORS "uswap_write_errors_total":
        "Pages that could not be stored; the kernel kept them in RAM.";
    Counter THROTTLED "uswap_throttled_tries_total":
        "Times that a write waited for the pool to grow.";
    Counter STAGED_STALE "uswap_staged_stale_pages_total":
        "Staged pages that were overwritten or discarded before they were compressed.";
    Counter READ "uswap_read_pages_total": "Pages read, by where they were.";
    Counter READ_ERRORS "uswap_read_errors_total": "Pages that could not be read back.";
    Histogram READ_SECONDS "uswap_read_seconds": "Answering one page, by where it was.";
    Counter DISCARDED "uswap_discarded_pages_total": "Pages freed or skipped by discards.";

    Gauge PAGES "uswap_pages": "Slots that hold a page, by where it is and how it is kept.";
    Gauge POISONED "uswap_poisoned_pages":
        "Pages that were found damaged after a crash; they read as I/O errors.";
    Gauge STALE "uswap_stale_pages":
        "At least so many stored pages have been freed by the kernel, which did not announce it.";
    Gauge DATA_BYTES "uswap_data_bytes":
        "Page data after compression, without headers and rounding.";

    Gauge POOL_LIMIT "uswap_pool_limit_bytes": "The most that stored pages may take.";
    Gauge POOL_RESIDENT "uswap_pool_resident_bytes": "What of the pool is resident.";
    Gauge POOL_USED "uswap_pool_used_bytes": "Slabs in use, whole slabs.";
    Gauge POOL_OBJECTS "uswap_pool_object_bytes":
        "Objects in these slabs, headers and rounding included.";
    Gauge POOL_LEVEL "uswap_pool_level": "How much room is left in the pool; one of them is 1.";
    Counter GROWTH_FAILURES "uswap_pool_growth_failures_total":
        "Times that the kernel refused memory when the pool was to grow.";
    Gauge MEMORY "uswap_memory_bytes": "RAM beside the pool, by purpose.";
    Gauge RESIDENT "uswap_resident_bytes": "Resident set of the server: everything.";
    Gauge DICTIONARIES "uswap_dictionaries": "Dictionaries alive.";

    Histogram COMPRESS_LAG "uswap_compress_lag_seconds":
        "From a staged page's arrival to its having moved to the pool.";
    Counter RECOMPRESSED "uswap_recompressed_pages_total":
        "Pages compressed again, to smaller objects.";
    Counter RECOMPRESSED_FROM "uswap_recompressed_before_bytes_total":
        "What their objects took before.";
    Counter RECOMPRESSED_TO "uswap_recompressed_after_bytes_total":
        "What their objects took after.";
    Counter USELESS "uswap_recompress_useless_pages_total":
        "Pages that would not have become smaller.";
    Counter TRAINED "uswap_dictionary_events_total": "Dictionaries made and forgotten.";
    Counter COMPACTED_OBJECTS "uswap_compacted_objects_total": "Objects moved by compaction.";
    Counter COMPACTED_SLABS "uswap_compacted_slabs_total": "Slabs emptied by compaction.";
    Counter GIVEN_BACK "uswap_given_back_bytes_total": "Empty slabs given back to the kernel.";

    Gauge SPILL_BYTES "uswap_spill_size_bytes": "What of the spill may be used.";
    Gauge SPILL_USED "uswap_spill_used_bytes":
        "Segments of the spill that hold something or are being written.";
    Gauge SPILL_HEALTH "uswap_spill_health": "How the spill is; one of them is 1.";
    Counter SPILLED "uswap_spilled_pages_total": "Pages moved from the pool to the spill.";
    Counter SPILL_STALE "uswap_spill_stale_pages_total":
        "Pages on their way to the spill that were overwritten or discarded meanwhile.";
    Counter SPILL_MOVED "uswap_spill_moved_pages_total":
        "Pages moved within the spill by cleaning.";
    Counter SPILL_CLEANED "uswap_spill_cleaned_segments_total": "Segments that were cleaned.";
    Counter SPILL_CLEANED_BYTES "uswap_spill_cleaned_bytes_total":
        "Page data that cleaning moved within the spill.";
    Counter SPILL_PAYLOAD "uswap_spill_payload_bytes_total":
        "Page data in what was written to the spill; the rest are seals, rounding, unfilled ends.";
    Counter PROMOTED "uswap_promoted_pages_total":
        "Pages read from the spill that stayed in the pool.";
    Counter SPILL_WRITTEN "uswap_spill_written_bytes_total":
        "Bytes given to the spill's file or device to write.";
    Counter SPILL_WRITE_ERRORS "uswap_spill_write_errors_total":
        "Segments that could not be written; their pages stayed in RAM.";
    Counter SPILL_AGAIN "uswap_spill_read_retries_total":
        "Reads of the spill that came too late: the slot had changed meanwhile.";

    Gauge PRESSURE "uswap_policy_pressure":
        "The machine's memory as the policy sees it; one of them is 1.";
    Gauge SHORT "uswap_policy_short":
        "1 with the reason while the policy gets less room made than it wants; else absent.";
    Counter AGE_TICKS "uswap_policy_age_ticks_total":
        "Steps of the clock that pages' ages count in.";

    Gauge SAFE "uswap_safe": "Whether a protection is on, as read back from the kernel.";
    Counter QUEUE_ALLOCATIONS "uswap_queue_allocations_total":
        "Heap calls made by queue threads after start. Anything but 0 is a defect.";
    Gauge BLOCK_SETTING "uswap_block_setting_good":
        "Whether a setting of the block layer is as swap wants it.";

    Counter BACKING_ERRORS "uswap_backing_errors_total":
        "Requests that failed because the file or device of the loop target did.";
    Counter BACKING_SHORT "uswap_backing_short_transfers_total":
        "Transfers that the loop target's file or device carried out in part.";
    Counter FILE_OPERATIONS "uswap_file_operations_total":
        "Operations on the spill's or loop target's file that requests waited for.";
    Counter BATCHES "uswap_batches_total": "Batches of completions taken from the rings.";
    Counter WAITS "uswap_waits_total": "Times that a queue thread slept for work.";
    Counter POLLS "uswap_polls_total": "Polls for the next request before a sleep, by their end.";
    Gauge RECORDING "uswap_recording": "Whether `uswap trace record` records what happens.";
    Counter TRACED "uswap_trace_events_total":
        "Events for whoever records them, by whether there was room for them.";
    Counter HELPER_WAKES "uswap_helper_wakes_total":
        "Times that a helper was woken to compress staged pages.";
}
