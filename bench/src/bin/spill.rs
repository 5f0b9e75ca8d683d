//! What spilling costs: bytes written for a page, how fast pages go out and come back; with `--fio`
//! beside what fio does to the same file.
//!
//! Pages of files are stored, spilled to a file around the page cache, and read back one by one in
//! a scattered order, each compared. Printed for each file: the bytes given to the disk for a page;
//! MiB written a second; the median time of a read, and of that what reading the blocks took. With
//! `--fio` each round also writes the same bytes in a row by fio, as many requests of the same size
//! under way, and reads blocks of 4 KiB at random, one at a time; printed are the medians of the
//! rounds' ratios.

use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use uswap::codec::{Dictionary, Stream};
use uswap::error::{StartError, StartResult};
use uswap::limits::{DICTIONARY_SAMPLES, SEGMENT_BYTES, SPILL_DRAFTS};
use uswap::spill::{Seal, Segments, Spill};
use uswap::stats::QueueStats;
use uswap::store::{Added, Opened, ReadFrom, Recompressor, SpillWriter, Store, StoreCodec};
use uswap::sys::buffers::{BufferArea, CHUNK_PAGES, IoBuf, Search};
use uswap::sys::errno::EBUSY;
use uswap::sys::secret::random_key;
use uswap::sys::spill::Spill as SpillFile;
use uswap::sys::spill_ring::SpillRing;
use uswap::sys::statefs::anonymous_file;
use uswap::units::{PAGE_SIZE, Page, SlotIndex};
use uswap_bench::corpus;
use uswap_bench::statistics::median;

/// Distance between two slots read in a row: prime, beyond any run of readahead.
const STRIDE: usize = 7919;
/// Pages read back in a round.
const READS: usize = 20_000;

#[derive(Parser)]
#[command(about = "Measures spilling to a file")]
struct Args {
    /// File to spill to; made, and removed at the end
    #[arg(long)]
    spill: PathBuf,
    /// Store with zstd instead of lz4
    #[arg(long)]
    zstd: bool,
    /// Make all pages dense first, with a dictionary trained on some of them
    #[arg(long)]
    dense: bool,
    /// Times that the pages of each file are stored, in slots of their own
    #[arg(long, default_value_t = 8)]
    copies: usize,
    /// Measure so often, and print medians
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Compare with fio on the same file
    #[arg(long)]
    fio: bool,
    /// Files of raw 4 KiB pages
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// A store with a spill, and what writes to it.
struct Bench {
    store: Store,
    writer: SpillWriter<SpillRing>,
    bounce: IoBuf,
    disk: SpillFile,
    stats: QueueStats,
    stream: Stream,
}

fn failed(what: &str, e: &std::io::Error) -> StartError {
    StartError::failure(format!("cannot {what} ({e})"), "use a directory on a disk with room")
}

/// Opens the file, which the ring of the round before gives up, with its lock, a moment after that
/// is gone.
fn open(path: &Path) -> std::io::Result<SpillFile> {
    let begin = Instant::now();
    loop {
        match SpillFile::open(path) {
            Err(e) if e.raw_os_error() == Some(EBUSY) && begin.elapsed().as_secs() < 5 => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened,
        }
    }
}

impl Bench {
    fn new(path: &Path, pages: usize, codec: StoreCodec) -> StartResult<Self> {
        let bytes = file_bytes(pages);
        let make = || -> std::io::Result<Self> {
            let disk = open(path)?;
            let segments = Segments::new(bytes as u64);
            let spill = Spill { seal: Seal::new(&*random_key()?), segments };
            let store = uswap_bench::store(pages, pages, codec).with_spill(spill);
            let chunks = SpillWriter::<SpillRing>::BUFFERS + 1;
            let file = anonymous_file("bench", (chunks * SEGMENT_BYTES) as u64)?;
            let area = BufferArea::new(&file, chunks)?;
            let mut buffers: Vec<IoBuf> =
                (0..chunks).map_while(|_| area.take(CHUNK_PAGES, Search::Low)).collect();
            let bounce = buffers.pop().expect("one for each chunk");
            let writer = SpillWriter::new(&store, SpillRing::new(&disk.file)?, buffers);
            let (stats, stream) = (QueueStats::default(), Stream::new());
            Ok(Self { store, writer, bounce, disk, stats, stream })
        };
        make().map_err(|e| failed("spill to the file", &e))
    }

