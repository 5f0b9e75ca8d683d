//! `hog`: holds more anonymous memory than the machine has RAM, touches all of it, and checks every
//! byte.
//!
//! Page `i` is page `i mod n` of real, captured memory with a stamp (generation and index) in its
//! last eight bytes, so
//! that it compresses like real memory and no two pages are equal: a page that comes back from swap
//! in another's
//! place, or in an older state, is found out.

use clap::Parser;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use uswap::error::{StartError, StartResult};
use uswap::units::PAGE_SIZE;

const MIB: usize = 1 << 20;
const STAMP: std::ops::Range<usize> = PAGE_SIZE - 8..PAGE_SIZE;
/// The index takes the low bits of a stamp, the generation the rest: 2^40 pages are 4 PiB.
const GENERATION_SHIFT: u32 = 40;
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

fn stamp(index: usize, generation: u32) -> [u8; 8] {
    (u64::from(generation) << GENERATION_SHIFT | index as u64).to_le_bytes()
}

/// The first page that is not what was written, or nothing.
fn wrong_page(page: &[u8], source: &[u8], index: usize, generation: u32) -> Option<String> {
    if page[STAMP] != stamp(index, generation) {
        return Some(format!(
            "page {index}: stamp {:02x?}, wanted generation {generation} of page {index}",
            &page[STAMP]
        ));
    }
    let differs =
        page[..STAMP.start].iter().zip(&source[..STAMP.start]).position(|(a, b)| a != b)?;
    Some(format!("page {index}: byte {differs} differs from what was written"))
}

fn check(page: &[u8], source: &[u8], index: usize, generation: u32) -> StartResult<()> {
    match wrong_page(page, source, index, generation) {
        None => Ok(()),
        Some(wrong) => Err(StartError::failure(wrong, "swap returned wrong contents")),
    }
}

fn load(arguments: &Arguments) -> StartResult<Vec<u8>> {
    let path = arguments.pages.display();
    let remedy = "give a file of captured pages (bench: `capture`)";
    let fail = |e: std::io::Error| StartError::failure(format!("cannot read {path} ({e})"), remedy);
    let mut source = Vec::new();
    File::open(&arguments.pages)
        .and_then(|f| f.take(u64::from(arguments.source_mib) << 20).read_to_end(&mut source))
        .map_err(fail)?;
    source.truncate(source.len() / PAGE_SIZE * PAGE_SIZE);
    if source.is_empty() {
        return Err(StartError::failure(format!("{path} holds no 4 KiB page"), remedy));
    }
    Ok(source)
}

fn run(arguments: &Arguments) -> StartResult<()> {
    let source = load(arguments)?;
    let source_pages = source.len() / PAGE_SIZE;
    let source_page = |index: usize| &source[index % source_pages * PAGE_SIZE..][..PAGE_SIZE];
    let pages = arguments.mib as usize * (MIB / PAGE_SIZE);
    let order = Order::new(pages, arguments.random);
    let report = |what: &str, begin: Instant, times: u32| {
        let seconds = begin.elapsed().as_secs_f64();
        let mib = f64::from(arguments.mib) * f64::from(times);
        println!("hog {what}: {seconds:.2} s, {:.1} MiB/s", mib / seconds);
    };
    println!("hog holds {} MiB of pages and {} MiB of source", arguments.mib, source.len() / MIB);
    let start = Instant::now();
    let mut memory = vec![0u8; pages * PAGE_SIZE];
    for (index, page) in memory.chunks_exact_mut(PAGE_SIZE).enumerate() {
        page.copy_from_slice(source_page(index));
        page[STAMP].copy_from_slice(&stamp(index, 0));
    }
    report("fill", start, 1);
    for pass in 1..=arguments.passes {
        let begin = Instant::now();
        for index in order.iter() {
            let page = &mut memory[index * PAGE_SIZE..][..PAGE_SIZE];
            if arguments.verify {
                check(page, source_page(index), index, pass - 1)?;
            }
            page[STAMP].copy_from_slice(&stamp(index, pass));
        }
        report(&format!("pass {pass}"), begin, 1);
    }
    report("total", start, arguments.passes + 1);
    if arguments.verify {
        // What the last pass wrote has not been looked at yet. Not part of the total, which is for
        // comparisons.
        let begin = Instant::now();
        for index in order.iter() {
            let page = &memory[index * PAGE_SIZE..][..PAGE_SIZE];
            check(page, source_page(index), index, arguments.passes)?;
        }
        report("final read", begin, 1);
    }
    let checked = if arguments.verify { "every page verified" } else { "not verified" };
    println!("hog done: {} passes over {pages} pages, {checked}", arguments.passes);
    Ok(())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("hog: {e}");
            ExitCode::from(e.exit_code())
        }
    }
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

    #[test]
    fn a_wrong_byte_a_wrong_page_and_an_old_page_are_found() {
        let source = vec![7u8; PAGE_SIZE];
        let mut page = source.clone();
        page[STAMP].copy_from_slice(&stamp(5, 2));
        assert_eq!(wrong_page(&page, &source, 5, 2), None);
        assert!(wrong_page(&page, &source, 6, 2).is_some());
        assert!(wrong_page(&page, &source, 5, 3).is_some());
        page[100] ^= 1;
        assert!(wrong_page(&page, &source, 5, 2).is_some_and(|w| w.contains("byte 100")));
    }
}
