//! What each codec makes of captured pages: microseconds to compress and to decompress a page, and
//! bytes per page, for lz4 and for every level of zstd in question. This is what chose
//! `codec::zstd::LEVEL`.
//!
//! Same-filled pages are left out, as the store does not compress them. A page that does not fit
//! `limits::HUGE_BYTES` counts as a whole page, takes its time to compress and none to decompress.
//! Codecs take turns in every round; the median of the rounds counts.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use uswap::codec::lz4::{self, Lz4};
use uswap::codec::same;
use uswap::codec::zstd::Zstd;
use uswap::error::StartResult;
use uswap::limits::HUGE_BYTES;
use uswap::units::{PAGE_SIZE, Page};
use uswap_bench::corpus;
use uswap_bench::statistics::median;

#[derive(Parser)]
#[command(about = "Measures lz4 and the levels of zstd on captured pages")]
struct Args {
    /// Files of raw 4 KiB pages
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Lowest level of zstd
    #[arg(long, default_value_t = -5, allow_negative_numbers = true)]
    from: i32,
    /// Highest level of zstd
    #[arg(long, default_value_t = 6, allow_negative_numbers = true)]
    to: i32,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
    /// Measure every Nth page only
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
}

enum Codec {
    Lz4(Box<Lz4>),
    Zstd(Zstd),
}

/// One codec with the time of its rounds.
struct Candidate {
    name: String,
    codec: Codec,
    compress_seconds: Vec<f64>,
    decompress_seconds: Vec<f64>,
    bytes: usize,
    huge: usize,
}

impl Candidate {
    fn new(name: String, codec: Codec) -> Self {
        let (compress_seconds, decompress_seconds) = (Vec::new(), Vec::new());
        Self { name, codec, compress_seconds, decompress_seconds, bytes: 0, huge: 0 }
    }

    /// Compresses a page to the front of `output` as the store would; `None` if it stays as it is.
    fn compress(&mut self, page: &Page, output: &mut [u8; lz4::OUTPUT_BYTES]) -> Option<usize> {
        match &mut self.codec {
            Codec::Lz4(lz4) => Some(lz4.compress(page, output)).filter(|&len| len <= HUGE_BYTES),
            Codec::Zstd(zstd) => zstd.compress(page, &mut output[..HUGE_BYTES]),
        }
    }

    /// All pages through the codec and back.
    fn round(&mut self, pages: &[Page]) {
        let mut output = [0; lz4::OUTPUT_BYTES];
        let mut packed = vec![1u8; pages.len() * PAGE_SIZE];
        let mut lens = vec![0; pages.len()];
        let start = Instant::now();
        for ((page, place), len) in
            pages.iter().zip(packed.chunks_exact_mut(PAGE_SIZE)).zip(&mut lens)
        {
            let found = self.compress(page, &mut output);
            let data = found.map_or(&page[..], |len| &output[..len]);
            place[..data.len()].copy_from_slice(data);
            *len = data.len();
        }
        self.compress_seconds.push(start.elapsed().as_secs_f64());
        self.bytes = lens.iter().sum();
        self.huge = lens.iter().filter(|&&len| len == PAGE_SIZE).count();

        let mut back = vec![[0xa5; PAGE_SIZE]; pages.len()];
        let start = Instant::now();
        for ((page, place), &len) in back.iter_mut().zip(packed.chunks_exact(PAGE_SIZE)).zip(&lens)
        {
            let object = &place[..len];
            match &mut self.codec {
                _ if len == PAGE_SIZE => page.copy_from_slice(object),
                Codec::Lz4(_) => lz4::decompress(object, page).expect("just compressed"),
                Codec::Zstd(zstd) => zstd.decompress(object, page).expect("just compressed"),
            }
        }
        self.decompress_seconds.push(start.elapsed().as_secs_f64());
        assert!(back == pages, "{}: a page did not come back", self.name);
    }
}

fn measure(set: &str, pages: &[Page], args: &Args) {
    let pages: Vec<Page> = pages
        .iter()
        .step_by(args.every as usize)
        .filter(|page| same::word(page).is_none())
        .copied()
        .collect();
    let mut candidates = vec![Candidate::new("lz4".into(), Codec::Lz4(Box::default()))];
    for level in (args.from..=args.to).filter(|level| *level != 0) {
        let codec = Codec::Zstd(Zstd::with_level(level));
        candidates.push(Candidate::new(format!("zstd {level}"), codec));
    }
    for _ in 0..args.rounds {
        candidates.iter_mut().for_each(|candidate| candidate.round(&pages));
    }
    let count = pages.len() as f64;
    let us = |seconds: &[f64]| median(seconds.iter().copied()).expect("rounds") * 1e6 / count;
    for candidate in &candidates {
        println!(
            "{set:<10} {:<8} {:>8.3} {:>8.3} {:>8.1} {:>7.3} {:>6.2} {:>7}",
            candidate.name,
            us(&candidate.compress_seconds),
            us(&candidate.decompress_seconds),
            candidate.bytes as f64 / count,
            (pages.len() * PAGE_SIZE) as f64 / candidate.bytes as f64,
            candidate.huge as f64 * 100.0 / count,
            match &candidate.codec {
                Codec::Lz4(_) => 0,
                Codec::Zstd(zstd) => zstd.bytes() >> 10,
            },
        );
    }
}

fn run(args: &Args) -> StartResult<()> {
    println!(
        "{:<10} {:<8} {:>8} {:>8} {:>8} {:>7} {:>6} {:>7}",
        "set", "codec", "compr", "decomp", "bytes", "ratio", "huge%", "KiB"
    );
    let mut all = Vec::new();
    for path in &args.files {
        let pages = corpus::read(path)?;
        measure(&path.file_stem().unwrap_or_default().to_string_lossy(), &pages, args);
        all.extend(pages);
    }
    if args.files.len() > 1 {
        measure("all", &all, args);
    }
    println!("microseconds per page, medians of {} rounds; KiB: of both contexts", args.rounds);
    Ok(())
}

fn main() -> ExitCode {
    uswap_bench::exit("codecs", run(&Args::parse()))
}
