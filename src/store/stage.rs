//! Stage: a page is taken as it came, in its request buffer, so that the request can be committed
//! at once; settle: it is compressed and moves to the pool.
//!
//! The owner of the pages stages them, leaves them alone, settles every one, on whatever thread,
//! and only then uses them again. A slot names a staged page only until its settling: an
//! overwrite or a discard by any thread may take it out before, and settling notices that. Readers
//! copy the page while they hold the slot's lock, so when the entry has changed nobody is still
//! copying.
//!
//! What was staged must find room: [`Store::room_to_stage`] keeps enough free for all of it.

use super::Store;
use crate::codec::Stream;
use crate::error::IoError;
use crate::limits::STAGE_MARGIN_BYTES;
use crate::stats::{Counter, QueueStats};
use crate::table::Entry;
use crate::trace::{Kind, note};
use crate::units::{BufferPage, PAGE_SIZE, Page, SlotIndex};
use std::sync::atomic::Ordering;

impl Store {
    /// Whether `pages` more may be staged: the pool has room for everything staged even if none of
    /// it compresses.
    #[inline]
    pub fn room_to_stage(&self, pages: u32) -> bool {
        let staged = self.staged.load(Ordering::Relaxed) + u64::from(pages);
        self.pool.free_bytes() >= staged * PAGE_SIZE as u64 + STAGE_MARGIN_BYTES
    }

    /// Makes the page at `at` of the request buffers the contents of `slot`.
    /// [`IoError::Invalid`]: no such slot.
    #[inline]
    pub fn stage(
        &self,
        slot: SlotIndex,
        at: BufferPage,
        stats: &QueueStats,
    ) -> Result<(), IoError> {
        if !self.contains(slot, 1) {
            return Err(IoError::Invalid);
        }
        self.staged.fetch_add(1, Ordering::Relaxed);
        stats.write_staged_pages.add(1);
        note(stats, slot, Kind::Write);
        self.replace(slot, Entry::Staged { at }, stats);
        Ok(())
    }

    /// Moves a staged page to the pool; its touch stays. `page` is the page at `at`. Nothing to do,
    /// and no error, if the slot no longer names it. [`IoError::Full`]: no room; the page stays
    /// staged.
    #[inline]
    pub fn settle(
        &self,
        slot: SlotIndex,
        at: BufferPage,
        page: &Page,
        stream: &mut Stream,
        stats: &QueueStats,
    ) -> Result<(), IoError> {
        let staged = Entry::Staged { at };
        if self.table.peek(slot) != staged {
            stats.staged_stale_pages.add(1);
            return Ok(());
        }
        let new = self.make(slot, page, stream).ok_or(IoError::Full)?;
        let mut guard = self.table.lock(slot);
        if guard.entry() == staged {
            let touch = guard.touch();
            guard.publish(new, touch);
            drop(guard);
            super::count_written(slot, new, stats);
            super::count_slot(new, stats, Counter::add);
            self.release(staged, stats);
        } else {
            drop(guard);
            stats.staged_stale_pages.add(1);
            self.free_object(new);
        }
        Ok(())
    }

    /// Whether a page may be stored now without taking the room of staged ones.
    #[inline]
    pub(super) fn room_to_write(&self) -> bool {
        self.staged.load(Ordering::Relaxed) == 0 || self.room_to_stage(1)
    }
}
