//! Recompress: an object of a page that stays becomes a smaller one.

use super::Store;
use super::dictionaries::Pin;
use crate::codec::{DenseStream, lz4};
use crate::error::IoError;
use crate::stats::{Counter, QueueStats};
use crate::table::{Entry, Touch};
use crate::trace::{Kind, note_now};
use crate::units::{DictionaryVersion, PAGE_SIZE, Page, SlotIndex};

/// What became of a page that was to be recompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recompressed {
    /// Its object is another now.
    Denser {
        /// Bytes of the old object, header and rounding included.
        before: usize,
        /// Bytes of the new one, which is larger only if the old one's dictionary is on its way
        /// out.
        after: usize,
    },
    /// It would not get smaller. It is not tried again with this dictionary.
    NotWorthIt,
    /// There is nothing to recompress: no object in the pool, or one that was tried or made with
    /// this dictionary.
    Nothing,
    /// The slot was used meanwhile: so it is not idle.
    Changed,
    /// The pool has no room for the new object beside the old one.
    Full,
    /// The old object cannot be read.
    Corrupt,
}

/// A compressor with the store's dictionary in it.
#[derive(Debug)]
pub struct Recompressor {
    dense: DenseStream,
    version: DictionaryVersion,
    id: u64,
}

impl Recompressor {
    /// For the current dictionary of `store`, or without if it has none. Allocates about 1.2 MiB,
    /// to be dropped when the work is done. `None` without memory.
    pub fn new(store: &Store) -> Option<Self> {
        Self::with(store, DenseStream::new())
    }

    /// The same around a compressor set up otherwise, for measuring.
    pub fn with(store: &Store, mut dense: DenseStream) -> Option<Self> {
        let version = store.dictionaries.current();
        let pin = store.dictionaries.pin(version);
        let installed = pin.as_ref().and_then(|pin| pin.as_ref());
        if !dense.load(installed.map(|installed| &installed.dictionary)) {
            return None;
        }
        let (version, id) = match installed {
            Some(installed) => (version, installed.id),
            None => (DictionaryVersion::NONE, 0),
        };
        Some(Self { dense, version, id })
    }

    /// Whether the store has another dictionary by now.
    pub fn is_outdated(&self, store: &Store) -> bool {
        store.dictionaries.latest_id() != self.id
    }

    /// Whether recompressing may change what this entry names: for whoever looks for pages.
    pub fn may_help(&self, entry: Entry) -> bool {
        helps(entry, self.version, self.mark())
    }

    /// How a page that it cannot help is marked. Without a dictionary as with the version that will
    /// come up last, so that the first ones are tried.
    const fn mark(&self) -> DictionaryVersion {
        match self.version {
            DictionaryVersion::NONE => DictionaryVersion::new(DictionaryVersion::MAX),
            version => version,
        }
    }

    /// Memory it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.dense.memory_bytes()
    }
}

/// Whether an entry names an object that was neither made with `version` nor tried, which `mark`
/// says.
fn helps(entry: Entry, version: DictionaryVersion, mark: DictionaryVersion) -> bool {
    match entry {
        Entry::Lz4 { tried, .. } | Entry::Huge { tried, .. } => tried != mark,
        Entry::Zstd { dictionary, .. } => dictionary != version,
        _ => false,
    }
}

impl Store {
    /// Whether the current dictionary may help this entry's object. False while there is none.
    pub fn may_be_denser(&self, entry: Entry) -> bool {
        let current = self.dictionaries.current();
        current != DictionaryVersion::NONE && helps(entry, current, current)
    }

    /// Whether no dictionary can be installed before the last object made with this one is gone.
    pub fn is_last_of_dictionaries(&self, version: DictionaryVersion) -> bool {
        let full = self.dictionaries_alive().0 == u32::from(DictionaryVersion::MAX);
        full && self.oldest_dictionary().is_some_and(|(oldest, _)| oldest == version)
    }

    /// Compresses the page of `slot` again with the recompressor's dictionary and keeps the result
    /// if its size class is smaller, or if the old object was made with another dictionary. A touch
    /// is not changed by it.
    ///
    /// The slot is locked while its object is copied out and while the new one is published, not
    /// while zstd works, some 100 us. That it holds the same object then, and not another that came
    /// to lie in the same place, is made sure by comparing the bytes. Does not wait but for the
    /// slot's and the pool's lock. Panics outside the table.
    pub fn recompress(
        &self,
        slot: SlotIndex,
        recompressor: &mut Recompressor,
        stats: &QueueStats,
    ) -> Recompressed {
        if !recompressor.may_help(self.table.peek(slot)) {
            return Recompressed::Nothing;
        }
        // Counting and publishing a new object takes a dictionary that stays; one that was retired
        // must not come back.
        let pin = self.dictionaries.pin(recompressor.version);
        let id = pin.as_ref().and_then(|pin| pin.as_ref()).map_or(0, |installed| installed.id);
        if id != recompressor.id {
            return Recompressed::Nothing;
        }
        let found = self.fetch(slot, &mut recompressor.dense);
        let result = match found {
            Ok(Some(old)) => self.recompress_object(slot, old, recompressor, stats),
            Ok(None) => Recompressed::Nothing,
            Err(_) => Recompressed::Corrupt,
        };
        drop(pin);
        match result {
            Recompressed::Denser { before, after } => {
                stats.recompressed_pages.add(1);
                stats.recompressed_from_bytes.add(before as u64);
                stats.recompressed_to_bytes.add(after as u64);
            }
            Recompressed::NotWorthIt => {
                stats.recompress_useless_pages.add(1);
                note_now(stats, slot, Kind::NotDenser);
            }
            _ => {}
        }
        result
    }

