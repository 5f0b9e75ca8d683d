//! `study`: every shipped policy over every trace and a range of pools, by `uswap simulate`.
//!
//! Pools are shares of what a trace needs at most, so that traces of different sizes can be
//! compared. Each policy is rated by the time that reads and waiting writes took, relative to the
//! best policy of the same trace and pool; ratings are joined by the geometric mean.

use clap::Parser;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use uswap::error::{StartError, StartResult};
use uswap::simulate::plot::{Chart, Mark, Series};

/// What ships: presets, each with its own victim policy; and victim policies, each with the
/// balanced preset.
const PRESETS: [&str; 4] = ["balanced", "dense", "low-latency", "spill-early"];
const VICTIMS: [&str; 7] = ["fifo", "clock", "lru", "sieve", "s3-fifo", "size-aware", "swap-aware"];
/// Pools, in percent of the RAM that a trace takes when nothing has to leave.
const POOL_PERCENT: [u64; 5] = [35, 50, 65, 80, 95];
/// The smallest pool there is, and one in which everything fits.
const POOL_MIN: u64 = 16 << 20;
const POOL_AMPLE: &str = "4G";
const SPILL: &str = "2G";
const MIB: f64 = 1048576.0;
/// Times below this are taken as this: a policy is not twice as good because of a microsecond.
const SECONDS_MIN: f64 = 0.001;

/// Simulates every policy over every trace, and sums up.
#[derive(Debug, Parser)]
#[command(name = "study")]
struct Arguments {
    /// The uswap program
    #[arg(long)]
    uswap: PathBuf,
    /// Directory with *.trace
    #[arg(long)]
    traces: PathBuf,
    /// Directory for results.md, results.json and plots
    #[arg(long)]
    out: PathBuf,
}

/// A run of the simulator.
#[derive(Clone, Debug)]
struct Run {
    policy: String,
    pool: u64,
    miss_ratio: f64,
    optimum: f64,
    seconds: f64,
    written_mib: f64,
}

/// All runs over a trace.
#[derive(Debug)]
struct Trace {
    name: String,
    recorded_seconds: f64,
    need: u64,
    runs: Vec<Run>,
    json: Value,
}

fn fail(what: impl std::fmt::Display, why: impl std::fmt::Display) -> StartError {
    StartError::failure(format!("{what}: {why}"), "see `uswap simulate` about it")
}

fn simulate(arguments: &Arguments, trace: &Path, words: &[&str]) -> StartResult<Value> {
    let output = Command::new(&arguments.uswap)
        .arg("simulate")
        .arg(trace)
        .args(words)
        .args(["--json", "--yes"])
        .output()
        .map_err(|e| fail(arguments.uswap.display(), e))?;
    if !output.status.success() {
        return Err(fail(trace.display(), String::from_utf8_lossy(&output.stderr).trim()));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| fail(trace.display(), e))
}

/// Names as `uswap simulate` knows them.
fn policies() -> Vec<String> {
    let presets = PRESETS.iter().map(|preset| (*preset).to_owned());
    presets.chain(VICTIMS.iter().map(|victim| format!("balanced/{victim}"))).collect()
}

fn runs_of(value: &Value) -> Vec<Run> {
    let number = |run: &Value, key: &str| run[key].as_f64().unwrap_or(f64::NAN);
    let one = |run: &Value| Run {
        policy: run["policy"].as_str().unwrap_or_default().to_owned(),
        pool: run["pool_bytes"].as_u64().unwrap_or(0),
        miss_ratio: number(run, "miss_ratio"),
        optimum: number(run, "optimum_miss_ratio"),
        seconds: number(run, "stall_seconds"),
        written_mib: number(run, "spill_written_bytes") / MIB,
    };
    value["runs"].as_array().map_or_else(Vec::new, |runs| runs.iter().map(one).collect())
}

