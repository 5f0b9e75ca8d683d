//! How much the store costs beside the compressor alone: `Store::write` and `Store::read` against
//! lz4_flex's `compress_into_with_table` and `decompress_into`, on the same pages in the same
//! order, in interleaved rounds of one run. With `--codec zstd` both sides use zstd; the bare one
//! is then `codec::zstd`, which is one call of the C library.
//!
//! The bare side keeps its results as a store has to: each page is compressed straight into an
//! output area of its own (as large as lz4_flex asks for, enough for zstd too) and its length is
//! noted. It does not look for same-filled pages, does not pack, and decompresses from those areas.
//! With `--bare-output reused` it does less than a store can: every page is compressed into the
//! same buffer and forgotten, and decompression reads objects that were packed before. Both sides
//! read into the same buffers, which are spoilt before and compared with the source after every
//! timed pass, outside the timing. From the second round on the store overwrites slots, so that its
//! side includes freeing.

use clap::{Parser, ValueEnum};
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};
use serde::Serialize;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use uswap::codec::Stream;
use uswap::codec::zstd::Zstd;
use uswap::error::StartResult;
use uswap::stats::QueueStats;
use uswap::store::{Store, StoreCodec};
use uswap::units::{PAGE_SIZE, Page, SlotIndex};
use uswap_bench::corpus;
use uswap_bench::statistics::median;

/// Bytes between the bare side's output areas.
const STRIDE: usize = get_maximum_output_size(PAGE_SIZE).next_multiple_of(64);

#[derive(Parser)]
#[command(about = "Measures the store against the bare compressor on captured pages")]
struct Args {
    /// Files of raw 4 KiB pages
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(7..))]
    rounds: u32,
    /// Threads, each with all the pages and slots of its own, in one store
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// What both sides compress with
    #[arg(long, value_enum, default_value_t = Codec::Lz4)]
    codec: Codec,
    /// lz4_flex's table on the bare side; the store uses the large one
    #[arg(long, value_enum, default_value_t = Table::Large)]
    bare_table: Table,
    /// Where the bare side compresses to
    #[arg(long, value_enum, default_value_t = Output::Kept)]
    bare_output: Output,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Codec {
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, ValueEnum)]
enum Table {
    Small,
    Large,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Kept,
    Reused,
}

/// Medians of the rounds, in microseconds per page and as ratios of bare time to store time, and
/// where the bytes went, for one set of pages.
#[derive(Serialize)]
struct Row {
    set: String,
    pages: usize,
    threads: usize,
    bare_compress_us: f64,
    store_write_us: f64,
    store_ratio: f64,
    bare_decompress_us: f64,
    store_read_us: f64,
    load_ratio: f64,
    bytes_per_page: BytesPerPage,
}

#[derive(Serialize)]
struct BytesPerPage {
    data: f64,
    header: f64,
    rounding: f64,
    partial_slabs: f64,
    slot: f64,
    total: f64,
    /// Private bookkeeping for the slabs in use; comes on top of the total.
    bookkeeping: f64,
}

/// The compressor alone.
enum Bare {
    Lz4(CompressTable),
    Zstd(Box<Zstd>),
}

impl Bare {
    fn new(args: &Args) -> Self {
        match (args.codec, args.bare_table) {
            (Codec::Lz4, Table::Small) => Self::Lz4(CompressTable::small()),
            (Codec::Lz4, Table::Large) => Self::Lz4(CompressTable::large()),
            (Codec::Zstd, _) => Self::Zstd(Box::default()),
        }
    }

    #[inline]
    fn compress(&mut self, page: &Page, output: &mut [u8]) -> usize {
        match self {
            Self::Lz4(table) => compress_into_with_table(page, output, table).expect("room"),
            Self::Zstd(zstd) => zstd.compress(page, output).expect("room"),
        }
    }

    #[inline]
    fn decompress(&mut self, object: &[u8], page: &mut Page) {
        match self {
            Self::Lz4(_) => drop(decompress_into(object, page).expect("just compressed")),
            Self::Zstd(zstd) => zstd.decompress(object, page).expect("just compressed"),
        }
    }
}

