//! Discard: slots that nobody will read again. Write-zeroes is the same to a reader.

use super::Store;
use crate::error::IoError;
use crate::stats::QueueStats;
use crate::table::Entry;
use crate::trace::{Kind, note};
use crate::units::SlotIndex;

impl Store {
    /// Empties `count` slots from `first` on. O(count), no I/O; empty slots cost a load each.
    ///
    /// [`IoError::Invalid`], with nothing done: not all of them exist. Each slot is emptied for
    /// itself: a reader may see some done and some not.
    pub fn discard(&self, first: SlotIndex, count: u32, stats: &QueueStats) -> Result<(), IoError> {
        if !self.contains(first, count) {
            return Err(IoError::Invalid);
        }
        for offset in 0..count {
            let slot = SlotIndex(first.0 + offset);
            if self.table.peek(slot) != Entry::Empty {
                self.replace(slot, Entry::Empty, stats);
            }
        }
        stats.discard_pages.add(count.into());
        if count > 0 {
            note(stats, first, Kind::Discard { count });
        }
        Ok(())
    }

    /// Makes `count` slots from `first` on read as zeros, by emptying them: an empty slot reads as
    /// zeros, costs nothing to pass over in the next discard and is not counted as a stored page,
    /// which a same-filled slot of zeros would be. Errors as for [`Store::discard`].
    pub fn write_zeroes(
        &self,
        first: SlotIndex,
        count: u32,
        stats: &QueueStats,
    ) -> Result<(), IoError> {
        self.discard(first, count, stats)
    }
}
