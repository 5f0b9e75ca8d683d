//! Memory that somebody has damaged between two servers: the successor poisons what cannot be,
//! gives no slot another one's page, and goes on serving.

use crate::harm::{Damage, Harm, Place, goes_on, harmed};
use crate::machine;
use crate::memory::Server;
use crate::model::{self, SLOTS};
use proptest::prelude::*;
use uswap::units::{PAGE_SIZE, SlotIndex};

fn harm() -> impl Strategy<Value = Harm> {
    // Words that look like entries: few locations, so that they meet others.
    let entry = (0..11u64, 0..600u64, any::<u16>())
        .prop_map(|(kind, at, high)| kind | at << 19 | u64::from(high) << 50);
    prop_oneof![
        3 => (0..64u32).prop_map(Harm::Flip),
        1 => any::<u64>().prop_map(Harm::Word),
        3 => entry.prop_map(Harm::Word),
        1 => Just(Harm::Word(0)),
        3 => any::<u32>().prop_map(Harm::CopyOf),
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

fn damage(place: impl Strategy<Value = Place>) -> impl Strategy<Value = Damage> {
    (place, any::<u32>(), harm())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn damaged_bookkeeping_never_gives_a_slot_a_wrong_page(
        seed in 0..2000u64,
        harms in proptest::collection::vec(damage(place()), 1..12),
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
        harms in proptest::collection::vec(damage(Just(Place::Arena)), 1..2000),
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
