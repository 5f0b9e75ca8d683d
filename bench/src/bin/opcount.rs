//! `opcount`: instructions that the whole machine (this program, the kernel, the server) executes
//! for an operation on a block device, in a guest whose time stamp counter counts instructions
//! (`tests/vm/boot -a icount`). On any other machine its numbers are clock ticks.
//!
//! Operations come in bursts with a pause before each, so that a server that leaves work for later
//! does it in the pause: what a burst costs is what a writer waits for. A count is the median of
//! bursts: what a timer tick adds to one burst in eight is left out, and two runs differ by less
//! than one in a thousand. The sustained case has parts in place of bursts, and their lower
//! quartile.

use clap::Parser;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;
use uswap::error::{StartError, StartResult};
use uswap::units::PAGE_SIZE;
use uswap_bench::made::heap_page;
use uswap_bench::statistics::{median, quantile};
use uswap_bench::sys::{Batches, DirectPage, ticks};

/// O_DIRECT of x86-64.
const DIRECT: i32 = 0x4000;
/// Pages that reclaim writes with one request: the plug is flushed at 15 pages on 4 KiB bios.
const REQUEST_PAGES: usize = 15;
/// Requests in flight at a time in a batch.
const BATCH: usize = 32;
/// Different pages that are written, by turns.
const CONTENTS: usize = 256;
/// Bursts of each case that only warm up: first use of code and data.
const WARM_UP: usize = 3;
/// Bursts of writes before the first case: the kernel takes about twenty until an operation costs
/// the same for good (2 % more than before).
const SETTLING: usize = 48;
/// Pages in a part of the sustained case: fifty times what the helper does in a time slice of 4 ms.
const PART: u64 = 2048;

fn parts(pages: &str) -> Result<u32, String> {
    let pages = pages.parse().map_err(|e| format!("{e}"))?;
    let least = 2 * PART as u32;
    if (least..=65_536).contains(&pages) {
        return Ok(pages);
    }
    Err(format!("{pages} is not in {least}..=65536"))
}

/// Counts instructions per operation on a block device. Overwrites what is on it.
#[derive(Debug, Parser)]
#[command(name = "opcount")]
struct Arguments {
    /// Block device, at least 512 MiB
    device: PathBuf,
    /// Word for the device in front of each line
    #[arg(long, default_value = "device")]
    label: String,
    /// Pages in a burst of single pages; a burst of larger requests has a quarter as many of them
    #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u16).range(1..=4096))]
    burst: u16,
    /// Bursts to count
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u16).range(1..=256))]
    bursts: u16,
    /// Pause before a burst
    #[arg(long, default_value_t = 100)]
    pause_ms: u64,
    /// Pages of the sustained case, of which the second half counts
    #[arg(long, default_value_t = 49_152, value_parser = parts)]
    sustained: u32,
}

/// A device under test and what is written to it.
struct Bench<'a> {
    arguments: &'a Arguments,
    file: File,
    pages: Box<[DirectPage]>,
    /// Where in the device the next case begins, in pages.
    next: u64,
}

