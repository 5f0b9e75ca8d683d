//! `uswap simulate`: what a service would have done with recorded steps, for any policy and size.

mod cases;
mod plots;
mod report;
mod source;

use super::{note, say};
use crate::config::size;
use crate::daemon::notify::Progress;
use crate::error::{StartError, StartResult};
use crate::simulate::{
    Bound, Calibration, Costs, Curve, DENSER_US, Outcome, Replay, TRAIN_US, calibrate, each, run,
};
use cases::{Case, Lists, from_hands, given_up, policy_of};
use clap::Args;
use report::{Point, Row, Study};
use source::Recording;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Runs that take longer than this are asked about first.
const LONG: Duration = Duration::from_secs(600);

#[derive(Args, Debug)]
#[command(after_help = "\
Lists are separated by commas, and every combination is a run. Without --policy, --pool and
--spill-size the recorded service's own are taken. Decisions are those of the policy's code; what is
a model is time, the disk and how writes wait: see README, \"Simulate\".
MISSES: share of reads that the spill had to serve. OPTIMUM: the same if the pool always kept the
pages that are read soonest (Belady); with pages of different sizes a good heuristic, not a bound.
STALL: seconds that reads and waiting writes took. DAY: what a day like this would write.")]
pub struct Simulate {
    /// A recording (`uswap trace record`)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    lists: Lists,
    /// Microseconds of a read from RAM as the page arrived
    #[arg(long, value_name = "US", default_value_t = 2.3, value_parser = microseconds)]
    #[arg(allow_hyphen_values = true)]
    pool_read_us: f64,
    /// Microseconds of a read from RAM of a page made denser
    #[arg(long, value_name = "US", default_value_t = 6.5, value_parser = microseconds)]
    #[arg(allow_hyphen_values = true)]
    dense_read_us: f64,
    /// Microseconds of a read from the spill; the default is a guess at a flash disk
    #[arg(long, value_name = "US", default_value_t = 100.0, value_parser = microseconds)]
    #[arg(allow_hyphen_values = true)]
    spill_read_us: f64,
    /// Microseconds that making a page denser takes [default: as in the recording, or 396]
    #[arg(long, value_name = "US", value_parser = microseconds)]
    #[arg(allow_hyphen_values = true)]
    denser_us: Option<f64>,
    /// RAM of the machine, of which its free memory is a share [default: that of the recording]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    ram: Option<u64>,
    /// Runs at a time [default: the number of CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Also print the miss-ratio curve: misses of LRU and of the optimum for every size of pool
    #[arg(long)]
    curve: bool,
    /// Draw RAM over time, the miss-ratio curve, and writing against stalling into DIR, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, group = "form")]
    json: bool,
    /// Print lines of comma-separated values, sizes in bytes
    #[arg(long, group = "form")]
    csv: bool,
    /// Print sizes in bytes
    #[arg(long, short)]
    bytes: bool,
    /// Compare what was recorded with its own replay; exit code 1 if a total differs by more than
    /// the tolerance
    #[arg(long, conflicts_with_all = ["plots", "curve", "csv"])]
    compare: bool,
    /// Percent that --compare lets a total differ
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 5.0,
        requires = "compare",
        allow_hyphen_values = true
    )]
    tolerance: f64,
    /// Begin runs although they will take long
    #[arg(long)]
    yes: bool,
}

fn microseconds(text: &str) -> Result<f64, String> {
    let us = text.parse::<f64>().ok().filter(|us| us.is_finite() && *us >= 0.0);
    us.ok_or_else(|| format!("\"{text}\" is not a time; give microseconds, such as 2.5"))
}