    fn make_dense(&mut self, pages: &[Page]) {
        let every = pages.len().div_ceil(DICTIONARY_SAMPLES);
        let samples: Vec<Page> = pages.iter().step_by(every).copied().collect();
        let dictionary = Dictionary::train(&samples).expect("pages that have something in common");
        self.store.install(dictionary, &self.stats).expect("the first");
        let mut recompressor = Recompressor::new(&self.store).expect("memory");
        for slot in 0..self.store.slots() as u32 {
            self.store.recompress(SlotIndex(slot), &mut recompressor, &self.stats);
        }
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

    /// Reads a page; microseconds in all and of reading blocks. `None`: it is not in the spill.
    fn read(&mut self, slot: SlotIndex, wanted: &Page) -> StartResult<Option<(f64, f64)>> {
        use std::os::unix::fs::FileExt;
        let Self { store, bounce, disk, stats, stream, .. } = self;
        let mut page = [0; PAGE_SIZE];
        let begin = Instant::now();
        let found = store.read(slot, &mut page, stream, stats).expect("readable");
        let ReadFrom::Spill(sought) = found else { return Ok(None) };
        let blocks = &mut bounce[..sought.span.len as usize];
        let asked = Instant::now();
        let read = disk.file.read_exact_at(blocks, sought.span.at);
        read.map_err(|e| failed("read the file", &e))?;
        let blocks_us = asked.elapsed().as_secs_f64() * 1e6;
        let opened = store.open_spilled(slot, &sought, blocks, &mut page, stream, stats);
        let all_us = begin.elapsed().as_secs_f64() * 1e6;
        assert!(opened == Ok(Opened::Page) && page == *wanted, "slot {}: wrong page", slot.0);
        Ok(Some((all_us, blocks_us)))
    }
}

/// Room for pages that do not compress, and some segments to spare.
fn file_bytes(pages: usize) -> usize {
    (pages * 5000).next_multiple_of(SEGMENT_BYTES) + 16 * SEGMENT_BYTES
}

/// What a round measured.
struct Round {
    data_bytes: u64,
    written_bytes: u64,
    pages: u64,
    written_mib_per_second: f64,
    read_us: f64,
    blocks_us: f64,
}

fn round(args: &Args, pages: &[Page]) -> StartResult<Round> {
    let slots = pages.len() * args.copies;
    let codec = if args.zstd { StoreCodec::Zstd } else { StoreCodec::Lz4 };
    let mut bench = Bench::new(&args.spill, slots, codec)?;
    for slot in 0..slots {
        let page = &pages[slot % pages.len()];
        let stored =
            bench.store.write(SlotIndex(slot as u32), page, &mut bench.stream, &bench.stats);
        stored.expect("the pool is larger than all pages");
    }
    if args.dense {
        bench.make_dense(pages);
    }
    let data_bytes = bench.stats.stored_bytes.get();
    let seconds = bench.spill();
    let (mut all, mut blocks) = (Vec::new(), Vec::new());
    for i in 0..slots.min(READS) {
        let slot = i * STRIDE % slots;
        let page = &pages[slot % pages.len()];
        if let Some((all_us, blocks_us)) = bench.read(SlotIndex(slot as u32), page)? {
            all.push(all_us);
            blocks.push(blocks_us);
        }
    }
    let written_bytes = bench.stats.spill_write_bytes.get();
    Ok(Round {
        data_bytes,
        written_bytes,
        pages: bench.stats.spilled_pages.get(),
        written_mib_per_second: written_bytes as f64 / seconds / f64::from(1 << 20),
        read_us: median(all).unwrap_or(0.0),
        blocks_us: median(blocks).unwrap_or(0.0),
    })
}

/// A field of fio's terse output, version 3 (fio(1)), counted from 1; of a percentile its value.
fn fio(args: &Args, job: &[&str], field: usize) -> StartResult<f64> {
    let output = Command::new("fio")
        .args(["--name=spill", "--direct=1", "--output-format=terse", "--terse-version=3"])
        .arg(format!("--filename={}", args.spill.display()))
        .args(job)
        .output()
        .map_err(|e| StartError::failure(format!("cannot run fio ({e})"), "install fio"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value = text.trim().split(';').nth(field - 1);
    let value = value.and_then(|value| value.rsplit('=').next()?.parse().ok());
    value.ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        StartError::failure(format!("fio did not say: {errors}"), "run it by hand")
    })
}

/// MiB a second that fio writes in a row, as the writer does, and microseconds of a median read of
/// a random block.
fn fio_round(args: &Args, bytes: u64) -> StartResult<(f64, f64)> {
    let (size, depth) = (format!("--size={bytes}"), format!("--iodepth={}", SPILL_DRAFTS - 1));
    let block = format!("--bs={SEGMENT_BYTES}");
    let write = ["--rw=write", "--ioengine=io_uring", "--overwrite=1", &size, &depth, &block];
    const WRITE_BANDWIDTH: usize = 48;
    const READ_LATENCY_MEDIAN: usize = 24;
    let kib_per_second = fio(args, &write, WRITE_BANDWIDTH)?;
    let reads = format!("--number_ios={READS}");
    let read = ["--rw=randread", "--ioengine=psync", "--bs=4k", &size, &reads];
    let median_us = fio(args, &read, READ_LATENCY_MEDIAN)?;
    Ok((kib_per_second / 1024.0, median_us))
}

fn measure(args: &Args, path: &Path) -> StartResult<()> {
    let pages = corpus::read(path)?;
    let bytes = file_bytes(pages.len() * args.copies) as u64;
    uswap::sys::spill::make(&args.spill, bytes, &mut |_| ())
        .map_err(|e| failed("make the file", &e))?;
    let (mut rounds, mut writes, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let round = round(args, &pages)?;
        if args.fio {
            let (write, read_us) = fio_round(args, round.written_bytes)?;
            writes.push(round.written_mib_per_second / write);
            reads.push(read_us / round.read_us);
        }
        rounds.push(round);
    }
    let middle = |value: fn(&Round) -> f64| median(rounds.iter().map(value)).unwrap_or(0.0);
    let each = middle(|r| r.written_bytes as f64 / r.pages as f64);
    println!(
        "{:<16} {:>7} pages {:>7.1} data {each:>7.1} written {:.3} of 4096 {:>7.1} MiB/s {:>7.1} \
         us a read, {:.1} of it for blocks",
        path.file_name().unwrap_or_default().to_string_lossy(),
        rounds.first().map_or(0, |r| r.pages),
        middle(|r| r.data_bytes as f64 / r.pages as f64),
        each / PAGE_SIZE as f64,
        middle(|r| r.written_mib_per_second),
        middle(|r| r.read_us),
        middle(|r| r.blocks_us),
    );
    if let Some((write, read)) = median(writes).zip(median(reads)) {
        println!("{:<16} {write:.2} of fio's writing in a row, {read:.2} of its reading", "");
    }
    std::fs::remove_file(&args.spill).map_err(|e| failed("remove the file", &e))
}

fn main() -> ExitCode {
    let args = Args::parse();
    uswap_bench::exit("spill", args.files.iter().try_for_each(|path| measure(&args, path)))
}
