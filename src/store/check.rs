//! Check: does everything agree with the slot table?

use super::Store;
use crate::spill::Segments;
use crate::table::Entry;
use crate::units::{DictionaryVersion, Location, PAGE_SIZE, SlotIndex};
use std::collections::HashSet;

/// What a check found in the table. Slots of a kind are in the words of the counters in `stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Same-filled slots.
    pub slots_same: u64,
    /// lz4 slots.
    pub slots_lz4: u64,
    /// zstd slots.
    pub slots_zstd: u64,
    /// zstd slots made with a dictionary.
    pub slots_dense: u64,
    /// Uncompressed slots.
    pub slots_huge: u64,
    /// Staged slots.
    pub slots_staged: u64,
    /// Spilled slots.
    pub slots_spilled: u64,
    /// Slots whose pages are lost.
    pub slots_poisoned: u64,
    /// Bytes of page data in the pool, without headers and rounding.
    pub stored_bytes: u64,
    /// Bytes of page data in the spill, without seals and rounding.
    pub spilled_bytes: u64,
}

impl Store {
    /// Goes through every slot and the pool's bookkeeping. Only on a quiet store: a write meanwhile
    /// looks like damage. Allocates a set of all locations, and takes the time of the whole table;
    /// never called from a queue thread.
    ///
    /// The error is a line for a person that names the first slot that does not agree. Panics if
    /// the pool's bookkeeping contradicts itself.
    pub fn check(&self) -> Result<CheckReport, String> {
        let mut report = CheckReport::default();
        let (mut seen, mut made_with) = (HashSet::new(), [0; DictionaryVersion::MAX as usize]);
        let mut live = vec![0; self.spill.as_ref().map_or(0, |s| s.segments.count())];
        for index in 0..self.slots() {
            let slot = SlotIndex(index as u32);
            match self.table.peek(slot) {
                Entry::Empty => {}
                Entry::Same(_) => report.slots_same += 1,
                Entry::Lz4 { at, len, .. } => {
                    self.check_object(slot, at, len.into(), &mut seen)?;
                    report.slots_lz4 += 1;
                    report.stored_bytes += u64::from(len);
                }
                Entry::Zstd { at, len, dictionary } => {
                    self.check_object(slot, at, len.into(), &mut seen)?;
                    match dictionary.index() {
                        None => report.slots_zstd += 1,
                        Some(version) => {
                            report.slots_dense += 1;
                            made_with[version] += 1;
                        }
                    }
                    report.stored_bytes += u64::from(len);
                }
                Entry::Huge { at, .. } => {
                    self.check_object(slot, at, PAGE_SIZE, &mut seen)?;
                    report.slots_huge += 1;
                    report.stored_bytes += PAGE_SIZE as u64;
                }
                Entry::Staged { .. } => report.slots_staged += 1,
                entry @ Entry::Spilled { at, len, .. } => {
                    if let Some(version) = entry.made_with().index() {
                        made_with[version] += 1;
                    }
                    self.check_spilled(slot, at, len, &mut live)?;
                    report.slots_spilled += 1;
                    report.spilled_bytes += u64::from(len);
                }
                Entry::Poisoned => report.slots_poisoned += 1,
                Entry::Unknown => return Err(format!("slot {index}: unknown kind of entry")),
            }
        }
        let counted = self.dictionaries.objects();
        if counted != made_with {
            return Err(format!("objects by dictionary: {made_with:?}, counted {counted:?}"));
        }
        for (segment, named) in live.into_iter().enumerate() {
            let counted = self.spill.as_ref().map_or(0, |s| s.segments.live_units(segment));
            if counted != named {
                return Err(format!("segment {segment}: {counted} units live, slots name {named}"));
            }
        }
        self.pool.check();
        let objects = self.pool.usage().objects;
        if objects != seen.len() as u64 {
            let named = seen.len();
            return Err(format!("the pool has {objects} objects, the slot table names {named}"));
        }
        Ok(report)
    }

    fn check_spilled(
        &self,
        slot: SlotIndex,
        at: Location,
        len: u16,
        live: &mut [u32],
    ) -> Result<(), String> {
        let inside = self.spill.as_ref().is_some_and(|s| s.segments.contains(at, len));
        if !inside {
            return Err(format!("slot {}: {at:?} is outside the spill", slot.0));
        }
        live[Segments::segment_of(at) as usize] += Segments::units_of(len);
        Ok(())
    }

    fn check_object(
        &self,
        slot: SlotIndex,
        at: Location,
        len: usize,
        seen: &mut HashSet<Location>,
    ) -> Result<(), String> {
        if !seen.insert(at) {
            return Err(format!("slot {}: its object is another slot's too", slot.0));
        }
        if !self.pool.holds(at, slot, len) {
            return Err(format!("slot {}: no object of its own at {at:?}", slot.0));
        }
        Ok(())
    }
}
