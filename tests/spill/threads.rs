//! Threads that write, discard and read while one spills and cleans.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use uswap::stats::Stats;
use uswap::units::QueueId;

const THREADS: u32 = 3;
const ROUNDS: u64 = 3000;

/// A page that says in its first bytes whose it is; the rest follows from that.
fn stamped(slot: u32, round: u64) -> Page {
    let mut page = page(u64::from(slot) << 32 | round, round as usize * 37 % PAGE_SIZE);
    page[..4].copy_from_slice(&slot.to_le_bytes());
    page[8..16].copy_from_slice(&round.to_le_bytes());
    page
}

/// Overwrites and discards its own slots, and reads everybody's. What it wrote last must be there.
fn overwrite(thread: u32, store: &Store, medium: &Medium, stats: &QueueStats) {
    let mut stream = Stream::new();
    let mut last = HashMap::new();
    for round in 0..ROUNDS {
        let slot = thread + THREADS * (round as u32 * 7 % (SLOTS / THREADS));
        if round.is_multiple_of(13) {
            store.discard(SlotIndex(slot), 1, stats).expect("in range");
            last.remove(&slot);
        } else if store.write(SlotIndex(slot), &stamped(slot, round), &mut stream, stats).is_ok() {
            last.insert(slot, round);
        }
        let own = thread + THREADS * (round as u32 * 31 % (SLOTS / THREADS));
        let found = read(store, medium, SlotIndex(own), &mut stream, stats).expect("readable");
        let wanted = last.get(&own).map_or([0; PAGE_SIZE], |&round| stamped(own, round));
        assert!(found == wanted, "slot {own}: not the page that was written last");
        let other = (round * 101 % u64::from(SLOTS)) as u32;
        let found = read(store, medium, SlotIndex(other), &mut stream, stats).expect("readable");
        if found != [0; PAGE_SIZE] {
            let round = u64::from_le_bytes(found[8..16].try_into().expect("eight bytes"));
            assert!(found == stamped(other, round), "slot {other}: never written to it");
        }
    }
}

#[test]
fn readers_and_overwriters_never_notice_spilling_and_cleaning() {
    for codec in [StoreCodec::Lz4, StoreCodec::None] {
        let store = store(codec);
        let medium = Medium::new(Faults { write_error: 20, slow: 100, ..Faults::default() }, 5);
        let disk = Sim { medium: Arc::clone(&medium), under_way: Vec::new() };
        let mut writer = SpillWriter::new(&store, disk, buffers());
        let stats = Stats::new(THREADS as u16 + 1, 0);
        let running = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (store, medium) = (&store, &*medium);
                    let stats = stats.queue(QueueId(thread as u16));
                    scope.spawn(move || overwrite(thread, store, medium, stats))
                })
                .collect();
            let (store, running) = (&store, &running);
            let own = stats.queue(QueueId(THREADS as u16));
            let spiller = scope.spawn(move || {
                let mut slot = 0;
                while running.load(Ordering::Relaxed) {
                    slot = (slot + 1) % SLOTS;
                    writer.add(store, SlotIndex(slot), own);
                    if slot.is_multiple_of(16) {
                        writer.flush(store, own);
                        writer.collect(store, slot.is_multiple_of(32), own);
                        writer.clean(store, own);
                    }
                }
                settle(&mut writer, store, own);
            });
            threads.into_iter().for_each(|thread| thread.join().expect("no wrong page"));
            running.store(false, Ordering::Relaxed);
            spiller.join().expect("no panic");
        });
        let all: Vec<_> = (0..=THREADS as u16).map(|q| stats.queue(QueueId(q))).collect();
        agree(&store, all.iter().copied());
        let sum = |pick: fn(&QueueStats) -> u64| all.iter().map(|s| pick(s)).sum::<u64>();
        assert!(sum(|s| s.spilled_pages.get()) > 1000, "hardly anything was spilled");
        assert!(sum(|s| s.read_spill_pages.get()) > 100, "hardly anything was read back");
        assert!(sum(|s| s.spill_cleaned_segments.get()) > 0, "nothing was cleaned");
    }
}
