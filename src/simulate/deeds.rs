//! What the simulated mover does to pages: makes them denser, spills them, moves them together.

use super::machine::{Health, Machine};
use super::slot::{Form, Place, Slot};
use super::spill::{Cleaned, Refusal};
use crate::pool::object_bytes;

/// A slot of the pool becomes another one of the pool.
pub(super) fn replace(machine: &mut Machine, at: usize, slot: Slot) {
    machine.census.remove(machine.table[at]);
    machine.census.add(slot);
    machine.table[at] = slot;
}

/// Makes a page denser if that gives it a smaller size class; false if there is no room to.
pub(super) fn recompress(machine: &mut Machine, at: usize) -> bool {
    let slot = machine.table[at];
    let dense = slot.dense();
    let before = object_bytes(slot.len().into());
    if dense == 0 || object_bytes(dense.into()) >= before {
        machine.out.not_denser_pages += 1;
        replace(machine, at, slot.tried());
        return true;
    }
    let Some(to) = machine.take(at, dense) else { return false };
    machine.pool.give(slot.location());
    replace(machine, at, slot.moved(Place::Pool(Form::Dense), to.units()));
    machine.out.denser_pages += 1;
    machine.grow_if_low();
    true
}

/// Takes a page along to the spill. `Ok(false)`: nothing more can be taken in this step. Or when to
/// try again: the disk is busy.
pub(super) fn spill(
    machine: &mut Machine,
    may_clean: &mut u64,
    at: usize,
    now_us: u64,
) -> Result<bool, u64> {
    loop {
        let slot = machine.table[at];
        let (Place::Pool(_), Some(spill)) = (slot.place(), &mut machine.spill) else {
            return Ok(true);
        };
        match spill.add(at as u32, slot.len(), slot.at(), now_us) {
            Ok(()) => {
                machine.table[at] = slot.drafted();
                machine.note_freed();
                return Ok(true);
            }
            Err(Refusal::Busy) => wait(machine, now_us)?,
            Err(Refusal::NoSegment) => match clean_some(machine, may_clean, now_us) {
                Cleaned::Segment => {}
                Cleaned::Busy => wait(machine, now_us)?,
                Cleaned::Nothing => {
                    let Some(spill) = &mut machine.spill else { return Ok(true) };
                    spill.flush(now_us);
                    if !spill.is_under_way() {
                        return Ok(false);
                    }
                    wait(machine, now_us)?;
                }
            },
        }
    }
}

/// Waits for a transfer: nothing if one has ended, or when one will.
fn wait(machine: &mut Machine, now_us: u64) -> Result<(), u64> {
    if collect(machine, now_us) {
        return Ok(());
    }
    let next = machine.spill.as_ref().and_then(super::spill::Spill::next_end_us);
    next.map_or(Ok(()), Err)
}

/// Publishes one segment that has reached the disk.
pub(super) fn collect(machine: &mut Machine, now_us: u64) -> bool {
    let Machine { spill, table, pool, census, out, .. } = machine;
    let Some(spill) = spill else { return false };
    let mut published = 0;
    let done = spill.collect(now_us, |moved, to| {
        let slot = table[moved.slot as usize];
        let is_same = slot.at() == moved.from;
        match slot.place() {
            Place::Pool(form) if !moved.cleaned && is_same && slot.is_drafted() => {
                census.remove(slot);
                pool.give(slot.location());
                table[moved.slot as usize] = slot.moved(Place::Spill(form), to.units());
                published += 1;
                true
            }
            Place::Spill(form) if moved.cleaned && is_same => {
                table[moved.slot as usize] = slot.moved(Place::Spill(form), to.units());
                true
            }
            _ => false,
        }
    });
    out.spilled_pages += published;
    if published > 0 {
        machine.health = Health::Good;
        machine.note_freed();
    }
    done
}

/// Goes on with a cleaning, or begins one if the step has any of it left.
fn clean_some(machine: &mut Machine, may_clean: &mut u64, now_us: u64) -> Cleaned {
    let Machine { spill, table, .. } = machine;
    let Some(spill) = spill else { return Cleaned::Nothing };
    if *may_clean == 0 && !spill.is_cleaning() {
        return Cleaned::Nothing;
    }
    let before = spill.cleaned_bytes;
    let result = spill.clean(now_us, |slot, at| {
        let slot = table[slot as usize];
        match slot.place() {
            Place::Spill(_) if slot.at() == at.units() => Some(slot.len()),
            _ => None,
        }
    });
    *may_clean = may_clean.saturating_sub(spill.cleaned_bytes - before);
    result
}

/// Moves objects together.
pub(super) fn compact(machine: &mut Machine, bytes: u64) {
    let mut left = bytes;
    while left > 0 {
        let table = &mut machine.table;
        let moved = machine.pool.compact_step(|slot, to| {
            table[slot.index()] = table[slot.index()].compacted(to.units());
        });
        match moved {
            None | Some(0) => break,
            Some(bytes) => left = left.saturating_sub(bytes),
        }
    }
}

/// Cleans while the step has some of it left; until when it waits for the disk.
pub(super) fn clean(machine: &mut Machine, may_clean: &mut u64, now_us: u64) -> Option<u64> {
    while *may_clean > 0 {
        match clean_some(machine, may_clean, now_us) {
            Cleaned::Segment => {}
            Cleaned::Nothing => break,
            Cleaned::Busy => match wait(machine, now_us) {
                Ok(()) => {}
                Err(until_us) => return Some(until_us),
            },
        }
    }
    None
}

/// When room is needed now, waits for what is on its way to the disk.
pub(super) fn end(
    machine: &mut Machine,
    (refused, urgent): (bool, bool),
    now_us: u64,
) -> Option<u64> {
    let spill = machine.spill.as_mut()?;
    if refused && !spill.is_under_way() {
        spill.flush(now_us);
    }
    while urgent && machine.spill.as_ref()?.is_under_way() {
        if let Err(until_us) = wait(machine, now_us) {
            return Some(until_us);
        }
    }
    None
}
