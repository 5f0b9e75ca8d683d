//! The dense tier on captured pages: all of them stored with lz4, then recompressed with a
//! dictionary trained on a sample of them. What RAM they take with everything counted, beside what
//! zram would take (zsmalloc is simulated), and what it costs to write and to read them.
//!
//! Rows: a dictionary of each size for each effort of the compressor. With `--unseen` it is trained
//! on the first half of each file and only the second halves are stored. Two stores, one of lz4
//! objects and one of dense ones, are read by turns; the median of the rounds' ratios counts.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use uswap::codec::lz4::{self, Lz4};
use uswap::codec::zstd::Zstd;
use uswap::codec::{DenseStream, Dictionary, Effort, Strategy, Stream, same};
use uswap::error::StartResult;
use uswap::limits::SLAB_BYTES;
use uswap::stats::QueueStats;
use uswap::store::{Recompressed, Recompressor, Store, StoreCodec};
use uswap::units::{PAGE_SIZE, Page, SlotIndex};
use uswap_bench::{statistics, zsmalloc};

/// Bytes of a frame's header that zram's zstd writes and we do not: magic and content size.
const ZRAM_HEADER_BYTES: usize = 5;

#[derive(Parser)]
#[command(about = "Measures the dense tier on captured pages")]
struct Args {
    /// Files of raw 4 KiB pages
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Sizes of dictionaries in KiB, 0 for none
    #[arg(long, value_delimiter = ',', default_values_t = [64usize])]
    kib: Vec<usize>,
    /// Efforts: greedy, lazy, opt; store is what the store uses
    #[arg(long, value_delimiter = ',', default_values_t = ["store".to_owned()])]
    efforts: Vec<String>,
    /// Pages that a dictionary is trained on
    #[arg(long, default_value_t = uswap::limits::DICTIONARY_SAMPLES)]
    samples: usize,
    /// Store only pages that the dictionary was not trained on
    #[arg(long)]
    unseen: bool,
    /// Each file with a dictionary of its own, and not all together
    #[arg(long)]
    each: bool,
    /// Times that all pages are stored, to see a larger device
    #[arg(long, default_value_t = 1)]
    copies: usize,
    /// Rounds of reading; the median counts
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

fn effort(name: &str) -> Effort {
    let (strategy, table_bits, search_bits, enough_bytes) = match name {
        "greedy" => (Strategy::ZSTD_greedy, 15, 3, 2),
        "lazy" => (Strategy::ZSTD_lazy2, 16, 5, 16),
        "opt" => (Strategy::ZSTD_btopt, 16, 4, 32),
        _ => return Effort::STORE,
    };
    Effort { strategy, table_bits, search_bits, match_bytes: 4, enough_bytes }
}

/// A store that holds all pages as lz4 objects.
struct Filled {
    store: Store,
    stream: Stream,
    stats: QueueStats,
}

impl Filled {
    fn new(pages: &[Page]) -> Self {
        let store = uswap_bench::store(pages.len(), pages.len(), StoreCodec::Lz4);
        let mut filled = Self { store, stream: Stream::new(), stats: QueueStats::default() };
        for (slot, page) in pages.iter().enumerate() {
            let slot = SlotIndex(slot as u32);
            filled.store.write(slot, page, &mut filled.stream, &filled.stats).expect("room");
        }
        filled
    }

    /// Microseconds a page; every page is compared, outside the timing.
    fn read(&mut self, pages: &[Page], back: &mut [Page]) -> f64 {
        back.iter_mut().for_each(|page| page.fill(0xa5));
        let start = Instant::now();
        for (slot, page) in back.iter_mut().enumerate() {
            let slot = SlotIndex(slot as u32);
            self.store.read(slot, page, &mut self.stream, &self.stats).expect("readable");
        }
        let took = start.elapsed().as_secs_f64() * 1e6 / pages.len() as f64;
        assert!(back == pages, "a page came back wrong");
        took
    }

