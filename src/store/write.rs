//! Write: a page into a slot.

use super::{Store, StoreCodec};
use crate::chaos::{Bug, planted};
use crate::codec::{Stream, same};
use crate::error::IoError;
use crate::limits::HUGE_BYTES;
use crate::stats::QueueStats;
use crate::table::Entry;
use crate::trace::{Kind, note};
use crate::units::{DictionaryVersion, Page, SlotIndex};

/// New pages are stored without a dictionary, and no dictionary has been tried on them.
const NONE: DictionaryVersion = DictionaryVersion::NONE;

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
        if !self.room_to_write() {
            return Err(IoError::Full);
        }
        if planted(Bug::FreeBeforePublish)
            && let Some((at, _)) = self.table.peek(slot).object()
        {
            self.pool.free(at);
            let new = self.make(slot, page, stream).ok_or(IoError::Full)?;
            let old = self.table.lock(slot).publish(new, crate::table::Touch::default());
            super::count_slot(new, stats, crate::stats::Counter::add);
            super::count_slot(old, stats, crate::stats::Counter::sub);
            self.dictionaries.release(old.made_with());
            return Ok(());
        }
        let new = self.make(slot, page, stream).ok_or(IoError::Full)?;
        stats.write_direct_pages.add(1);
        note(stats, slot, Kind::Write);
        super::count_written(slot, new, stats);
        self.replace(slot, new, stats);
        Ok(())
    }

    /// What the page becomes: a word or an object in the pool; `None` if that is full.
    #[inline]
    pub(super) fn make(&self, slot: SlotIndex, page: &Page, stream: &mut Stream) -> Option<Entry> {
        match same::word(page) {
            Some(word) if Entry::holds_word(word) => Some(Entry::Same(word)),
            _ => self.make_object(slot, page, stream),
        }
    }

    /// Puts the page in the pool; `None` if it is full.
    #[inline]
    fn make_object(&self, slot: SlotIndex, page: &Page, stream: &mut Stream) -> Option<Entry> {
        match self.codec {
            StoreCodec::Lz4 => {
                let data = stream.compress_lz4(page);
                if data.len() <= HUGE_BYTES {
                    let at = self.pool.alloc(data.len())?;
                    self.pool.write(at, slot, data);
                    return Some(Entry::Lz4 { at, len: data.len() as u16, tried: NONE });
                }
            }
            StoreCodec::Zstd => {
                if let Some(data) = stream.compress_zstd(page) {
                    let at = self.pool.alloc(data.len())?;
                    self.pool.write(at, slot, data);
                    return Some(Entry::Zstd { at, len: data.len() as u16, dictionary: NONE });
                }
            }
            StoreCodec::None => {}
        }
        let at = self.pool.alloc(page.len())?;
        self.pool.write(at, slot, page);
        Some(Entry::Huge { at, tried: NONE })
    }
}
