//! What spilling costs: bytes written for a page, how fast pages go out and come back.
//!
//! Pages of files are stored, spilled to a file around the page cache, and read back one by one in
//! a scattered order, each compared. Printed for each file: the bytes given to the disk for a page;
//! MiB written a second; the median time of a read, and of that what reading the blocks took.
//! Compare with `fio --direct=1` on the same file.

use clap::Parser;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use uswap::codec::Stream;
use uswap::limits::SEGMENT_BYTES;
use uswap::spill::{Seal, Segments, Spill};
use uswap::stats::QueueStats;
use uswap::store::{Added, Opened, ReadFrom, SpillWriter, Store, StoreCodec};
use uswap::sys::buffers::{BufferArea, CHUNK_PAGES, IoBuf, Search};
use uswap::sys::map::{Arena, Words};
use uswap::sys::secret::random_key;
use uswap::sys::spill_ring::SpillRing;
use uswap::units::{PAGE_SIZE, Page, SlotIndex};
use uswap_bench::corpus;

/// Around the page cache (Linux include/uapi/asm-generic/fcntl.h).
const O_DIRECT: i32 = 0o40000;
/// Distance between two slots read in a row: prime, beyond any run of readahead.
const STRIDE: usize = 7919;

#[derive(Parser)]
#[command(about = "Measures spilling to a file")]
struct Args {
    /// File to spill to; made, and removed at the end
    #[arg(long)]
    spill: PathBuf,
    /// Store with zstd instead of lz4
    #[arg(long)]
    zstd: bool,
    /// Times that the pages of each file are stored, in slots of their own
    #[arg(long, default_value_t = 8)]
    copies: usize,
    /// Files of raw 4 KiB pages
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn memory_file(len: usize) -> io::Result<File> {
    uswap::sys::statefs::anonymous_file("bench", len as u64)
}

/// A store with a spill, and what writes to it.
struct Bench {
    store: Store,
    writer: SpillWriter<SpillRing>,
    bounce: IoBuf,
    disk: File,
    stats: QueueStats,
    stream: Stream,
}

impl Bench {
    fn new(path: &Path, pages: usize, codec: StoreCodec) -> io::Result<Self> {
        let bytes = (pages * 5000).next_multiple_of(SEGMENT_BYTES) + 16 * SEGMENT_BYTES;
        uswap::sys::spill::make(path, bytes as u64)?;
        let disk = OpenOptions::new().read(true).write(true).custom_flags(O_DIRECT).open(path)?;
        let table = Words::new(&memory_file(pages * 8)?, pages)?;
        let arena = Arena::new(&memory_file(bytes)?, bytes)?;
        let spill =
            Spill { seal: Seal::new(&*random_key()?), segments: Segments::new(bytes as u64) };
        let store = Store::new(table, arena, codec).with_spill(spill);
        let chunks = SpillWriter::<SpillRing>::BUFFERS + 1;
        let area = BufferArea::new(&memory_file(chunks * SEGMENT_BYTES)?, chunks)?;
        let mut buffers: Vec<IoBuf> =
            (0..chunks).map_while(|_| area.take(CHUNK_PAGES, Search::Low)).collect();
        let bounce = buffers.pop().expect("one for each chunk");
        let writer = SpillWriter::new(&store, SpillRing::new(&disk)?, buffers);
        let (stats, stream) = (QueueStats::default(), Stream::new());
        Ok(Self { store, writer, bounce, disk, stats, stream })
    }

    /// Seconds that it takes to spill everything.
    fn spill(&mut self) -> f64 {
        let Self { store, writer, stats, .. } = self;
        let begin = Instant::now();
        for slot in 0..store.slots() as u32 {
            while writer.add(store, SlotIndex(slot), stats) == Added::Busy {
                writer.collect(store, true, stats);
            }
        }
        writer.flush(store, stats);
        while !writer.is_idle() {
            let done = writer.collect(store, true, stats);
            assert_eq!(done.error, None, "the disk can be written");
        }
        begin.elapsed().as_secs_f64()
    }

    /// Reads a page; nanoseconds in all and of reading blocks. `None`: it is not in the spill.
    fn read(&mut self, slot: SlotIndex, wanted: &Page) -> io::Result<Option<(u64, u64)>> {
        let Self { store, bounce, disk, stats, stream, .. } = self;
        let mut page = [0; PAGE_SIZE];
        let begin = Instant::now();
        let found = store.read(slot, &mut page, stream, stats).expect("readable");
        let ReadFrom::Spill(sought) = found else { return Ok(None) };
        let blocks = &mut bounce[..sought.span.len as usize];
        let asked = Instant::now();
        disk.read_exact_at(blocks, sought.span.at)?;
        let read = asked.elapsed().as_nanos() as u64;
        let opened = store.open_spilled(slot, &sought, blocks, &mut page, stream, stats);
        let all = begin.elapsed().as_nanos() as u64;
        assert!(opened == Ok(Opened::Page) && page == *wanted, "slot {}: wrong page", slot.0);
        Ok(Some((all, read)))
    }
}

fn median(values: &mut [u64]) -> f64 {
    values.sort_unstable();
    values.get(values.len() / 2).map_or(0.0, |&ns| ns as f64 / 1000.0)
}

fn measure(args: &Args, path: &Path) -> io::Result<()> {
    let pages = corpus::read(path).map_err(io::Error::other)?;
    let slots = pages.len() * args.copies;
    let codec = if args.zstd { StoreCodec::Zstd } else { StoreCodec::Lz4 };
    let mut bench = Bench::new(&args.spill, slots, codec)?;
    for slot in 0..slots {
        let page = &pages[slot % pages.len()];
        bench
            .store
            .write(SlotIndex(slot as u32), page, &mut bench.stream, &bench.stats)
            .expect("the pool is larger than all pages");
    }
    let data = bench.stats.stored_bytes.get();
    let seconds = bench.spill();
    let written = bench.stats.spill_write_bytes.get();
    let spilled = bench.stats.spilled_pages.get();
    let (mut all, mut blocks) = (Vec::new(), Vec::new());
    for i in 0..slots.min(20_000) {
        let slot = i * STRIDE % slots;
        let page = &pages[slot % pages.len()];
        if let Some((total, read)) = bench.read(SlotIndex(slot as u32), page)? {
            all.push(total);
            blocks.push(read);
        }
    }
    let each = written as f64 / spilled as f64;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    println!(
        "{name:<16} {spilled:>7} pages {:>7.1} data {each:>7.1} written {:.3} of 4096 \
         {:>7.1} MiB/s {:>7.1} us a read, {:.1} of it for blocks",
        data as f64 / spilled as f64,
        each / PAGE_SIZE as f64,
        written as f64 / seconds / f64::from(1 << 20),
        median(&mut all),
        median(&mut blocks),
    );
    std::fs::remove_file(&args.spill)
}

fn main() -> ExitCode {
    let args = Args::parse();
    for path in &args.files {
        if let Err(e) = measure(&args, path) {
            eprintln!("{}: {e}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