/// What one thread works with.
struct Worker {
    compressor: Bare,
    output: Output,
    bare: Vec<u8>,
    /// Where in `bare` each page's object is.
    objects: Vec<Range<usize>>,
    /// With [`Output::Reused`], what every page is compressed to.
    scratch: Vec<u8>,
    stream: Stream,
    stats: QueueStats,
    out: Vec<Page>,
    first: u32,
}

impl Worker {
    fn new(index: usize, pages: &[Page], args: &Args) -> Self {
        let mut worker = Self {
            compressor: Bare::new(args),
            output: args.bare_output,
            bare: vec![1; pages.len() * STRIDE],
            objects: (0..pages.len()).map(|i| i * STRIDE..i * STRIDE).collect(),
            scratch: vec![1; STRIDE],
            stream: Stream::new(),
            stats: QueueStats::default(),
            out: vec![[0xa5; PAGE_SIZE]; pages.len()],
            first: (index * pages.len()) as u32,
        };
        if worker.output == Output::Reused {
            worker.pack(pages);
        }
        worker
    }

    /// Compresses the pages to `bare`, one object right after the other.
    fn pack(&mut self, pages: &[Page]) {
        let mut start = 0;
        for (page, object) in pages.iter().zip(&mut self.objects) {
            let len = self.compressor.compress(page, &mut self.bare[start..]);
            *object = start..start + len;
            start += len;
        }
    }

    fn bare_compress(&mut self, pages: &[Page]) {
        if self.output == Output::Reused {
            for page in pages {
                std::hint::black_box(self.compressor.compress(page, &mut self.scratch));
            }
            return;
        }
        let areas = self.bare.chunks_exact_mut(STRIDE);
        for ((page, area), object) in pages.iter().zip(areas).zip(&mut self.objects) {
            object.end = object.start + self.compressor.compress(page, area);
        }
    }

    fn bare_decompress(&mut self) {
        for (page, object) in self.out.iter_mut().zip(&self.objects) {
            self.compressor.decompress(&self.bare[object.clone()], page);
        }
    }

    fn store_write(&mut self, store: &Store, pages: &[Page]) {
        for (slot, page) in (self.first..).zip(pages) {
            store.write(SlotIndex(slot), page, &mut self.stream, &self.stats).expect("room");
        }
    }

    fn store_read(&mut self, store: &Store) {
        for (slot, page) in (self.first..).zip(&mut self.out) {
            store.read(SlotIndex(slot), page, &mut self.stream, &self.stats).expect("written");
        }
    }

    fn spoil(&mut self) {
        self.out.iter_mut().for_each(|p| p.fill(0xa5));
    }
}

/// Runs `work` for every worker at once and returns the time from the first start to the last end.
fn timed(workers: &mut [Worker], work: impl Fn(&mut Worker) + Sync) -> Duration {
    let barrier = Barrier::new(workers.len());
    let run = |worker: &mut Worker| {
        barrier.wait();
        let start = Instant::now();
        work(worker);
        (start, Instant::now())
    };
    let spans: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            workers.iter_mut().map(|worker| scope.spawn(|| run(worker))).collect();
        threads.into_iter().map(|t| t.join().expect("worker")).collect()
    });
    let start = spans.iter().map(|s| s.0).min().expect("a worker");
    let end = spans.iter().map(|s| s.1).max().expect("a worker");
    end - start
}

/// Seconds of each pass: bare compress, store write, bare decompress, store read.
fn round(store: &Store, workers: &mut [Worker], pages: &[Page], bare_first: bool) -> [f64; 4] {
    let mut seconds = [0.0; 4];
    let order = if bare_first { [0, 1, 2, 3] } else { [1, 0, 3, 2] };
    for pass in order {
        workers.iter_mut().for_each(Worker::spoil);
        let took = match pass {
            0 => timed(workers, |w| w.bare_compress(pages)),
            1 => timed(workers, |w| w.store_write(store, pages)),
            2 => timed(workers, Worker::bare_decompress),
            _ => timed(workers, |w| w.store_read(store)),
        };
        if pass >= 2 {
            let same = workers.iter().all(|w| w.out == pages);
            assert!(same, "pass {pass} read a page that was not written");
        }
        seconds[pass] = took.as_secs_f64();
    }
    seconds
}

