//! The pool against a plain map.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn pool(slabs: usize) -> Pool {
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len((slabs * SLAB_BYTES) as u64).expect("size");
    Pool::new(Arena::new(&file, slabs * SLAB_BYTES).expect("map"), map(slabs))
}

fn map(slabs: usize) -> Words {
    Words::private(SlabMap::words(slabs)).expect("memory")
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

/// A pool over shmem, of which `resident` slabs are there, and what it takes.
fn sparse_pool(slabs: usize, resident: usize) -> (Pool, std::fs::File) {
    let len = slabs * SLAB_BYTES;
    let file = crate::sys::statefs::anonymous_file("pool", len as u64).expect("memfd");
    let mut arena = Arena::sparse(&file, len).expect("map");
    arena.prepare(resident * SLAB_BYTES).expect("memory");
    (Pool::new(arena, map(slabs)), file)
}

fn held(file: &std::fs::File) -> u64 {
    use std::os::unix::fs::MetadataExt;
    file.metadata().expect("metadata").blocks() * 512
}

#[test]
fn empty_slabs_go_back_and_come_again() {
    let (pool, file) = sparse_pool(64, 16);
    let slab = SLAB_BYTES as u64;
    let pages: Vec<_> = (0..16 * 8).map_while(|_| pool.alloc(PAGE_SIZE)).collect();
    assert_eq!((pages.len(), pool.alloc(1)), (128, None));
    assert!(pool.grow(4 * slab).expect("memory"));
    assert_eq!((pool.slab_bytes(), held(&file)), (20 * slab, 20 * slab));
    // Slabs 4 to 11 empty, and the four at the end.
    pages[32..96].iter().for_each(|at| pool.free(*at));
    assert_eq!(pool.give_back(0, 2 * slab).expect("shmem"), 2 * slab);
    assert_eq!(pool.give_back(0, 100 * slab).expect("shmem"), 2 * slab);
    assert_eq!(pool.give_back(3 * slab, 100 * slab).expect("shmem"), 5 * slab);
    assert_eq!(pool.give_back(3 * slab, 100 * slab).expect("shmem"), 0);
    assert_eq!((pool.slab_bytes(), pool.free_bytes()), (11 * slab, 3 * slab));
    assert_eq!(held(&file), 11 * slab);
    pool.check();
    let again: Vec<_> = (0..64).map_while(|_| pool.alloc(PAGE_SIZE)).collect();
    assert_eq!(again.len(), 24, "nobody allocates where there is no memory");
    assert!(pool.grow(2 * slab).expect("memory"));
    let lowest = pool.alloc(PAGE_SIZE).expect("grown");
    assert_eq!(lowest.offset(), 7 * SLAB_BYTES, "the lowest slab comes first");
    while pool.grow(5 * slab).expect("memory") {}
    assert_eq!((pool.slab_bytes(), held(&file)), (64 * slab, 64 * slab));
    pool.check();
}

#[test]
fn a_slab_that_is_emptied_is_nobodys_until_it_is_let_go() {
    let pool = pool(8);
    let per_slab = SLAB_BYTES / PAGE_SIZE;
    let pages: Vec<_> = (0..2 * per_slab).map_while(|_| pool.alloc(PAGE_SIZE)).collect();
    assert!(pool.begin_emptying().is_none(), "full slabs are not worth it");
    pages[1..per_slab].iter().for_each(|at| pool.free(*at));
    pages[per_slab + 3..].iter().for_each(|at| pool.free(*at));
    let emptying = pool.begin_emptying().expect("one page fits beside three");
    pool.write(pages[0], SlotIndex(77), &data(77, PAGE_SIZE));
    assert_eq!(pool.object_of(&emptying, 0), Some((pages[0], SlotIndex(77))));
    assert_eq!(pool.object_of(&emptying, 1), None);
    let to = pool.alloc_beside(&emptying).expect("room");
    assert_eq!(to.offset() / SLAB_BYTES, 1);
    pool.copy_object(pages[0], to, SlotIndex(77), &mut [0; PAGE_SIZE]);
    pool.free(pages[0]);
    assert_eq!(pool.usage().slabs_used, 2, "it stays open, though empty");
    assert!(pool.end_emptying(emptying));
    assert_eq!(pool.usage().slabs_used, 1);
    pool.check();
    let mut back = [0; PAGE_SIZE];
    assert_eq!(pool.read(to, SlotIndex(77), &mut back), Ok(()));
    assert_eq!(back[..], data(77, PAGE_SIZE));
}

#[test]
fn a_slab_that_could_not_be_emptied_is_used_again() {
    let pool = pool(8);
    let pages: Vec<_> = (0..16).map_while(|_| pool.alloc(PAGE_SIZE)).collect();
    pages[2..8].iter().chain(&pages[12..]).for_each(|at| pool.free(*at));
    let emptying = pool.begin_emptying().expect("two pages fit beside four");
    assert!(!pool.end_emptying(emptying));
    pool.check();
    assert_eq!((0..10).map_while(|_| pool.alloc(PAGE_SIZE)).count(), 10);
    assert_eq!(pool.usage().slabs_used, 2);
}