impl Trace {
    fn study(arguments: &Arguments, path: &Path) -> StartResult<Self> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let ample = ["--policy", "balanced", "--pool", POOL_AMPLE, "--spill-size", "0"];
        let value = simulate(arguments, path, &ample)?;
        let need = value["runs"][0]["ram_max_bytes"].as_u64().unwrap_or(0);
        let mut pools: Vec<u64> = POOL_PERCENT
            .iter()
            .map(|percent| (need * percent / 100).next_multiple_of(1 << 20).max(POOL_MIN))
            .filter(|pool| *pool < need)
            .collect();
        pools.dedup();
        if pools.is_empty() {
            let why = format!("it needs {:.0} MiB, less than any pool has", need as f64 / MIB);
            return Err(fail(&name, why));
        }
        let words: Vec<String> = pools.iter().map(u64::to_string).collect();
        let (policies, words) = (policies().join(","), words.join(","));
        let grid = ["--policy", policies.as_str(), "--pool", words.as_str(), "--spill-size", SPILL];
        let mut json = simulate(arguments, path, &grid)?;
        // RAM over time is most of it, and nothing here looks at that.
        for run in json["runs"].as_array_mut().into_iter().flatten() {
            run.as_object_mut().and_then(|run| run.remove("series"));
        }
        let recorded_seconds = json["recorded_seconds"].as_f64().unwrap_or(0.0);
        println!("{name}: {} runs", policies.split(',').count() * pools.len());
        Ok(Self { name, recorded_seconds, need, runs: runs_of(&json), json })
    }

    fn pools(&self) -> Vec<u64> {
        let mut pools: Vec<u64> = self.runs.iter().map(|run| run.pool).collect();
        pools.sort_unstable();
        pools.dedup();
        pools
    }

    fn run(&self, policy: &str, pool: u64) -> Option<&Run> {
        self.runs.iter().find(|run| run.policy == policy && run.pool == pool)
    }

    /// Seconds of `policy` for each of the best's, over the pools.
    fn rating(&self, policy: &str, among: &[String]) -> f64 {
        let seconds =
            |name: &str, pool| self.run(name, pool).map(|run| run.seconds.max(SECONDS_MIN));
        let ratio = |pool: &u64| {
            let best =
                among.iter().filter_map(|name| seconds(name, *pool)).fold(f64::NAN, f64::min);
            seconds(policy, *pool).map(|own| own / best)
        };
        geometric_mean(self.pools().iter().filter_map(ratio))
    }

    /// Misses by size of the pool: victim policies, or presets.
    fn chart(&self, title: &str, policies: &[String], of: fn(&Run) -> f64, y: &str) -> Chart {
        let points = |policy: &str, of: &dyn Fn(&Run) -> f64| -> Vec<(f64, f64)> {
            let pools = self.pools().into_iter();
            pools
                .filter_map(|pool| Some((pool as f64 / MIB, of(self.run(policy, pool)?))))
                .collect()
        };
        let mut series: Vec<Series> = policies
            .iter()
            .map(|policy| Series {
                name: policy.trim_start_matches("balanced/").to_owned(),
                mark: Mark::Line,
                points: points(policy, &of),
            })
            .collect();
        if y.starts_with("reads") {
            let optimum = |run: &Run| run.optimum * 100.0;
            series.push(Series {
                name: "optimum".into(),
                mark: Mark::Reference,
                points: points(&policies[0], &optimum),
            });
        }
        Chart { title: title.into(), x: "pool, MiB".into(), y: y.into(), series }
    }
}

fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value.ln(), n + 1.0));
    if count > 0.0 { f64::exp(sum / count) } else { f64::NAN }
}

/// Ratings of `policies`: a line for each, a column for each trace, and the mean of all.
fn table(traces: &[Trace], policies: &[String]) -> String {
    let mut text = String::from("| policy |");
    traces.iter().for_each(|trace| text += &format!(" {} |", trace.name));
    text += " **all** |\n|---|";
    text += &"--:|".repeat(traces.len() + 1);
    text.push('\n');
    let mut rows: Vec<(f64, String)> = policies
        .iter()
        .map(|policy| {
            let ratings: Vec<f64> =
                traces.iter().map(|trace| trace.rating(policy, policies)).collect();
            let all = geometric_mean(ratings.iter().copied());
            let cells: String = ratings.iter().map(|rating| format!(" {rating:.2} |")).collect();
            (all, format!("| {policy} |{cells} **{all:.3}** |\n"))
        })
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    rows.iter().for_each(|(_, row)| text += row);
    text
}

