//! Write: a page into a slot.

use super::{Store, StoreCodec};
use crate::codec::{Stream, same};
use crate::error::IoError;
use crate::limits::HUGE_BYTES;
use crate::stats::QueueStats;
use crate::table::Entry;
use crate::units::{Page, SlotIndex};

impl Store {
    /// Stores `page` in `slot`.
    ///
    /// [`IoError::Full`]: the pool has no room; the slot keeps what it had. [`IoError::Invalid`]:
    /// no such slot. Blocks for the pool's and the slot's lock only. Needs room for the new object
    /// before the old one goes, so that a crash or a full pool never loses the old page.
    #[inline]
    pub fn write(
        &self,
        slot: SlotIndex,
        page: &Page,
        stream: &mut Stream,
        stats: &QueueStats,
    ) -> Result<(), IoError> {
        if !self.contains(slot, 1) {
            return Err(IoError::Invalid);
        }
        let new = match same::word(page) {
            Some(word) if Entry::holds_word(word) => Some(Entry::Same(word)),
            _ => self.make_object(slot, page, stream),
        };
        let new = new.ok_or(IoError::Full)?;
        match new {
            Entry::Same(_) => stats.write_same_pages.add(1),
            Entry::Lz4 { .. } => stats.write_lz4_pages.add(1),
            _ => stats.write_huge_pages.add(1),
        }
        self.replace(slot, new, stats);
        Ok(())
    }

    /// Puts the page in the pool; `None` if it is full.
    #[inline]
    fn make_object(&self, slot: SlotIndex, page: &Page, stream: &mut Stream) -> Option<Entry> {
        if self.codec == StoreCodec::Lz4 {
            let data = stream.compress(page);
            if data.len() <= HUGE_BYTES {
                let at = self.pool.alloc(data.len())?;
                self.pool.write(at, slot, data);
                return Some(Entry::Lz4 { at, len: data.len() as u16 });
            }
        }
        let at = self.pool.alloc(page.len())?;
        self.pool.write(at, slot, page);
        Some(Entry::Huge { at })
    }
}
