//! The memory that a successor finds: table, slabs, notes, segments, objects.

use crate::harm::{Damage, Harm, Place, goes_on, harmed};
use crate::machine;
use crate::memory::Server;
use crate::model::{self, SLOTS};
use uswap::units::{PAGE_SIZE, SlotIndex};

/// Runs that leave something behind.
const RUNS: u64 = 64;
/// Bytes of a damage: where, which word, how, with what.
const DAMAGE_BYTES: usize = 10;
const DAMAGES_MAX: usize = 64;

fn damage(bytes: &[u8; DAMAGE_BYTES]) -> Damage {
    let [place, how, a, b, word @ ..] = *bytes;
    let place = match place % 8 {
        0..4 => Place::Table,
        4 => Place::Slabs,
        5 => Place::Notes,
        6 => Place::Segments,
        _ => Place::Arena,
    };
    let [x, y, z, u, v, w] = word;
    let low = u32::from_le_bytes([x, y, z, u]);
    let high = u64::from(u16::from_le_bytes([v, w]));
    let harm = match how % 4 {
        0 => Harm::Flip(low),
        // An entry: its kind, its place, its age and length.
        1 => Harm::Word(u64::from(low) | high << 48),
        2 => Harm::Word(u64::from(low & 15) | u64::from(low >> 4) << 19 | high << 50),
        _ => Harm::CopyOf(low),
    };
    (place, u32::from(u16::from_le_bytes([a, b])), harm)
}

/// A run, then damage, then a successor: it gives nobody another one's page, and goes on.
pub fn state(bytes: &[u8]) {
    let Some((seed, rest)) = bytes.split_first() else { return };
    let damages = rest.as_chunks::<DAMAGE_BYTES>().0.iter().take(DAMAGES_MAX);
    let damages: Vec<Damage> = damages.map(damage).collect();
    let (server, _, model, damaged, medium) = harmed(u64::from(*seed) % RUNS, &damages);
    let Some(mut server) = server else { return };
    // An object that is damaged may be another page: nothing but a sealed one is checked to its
    // last bit.
    let objects = damages.iter().any(|(place, ..)| matches!(place, Place::Arena));
    for slot in (0..SLOTS).filter(|slot| !damaged.contains(&(*slot as usize))) {
        let mut found = [0; PAGE_SIZE];
        let read = if objects {
            let Server { store, hand_stream, stats, .. } = &mut server;
            store.read(SlotIndex(slot), &mut found, hand_stream, stats).map(drop)
        } else {
            machine::read(&mut server, &medium, SlotIndex(slot), &mut found)
        };
        let known = &model.slots[slot as usize];
        let right = || known.iter().any(|&content| model::page(content) == found);
        assert!(objects || read.is_err() || right(), "slot {slot}: a wrong page");
    }
    goes_on(&mut server);
}
