//! What background work takes, it gives back: resident memory after training a dictionary and
//! recompressing, beside before. One test, because resident memory is the whole process's.

use uswap::codec::{DenseStream, Stream};
use uswap::limits::DICTIONARY_SAMPLES;
use uswap::stats::QueueStats;
use uswap::store::{Recompressor, Store, StoreCodec, Trainer};
use uswap::sys::heap;
use uswap::sys::map::{Arena, Words};
use uswap::sys::statefs::anonymous_file;
use uswap::units::{PAGE_SIZE, Page, SlotIndex};

/// What may stay: the C heap's small pieces.
const LEFT_MAX: usize = 1 << 20;

/// Private resident memory in bytes, without the shared mappings of table and arena.
fn private_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("readable");
    let pages: Vec<usize> = text.split(' ').map_while(|word| word.parse().ok()).collect();
    (pages[1] - pages[2]) * PAGE_SIZE
}

/// A page of records with numbers in them.
fn page(seed: usize) -> Page {
    let record = |i: usize| format!("<record id={} of kind {}>", seed * 7919 + i, seed * i % 97);
    let text: String = (0..PAGE_SIZE / 16).map(record).collect();
    *text.as_bytes().first_chunk().expect("a page of text")
}

/// Collects, trains, installs and recompresses everything. Returns the most that it took on top of
/// what there was before.
fn cycle(store: &Store, stats: &QueueStats) -> usize {
    let before = private_bytes();
    let mut trainer = Trainer::new();
    let mut dense = DenseStream::new();
    while !trainer.collect(store, &mut dense, 100) {}
    let with_samples = private_bytes();
    drop(dense);
    let dictionary = trainer.train().expect("records in common");
    store.install(dictionary, stats).expect("a free number");
    let mut recompressor = Recompressor::new(store).expect("memory");
    for slot in 0..store.slots() {
        store.recompress(SlotIndex(slot as u32), &mut recompressor, stats);
    }
    store.retire_dictionaries(stats);
    with_samples.max(private_bytes()) - before
}

#[test]
fn memory_of_training_and_recompression_goes_back() {
    heap::settle();
    let slots = 2 * DICTIONARY_SAMPLES;
    let file = |len: usize| anonymous_file("memory", len as u64).expect("memfd");
    let words = Words::new(&file(slots * 8), slots).expect("map");
    let arena = Arena::new(&file(slots * PAGE_SIZE), slots * PAGE_SIZE).expect("map");
    let store = Store::new(words, arena, StoreCodec::Lz4);
    let (stats, mut stream) = (QueueStats::default(), Stream::new());
    for slot in 0..slots {
        let slot = SlotIndex(slot as u32);
        store.write(slot, &page(slot.index()), &mut stream, &stats).expect("room");
    }
    let before = private_bytes();
    let peaks = [(); 4].map(|()| cycle(&store, &stats));
    let (after, (alive, dictionaries)) = (private_bytes(), store.dictionaries_alive());
    println!("peaks {peaks:?}, before {before}, after {after}, dictionaries {dictionaries}");
    assert_eq!(alive, 1);
    assert!(peaks[0] > 4 << 20, "the samples are 4 MiB: this does not measure");
    let left = after.saturating_sub(before + dictionaries as usize);
    assert!(left < LEFT_MAX, "{left} bytes stay");
}