fn details(trace: &Trace) -> String {
    let mut text = format!(
        "\n### {}\n{:.0} s, at most {:.0} MiB of RAM when nothing leaves. Misses in percent of \
         reads, then MiB written to the spill, by size of the pool:\n\n| policy |",
        trace.name,
        trace.recorded_seconds,
        trace.need as f64 / MIB
    );
    let pools = trace.pools();
    pools.iter().for_each(|pool| {
        let _ = write!(text, " {:.0} MiB |", *pool as f64 / MIB);
    });
    let _ = writeln!(text, "\n|---|{}", "--:|".repeat(pools.len()));
    for policy in policies() {
        let _ = write!(text, "| {policy} |");
        for run in pools.iter().filter_map(|pool| trace.run(&policy, *pool)) {
            let _ = write!(text, " {:.2}, {:.0} |", run.miss_ratio * 100.0, run.written_mib);
        }
        text.push('\n');
    }
    text += "| *optimum* |";
    for run in pools.iter().filter_map(|pool| trace.run("balanced", *pool)) {
        let _ = write!(text, " {:.2} |", run.optimum * 100.0);
    }
    let name = &trace.name;
    let _ = writeln!(text, "\n\n![{name}: victims](plots/{name}-victims.svg)");
    text
}

fn report(traces: &[Trace]) -> String {
    let victims: Vec<String> = VICTIMS.iter().map(|victim| format!("balanced/{victim}")).collect();
    let presets = PRESETS.map(str::to_owned);
    let mut text = format!(
        "# Results\nMade by `cargo xtask study`; README.md says what they mean. Time that reads \
         and waiting writes took, relative to the best of the table for the same trace and pool (1 \
         is best), as a geometric mean over pools of {POOL_PERCENT:?} percent of what the trace \
         needs.\n\n## Victim policies, with the balanced preset\n"
    );
    text += &table(traces, &victims);
    text += "\n## Presets, each with its own victim policy\n";
    text += &table(traces, &presets);
    text += "\n## Every run\n";
    traces.iter().for_each(|trace| text += &details(trace));
    text
}

fn run(arguments: &Arguments) -> StartResult<()> {
    let entries =
        fs::read_dir(&arguments.traces).map_err(|e| fail(arguments.traces.display(), e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "trace"));
    paths.sort();
    let traces: Vec<Trace> =
        paths.iter().map(|path| Trace::study(arguments, path)).collect::<StartResult<_>>()?;
    let plots = arguments.out.join("plots");
    fs::create_dir_all(&plots).map_err(|e| fail(plots.display(), e))?;
    let write =
        |path: PathBuf, text: String| fs::write(&path, text).map_err(|e| fail(path.display(), e));
    let victims: Vec<String> = VICTIMS.iter().map(|victim| format!("balanced/{victim}")).collect();
    for trace in &traces {
        let title = format!("{}: reads that the spill had to serve", trace.name);
        let misses = |run: &Run| run.miss_ratio * 100.0;
        let chart = trace.chart(&title, &victims, misses, "reads from the spill, %");
        write(plots.join(format!("{}-victims.svg", trace.name)), chart.svg()?)?;
    }
    let all: BTreeMap<&str, &Value> =
        traces.iter().map(|trace| (trace.name.as_str(), &trace.json["runs"])).collect();
    let json = serde_json::to_string(&all).map_err(|e| fail("results.json", e))?;
    write(arguments.out.join("results.json"), json)?;
    write(arguments.out.join("results.md"), report(&traces))
}

fn main() -> ExitCode {
    uswap_bench::exit("study", run(&Arguments::parse()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(seconds: &[(&str, f64)]) -> Trace {
        let run = |(policy, seconds): &(&str, f64)| Run {
            policy: (*policy).into(),
            pool: 16 << 20,
            miss_ratio: 0.1,
            optimum: 0.05,
            seconds: *seconds,
            written_mib: 1.0,
        };
        let runs = seconds.iter().map(run).collect();
        Trace { name: "t".into(), recorded_seconds: 1.0, need: 1 << 25, runs, json: Value::Null }
    }

    #[test]
    fn ratings_are_relative_to_the_best_of_those_compared() {
        let trace = trace(&[("a", 2.0), ("b", 4.0), ("c", 1.0), ("d", 0.0)]);
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!((trace.rating("b", &names("a b")) - 2.0).abs() < 1e-9);
        assert!((trace.rating("b", &names("a b c")) - 4.0).abs() < 1e-9);
        assert!((trace.rating("d", &names("d")) - 1.0).abs() < 1e-9, "nothing is no time");
        let table = table(&[trace], &names("a b c"));
        let order: Vec<&str> =
            table.lines().skip(2).map(|line| line.split(' ').nth(1).unwrap_or("")).collect();
        assert_eq!(order, ["c", "a", "b"]);
    }

    #[test]
    fn a_geometric_mean_is_the_same_for_twice_and_half() {
        assert!((geometric_mean([2.0, 0.5].into_iter()) - 1.0).abs() < 1e-9);
        assert!(geometric_mean([].into_iter()).is_nan());
    }
}
