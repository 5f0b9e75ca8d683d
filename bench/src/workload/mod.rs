//! Programs whose memory is swapped while they work, each with a habit of its own.
//!
//! A [`Pattern`] says step by step what is touched; [`run`] does it to a [`Heap`] of real pages
//! that verify themselves, times every access, and sums up. The same flags give the same steps: how
//! many of them are done in a given time is the only thing that the machine decides.

pub mod collector;
pub mod forks;
pub mod heap;
pub mod machine;
pub mod phases;
pub mod scan;
pub mod zipf;

use crate::stamped::Source;
use crate::swap::cgroup::Cgroup;
use crate::swap::counters::{major_faults, pages_out};
use crate::swap::random::Random;
use hdrhistogram::Histogram;
use heap::Heap;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use uswap::error::{StartError, StartResult};
use uswap::units::PAGE_SIZE;

/// Pages that are mapped and unmapped together: 1 MiB.
pub const REGION_PAGES: usize = (1 << 20) / PAGE_SIZE;
/// Longest access that is told from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;
/// Steps between two looks at the clock that ends the run.
const STEPS_PER_LOOK: u64 = 64;

/// What every workload is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Anonymous memory to hold, in MiB
    #[arg(long, value_parser = clap::value_parser!(u32).range(4..=1 << 20))]
    pub mib: u32,
    /// How long to work once the memory is filled
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub seconds: u32,
    /// End after this many page accesses, if that is sooner: the same work every time
    #[arg(long)]
    pub operations: Option<u64>,
    /// Seed of every random choice
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many of 100 accesses write
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub write_percent: u8,
    /// File or device with 4 KiB pages of real memory (see `capture`)
    #[arg(long)]
    pub pages: PathBuf,
    /// How much of the pages to use, in MiB; it stays in RAM
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub source_mib: u32,
    /// Let it have this much RAM, in MiB, as a cgroup of its own (root) [default: all there is]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub limit_mib: Option<u32>,
    /// Do not work: write the trace that a machine with --limit-mib of RAM would give, to FILE
    #[arg(long, value_name = "FILE", requires = "limit_mib", requires = "operations")]
    pub trace: Option<PathBuf>,
    /// Accesses in a second, once the memory is filled [default: as many as can be; for --trace
    /// 1000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub per_second: Option<u32>,
    /// Only look at the flags
    #[arg(long)]
    pub check: bool,
}

/// One thing that a program does to its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Looks at a page.
    Read(usize),
    /// Changes a page.
    Write(usize),
    /// Maps a region that is not there and fills it.
    Fill(usize),
    /// Gives a region back.
    Free(usize),
    /// A child process that changes and checks its copy of so many pages, then ends.
    Child {
        /// The first of them.
        first: usize,
        /// How many, counted on from the first and round the end.
        pages: usize,
    },
}

/// A habit: what comes next. All regions are filled when it begins.
pub trait Pattern {
    /// The next step. Only pages of regions that are there are named.
    fn next(&mut self, random: &mut Random) -> Step;
}

/// Read or write, `write_percent` of 100 times the latter.
fn access(page: usize, write_percent: u8, random: &mut Random) -> Step {
    if random.below(100) < write_percent.into() { Step::Write(page) } else { Step::Read(page) }
}

/// What a run amounts to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Which habit.
    pub workload: String,
    /// MiB held.
    pub mib: u32,
    /// Seed of its choices.
    pub seed: u64,
    /// Time that filling all of the memory took, in seconds.
    pub fill_seconds: f64,
    /// Time of the steps, in seconds; verifying at the end is not part of it.
    pub seconds: f64,
    /// Pages touched, by children too.
    pub operations: u64,
    /// Of these in a second.
    pub operations_per_second: f64,
    /// Latency of a read or write of a page by the program itself, in microseconds.
    pub latency_us: Latency,
    /// Faults that had to get their page from swap, of the program itself.
    pub major_faults: u64,
    /// Pages that the machine wrote to swap meanwhile.
    pub pages_out: u64,
    /// Regions that were given back, each of [`REGION_PAGES`].
    pub regions_freed: u64,
    /// Children that came and went.
    pub children: u64,
    /// Pages compared with what was written when all was done.
    pub verified_pages: usize,
}

/// Quantiles of a latency, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// Nine of ten are at most this.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |q| histogram.value_at_quantile(q) as f64 / 1000.0;
        Self {
            mean: histogram.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1000.0,
        }
    }
}

/// What is counted while steps are done.
struct Tally {
    latency: Histogram<u64>,
    operations: u64,
    regions_freed: u64,
    children: u64,
}

