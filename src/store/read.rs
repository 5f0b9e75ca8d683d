//! Read: a slot's page.

use super::{Sought, Store, recompress};
use crate::codec::{Stream, lz4, same};
use crate::error::IoError;
use crate::stats::QueueStats;
use crate::table::Entry;
use crate::trace::Source;
use crate::units::{DictionaryVersion, Page, SlotIndex};

/// What a page was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// Nothing: never written.
    Empty,
    /// A word in the slot table.
    Same,
    /// An lz4 object.
    Lz4,
    /// A zstd object.
    Zstd,
    /// A zstd object made with a dictionary.
    Dense,
    /// An object that is the page itself.
    Huge,
    /// A request buffer.
    Staged,
    /// Nothing yet, and the page is untouched: these blocks of the spill have to be read, and given
    /// to [`Store::open_spilled`].
    Spill(Sought),
}

impl ReadFrom {
    /// The same for whoever records it.
    #[inline]
    pub const fn source(self) -> Source {
        match self {
            Self::Empty => Source::Empty,
            Self::Same => Source::Same,
            Self::Lz4 | Self::Zstd => Source::Pool,
            Self::Dense => Source::Dense,
            Self::Huge => Source::Huge,
            Self::Staged => Source::Staged,
            Self::Spill(_) => Source::Spill,
        }
    }
}

impl Store {
    /// Copies the page of `slot` to `page` and says where it was, or what has to be read from the
    /// spill for it; an empty slot reads as zeros.
    ///
    /// [`IoError::Corrupt`]: the object is damaged or another slot's; `page` is then undefined and
    /// must not reach anybody. [`IoError::Invalid`]: no such slot. Blocks for the slot's lock only,
    /// which is held for the copy of the object, not for its decompression.
    #[inline]
    pub fn read(
        &self,
        slot: SlotIndex,
        page: &mut Page,
        stream: &mut Stream,
        stats: &QueueStats,
    ) -> Result<ReadFrom, IoError> {
        if !self.contains(slot, 1) {
            return Err(IoError::Invalid);
        }
        let tick = self.tick();
        let mut guard = self.table.lock(slot);
        guard.note_read(tick);
        let result = match guard.entry() {
            Entry::Empty => {
                drop(guard);
                stats.read_empty_pages.add(1);
                page.fill(0);
                Ok(ReadFrom::Empty)
            }
            Entry::Same(word) => {
                drop(guard);
                stats.read_same_pages.add(1);
                same::expand(word, page);
                Ok(ReadFrom::Same)
            }
            Entry::Lz4 { at, len, .. } => {
                let object = stream.object(len.into());
                let copied = self.pool.read(at, slot, object);
                drop(guard);
                stats.read_lz4_pages.add(1);
                copied.and_then(|()| lz4::decompress(object, page)).map(|()| ReadFrom::Lz4)
            }
            Entry::Zstd { at, len, dictionary } => {
                let dense = dictionary != DictionaryVersion::NONE;
                let pin = recompress::pin_of(self, guard.entry());
                let copied = self.pool.read(at, slot, stream.object(len.into()));
                drop(guard);
                match dense {
                    true => stats.read_dense_pages.add(1),
                    false => stats.read_zstd_pages.add(1),
                }
                let page = copied.and_then(|()| {
                    recompress::decompress(stream, dictionary, pin, len.into(), page)
                });
                page.map(|()| if dense { ReadFrom::Dense } else { ReadFrom::Zstd })
            }
            Entry::Huge { at, .. } => {
                let copied = self.pool.read(at, slot, page);
                drop(guard);
                stats.read_huge_pages.add(1);
                copied.map(|()| ReadFrom::Huge)
            }
            Entry::Staged { at } => {
                let copied = self.buffers.as_ref().map(|buffers| buffers.copy_out(at, page));
                drop(guard);
                stats.read_staged_pages.add(1);
                copied.map(|()| ReadFrom::Staged).ok_or(IoError::Corrupt)
            }
            Entry::Spilled { form, at, len } => self.seek(form, at, len),
            Entry::Poisoned | Entry::Unknown => Err(IoError::Corrupt),
        };
        if result.is_err() {
            stats.read_corrupt_pages.add(1);
        }
        result
    }
}
