//! Pages in the spill: what to read for one, and what was read back to a page.
//!
//! Between the two the slot is not locked, so it may change: a write, a discard or a cleaning comes
//! between. A [`Sought`] holds what the slot's entry named and the number of the write that put it
//! there. If both are the same after the read, what was read is what the slot names.

use super::{ReadFrom, Store};
use crate::codec::{Stream, lz4};
use crate::error::IoError;
use crate::spill::{Form, Identity, Place, Span};
use crate::stats::QueueStats;
use crate::table::{Entry, SpillForm};
use crate::units::{Location, PAGE_SIZE, Page, SlotIndex};

/// A page that has to be read from the spill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sought {
    /// Blocks to read, and where in them the object is.
    pub span: Span,
    entry: Entry,
    place: Place,
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

    /// Whether the slot still names what was sought, and that was not written again. Blocks for the
    /// slot's lock only.
    pub fn is_current(&self, slot: SlotIndex, sought: &Sought) -> bool {
        let Entry::Spilled { at, .. } = sought.entry else { return false };
        let guard = self.table.lock(slot);
        let same = |spill: &super::Spill| spill.segments.place(at) == sought.place;
        guard.entry() == sought.entry && self.spill.as_ref().is_some_and(same)
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
        if !self.is_current(slot, sought) {
            stats.read_spill_again.add(1);
            return Ok(Opened::Changed);
        }
        let result = self.unseal(slot, sought, blocks, page, stream);
        match result {
            Ok(()) => stats.read_spill_pages.add(1),
            Err(_) => stats.read_corrupt_pages.add(1),
        }
        result.map(|()| Opened::Page)
    }

    fn unseal(
        &self,
        slot: SlotIndex,
        sought: &Sought,
        blocks: &mut [u8],
        page: &mut Page,
        stream: &mut Stream,
    ) -> Result<(), IoError> {
        let Entry::Spilled { form, len, .. } = sought.entry else { return Err(IoError::Corrupt) };
        let Span { skip, sealed, .. } = sought.span;
        let sealed = blocks.get_mut(skip as usize..(skip + sealed) as usize);
        let (sealed, spill) = sealed.zip(self.spill.as_ref()).ok_or(IoError::Corrupt)?;
        let data = spill.seal.open(sought.place, identity(slot, form, len), sealed);
        let data = data.map_err(|_| IoError::Corrupt)?;
        match form {
            SpillForm::Lz4 => lz4::decompress(data, page),
            SpillForm::Zstd => {
                stream.object(len.into()).copy_from_slice(data);
                stream.decompress_zstd(len.into(), page)
            }
            SpillForm::Huge => {
                *page = *<&[u8; PAGE_SIZE]>::try_from(data).map_err(|_| IoError::Corrupt)?;
                Ok(())
            }
        }
    }
}