impl Bench<'_> {
    fn offset(page: u64) -> u64 {
        page * PAGE_SIZE as u64
    }

    /// `count` of the pages to write, beginning with any.
    fn contents(&self, from: u64, count: usize) -> &[DirectPage] {
        let at = from as usize % (CONTENTS - count + 1);
        &self.pages[at..at + count]
    }

    fn write(&self, page: u64, count: usize) -> io::Result<()> {
        // One page at a time would copy them together; a request's pages lie in a row in memory.
        let bytes = uswap_bench::sys::bytes(self.contents(page, count));
        self.file.write_all_at(bytes, Self::offset(page))
    }

    /// Runs `burst` after a pause, again and again. It is told its number and returns the pages it
    /// moved. The ticks per page of each that counts.
    fn bursts(&self, burst: impl FnMut(u64) -> io::Result<u64>) -> io::Result<Vec<f64>> {
        self.bursts_after(WARM_UP, burst)
    }

    /// The same with so many bursts before those that count.
    fn bursts_after(
        &self,
        warm_up: usize,
        mut burst: impl FnMut(u64) -> io::Result<u64>,
    ) -> io::Result<Vec<f64>> {
        let mut counts = Vec::new();
        for number in 0..warm_up + usize::from(self.arguments.bursts) {
            sleep(Duration::from_millis(self.arguments.pause_ms));
            let begin = ticks();
            let pages = burst(number as u64)?;
            let end = ticks();
            if number >= warm_up {
                counts.push((end - begin) as f64 / pages as f64);
            }
        }
        Ok(counts)
    }

    /// Takes a region of the device for a case that moves `pages` pages in a burst.
    fn region(&mut self, pages: u64) -> u64 {
        let first = self.next;
        self.next += pages * (WARM_UP as u64 + u64::from(self.arguments.bursts));
        first
    }

    fn report(&self, case: &str, counts: &[f64]) {
        let median = median(counts.iter().copied()).expect("at least one burst");
        self.report_value(case, median, counts);
    }

    /// One number for a case, with the least and the most of what it was chosen from.
    fn report_value(&self, case: &str, value: f64, counts: &[f64]) {
        let least = counts.iter().copied().fold(f64::INFINITY, f64::min);
        let most = counts.iter().copied().fold(0.0, f64::max);
        let label = &self.arguments.label;
        println!("RESULT count {label} {case} {value:.1} least {least:.1} most {most:.1}");
    }

    fn run(&mut self) -> io::Result<()> {
        let burst = u64::from(self.arguments.burst);
        let first = self.region(burst);
        self.bursts_after(SETTLING, |n| {
            (0..burst).try_for_each(|i| self.write(first + n % 8 * burst + i, 1))?;
            Ok(burst)
        })?;
        for case in ["write", "overwrite"] {
            let counts = self.bursts(|n| {
                (0..burst).try_for_each(|i| self.write(first + n * burst + i, 1))?;
                Ok(burst)
            })?;
            self.report(case, &counts);
        }
        let mut page = Box::new([DirectPage([0; PAGE_SIZE])]);
        let counts = self.bursts(|n| {
            for i in 0..burst {
                self.file.read_exact_at(&mut page[0].0, Self::offset(first + n * burst + i))?;
            }
            Ok(burst)
        })?;
        self.report("read", &counts);
        self.run_batches()?;
        let (request, burst) = (REQUEST_PAGES as u64, burst / 4);
        let first = self.region(burst * request);
        let counts = self.bursts(|n| {
            let first = first + n * burst * request;
            (0..burst).try_for_each(|i| self.write(first + i * request, REQUEST_PAGES))?;
            Ok(burst * request)
        })?;
        self.report("write-15", &counts);
        self.run_sustained()
    }

    /// A batch of single pages with a hole after each, which keeps the kernel from merging them.
    fn run_batches(&mut self) -> io::Result<()> {
        let mut batches = Batches::new(&self.file, BATCH as u32)?;
        let first = self.region(2 * BATCH as u64);
        let counts = self.bursts(|n| {
            let at = |i| Self::offset(first + 2 * (n * BATCH as u64 + i as u64));
            batches.write(self.contents(n, BATCH), at)?;
            Ok(BATCH as u64)
        })?;
        self.report("write-batch", &counts);
        Ok(())
    }

    /// Single pages without a pause. In the second half what could be left for later is, so that
    /// each page costs what it costs for good. Counted in parts: the pool grows in three of eight,
    /// which is dear, and where their median lies depends on what of that falls in the half. The
    /// lower quartile lies among the others.
    fn run_sustained(&mut self) -> io::Result<()> {
        let parts = u64::from(self.arguments.sustained) / PART;
        let mut counts = Vec::new();
        for part in 0..parts {
            let begin = ticks();
            for i in 0..PART {
                self.write(self.next + part * PART + i, 1)?;
            }
            if part >= parts / 2 {
                counts.push((ticks() - begin) as f64 / PART as f64);
            }
        }
        counts.sort_by(f64::total_cmp);
        self.report_value("write-sustained", quantile(&counts, 0.25), &counts);
        self.next += parts * PART;
        Ok(())
    }
}

fn run(arguments: &Arguments) -> StartResult<()> {
    let path = arguments.device.display();
    let fail = |e: io::Error| {
        let remedy = "give a block device of 512 MiB or more that nobody uses, as root";
        StartError::failure(format!("{path}: {e}"), remedy)
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(DIRECT);
    let file = options.open(&arguments.device).map_err(fail)?;
    let pages = (0..CONTENTS as u64).map(|seed| DirectPage(heap_page(seed))).collect();
    Bench { arguments, file, pages, next: 0 }.run().map_err(fail)
}

fn main() -> ExitCode {
    uswap_bench::exit("opcount", run(&Arguments::parse()))
}
