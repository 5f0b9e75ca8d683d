//! What came of a simulated run.

use crate::trace::Source;
use serde::Serialize;

/// Pages read, by where they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reads {
    /// Never written since the recording began, or discarded.
    pub empty: u64,
    /// Not compressed yet.
    pub staged: u64,
    /// In the slot alone.
    pub same: u64,
    /// In the pool, as they arrived.
    pub pool: u64,
    /// In the pool, made denser.
    pub dense: u64,
    /// In the pool, as they are.
    pub huge: u64,
    /// In the spill.
    pub spill: u64,
    /// With the kernel, because the write was refused.
    pub refused: u64,
}

impl Reads {
    /// The count of a source.
    pub const fn of(&mut self, source: Source) -> &mut u64 {
        match source {
            Source::Empty => &mut self.empty,
            Source::Staged => &mut self.staged,
            Source::Same => &mut self.same,
            Source::Pool => &mut self.pool,
            Source::Dense => &mut self.dense,
            Source::Huge => &mut self.huge,
            Source::Spill => &mut self.spill,
        }
    }

    /// Reads of pages that the service had.
    pub const fn served(&self) -> u64 {
        self.staged + self.same + self.pool + self.dense + self.huge + self.spill
    }

    /// Share of them that was in the spill.
    pub fn miss_ratio(&self) -> f64 {
        share(self.spill, self.served())
    }
}

/// `part` of `whole`, 0 of nothing.
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// What a read costs by where its page is, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// As it arrived, or as it is.
    pub pool_read_us: f64,
    /// Made denser.
    pub dense_read_us: f64,
    /// In the spill: the disk, and what is needed to open the page.
    pub spill_read_us: f64,
}

impl Costs {
    /// Seconds that so many reads take.
    pub fn seconds(&self, reads: &Reads) -> f64 {
        let us = (reads.pool + reads.huge) as f64 * self.pool_read_us
            + reads.dense as f64 * self.dense_read_us
            + reads.spill as f64 * self.spill_read_us;
        us / 1e6
    }
}

/// How the pool stood at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Milliseconds since the run began.
    pub at_ms: u64,
    /// Resident bytes of the pool.
    pub resident_bytes: u64,
    /// Bytes of its objects, rounding included.
    pub used_bytes: u64,
    /// Bytes of segments of the spill in use.
    pub spill_bytes: u64,
}

/// Counts of a simulated run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Steps replayed.
    pub steps: u64,
    /// Seconds that the run took in its own time: the recording's, and what writes waited.
    pub seconds: f64,
    /// Pages written.
    pub writes: u64,
    /// Pages read.
    pub reads: Reads,
    /// Pages discarded that were there.
    pub discarded_pages: u64,
    /// Writes that found no room, and stayed with the kernel.
    pub refused_writes: u64,
    /// Writes that waited for room.
    pub stalled_writes: u64,
    /// Seconds that they did.
    pub write_stall_seconds: f64,
    /// Seconds that reads took, by [`Costs`].
    pub read_seconds: f64,
    /// Pages made denser.
    pub denser_pages: u64,
    /// Attempts that did not pay.
    pub not_denser_pages: u64,
    /// Pages that left the pool for the spill.
    pub spilled_pages: u64,
    /// Pages that came back because they were read.
    pub promoted_pages: u64,
    /// Bytes written to the spill: pages, cleaning, and what comes on top.
    pub spill_written_bytes: u64,
    /// The same for a day of what was recorded.
    pub spill_written_bytes_per_day: f64,
    /// Live bytes that cleaning wrote again.
    pub cleaned_bytes: u64,
    /// Most bytes that the pool had resident.
    pub ram_max_bytes: u64,
    /// Their mean over time.
    pub ram_mean_bytes: u64,
    /// Ticks of the policy, and pages that it judged.
    pub ticks: u64,
    /// Pages that it judged.
    pub judged_pages: u64,
    /// Some moments, evenly spaced.
    pub series: Vec<Sample>,
    /// Pages in each place at the end.
    pub left: Left,
}

impl Outcome {
    /// Seconds that somebody waited.
    pub fn stall_seconds(&self) -> f64 {
        self.read_seconds + self.write_stall_seconds
    }
}

/// Pages in each place at the end of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Not compressed, in the slot alone, or with the kernel.
    pub elsewhere: u64,
    /// In the pool.
    pub pool: u64,
    /// In the spill.
    pub spill: u64,
}