impl Tally {
    fn new() -> StartResult<Self> {
        let max_ns = LATENCY_MAX.as_nanos() as u64;
        let latency = Histogram::new_with_bounds(1, max_ns, LATENCY_DIGITS)
            .map_err(|e| StartError::failure(format!("no histogram ({e})"), "report this"))?;
        Ok(Self { latency, operations: 0, regions_freed: 0, children: 0 })
    }

    fn step(&mut self, step: Step, heap: &mut Heap) -> StartResult<()> {
        match step {
            Step::Read(page) | Step::Write(page) => {
                let begin = Instant::now();
                heap.touch(page);
                self.latency.saturating_record(begin.elapsed().as_nanos() as u64);
                heap.check(page)?;
                if step == Step::Write(page) {
                    heap.write(page);
                }
                self.operations += 1;
            }
            Step::Fill(region) => {
                heap.fill(region)?;
                self.operations += REGION_PAGES as u64;
            }
            Step::Free(region) => {
                heap.free(region);
                self.regions_freed += 1;
            }
            Step::Child { first, pages } => {
                heap.child(first, pages)?;
                self.operations += pages as u64;
                self.children += 1;
            }
        }
        Ok(())
    }
}

/// Waits until `operations` of `per_second` since `begin` are due; not at all if it is behind.
fn wait_for(begin: Instant, operations: u64, per_second: u32) {
    let due = Duration::from_secs_f64(operations as f64 / f64::from(per_second));
    std::thread::sleep(due.saturating_sub(begin.elapsed()));
}

/// Fills memory, lets `pattern` loose on it, and compares every page in the end.
pub fn run(name: &str, common: &Common, pattern: &mut dyn Pattern) -> StartResult<Summary> {
    let source = Source::load(&common.pages, common.source_mib)?;
    let mut tally = Tally::new()?;
    let cgroup = common.limit_mib.map(|_| Cgroup::new("workload")).transpose()?;
    let mut heap = Heap::new(source, common.mib as usize)?;
    if let (Some(cgroup), Some(mib)) = (&cgroup, common.limit_mib) {
        cgroup.limit(Some(u64::from(mib) << 20))?;
        cgroup.enter()?;
    }
    let begin = Instant::now();
    (0..heap.regions()).try_for_each(|region| heap.fill(region))?;
    let fill_seconds = begin.elapsed().as_secs_f64();
    let (faults, out) = (major_faults()?, pages_out()?);
    let mut random = Random::new(common.seed);
    let most = common.operations.unwrap_or(u64::MAX);
    let end = Duration::from_secs(common.seconds.into());
    let begin = Instant::now();
    'work: while begin.elapsed() < end {
        for _ in 0..STEPS_PER_LOOK {
            if tally.operations >= most {
                break 'work;
            }
            if let Some(pace) = common.per_second {
                wait_for(begin, tally.operations, pace);
            }
            tally.step(pattern.next(&mut random), &mut heap)?;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Summary {
        workload: name.to_owned(),
        mib: common.mib,
        seed: common.seed,
        fill_seconds,
        seconds,
        operations: tally.operations,
        operations_per_second: tally.operations as f64 / seconds,
        latency_us: Latency::of(&tally.latency),
        major_faults: major_faults()? - faults,
        pages_out: pages_out()? - out,
        regions_freed: tally.regions_freed,
        children: tally.children,
        verified_pages: heap.verify()?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The first `count` steps with this seed, each of them allowed: no page or region that is not
    /// there is named, none is filled twice.
    pub fn steps(pattern: &mut dyn Pattern, regions: usize, seed: u64, count: usize) -> Vec<Step> {
        let mut there = vec![true; regions];
        let mut random = Random::new(seed);
        let mut all = Vec::new();
        for _ in 0..count {
            let step = pattern.next(&mut random);
            match step {
                Step::Read(page) | Step::Write(page) => assert!(there[page / REGION_PAGES]),
                Step::Fill(region) => assert!(!std::mem::replace(&mut there[region], true)),
                Step::Free(region) => assert!(std::mem::replace(&mut there[region], false)),
                Step::Child { first, pages } => {
                    assert!(first < regions * REGION_PAGES && pages <= regions * REGION_PAGES);
                }
            }
            all.push(step);
        }
        all
    }

    /// How often each page was read or written.
    pub fn counts(steps: &[Step], pages: usize) -> Vec<u32> {
        let mut counts = vec![0; pages];
        for step in steps {
            if let Step::Read(page) | Step::Write(page) = step {
                counts[*page] += 1;
            }
        }
        counts
    }

    #[test]
    fn a_share_of_accesses_writes() {
        let mut random = Random::new(3);
        let mut writes = |percent| {
            let write = |_: &i32| access(7, percent, &mut random) == Step::Write(7);
            (0..1000).filter(write).count()
        };
        assert_eq!((writes(0), writes(100)), (0, 1000));
        assert!((200..300).contains(&writes(25)));
    }
}
