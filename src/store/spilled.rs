//! Pages in the spill: what to read for one, and what was read back to a page.
//!
//! Between the two the slot is not locked, so it may change: a write, a discard or a cleaning comes
//! between. A [`Sought`] holds what the slot's entry named and the number of the write that put it
//! there. If both are the same after the read, what was read is what the slot names.

use super::{ReadFrom, Store, recompress};
use crate::codec::{Stream, lz4};
use crate::error::IoError;
use crate::spill::{Form, Identity, Place, Span};
use crate::stats::QueueStats;
use crate::table::{Entry, SpillForm};
use crate::units::{Location, Page, SlotIndex};

/// A page that has to be read from the spill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sought {
    /// Blocks to read, and where in them the object is.
    pub span: Span,
    entry: Entry,
    place: Place,
}

impl Sought {
    /// What the slot's entry was.
    pub(super) const fn entry(&self) -> Entry {
        self.entry
    }
}

/// What became of blocks that were read for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The page is there.
    Page,
    /// The slot has changed meanwhile: read it again from the start.
    Changed,
}

/// Whose a spilled object is, as it is sealed with it.
pub(super) const fn identity(slot: SlotIndex, form: SpillForm, len: u16) -> Identity {
    Identity { slot, form: Form(form.code()), len }
}

impl Store {
    /// What to read for an object that a slot names; call it under the slot's lock.
    /// [`IoError::Corrupt`]: there can be no such object.
    pub(super) fn seek(
        &self,
        form: SpillForm,
        at: Location,
        len: u16,
    ) -> Result<ReadFrom, IoError> {
        let segments = self.spill.as_ref().map(|spill| &spill.segments);
        let segments = segments.filter(|s| s.contains(at, len)).ok_or(IoError::Corrupt)?;
        let entry = Entry::Spilled { form, at, len };
        let (span, place) = (segments.span(at, len), segments.place(at));
        Ok(ReadFrom::Spill(Sought { span, entry, place }))
    }

    /// What to read for the page of `slot` along with others, if it is in the spill and what has to
    /// be read is `good`: then it counts as read, as by [`Store::read`]. Blocks for the slot's lock
    /// only.
    pub fn seek_along(&self, slot: SlotIndex, good: impl FnOnce(&Span) -> bool) -> Option<Sought> {
        if !self.contains(slot, 1) {
            return None;
        }
        let tick = self.tick();
        let mut guard = self.table.lock(slot);
        let Entry::Spilled { form, at, len } = guard.entry() else { return None };
        let Ok(ReadFrom::Spill(sought)) = self.seek(form, at, len) else { return None };
        if !good(&sought.span) {
            return None;
        }
        guard.note_read(tick);
        Some(sought)
    }

    /// Whether the slot still names what was sought, and that was not written again. Blocks for the
    /// slot's lock only.
    pub fn is_current(&self, slot: SlotIndex, sought: &Sought) -> bool {
        self.is_sought(self.table.lock(slot).entry(), sought)
    }

    /// The same of the entry of a slot that is locked.
    pub(super) fn is_sought(&self, entry: Entry, sought: &Sought) -> bool {
        let Entry::Spilled { at, .. } = sought.entry else { return false };
        let same = |spill: &super::Spill| spill.segments.place(at) == sought.place;
        entry == sought.entry && self.spill.as_ref().is_some_and(same)
    }

    /// Makes the page of `slot` from `blocks`, which were read for `sought` and are undefined
    /// afterwards.
    ///
    /// [`IoError::Corrupt`]: what was read is damaged, or not what was written there; `page` is
    /// then undefined and must not reach anybody. Blocks for the slot's lock only.
    pub fn open_spilled(
        &self,
        slot: SlotIndex,
        sought: &Sought,
        blocks: &mut [u8],
        page: &mut Page,
        stream: &mut Stream,
        stats: &QueueStats,
    ) -> Result<Opened, IoError> {
        let guard = self.table.lock(slot);
        if !self.is_sought(guard.entry(), sought) {
            drop(guard);
            stats.read_spill_again.add(1);
            return Ok(Opened::Changed);
        }
        let (pin, reads) = (recompress::pin_of(self, sought.entry), guard.touch().mark.reads);
        drop(guard);
        let sealed = self.unseal(slot, sought, blocks);
        let result = sealed.and_then(|(form, data)| {
            match form {
                SpillForm::Lz4 => lz4::decompress(data, page)?,
                SpillForm::Zstd(dictionary) => {
                    stream.object(data.len()).copy_from_slice(data);
                    recompress::decompress(stream, dictionary, pin, data.len(), page)?;
                }
                SpillForm::Huge => {
                    *page = *<&Page>::try_from(data).map_err(|_| IoError::Corrupt)?
                }
            }
            self.promote(slot, sought, reads, data, stats);
            Ok(())
        });
        match result {
            Ok(()) => stats.read_spill_pages.add(1),
            Err(_) => stats.read_corrupt_pages.add(1),
        }
        result.map(|()| Opened::Page)
    }

    /// The data of the object in blocks that were read for it, and its form.
    fn unseal<'a>(
        &self,
        slot: SlotIndex,
        sought: &Sought,
        blocks: &'a mut [u8],
    ) -> Result<(SpillForm, &'a [u8]), IoError> {
        let Entry::Spilled { form, len, .. } = sought.entry else { return Err(IoError::Corrupt) };
        let Span { skip, sealed, .. } = sought.span;
        let sealed = blocks.get_mut(skip as usize..(skip + sealed) as usize);
        let (sealed, spill) = sealed.zip(self.spill.as_ref()).ok_or(IoError::Corrupt)?;
        let data = spill.seal.open(sought.place, identity(slot, form, len), sealed);
        Ok((form, data.map_err(|_| IoError::Corrupt)?))
    }
}
