//! What the spill's writer says of what it was asked to do.

#[cfg(doc)]
use super::SpillWriter;

/// What became of a slot that was to be spilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Its object is on its way; the slot is published when the segment is on the disk.
    Taken,
    /// It names no object in the pool.
    NotInPool,
    /// All segments in memory are on their way to the disk: [`SpillWriter::collect`] first.
    Busy,
    /// No segment is free: [`SpillWriter::clean`], or the spill is full.
    NoSegment,
    /// A server before this one may still be writing to the spill: again after a pause.
    NotOurs,
}

/// What [`SpillWriter::clean`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// No segment is worth it, or the spill is not ours yet.
    Nothing,
    /// A segment is being read: [`SpillWriter::collect`] first.
    Reading,
    /// As for [`Added::Busy`]; call it again after that.
    Busy,
    /// This many objects of a segment are on their way to another one.
    Moved(u32),
}

/// What came of transfers that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Transfers that have ended, a segment's reading among them.
    pub ended: u32,
    /// Slots that now name their page in the spill.
    pub published: u32,
    /// Slots that had changed meanwhile.
    pub stale: u32,
    /// Bytes of data that left the pool.
    pub freed_bytes: u64,
    /// The last write or read that failed, and why. Nothing is lost, but it is time for a pause.
    pub error: Option<i32>,
}
