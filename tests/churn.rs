//! Memory after much coming and going: objects of real sizes are stored and freed while the number
//! of them and their mix of sizes swing; then compaction and giving back must leave little waste,
//! and every page as it was.

use uswap::codec::Stream;
use uswap::limits::{OBJECT_HEADER_BYTES, SLAB_BYTES};
use uswap::stats::QueueStats;
use uswap::store::{Store, StoreCodec};
use uswap::sys::map::{Arena, Words};
use uswap::sys::statefs::anonymous_file;
use uswap::units::{PAGE_SIZE, Page, SlotIndex};

/// Sizes that lz4 makes of captured pages (four programs, same-filled pages left out): every 32nd
/// part of them is at most so large.
const SIZES: [usize; 33] = [
    31, 429, 686, 764, 851, 935, 1015, 1086, 1153, 1224, 1296, 1353, 1418, 1473, 1524, 1558, 1590,
    1640, 1686, 1748, 1799, 1851, 1891, 1928, 1989, 2054, 2117, 2196, 2302, 2494, 2623, 4096, 4096,
];
/// 128 MiB of pages.
const SLOTS: u32 = 32768;
const PAGES: usize = 1024;
const WASTE_MAX: f64 = 0.10;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }
}

/// Pages in the order of the size that lz4 makes of them: as many random bytes and a rest of the
/// same byte.
fn pages() -> Vec<Page> {
    let mut random = Random(0x1234_5678_9abc_def1);
    (0..PAGES)
        .map(|i| {
            let (step, part) = (i * 32 / PAGES, i * 32 % PAGES);
            let size = SIZES[step] + (SIZES[step + 1] - SIZES[step]) * part / PAGES;
            let mut page = [i as u8; PAGE_SIZE];
            let noise = size.saturating_sub(22);
            page[..noise].iter_mut().for_each(|byte| *byte = random.below(256) as u8);
            page[PAGE_SIZE - 8..].copy_from_slice(&(i as u64 | 1 << 40).to_le_bytes());
            page
        })
        .collect()
}

struct Churn {
    store: Store,
    pages: Vec<Page>,
    /// Which page each slot holds.
    held: Vec<Option<u16>>,
    stream: Stream,
    stats: QueueStats,
    random: Random,
}

impl Churn {
    fn new() -> Self {
        let file = |len: usize| anonymous_file("churn", len as u64).expect("memfd");
        let (table, arena) = (SLOTS as usize * 8, SLOTS as usize * PAGE_SIZE);
        let words = Words::new(&file(table), SLOTS as usize).expect("map");
        let arena = Arena::sparse(&file(arena), arena).expect("map");
        Self {
            store: Store::new(words, arena, StoreCodec::Lz4),
            pages: pages(),
            held: vec![None; SLOTS as usize],
            stream: Stream::new(),
            stats: QueueStats::default(),
            random: Random(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// `count` stores and frees, with about `full` of 100 slots in use and pages from the small or
    /// the large end of the sizes.
    fn phase(&mut self, count: u64, full: u64, from: usize, to: usize) {
        for _ in 0..count {
            let slot = self.random.below(SLOTS.into()) as u32;
            if self.random.below(100) >= full {
                self.store.discard(SlotIndex(slot), 1, &self.stats).expect("in range");
                self.held[slot as usize] = None;
                continue;
            }
            let page = from + self.random.below((to - from) as u64) as usize;
            while self.store.pool().free_bytes() < 4 * SLAB_BYTES as u64 {
                assert!(self.store.pool().grow(1 << 20).expect("memory"), "the pool is full");
            }
            let bytes = &self.pages[page];
            self.store
                .write(SlotIndex(slot), bytes, &mut self.stream, &self.stats)
                .expect("there is room");
            self.held[slot as usize] = Some(page as u16);
        }
    }

    /// Shares of resident memory that are no objects, and no data with its headers.
    fn waste(&self) -> (f64, f64) {
        let usage = self.store.pool_usage();
        let resident = (usage.slabs * SLAB_BYTES as u64) as f64;
        let data = self.stats.stored_bytes.get() + usage.objects * OBJECT_HEADER_BYTES as u64;
        (1.0 - usage.object_bytes as f64 / resident, 1.0 - data as f64 / resident)
    }

    fn check(&mut self) {
        let mut page = [0; PAGE_SIZE];
        for slot in 0..SLOTS {
            self.store
                .read(SlotIndex(slot), &mut page, &mut self.stream, &self.stats)
                .expect("readable");
            let expected = self.held[slot as usize].map(|i| self.pages[usize::from(i)]);
            assert!(page == expected.unwrap_or([0; PAGE_SIZE]), "slot {slot}");
        }
        self.store.check().expect("consistent");
    }
}

fn churn(operations: u64) {
    let mut churn = Churn::new();
    let phases = [(95, 0, PAGES), (50, 0, PAGES / 2), (90, PAGES / 4, PAGES), (30, 0, PAGES)];
    for round in 0..20 {
        let (full, from, to) = phases[round % phases.len()];
        churn.phase(operations / 20, full, from, to);
    }
    let before = churn.waste();
    let (mut steps, mut moved) = (0, 0);
    while let Some(step) = churn.store.compact_step(&churn.stats) {
        assert!(step.slabs_freed == 1, "nobody else is at work: {step:?}");
        (steps, moved) = (steps + 1, moved + step.bytes);
    }
    let mut given = 0;
    loop {
        match churn.store.give_back(0, 1 << 20, &churn.stats).expect("shmem") {
            0 => break,
            bytes => given += bytes,
        }
    }
    let after = churn.waste();
    println!(
        "{operations} stores and frees: waste {:.3} ({:.3} with rounding), after {steps} steps \
         that moved {} KiB and gave {} KiB back {:.3} ({:.3}) of {} KiB",
        before.0,
        before.1,
        moved >> 10,
        given >> 10,
        after.0,
        after.1,
        churn.store.pool().slab_bytes() >> 10,
    );
    assert!(after.0 < WASTE_MAX, "waste {:.3}", after.0);
    assert!(before.0 > after.0 && moved > 0, "there was something to compact");
    churn.check();
}

#[test]
fn little_is_wasted_after_a_million_stores_and_frees() {
    churn(1_000_000);
}

#[test]
#[ignore = "half a minute; cargo test --test churn -- --ignored --nocapture"]
fn little_is_wasted_after_ten_million_stores_and_frees() {
    churn(10_000_000);
}
