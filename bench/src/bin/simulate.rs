//! How many recorded events a second the simulator replays on one core, for every victim policy.
//! Seconds are CPU time of the thread: that says the same beside other programs, but for the caches
//! and cores that they share.

use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use uswap::error::StartResult;
use uswap::simulate::{Bound, Costs, Curve, DENSER_US, Outcome, Replay, Setup, TRAIN_US, run};
use uswap_bench::statistics::median;
use uswap_bench::synthetic::Zipf;
use uswap_policy::{Policy, Settings, VICTIMS};

#[derive(Parser)]
#[command(about = "Measures the simulator on a made recording")]
struct Args {
    /// Events
    #[arg(long, default_value_t = 20_000_000)]
    events: usize,
    /// log2 of the pages
    #[arg(long, default_value_t = 20)]
    shift: u32,
    /// Events a second of the recording's time
    #[arg(long, default_value_t = 100_000.0)]
    rate: f64,
    /// MiB of pool
    #[arg(long, default_value_t = 1536)]
    pool: u64,
    /// MiB of spill; 0 for none
    #[arg(long, default_value_t = 4096)]
    spill: u64,
    /// Preset
    #[arg(long, default_value = "balanced")]
    preset: String,
    /// Only this victim policy
    #[arg(long)]
    victim: Option<String>,
    /// Rounds; the median counts, and the best says what other tenants of the machine leave
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Also time the curve and the optimum
    #[arg(long)]
    bounds: bool,
}

fn setup(args: &Args) -> Setup {
    Setup {
        pool_bytes: args.pool << 20,
        spill_bytes: args.spill << 20,
        staging_bytes: 8 << 20,
        aged_us: 0,
        hand: 0,
        device_slots: 0,
        ram_bytes: 0,
        spill_mib_per_second: 1400.0,
        denser_us: DENSER_US,
        train_us: TRAIN_US,
        costs: Costs { pool_read_us: 2.3, dense_read_us: 6.5, spill_read_us: 100.0 },
    }
}

/// CPU time of this thread.
fn busy() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn measure(replay: &Replay, args: &Args, victim: &str) -> StartResult<()> {
    let mut out = Outcome::default();
    let (mut seconds, mut walls) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let settings = Settings::named(&format!("{}/{victim}", args.preset)).expect("known");
        let policy = Policy::new(settings).expect("settings agree");
        let (begin, before) = (Instant::now(), busy());
        out = run(replay, &setup(args), policy, &AtomicU64::new(0));
        seconds.push((busy() - before).as_secs_f64());
        walls.push(begin.elapsed().as_secs_f64());
    }
    let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let seconds = median(seconds).expect("rounds");
    println!(
        "{victim:<11} {:>8.1} {:>6.1} {:>7.1} {:>8.3} {:>8.3} {:>7} {:>11} {:>9} {:>9} {:>9} {:>8}",
        args.events as f64 / seconds / 1e6,
        args.events as f64 / least / 1e6,
        out.steps as f64 / seconds / 1e6,
        seconds,
        median(walls).expect("rounds"),
        out.ticks,
        out.judged_pages,
        out.denser_pages,
        out.spilled_pages,
        out.reads.spill,
        out.refused_writes,
    );
    Ok(())
}

fn bounds(replay: &Replay, args: &Args) {
    let steps = replay.steps.len() as f64 / 1e6;
    let begin = Instant::now();
    let curve = Curve::new(replay, false);
    let ratio = curve.miss_ratio(args.pool << 20);
    println!(
        "curve   {:>7.1} million steps/s; LRU misses {ratio:.4}",
        steps / begin.elapsed().as_secs_f64()
    );
    let begin = Instant::now();
    let bound = Bound::new(replay);
    let ahead = begin.elapsed().as_secs_f64();
    let misses = bound.misses(args.pool << 20, false);
    println!(
        "optimum {:>7.1} million steps/s ({ahead:.3} s of it looking ahead, once); {misses} misses",
        steps / begin.elapsed().as_secs_f64()
    );
}

fn main() -> ExitCode {
    let args = Args::parse();
    let events = Zipf::new(args.shift, args.rate).take(args.events);
    let Ok(replay) = Replay::new(events.map(Ok::<_, ()>)) else { return ExitCode::FAILURE };
    println!(
        "{} events, {} steps, {} slots, {:.0} s; pool {} MiB, spill {} MiB, {}",
        args.events,
        replay.steps.len(),
        replay.slots,
        replay.duration_us() as f64 / 1e6,
        args.pool,
        args.spill,
        args.preset
    );
    println!(
        "{:<11} {:>8} {:>6} {:>7} {:>8} {:>8} {:>7} {:>11} {:>9} {:>9} {:>9} {:>8}",
        "victim",
        "Mevent/s",
        "best",
        "Mstep/s",
        "seconds",
        "wall",
        "ticks",
        "judged",
        "denser",
        "spilled",
        "misses",
        "refused"
    );
    for (victim, _) in VICTIMS {
        if args.victim.as_deref().is_none_or(|only| only == *victim)
            && let Err(e) = measure(&replay, &args, victim)
        {
            return uswap_bench::exit("simulate", Err(e));
        }
    }
    if args.bounds {
        bounds(&replay, &args);
    }
    ExitCode::SUCCESS
}
