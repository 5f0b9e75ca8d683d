//! What a page costs as the device grows: the same number of pages in slots spread over devices of
//! 1 to 256 GiB, each with a slot table of its full size and a pool of the same size.
//!
//! Slots are either one after the other or spread over the whole device by an odd stride, so that
//! nearly every page is on another page of the table. Captured pages show what a request costs;
//! same-filled ones take next to no time of their own and show what the table does. All devices
//! exist at once and take turns in every round, so that each finds the caches as the others left
//! them. Printed are the median time of a page and the median of each round's ratio to the first
//! device. Every page read is compared, outside the timing.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use uswap::codec::Stream;
use uswap::error::StartResult;
use uswap::stats::QueueStats;
use uswap::store::{Store, StoreCodec};
use uswap::units::{PAGE_SIZE, Page, SlotIndex};
use uswap_bench::corpus;
use uswap_bench::statistics::median;

/// Distance between the slots of two pages in a row when slots are spread. Odd, so that it reaches
/// every slot of a table whose size is a power of two; the golden section, so that it never comes
/// near to where it was.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Parser)]
#[command(about = "Measures what a page costs as the device grows")]
struct Args {
    /// File of raw 4 KiB pages
    #[arg(required = true)]
    file: PathBuf,
    /// Sizes of the devices in GiB, powers of two
    #[arg(long, value_delimiter = ',', default_values_t = [1u64, 4, 16, 64, 256])]
    sizes: Vec<u64>,
    /// Pages in each pass
    #[arg(long, default_value_t = 32768)]
    pages: usize,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
}

/// What is timed. Of each, for both kinds of pages and both orders of slots.
const STEPS: [&str; 4] = ["write", "overwrite", "read", "discard"];

struct Device {
    gib: u64,
    store: Store,
    stream: Stream,
    stats: QueueStats,
    /// Seconds of every pass, a row for each round.
    rounds: Vec<Vec<f64>>,
}

impl Device {
    fn new(gib: u64, pages: usize) -> Self {
        let slots = (gib << 30) as usize / PAGE_SIZE;
        assert!(slots.is_power_of_two() && pages <= slots, "{gib} GiB: a power of two, and room");
        Self {
            gib,
            store: uswap_bench::store(slots, pages, StoreCodec::Lz4),
            stream: Stream::new(),
            stats: QueueStats::default(),
            rounds: Vec::new(),
        }
    }

    fn slot(&self, i: usize, spread: bool) -> SlotIndex {
        let stride = if spread { STRIDE } else { 1 };
        SlotIndex(((i as u64).wrapping_mul(stride) & (self.store.slots() as u64 - 1)) as u32)
    }

    fn write(&mut self, pages: &[Page], spread: bool, turn: usize) -> f64 {
        let start = Instant::now();
        for i in 0..pages.len() {
            let slot = self.slot(i, spread);
            let page = &pages[(i + turn) % pages.len()];
            self.store.write(slot, page, &mut self.stream, &self.stats).expect("room");
        }
        start.elapsed().as_secs_f64()
    }

    fn read(&mut self, back: &mut [Page], spread: bool) -> f64 {
        let start = Instant::now();
        for (i, page) in back.iter_mut().enumerate() {
            let slot = self.slot(i, spread);
            self.store.read(slot, page, &mut self.stream, &self.stats).expect("written");
        }
        start.elapsed().as_secs_f64()
    }

    fn discard(&mut self, pages: usize, spread: bool) -> f64 {
        let start = Instant::now();
        for i in 0..pages {
            self.store.discard(self.slot(i, spread), 1, &self.stats).expect("in range");
        }
        start.elapsed().as_secs_f64()
    }

    /// Every step once with each set of pages, in both orders of slots.
    fn round(&mut self, sets: [&[Page]; 2], back: &mut [Page]) {
        let mut seconds = Vec::new();
        for pages in sets {
            for spread in [false, true] {
                back.iter_mut().for_each(|page| page.fill(0xa5));
                seconds.push(self.write(pages, spread, 1));
                seconds.push(self.write(pages, spread, 0));
                seconds.push(self.read(back, spread));
                assert!(back == pages, "{} GiB: a page did not come back", self.gib);
                seconds.push(self.discard(pages.len(), spread));
            }
        }
        self.rounds.push(seconds);
    }
}

fn print(devices: &[Device], pages: usize) {
    let Some(first) = devices.first() else { return };
    for (set, kind) in ["captured", "same-filled"].into_iter().enumerate() {
        for (order, slots) in ["in a row", "spread"].into_iter().enumerate() {
            println!(
                "{kind} pages, slots {slots}: microseconds a page (ratio to {} GiB)",
                first.gib
            );
            let heads = STEPS.map(|step| format!("{step:>18}"));
            println!("{:>8}{}", "GiB", heads.concat());
            for device in devices {
                let columns = (0..STEPS.len()).map(|step| {
                    let pass = (set * 2 + order) * STEPS.len() + step;
                    let own = device.rounds.iter().map(|r| r[pass]);
                    let us = median(own).expect("rounds") * 1e6 / pages as f64;
                    let pairs = device.rounds.iter().zip(&first.rounds);
                    let ratio = median(pairs.map(|(r, f)| r[pass] / f[pass])).expect("rounds");
                    format!("{us:>10.3} ({ratio:.3})")
                });
                println!("{:>8}{}", device.gib, columns.collect::<String>());
            }
        }
    }
}

fn run(args: &Args) -> StartResult<()> {
    let captured = corpus::read(&args.file)?;
    let captured: Vec<Page> = captured.into_iter().cycle().take(args.pages).collect();
    let same: Vec<Page> = (0..args.pages).map(|i| [i as u8; PAGE_SIZE]).collect();
    let mut back = vec![[0; PAGE_SIZE]; args.pages];
    let mut devices: Vec<Device> =
        args.sizes.iter().map(|&gib| Device::new(gib, args.pages)).collect();
    for _ in 0..args.rounds {
        for device in &mut devices {
            device.round([&captured, &same], &mut back);
        }
    }
    print(&devices, args.pages);
    Ok(())
}

fn main() -> ExitCode {
    uswap_bench::exit("growth", run(&Args::parse()))
}
