//! The pool against a plain map.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn pool(slabs: usize) -> Pool {
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len((slabs * SLAB_BYTES) as u64).expect("size");
    Pool::new(Arena::new(&file, slabs * SLAB_BYTES).expect("map"))
}

fn data(slot: u32, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u32).wrapping_mul(31).wrapping_add(slot) as u8).collect()
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1..=HUGE_BYTES, 1 => Just(PAGE_SIZE), 1 => 1..200usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn objects_keep_their_bytes(
        steps in proptest::collection::vec((any::<bool>(), length(), any::<u16>()), 1..600),
    ) {
        let pool = pool(12);
        let mut model: BTreeMap<u32, (Location, usize)> = BTreeMap::new();
        for (slot, (add, len, pick)) in steps.into_iter().enumerate() {
            let slot = slot as u32;
            if add {
                if let Some(at) = pool.alloc(len) {
                    pool.write(at, SlotIndex(slot), &data(slot, len));
                    model.insert(slot, (at, len));
                }
            } else if let Some(slot) = model.keys().nth(usize::from(pick) % model.len().max(1)) {
                let slot = *slot;
                let (at, len) = model.remove(&slot).expect("key just seen");
                prop_assert!(pool.holds(at, SlotIndex(slot), len));
                pool.free(at);
                prop_assert!(!pool.holds(at, SlotIndex(slot), len));
            }
        }
        pool.check();
        prop_assert_eq!(pool.usage().objects, model.len() as u64);
        for (slot, (at, len)) in &model {
            let mut back = vec![0; *len];
            prop_assert_eq!(pool.read(*at, SlotIndex(*slot), &mut back), Ok(()));
            prop_assert_eq!(&back, &data(*slot, *len));
            prop_assert_eq!(pool.read(*at, SlotIndex(slot + 1), &mut back), Err(IoError::Corrupt));
        }
        for (at, _) in model.into_values() {
            pool.free(at);
        }
        prop_assert_eq!(pool.usage().slabs_used, 0);
        pool.check();
    }
}

#[test]
fn huge_pages_fill_every_byte_of_the_arena() {
    let pool = pool(4);
    let objects: Vec<_> = std::iter::from_fn(|| pool.alloc(PAGE_SIZE)).collect();
    assert_eq!(objects.len() * PAGE_SIZE, 4 * SLAB_BYTES);
    for (i, at) in objects.iter().enumerate() {
        pool.write(*at, SlotIndex(i as u32), &data(i as u32, PAGE_SIZE));
    }
    for (i, at) in objects.iter().enumerate() {
        let mut back = [0; PAGE_SIZE];
        assert_eq!(pool.read(*at, SlotIndex(i as u32), &mut back), Ok(()));
        assert_eq!(back[..], data(i as u32, PAGE_SIZE));
    }
}

#[test]
fn a_full_pool_lends_from_larger_classes() {
    let pool = pool(1);
    let at = pool.alloc(2000).expect("an empty pool");
    assert!(pool.alloc(1000).is_some());
    assert!(pool.alloc(3000).is_none());
    pool.check();
    pool.free(at);
    pool.check();
}

#[test]
#[should_panic(expected = "freed")]
fn a_double_free_is_refused() {
    let pool = pool(1);
    let (at, _other) = (pool.alloc(100).expect("room"), pool.alloc(100).expect("room"));
    pool.free(at);
    pool.free(at);
}

#[test]
#[should_panic(expected = "no object")]
fn freeing_the_middle_of_an_object_is_refused() {
    let pool = pool(1);
    let at = pool.alloc(1000).expect("room");
    pool.free(Location::from_units(at.units() + 1));
}

#[test]
fn a_location_outside_is_corrupt_not_a_panic() {
    let pool = pool(1);
    let far = Location::from_offset(2 * SLAB_BYTES);
    assert_eq!(pool.read(far, SlotIndex(0), &mut [0; 100]), Err(IoError::Corrupt));
    let end = Location::from_offset(SLAB_BYTES - 16);
    assert_eq!(pool.read(end, SlotIndex(0), &mut [0; PAGE_SIZE]), Err(IoError::Corrupt));
}