impl Simulate {
    /// Replays, and prints what came of it. Exit code 1 if a comparison fails.
    pub fn execute(&self) -> StartResult<ExitCode> {
        let root = Path::new("/");
        let recording = Recording::read(&self.file)?;
        if recording.replay.steps.is_empty() {
            let what = format!("{} has nothing to replay", self.file.display());
            return Err(StartError::usage(what, "record while the machine swaps"));
        }
        let cases = self.lists.cases(root, &recording, &self.template(&recording))?;
        if self.compare {
            let slots = recording.replay.slots;
            let cases: Vec<_> = cases.iter().flat_map(|case| from_hands(case, slots)).collect();
            let outcomes = self.simulate(&recording.replay, &cases)?;
            return report::comparison(&recording, &cases, &outcomes, self.tolerance, self.json);
        }
        let outcomes = self.simulate(&recording.replay, &cases)?;
        let study = self.study(&recording, cases, outcomes);
        say(&match (self.json, self.csv) {
            (true, _) => study.json()?,
            (_, true) => study.csv(),
            _ => study.text(self.bytes),
        })?;
        if let Some(directory) = &self.plots {
            plots::draw(&study, directory)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn template(&self, recording: &Recording) -> crate::simulate::Setup {
        let pace = recording.replay.pace;
        crate::simulate::Setup {
            pool_bytes: 0,
            spill_bytes: 0,
            staging_bytes: recording.staging_bytes,
            device_slots: recording.slots,
            aged_us: recording.aged_us,
            hand: 0,
            ram_bytes: self.ram.unwrap_or(recording.ram_bytes),
            spill_mib_per_second: 0.0,
            denser_us: self.denser_us.or(pace.denser_us.map(f64::from)).unwrap_or(DENSER_US),
            train_us: pace.train_us.map_or(TRAIN_US, u64::from),
            costs: Costs {
                pool_read_us: self.pool_read_us,
                dense_read_us: self.dense_read_us,
                spill_read_us: self.spill_read_us,
            },
        }
    }

    fn threads(&self) -> usize {
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cpus, usize::from)
    }

    /// All runs, unless they would take long and nobody has agreed to that.
    fn simulate(&self, replay: &Replay, cases: &[Case]) -> StartResult<Vec<Outcome>> {
        let threads = self.threads().min(cases.len());
        let one = |part: &Replay| {
            let _ = self.replay(part, &cases[0], &AtomicU64::new(0));
        };
        let Calibration { whole } = calibrate(replay, one);
        let runs = cases.len().div_ceil(threads.max(1)) as u32;
        let estimate = whole.saturating_mul(runs);
        if estimate > LONG && !self.yes {
            return Err(StartError::usage(
                format!("{} runs would take about {}", cases.len(), words(estimate)),
                "give shorter lists, or --yes to begin all the same",
            ));
        }
        if estimate > LONG / 60 {
            note(&format!("{} runs, about {}", cases.len(), words(estimate)));
        }
        let done = AtomicU64::new(0);
        let all = (replay.steps.len() * cases.len()) as u64;
        let mut progress = Progress::of("steps".into());
        let watch = || progress.tell(done.load(Ordering::Relaxed), all, "");
        let outcomes = each(cases, threads, |case| self.replay(replay, case, &done), watch);
        drop(progress);
        given_up(cases).iter().for_each(|line| note(line));
        outcomes.into_iter().collect()
    }

    fn replay(&self, replay: &Replay, case: &Case, done: &AtomicU64) -> StartResult<Outcome> {
        Ok(run(replay, &case.setup, policy_of(case)?, done))
    }

    /// What the runs are compared with: the optimum for each size, and curves if they are wanted.
    fn study(&self, recording: &Recording, cases: Vec<Case>, outcomes: Vec<Outcome>) -> Study {
        let replay = &recording.replay;
        let bound = Bound::new(replay);
        let kind = |case: &Case| (case.setup.pool_bytes, case.dense);
        let mut kinds: Vec<(u64, bool)> = cases.iter().map(kind).collect();
        let dense = kinds.iter().any(|(_, dense)| *dense);
        let curve = (self.curve || self.plots.is_some()).then(|| Curve::new(replay, dense));
        let largest = kinds.iter().map(|(bytes, _)| *bytes).max().unwrap_or(0);
        let sizes = curve
            .as_ref()
            .map_or_else(Vec::new, |curve| curve_sizes(curve.bytes_for_all().max(largest)));
        kinds.extend(sizes.iter().map(|bytes| (*bytes, dense)));
        kinds.sort_unstable();
        kinds.dedup();
        let reads = outcomes.first().map_or(0, |outcome| outcome.reads.served());
        let misses =
            each(&kinds, self.threads(), |(bytes, dense)| bound.misses(*bytes, *dense), || {});
        let optimum = |wanted: (u64, bool)| {
            let at = kinds.iter().position(|kind| *kind == wanted);
            at.map_or(0.0, |at| crate::simulate::share(misses[at], reads))
        };
        let points = curve.iter().flat_map(|curve| {
            let point = |bytes: &u64| Point {
                pool_bytes: *bytes,
                lru: curve.miss_ratio(*bytes),
                optimum: optimum((*bytes, dense)),
            };
            sizes.iter().map(point)
        });
        let curve = points.collect();
        let rows = cases.into_iter().zip(outcomes).map(|(case, outcome)| {
            let optimum = optimum(kind(&case));
            Row::new(case, outcome, optimum)
        });
        Study::new(recording, rows.collect(), curve)
    }
}

/// Sizes of the pool that a curve is made of, up to so many bytes.
fn curve_sizes(largest: u64) -> Vec<u64> {
    const POINTS: u64 = 16;
    let step = (largest / POINTS).next_multiple_of(1 << 20).max(1 << 20);
    (1..=POINTS).map(|i| i * step).collect()
}

/// A time for people.
fn words(time: Duration) -> String {
    match time.as_secs() {
        0..100 => format!("{} s", time.as_secs().max(1)),
        100..6000 => format!("{} min", time.as_secs().div_ceil(60)),
        _ => format!("{} h", time.as_secs().div_ceil(3600)),
    }
}