    /// The page of an object in the pool, decompressed to the stream's page. The object itself
    /// stays in the stream. `None` if there is no object. Not counted as a read, nor as a touch.
    pub(super) fn fetch(
        &self,
        slot: SlotIndex,
        dense: &mut DenseStream,
    ) -> Result<Option<Entry>, IoError> {
        let guard = self.table.lock(slot);
        let entry = guard.entry();
        let Some((at, len)) = entry.object() else {
            return Ok(None);
        };
        let pin = pin_of(self, entry);
        let copied = self.pool.read(at, slot, dense.stream.object(len));
        drop(guard);
        copied?;
        let DenseStream { stream, page, .. } = dense;
        match entry {
            Entry::Lz4 { .. } => lz4::decompress(stream.object(len), page)?,
            Entry::Zstd { dictionary, .. } => decompress(stream, dictionary, pin, len, page)?,
            _ => page.copy_from_slice(stream.object(len)),
        }
        Ok(Some(entry))
    }

    fn recompress_object(
        &self,
        slot: SlotIndex,
        old: Entry,
        recompressor: &mut Recompressor,
        stats: &QueueStats,
    ) -> Recompressed {
        let (mark, version) = (recompressor.mark(), recompressor.version);
        let Some((_, old_len)) = old.object() else {
            return Recompressed::Nothing;
        };
        let dense = &mut recompressor.dense;
        let before = self.pool.object_bytes(old_len);
        let len = dense.compress().map(<[u8]>::len);
        let keep = |len: &usize| {
            matches!(old, Entry::Zstd { .. }) || self.pool.object_bytes(*len) < before
        };
        let Some(len) = len.filter(keep) else {
            return self.note_useless(slot, old, mark);
        };
        // What is free may be promised to staged pages.
        let Some(at) = self.room_to_write().then(|| self.pool.alloc(len)).flatten() else {
            return Recompressed::Full;
        };
        self.pool.write(at, slot, dense.output(len));
        self.dictionaries.hold(version);
        let new = Entry::Zstd { at, len: len as u16, dictionary: version };
        let mut guard = self.table.lock(slot);
        let same = guard.entry() == old && self.still_holds(slot, old, dense);
        if same {
            let touch = guard.touch();
            guard.publish(new, touch);
        }
        drop(guard);
        if !same {
            self.free_object(new);
            return Recompressed::Changed;
        }
        super::count_slot(new, stats, Counter::add);
        self.release(old, stats);
        note_now(stats, slot, Kind::Denser { bytes: len as u16 });
        Recompressed::Denser { before, after: self.pool.object_bytes(len) }
    }

    /// Whether the bytes of the object are those that were decompressed. The slot is locked.
    fn still_holds(&self, slot: SlotIndex, entry: Entry, dense: &mut DenseStream) -> bool {
        let DenseStream { stream, again, .. } = dense;
        entry.object().is_some_and(|(at, len)| {
            let now = &mut again[..len];
            self.pool.read(at, slot, now).is_ok() && now == stream.object(len)
        })
    }

    /// Marks a page as tried. Should another page have come to the same place with the same length
    /// meanwhile, that one is not tried either until it is written again.
    fn note_useless(&self, slot: SlotIndex, old: Entry, mark: DictionaryVersion) -> Recompressed {
        let marked = match old {
            Entry::Lz4 { at, len, .. } => Entry::Lz4 { at, len, tried: mark },
            Entry::Huge { at, .. } => Entry::Huge { at, tried: mark },
            _ => return Recompressed::Nothing,
        };
        let mut guard = self.table.lock(slot);
        if guard.entry() != old {
            return Recompressed::Changed;
        }
        let touch: Touch = guard.touch();
        guard.publish(marked, touch);
        Recompressed::NotWorthIt
    }
}

/// Keeps the dictionary of an entry, if it has one. The slot is locked.
#[inline]
pub(super) fn pin_of(store: &Store, entry: Entry) -> Option<Pin<'_>> {
    store.dictionaries.pin(entry.made_with())
}

/// Decompresses the zstd object in the stream. An object whose dictionary is not there is damage.
#[inline]
pub(super) fn decompress(
    stream: &mut crate::codec::Stream,
    version: DictionaryVersion,
    pin: Option<Pin<'_>>,
    len: usize,
    page: &mut Page,
) -> Result<(), IoError> {
    debug_assert!(len <= PAGE_SIZE);
    if version == DictionaryVersion::NONE {
        return stream.decompress_zstd(len, page);
    }
    let installed = pin.as_ref().and_then(|pin| pin.as_ref()).ok_or(IoError::Corrupt)?;
    stream.decompress_dense(len, &installed.dictionary, page)
}

#[cfg(test)]
impl Recompressor {
    /// Recompresses a slot with something happening between the look at the old object and the
    /// publication of the new one.
    pub(super) fn stale_by(
        &mut self,
        store: &Store,
        slot: SlotIndex,
        meanwhile: impl FnOnce(),
        stats: &QueueStats,
    ) -> Recompressed {
        let old = store.fetch(slot, &mut self.dense).expect("readable").expect("an object");
        meanwhile();
        store.recompress_object(slot, old, self, stats)
    }
}