fn measure(set: String, pages: &[Page], args: &Args) -> Row {
    let threads = usize::from(args.threads);
    let codec = match args.codec {
        Codec::Lz4 => StoreCodec::Lz4,
        Codec::Zstd => StoreCodec::Zstd,
    };
    let slots = pages.len() * threads;
    let store = uswap_bench::store(slots, slots, codec);
    let mut workers: Vec<_> = (0..threads).map(|i| Worker::new(i, pages, args)).collect();
    let rounds: Vec<_> =
        (0..args.rounds).map(|i| round(&store, &mut workers, pages, i % 2 == 0)).collect();
    let over = |value: &dyn Fn(&[f64; 4]) -> f64| median(rounds.iter().map(value)).expect("rounds");
    let us = |pass: usize| over(&|r| r[pass]) * 1e6 / pages.len() as f64;
    let ratio = |bare: usize, ours: usize| over(&|r| r[bare] / r[ours]);
    store.check().expect("a consistent store");
    Row {
        set,
        pages: pages.len(),
        threads,
        bare_compress_us: us(0),
        store_write_us: us(1),
        store_ratio: ratio(0, 1),
        bare_decompress_us: us(2),
        store_read_us: us(3),
        load_ratio: ratio(2, 3),
        bytes_per_page: bytes_per_page(&store),
    }
}

fn bytes_per_page(store: &Store) -> BytesPerPage {
    let report = store.check().expect("a consistent store");
    let usage = store.pool_usage();
    let slots = store.slots() as f64;
    let slab_bytes = (usage.slabs_used * uswap::limits::SLAB_BYTES as u64) as f64;
    let header =
        ((report.slots_lz4 + report.slots_zstd) * uswap::limits::OBJECT_HEADER_BYTES as u64) as f64;
    let (data, objects) = (report.stored_bytes as f64, usage.object_bytes as f64);
    let bookkeeping = usage.bookkeeping_bytes as f64 / usage.slabs as f64;
    BytesPerPage {
        data: data / slots,
        header: header / slots,
        rounding: (objects - data - header) / slots,
        partial_slabs: (slab_bytes - objects) / slots,
        slot: 8.0,
        total: slab_bytes / slots + 8.0,
        bookkeeping: bookkeeping * usage.slabs_used as f64 / slots,
    }
}

fn print(rows: &[Row]) {
    println!(
        "{:<16} {:>7} {:>2} | {:>7} {:>7} {:>6} | {:>7} {:>7} {:>6} | bytes per page",
        "set", "pages", "th", "compr", "write", "ratio", "decomp", "read", "ratio"
    );
    for r in rows {
        let b = &r.bytes_per_page;
        println!(
            "{:<16} {:>7} {:>2} | {:>7.3} {:>7.3} {:>6.3} | {:>7.3} {:>7.3} {:>6.3} | \
             {:.1} = data {:.1} + header {:.1} + rounding {:.1} + partial {:.1} + slot {:.0}; \
             bookkeeping {:.1}",
            r.set,
            r.pages,
            r.threads,
            r.bare_compress_us,
            r.store_write_us,
            r.store_ratio,
            r.bare_decompress_us,
            r.store_read_us,
            r.load_ratio,
            b.total,
            b.data,
            b.header,
            b.rounding,
            b.partial_slabs,
            b.slot,
            b.bookkeeping
        );
    }
    println!(
        "microseconds per page and thread, medians; \
         ratio: median of each round's bare time / store time"
    );
}

fn run(args: &Args) -> StartResult<()> {
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for path in &args.files {
        let pages = corpus::read(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        rows.push(measure(name, &pages, args));
        all.extend(pages);
    }
    rows.push(measure("overall".to_owned(), &all, args));
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows).expect("plain numbers"));
    } else {
        print(&rows);
    }
    Ok(())
}

fn main() -> ExitCode {
    uswap_bench::exit("engine", run(&Args::parse()))
}