    fn slab_bytes(&self) -> usize {
        self.store.pool_usage().slabs_used as usize * SLAB_BYTES
    }
}

/// What zram would take for these pages with lz4 and with zstd.
fn zram(pages: &[Page]) -> (usize, usize) {
    let (mut lz4, mut zstd) = (Lz4::new(), Zstd::new());
    let (mut output, mut lens) = ([0; lz4::OUTPUT_BYTES], (Vec::new(), Vec::new()));
    for page in pages.iter().filter(|page| same::word(page).is_none()) {
        lens.0.push(lz4.compress(page, &mut output));
        let zstd = zstd.compress(page, &mut output).expect("room");
        lens.1.push(zstd + ZRAM_HEADER_BYTES);
    }
    (zsmalloc::bytes(lens.0), zsmalloc::bytes(lens.1))
}

fn samples(pages: &[Page], count: usize) -> Vec<Page> {
    let pages: Vec<&Page> = pages.iter().filter(|page| same::word(page).is_none()).collect();
    let count = count.min(pages.len());
    (0..count).map(|i| *pages[i * pages.len() / count]).collect()
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    statistics::median(values).expect("at least one round")
}

fn measure(set: &str, train: &[Page], pages: &[Page], args: &Args) {
    let (zram_lz4, zram_zstd) = zram(pages);
    let count = pages.len() as f64;
    println!(
        "{set}: {} pages, zsmalloc {:.1} lz4, {:.1} zstd; ours lz4 {:.1}",
        pages.len(),
        zram_lz4 as f64 / count,
        zram_zstd as f64 / count,
        Filled::new(pages).slab_bytes() as f64 / count + 8.0,
    );
    let mut lz4 = Filled::new(pages);
    let mut back = vec![[0; PAGE_SIZE]; pages.len()];
    for kib in &args.kib {
        for name in &args.efforts {
            let mut dense = Filled::new(pages);
            let begin = Instant::now();
            let mut learned = 0.0;
            if *kib > 0 {
                let samples = samples(train, args.samples);
                let dictionary = Dictionary::train_to(&samples, kib << 10).expect("it learns");
                learned = begin.elapsed().as_secs_f64() * 1e3;
                dense.store.install(dictionary, &dense.stats).expect("the first");
            }
            let stream = DenseStream::with_effort(effort(name));
            let mut recompressor = Recompressor::with(&dense.store, stream).expect("memory");
            let (begin, mut denser) = (Instant::now(), 0);
            for slot in 0..pages.len() {
                let slot = SlotIndex(slot as u32);
                let done = dense.store.recompress(slot, &mut recompressor, &dense.stats);
                denser += usize::from(matches!(done, Recompressed::Denser { .. }));
            }
            let compress = begin.elapsed().as_secs_f64() * 1e6 / count;
            let context = recompressor.memory_bytes() >> 10;
            drop(recompressor);
            while dense.store.compact_step(&dense.stats).is_some() {}
            let rounds: Vec<(f64, f64)> = (0..args.rounds)
                .map(|_| (lz4.read(pages, &mut back), dense.read(pages, &mut back)))
                .collect();
            let (alive, dictionary_bytes) = dense.store.dictionaries_alive();
            let total = dense.slab_bytes() + pages.len() * 8 + dictionary_bytes as usize;
            let data = dense.stats.stored_bytes.get() as f64 / count;
            dense.store.check().expect("consistent");
            println!(
                "{kib:>4} KiB {name:<7} data {data:>7.1} total {:>7.1} ({alive} dictionaries {:>4} \
                 KiB) of lz4 {:.3} of zstd {:.3} denser {denser} compress {compress:>6.1} us \
                 context {context} KiB read {:.3} us lz4 {:.3} us ratio {:.3} learned {learned:.0} \
                 ms",
                total as f64 / count,
                dictionary_bytes >> 10,
                total as f64 / zram_lz4 as f64,
                total as f64 / zram_zstd as f64,
                median(rounds.iter().map(|r| r.1)),
                median(rounds.iter().map(|r| r.0)),
                median(rounds.iter().map(|r| r.1 / r.0)),
            );
        }
    }
}

fn main() -> ExitCode {
    uswap_bench::exit("dense", run(&Args::parse()))
}

fn run(args: &Args) -> StartResult<()> {
    let (mut all, mut all_train) = (Vec::new(), Vec::new());
    for path in &args.files {
        let pages = uswap_bench::corpus::read(path)?;
        let (first, second) = pages.split_at(pages.len() / 2);
        let (train, test) = if args.unseen { (first, second) } else { (&pages[..], &pages[..]) };
        if args.each {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            measure(&name, train, &test.repeat(args.copies), args);
        }
        all.extend_from_slice(test);
        all_train.extend_from_slice(train);
    }
    if !args.each {
        measure("all", &all_train, &all.repeat(args.copies), args);
    }
    Ok(())
}
