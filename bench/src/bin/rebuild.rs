//! How long a successor takes to rebuild a store from what a dead server left.
//!
//! A store in shmem is filled until its objects take so many GiB, with pages in slots that follow
//! each other or are spread over the table; then it is dropped. Each round attaches to the same
//! memory, follows it as a standby does, and takes it over; that last step is timed. The median
//! counts. Some slots are read and compared after each.

use clap::Parser;
use std::fs::File;
use std::process::ExitCode;
use uswap::codec::Stream;
use uswap::error::StartResult;
use uswap::stats::QueueStats;
use uswap::store::{Rebuilt, Store, StoreCodec, StoreMemory};
use uswap::sys::map::{Arena, Words};
use uswap::sys::statefs::anonymous_file;
use uswap::units::{PAGE_SIZE, SlotIndex};
use uswap_bench::made::heap_page;
use uswap_bench::statistics::median;

/// Different pages; the others are the same again.
const PAGES: u64 = 4096;

#[derive(Parser)]
#[command(about = "Measures the rebuild of a store after a crash")]
struct Args {
    /// MiB of objects to store
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// Slots of the table for each page
    #[arg(long, default_value_t = 2)]
    slots: usize,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
}

struct Files {
    table: File,
    arena: File,
    slabs: File,
    notes: File,
    slots: usize,
    bytes: usize,
}

impl Files {
    fn new(slots: usize, bytes: usize) -> Self {
        let file = |len: usize| anonymous_file("rebuild", len as u64).expect("memory");
        let slabs = StoreMemory::slab_words(bytes as u64) * 8;
        let notes = StoreMemory::NOTE_WORDS * 8;
        let [table, arena] = [slots * 8, bytes].map(file);
        Self { table, arena, slabs: file(slabs), notes: file(notes), slots, bytes }
    }

    fn memory(&self) -> StoreMemory {
        let words = |file, count| Words::new(file, count).expect("memory");
        StoreMemory {
            table: words(&self.table, self.slots),
            arena: Arena::sparse(&self.arena, self.bytes).expect("address space"),
            slabs: words(&self.slabs, StoreMemory::slab_words(self.bytes as u64)),
            notes: words(&self.notes, StoreMemory::NOTE_WORDS),
        }
    }
}

/// The slot of page `i`.
fn slot(i: usize, slots: usize, spread: bool) -> SlotIndex {
    let stride = if spread { 0x9e37_79b9 | 1 } else { 1 };
    SlotIndex((i.wrapping_mul(stride) % slots) as u32)
}

fn fill(files: &Files, pages: usize, spread: bool) {
    let store = Store::create(files.memory(), StoreCodec::Lz4);
    let (mut stream, stats) = (Stream::new(), QueueStats::default());
    for i in 0..pages {
        if store.pool().free_bytes() < 1 << 20 {
            store.pool().grow(1 << 20).expect("memory");
        }
        let page = heap_page(i as u64 % PAGES);
        store.write(slot(i, files.slots, spread), &page, &mut stream, &stats).expect("room");
    }
}

fn rebuild(files: &Files, pages: usize, spread: bool) -> Rebuilt {
    let mut recovery = Store::attach(files.memory(), StoreCodec::Lz4).recovery();
    recovery.keep_up().expect("memory");
    let (stats, mut stream) = (QueueStats::default(), Stream::new());
    let (store, rebuilt) = recovery.take_over(&mut |_, _| {}, &stats);
    for i in (0..pages).step_by(pages / 100) {
        let mut found = [0; PAGE_SIZE];
        let slot = slot(i, files.slots, spread);
        store.read(slot, &mut found, &mut stream, &stats).expect("readable");
        assert!(found == heap_page(i as u64 % PAGES), "slot {}: a wrong page", slot.0);
    }
    rebuilt
}

fn run() -> StartResult<()> {
    let args = Args::parse();
    // 0.54 of a page by lz4, and rounding.
    let pages = (args.mib << 20) * 100 / (PAGE_SIZE * 56);
    for spread in [false, true] {
        let slots = (pages * args.slots).next_power_of_two();
        let files = Files::new(slots, (args.mib << 20) + (64 << 20));
        fill(&files, pages, spread);
        let rounds: Vec<Rebuilt> =
            (0..args.rounds).map(|_| rebuild(&files, pages, spread)).collect();
        let times = rounds.iter().map(|r| r.took.as_secs_f64() * 1e3);
        let (took, last) = (median(times).expect("rounds"), rounds[rounds.len() - 1]);
        println!(
            "{:10} {} objects, {} MiB, {slots} slots: {took:.1} ms, {:.1} ms per GiB, {:.0} ns an \
             object; {} poisoned",
            if spread { "spread" } else { "in a row" },
            last.objects,
            last.object_bytes >> 20,
            took * f64::from(1u32 << 30) / last.object_bytes as f64,
            took * 1e6 / last.objects as f64,
            last.poisoned,
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    uswap_bench::exit("rebuild", run())
}
