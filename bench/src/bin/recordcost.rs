//! What recording costs: the same writes and reads on a store while nobody records, and while
//! somebody does. Run both under `valgrind --tool=cachegrind`: the difference of the instructions
//! (`I refs`), divided by the pages, is what recording adds to a page that is written, compressed
//! and read.

use clap::Parser;
use std::fs::File;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::time::Instant;
use uswap::codec::Stream;
use uswap::error::{StartError, StartResult};
use uswap::stats::QueueStats;
use uswap::stats::tap::{LANE_EVENTS, LANE_WORDS, Lane};
use uswap::store::{Store, StoreCodec};
use uswap::sys::map::{Arena, Words};
use uswap::sys::statefs::anonymous_file;
use uswap::trace::{Kind, note};
use uswap::units::{PAGE_SIZE, Page, SlotIndex};
use uswap_bench::made::heap_page;

const SLOTS: usize = 4096;
const ARENA_BYTES: usize = 32 << 20;
const PAGES_MAX: i64 = LANE_EVENTS as i64 / 3;

#[derive(Parser)]
#[command(about = "Writes and reads pages while somebody records, or nobody")]
struct Args {
    /// Somebody records
    #[arg(long)]
    record: bool,
    /// Pages to write and to read: three events each, and all of them have room in a ring
    #[arg(
        long,
        default_value_t = 20_000,
        value_parser = clap::value_parser!(u32).range(..=PAGES_MAX)
    )]
    pages: u32,
}

fn memory(bytes: usize) -> StartResult<File> {
    anonymous_file("recordcost", bytes as u64)
        .map_err(|e| StartError::failure(format!("cannot get memory ({e})"), "free some"))
}

fn run(args: &Args) -> StartResult<()> {
    let fail = |e: std::io::Error| StartError::failure(format!("cannot map ({e})"), "free memory");
    let words = Words::new(&memory(SLOTS * 8)?, SLOTS).map_err(fail)?;
    let arena = Arena::new(&memory(ARENA_BYTES)?, ARENA_BYTES).map_err(fail)?;
    let store = Store::new(words, arena, StoreCodec::Lz4);
    let (stats, mut stream) = (QueueStats::default(), Stream::new());
    let ring: &'static [AtomicU64] =
        Vec::leak((0..LANE_WORDS).map(|_| AtomicU64::new(0)).collect());
    let lane = Lane::over(ring).expect("as long as a ring");
    if args.record {
        stats.tap.begin(lane, 1, Instant::now());
    }
    let contents: Vec<Page> = (0..64).map(heap_page).collect();
    let mut page = [0; PAGE_SIZE];
    for i in 0..args.pages {
        let slot = SlotIndex(i % SLOTS as u32);
        let io = |e| StartError::failure(format!("the store refused ({e:?})"), "report this");
        // As a queue thread does it: it has read the clock for its histograms.
        stats.tap.set_time(Instant::now());
        store.write(slot, &contents[i as usize % 64], &mut stream, &stats).map_err(io)?;
        let from = store.read(slot, &mut page, &mut stream, &stats).map_err(io)?;
        stats.tap.set_time(Instant::now());
        note(&stats, slot, Kind::Read(from.source()));
    }
    let (events, dropped) = (stats.trace_events.get(), stats.trace_dropped_events.get());
    println!("{} pages, {events} events, {dropped} dropped", args.pages);
    Ok(())
}

fn main() -> ExitCode {
    uswap_bench::exit("recordcost", run(&Args::parse()))
}
