//! Memory that somebody damages between two servers, and what a successor still has to do.

use crate::disk::{Faults, Medium};
use crate::machine::Machine;
use crate::memory::{Files, Server, any_stream};
use crate::model::{Model, SLOTS, dictionaries, page};
use crate::step::{Script, Step};
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use uswap::chaos;
use uswap::limits::SLAB_BYTES;
use uswap::store::Added;
use uswap::units::{PAGE_SIZE, SlotIndex};

/// How a word changes.
#[derive(Clone, Copy, Debug)]
pub enum Harm {
    Flip(u32),
    Word(u64),
    /// Another word of the same file.
    CopyOf(u32),
}

/// In which file.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Table,
    Slabs,
    Notes,
    Segments,
    Arena,
}

/// A word, counted round the file, and what becomes of it.
pub type Damage = (Place, u32, Harm);

/// Changes a word of a file; which.
fn damage(files: &Files, (place, index, harm): Damage) -> (Place, usize) {
    let file: &File = match place {
        Place::Table => &files.table,
        Place::Slabs => &files.slabs,
        Place::Notes => &files.notes,
        Place::Segments => &files.segments,
        Place::Arena => &files.arena,
    };
    let words = file.metadata().expect("metadata").len() as usize / 8;
    let read = |at: usize| {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, at as u64 * 8).expect("inside");
        u64::from_ne_bytes(word)
    };
    let at = index as usize % words;
    let word = match harm {
        Harm::Flip(bit) => read(at) ^ 1 << (bit % 64),
        Harm::Word(word) => word,
        Harm::CopyOf(other) => read(other as usize % words),
    };
    file.write_all_at(&word.to_ne_bytes(), at as u64 * 8).expect("inside");
    (place, at)
}

/// What is left of a run.
pub type Harmed = (Option<Server>, u64, Model, Vec<usize>, Rc<RefCell<Medium>>);

/// Runs a script without crashes, damages what it leaves, and lets another server take over.
/// Returns what is known about the slots, which words of the table were damaged, and the disk.
pub fn harmed(seed: u64, harms: &[Damage]) -> Harmed {
    chaos::recovered();
    let mut script = Script::new(seed);
    script.faults = Faults::default();
    let mut machine = Machine::new(&script, dictionaries());
    let quiet = |step: &&Step| !matches!(step, Step::Crash { .. } | Step::CrashAgain { .. });
    script.steps.iter().filter(quiet).for_each(|step| machine.apply(*step));
    let (files, medium, model) = machine.kill();
    let places: Vec<_> = harms.iter().map(|harm| damage(&files, *harm)).collect();
    let table = |(place, at)| matches!(place, Place::Table).then_some(at);
    let (server, rebuilt) = files.attach().take_over(&medium, any_stream());
    let slots = places.into_iter().filter_map(table).collect();
    (server, rebuilt.poisoned, model, slots, medium)
}

/// The server still does everything: new pages go in and come out, everything can be freed.
pub fn goes_on(server: &mut Server) {
    let Server { store, staging, hand, hand_stream: stream, stats, writer, .. } = server;
    store.check().expect("a consistent store");
    while store.pool().grow(SLAB_BYTES as u64).expect("memory") {}
    for round in 0..2u64 {
        while staging.settle_one(hand, store, stream, stats) == Ok(true) {}
        for slot in (0..SLOTS).step_by(3) {
            let content = u64::from(slot) << 32 | (round + 1) << 16 | u64::from(slot % 8);
            if store.write(SlotIndex(slot), &page(content), stream, stats).is_ok() {
                let mut found = [0; PAGE_SIZE];
                let from = store.read(SlotIndex(slot), &mut found, stream, stats);
                assert!(from.is_ok() && found == page(content), "slot {slot}");
            }
        }
        store.compact_step(stats);
        if let Some(writer) = writer {
            let added = (0..SLOTS).map(|slot| writer.add(store, SlotIndex(slot), stats));
            added.take_while(|a| matches!(a, Added::Taken | Added::NotInPool)).for_each(drop);
            writer.flush(store, stats);
            writer.collect(store, true, stats);
            writer.clean(store, stats);
            writer.collect(store, true, stats);
            writer.clean(store, stats);
        }
        store.check().expect("a consistent store");
    }
    store.discard(SlotIndex(0), SLOTS, stats).expect("all slots");
    assert_eq!(store.pool_usage().slabs_used, 0, "objects that nobody names");
    assert_eq!((stats.stored_bytes.get(), stats.slots_poisoned.get()), (0, 0));
}
