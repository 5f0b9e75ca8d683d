//! `hog`: holds more anonymous memory than the machine has RAM, touches all of it, and checks every
//! byte.
//!
//! See [`uswap_bench::stamped`] for what a page holds.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use uswap::error::StartResult;
use uswap::units::PAGE_SIZE;
use uswap_bench::stamped::{Source, restamp};

const MIB: usize = 1 << 20;
/// Step between pages visited with --random. Prime, hence coprime to every page count below it.
const STRIDE: usize = 2_147_483_647;

/// Touches memory until it swaps, and verifies it.
#[derive(Debug, Parser)]
#[command(name = "hog")]
struct Arguments {
    /// Anonymous memory to hold, in MiB
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    mib: u32,
    /// How often to go over all of it after filling it
    #[arg(long, default_value_t = 3)]
    passes: u32,
    /// File or device with 4 KiB pages of real memory (see `capture`)
    #[arg(long)]
    pages: PathBuf,
    /// How much of the pages to use, in MiB; it is held in RAM too
    #[arg(long, default_value_t = 16)]
    source_mib: u32,
    /// Compare every page with what was written, and read all of it once more at the end
    #[arg(long)]
    verify: bool,
    /// Visit the pages in a scattered order
    #[arg(long)]
    random: bool,
    /// Go on with more passes until this file is there
    #[arg(long, value_name = "FILE")]
    until: Option<PathBuf>,
}

/// Order in which a pass visits pages.
#[derive(Clone, Copy, Debug)]
struct Order {
    pages: usize,
    step: usize,
}

impl Order {
    fn new(pages: usize, random: bool) -> Self {
        // A multiple of the prime would stay at one page.
        let step = if random && !pages.is_multiple_of(STRIDE) { STRIDE % pages } else { 1 };
        Self { pages, step: if gcd(step, pages) == 1 { step } else { 1 } }
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        let mut at = 0;
        (0..self.pages).map(move |_| {
            let page = at;
            at = (at + self.step) % self.pages;
            page
        })
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn run(arguments: &Arguments) -> StartResult<()> {
    let source = Source::load(&arguments.pages, arguments.source_mib)?;
    let pages = arguments.mib as usize * (MIB / PAGE_SIZE);
    let order = Order::new(pages, arguments.random);
    let report = |what: &str, begin: Instant, times: u32| {
        let seconds = begin.elapsed().as_secs_f64();
        let mib = f64::from(arguments.mib) * f64::from(times);
        println!("hog {what}: {seconds:.2} s, {:.1} MiB/s", mib / seconds);
    };
    println!("hog holds {} MiB of pages and {} source pages", arguments.mib, source.pages());
    let start = Instant::now();
    let mut memory = vec![0u8; pages * PAGE_SIZE];
    for (index, page) in memory.chunks_exact_mut(PAGE_SIZE).enumerate() {
        source.fill(page, index, 0);
    }
    report("fill", start, 1);
    let mut passes = 0;
    let goes_on = |passes| {
        passes < arguments.passes || arguments.until.as_ref().is_some_and(|file| !file.exists())
    };
    while goes_on(passes) {
        passes += 1;
        let pass = passes;
        let begin = Instant::now();
        for index in order.iter() {
            let page = &mut memory[index * PAGE_SIZE..][..PAGE_SIZE];
            if arguments.verify {
                source.check(page, index, pass - 1)?;
            }
            restamp(page, index, pass);
        }
        report(&format!("pass {pass}"), begin, 1);
    }
    report("total", start, passes + 1);
    if arguments.verify {
        // What the last pass wrote has not been looked at yet. Not part of the total, which is for
        // comparisons.
        let begin = Instant::now();
        for index in order.iter() {
            let page = &memory[index * PAGE_SIZE..][..PAGE_SIZE];
            source.check(page, index, passes)?;
        }
        report("final read", begin, 1);
    }
    let checked = if arguments.verify { "every page verified" } else { "not verified" };
    println!("hog done: {passes} passes over {pages} pages, {checked}");
    Ok(())
}

fn main() -> ExitCode {
    uswap_bench::exit("hog", run(&Arguments::parse()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_visits_every_page_once() {
        for pages in [1, 2, 256, 179_200, 179_201] {
            for random in [false, true] {
                let mut seen = vec![false; pages];
                for page in Order::new(pages, random).iter() {
                    assert!(!std::mem::replace(&mut seen[page], true));
                }
                assert!(seen.iter().all(|s| *s));
            }
        }
    }
}
