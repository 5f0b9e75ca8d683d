//! `swapbench`: one round of measurements on the one swap area that is active, inside a guest.
//!
//! Fills memory of its own cgroup with real pages, pushes it out, pulls it in page by page, lets it
//! compete for half of the memory it needs, and compares every page. Prints a line `SWAPBENCH`
//! followed by JSON. Runs as root; see tests/vm/scenarios/swapbench.sh and
//! `cargo xtask bench swap`.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use uswap::error::{StartError, StartResult};
use uswap::units::PAGE_SIZE;
use uswap_bench::stamped::Source;
use uswap_bench::swap::cgroup::Cgroup;
use uswap_bench::swap::counters;
use uswap_bench::swap::phases::{WorkingSet, clock_us, push_out};
use uswap_bench::swap::report::PREFIX;
use uswap_bench::swap::result::Round;

/// Share of touched pages that must really have come from swap.
const MAJOR_SHARE: f64 = 0.98;

/// Share of the working set that fits into memory under pressure.
const LIMIT_SHARE: f64 = 0.5;

/// Measures swapping to the active swap area.
#[derive(Debug, Parser)]
#[command(name = "swapbench")]
struct Arguments {
    /// Name of what is measured, for the result
    #[arg(long)]
    target: String,
    /// Number of this round, for the result; it is also the seed of all random choices
    #[arg(long, default_value_t = 1)]
    round: u32,
    /// File or device with 4 KiB pages of real memory (see `capture`)
    #[arg(long)]
    pages: PathBuf,
    /// How much of the pages to use, in MiB; it is held in RAM too
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    source_mib: u32,
    /// Working set, in MiB. Half of it must be more than a device can have in flight, or the kernel
    /// finds nothing to free at the limit and kills us
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..=65536))]
    mib: u32,
    /// Single faults to time
    #[arg(long, default_value_t = 8192)]
    faults: usize,
    /// How long the pressure phase lasts
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pressure_seconds: u32,
    /// Compare no page with what was written: for a target that loses data. What is left is what
    /// the way to the device costs
    #[arg(long)]
    lossy: bool,
    /// Control socket of the uswap service behind the swap area, to see when it has nothing staged
    #[arg(long)]
    socket: Option<PathBuf>,
}

/// Exactly one swap area, or the numbers would say nothing about it.
fn one_swap_area() -> StartResult<()> {
    let path = "/proc/swaps";
    let text = std::fs::read_to_string(path).map_err(|e| counters::unreadable(path, &e))?;
    let areas = text.lines().count().saturating_sub(1);
    if areas == 1 {
        return Ok(());
    }
    let what = format!("{areas} swap areas are active, exactly 1 is measured");
    Err(StartError::failure(what, "use swapon and swapoff so that one is left"))
}

fn really_out(touched: usize, major: u64) -> StartResult<()> {
    if major as f64 >= MAJOR_SHARE * touched as f64 {
        return Ok(());
    }
    Err(StartError::failure(
        format!("only {major} of {touched} touched pages came from swap"),
        "the latencies would be of something else; give vm.page-cluster=0 and more RAM",
    ))
}

fn measure(arguments: &Arguments) -> StartResult<Round> {
    one_swap_area()?;
    let source = Source::load(&arguments.pages, arguments.source_mib)?;
    let seed = arguments.round.into();
    let mut set = WorkingSet::new(source, arguments.mib, seed, arguments.lossy)?;
    let cgroup = Cgroup::new("swapbench")?;
    let page_cluster = counters::page_cluster()?;
    cgroup.enter()?;
    let fill_seconds = set.fill();
    cgroup.leave()?;
    let socket = arguments.socket.as_deref();
    let out = push_out(&cgroup, set.pages(), 0.0, socket)?;
    cgroup.enter()?;
    let random_in = set.random_in(arguments.faults)?;
    if page_cluster == 0 {
        really_out(random_in.faults, random_in.major_faults)?;
    }
    let sequential_in = set.sequential_in()?;
    set.rewrite();
    cgroup.leave()?;
    // To a little below the limit, which would otherwise be reached by force.
    let half_out = push_out(&cgroup, set.pages(), LIMIT_SHARE - 0.02, socket)?;
    // zswap keeps its pages in the memory of the cgroup, all others outside of it. So that all get
    // the same, the limit leaves room for them.
    let limit = (LIMIT_SHARE * (set.pages() * PAGE_SIZE) as f64) as u64 + cgroup.stat("zswap")?;
    cgroup.limit(Some(limit))?;
    cgroup.enter()?;
    let pressure = set.pressure(arguments.pressure_seconds, limit)?;
    cgroup.leave()?;
    cgroup.limit(None)?;
    Ok(Round {
        target: arguments.target.clone(),
        round: arguments.round,
        kernel: counters::kernel()?,
        page_cluster,
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        mib: arguments.mib,
        source_pages: set.source_pages(),
        clock_us: clock_us(),
        fill_seconds,
        out,
        random_in,
        sequential_in,
        half_out,
        pressure,
        verified_pages: set.verify()?,
    })
}

fn main() -> ExitCode {
    let result = measure(&Arguments::parse()).and_then(|round| {
        serde_json::to_string(&round)
            .map_err(|e| StartError::failure(format!("no JSON ({e})"), "report this"))
    });
    uswap_bench::exit("swapbench", result.map(|line| println!("{PREFIX}{line}")))
}
