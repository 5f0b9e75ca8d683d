//! Memory that somebody has damaged between two servers: the successor poisons what cannot be,
//! gives
//! no slot another one's page, and goes on serving.

use crate::disk::{Faults, Medium};
use crate::machine::{self, Machine};
use crate::memory::{Files, Server, any_stream};
use crate::model::{Model, SLOTS, page};
use crate::step::{Script, Step};
use crate::{dictionaries, model};
use proptest::prelude::*;
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
enum Harm {
    Flip(u32),
    Word(u64),
    /// Another word of the same file.
    CopyOf(prop::sample::Index),
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Table,
    Slabs,
    Notes,
    Segments,
    Arena,
}

fn harm() -> impl Strategy<Value = Harm> {
    // Words that look like entries: few locations, so that they meet others.
    let entry = (0..11u64, 0..600u64, any::<u16>())
        .prop_map(|(kind, at, high)| kind | at << 19 | u64::from(high) << 50);
    prop_oneof![
        3 => (0..64u32).prop_map(Harm::Flip),
        1 => any::<u64>().prop_map(Harm::Word),
        3 => entry.prop_map(Harm::Word),
        1 => Just(Harm::Word(0)),
        3 => any::<prop::sample::Index>().prop_map(Harm::CopyOf),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        6 => Just(Place::Table),
        2 => Just(Place::Slabs),
        1 => Just(Place::Notes),
        2 => Just(Place::Segments),
    ]
}

type Damage = (Place, prop::sample::Index, Harm);

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
    let at = index.index(words);
    let word = match harm {
        Harm::Flip(bit) => read(at) ^ 1 << bit,
        Harm::Word(word) => word,
        Harm::CopyOf(other) => read(other.index(words)),
    };
    file.write_all_at(&word.to_ne_bytes(), at as u64 * 8).expect("inside");
    (place, at)
}

/// What is left of a run.
type Harmed = (Option<Server>, u64, Model, Vec<usize>, Rc<RefCell<Medium>>);

/// Runs a script without crashes, damages what it leaves, and lets another server take over.
/// Returns what is known about the slots, which words of the table were damaged, and the disk.
fn harmed(seed: u64, harms: &[Damage]) -> Harmed {
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
fn goes_on(server: &mut Server) {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn damaged_bookkeeping_never_gives_a_slot_a_wrong_page(
        seed in 0..2000u64,
        harms in proptest::collection::vec((place(), any::<prop::sample::Index>(), harm()), 1..12),
    ) {
        let (server, _, model, damaged, medium) = harmed(seed, &harms);
        let Some(mut server) = server else { return Ok(()) };
        for slot in (0..SLOTS).filter(|slot| !damaged.contains(&(*slot as usize))) {
            let mut found = [0; PAGE_SIZE];
            let read = machine::read(&mut server, &medium, SlotIndex(slot), &mut found);
            let known = &model.slots[slot as usize];
            let right = || known.iter().any(|&content| model::page(content) == found);
            prop_assert!(read.is_err() || right(), "slot {slot}: a wrong page");
        }
        goes_on(&mut server);
    }

    #[test]
    fn damaged_objects_are_errors_or_pages_and_the_server_goes_on(
        seed in 0..2000u64,
        harms in proptest::collection::vec(
            (Just(Place::Arena), any::<prop::sample::Index>(), harm()),
            1..2000,
        ),
    ) {
        let (server, ..) = harmed(seed, &harms);
        let mut server = server.expect("nothing is wrong with the buffers");
        for slot in 0..SLOTS {
            let Server { store, hand_stream, stats, .. } = &mut server;
            let mut found = [0; PAGE_SIZE];
            let _ = store.read(SlotIndex(slot), &mut found, hand_stream, stats);
        }
        goes_on(&mut server);
    }
}

#[test]
fn without_damage_nothing_is_poisoned() {
    for seed in 0..50 {
        let (server, poisoned, ..) = harmed(seed, &[]);
        assert_eq!(poisoned, 0, "seed {seed}");
        goes_on(&mut server.expect("a buffer for each tag"));
    }
}
