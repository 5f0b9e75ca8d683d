//! `uswap experiment`: runs what a file describes in guests of the test harness, and reports.

use super::{note, say, settings_of};
use crate::config::experiment::{self as spec, Experiment, Variant};
use crate::config::{policy, under};
use crate::error::{StartError, StartResult};
use crate::experiment::{PREFIX, Run, estimate_seconds, order, report};
use clap::Args;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the harness is, from the top of the source tree.
const HARNESS: &str = "tests/vm";
/// What it boots, and what it runs there.
const BOOT: &str = "boot";
const JOB: &str = "experiment-job";
/// Longer than this is asked about first.
const ASK_SECONDS: u64 = 30 * 60;
/// A guest that takes longer than this many times the estimate has got stuck.
const PATIENCE: u64 = 6;
/// Exit status of `boot` where something is missing on this machine.
const CANNOT_RUN: i32 = 77;
/// Where files for the guest arrive.
const GUEST_BIN: &str = "/usr/bin";

#[derive(Args, Debug)]
#[command(after_help = "\
README.md, \"Experiment\", shows a file and what it does. `cargo xtask experiment FILE` also builds
and sets up what this needs. Results: report.md, report.svg, runs.json, a log of each run,
and a trace of it if asked for.")]
pub struct ExperimentArgs {
    /// Description of the experiment (TOML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Directory for the results [default: FILE without its ending, and `.results`]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The test harness of uswap's source tree [default: tests/vm here or above]
    #[arg(long, value_name = "DIR")]
    harness: Option<PathBuf>,
    /// The workload program [default: `workload` beside this program]
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
    /// Captured pages for it to hold [default: vm/pages where cargo builds]
    #[arg(long, value_name = "FILE")]
    pages: Option<PathBuf>,
    /// Begin even if it takes longer than half an hour
    #[arg(long)]
    yes: bool,
    /// Check the file, say how long it takes, and do nothing
    #[arg(long)]
    check: bool,
}

/// What a run needs on this machine.
#[derive(Debug)]
struct Bench {
    harness: PathBuf,
    uswap: PathBuf,
    workload: PathBuf,
    pages: PathBuf,
}

impl ExperimentArgs {
    /// Checks, estimates, runs, reports.
    pub fn execute(&self) -> StartResult<()> {
        let text = fs::read_to_string(&self.file).map_err(|e| {
            let what = format!("cannot read {}: {e}", self.file.display());
            StartError::usage(what, "name a file; README.md, \"Experiment\", shows one")
        })?;
        let experiment = spec::parse(&self.file, &text)?;
        let bench = self.bench()?;
        self.check_workload(&experiment, &bench)?;
        for variant in &experiment.variants {
            self.check_variant(&experiment, variant)?;
        }
        let runs = order(experiment.variants.len(), experiment.repetitions);
        let workload = &experiment.workload;
        let seconds = estimate_seconds(runs.len(), workload.seconds, workload.mib);
        say(&format!(
            "{}: {} variants, {} runs, about {} if CPUs are emulated\n",
            experiment.title,
            experiment.variants.len(),
            runs.len(),
            minutes(seconds)
        ))?;
        if self.check {
            return Ok(());
        }
        if seconds > ASK_SECONDS && !self.yes {
            return Err(StartError::usage(
                format!("{}: it takes about {}", self.file.display(), minutes(seconds)),
                "give --yes, or fewer repetitions, variants or seconds",
            ));
        }
        let out = self.out.clone().unwrap_or_else(|| self.file.with_extension("results"));
        fs::create_dir_all(&out).map_err(|e| unwritable(&out, &e))?;
        let done = self.run_all(&experiment, &bench, &runs, &out)?;
        write_report(&experiment, &done, &out)?;
        if done.len() < runs.len() {
            let what = format!("{} of {} runs failed", runs.len() - done.len(), runs.len());
            return Err(StartError::failure(what, format!("see the logs in {}", out.display())));
        }
        Ok(())
    }

    fn bench(&self) -> StartResult<Bench> {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        let harness = self.harness.clone().or_else(|| find_harness(&here)).ok_or_else(|| {
            let what = format!("no {HARNESS} in {} or above it", here.display());
            StartError::usage(
                what,
                "go into uswap's source tree, or name the harness: --harness DIR",
            )
        })?;
        for file in [BOOT, JOB] {
            if !harness.join(file).is_file() {
                let what = format!("harness: {} has no {file}", harness.display());
                return Err(StartError::usage(
                    what,
                    format!("name {HARNESS} of uswap's source tree"),
                ));
            }
        }
        let uswap = std::env::current_exe().map_err(|e| {
            StartError::failure(format!("cannot find this program ({e})"), "mount /proc")
        })?;
        let beside = uswap.parent().unwrap_or(Path::new("."));
        let needed = |given: &Option<PathBuf>, default: PathBuf, remedy: &str| {
            let path = given.clone().unwrap_or(default);
            // Absolute: a bare name would be looked for in PATH.
            let there = std::path::absolute(&path).ok().filter(|path| path.is_file());
            there.ok_or_else(|| StartError::usage(format!("no {}", path.display()), remedy))
        };
        let workload = needed(
            &self.workload,
            beside.join("workload"),
            "`cargo build --release -p uswap-bench`, or --workload FILE",
        )?;
        let pages = needed(
            &self.pages,
            beside.parent().unwrap_or(Path::new(".")).join("vm/pages"),
            "`cargo xtask experiment FILE` captures some, or --pages FILE (bench: `capture`)",
        )?;
        Ok(Bench { harness, uswap, workload, pages })
    }

    /// The workload itself knows its flags.
    fn check_workload(&self, experiment: &Experiment, bench: &Bench) -> StartResult<()> {
        let workload = &experiment.workload;
        let output = Command::new(&bench.workload)
            .arg(&workload.kind)
            .args(&workload.flags)
            .args(["--pages", "none", "--check"])
            .stdin(Stdio::null())
            .output()
            .map_err(|e| {
                let what = format!("cannot start {} ({e})", bench.workload.display());
                StartError::failure(what, "build it again")
            })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
        let (tips, what): (Vec<&str>, Vec<&str>) =
            lines.iter().partition(|line| line.starts_with("tip:"));
        let what = what.join(", ");
        let what = what.strip_prefix("error: ").unwrap_or(&what);
        let remedy = tips.first().and_then(|tip| tip.strip_prefix("tip: ")).map_or_else(
            || format!("`workload {} --help` explains every flag", workload.kind),
            str::to_owned,
        );
        Err(self.at(workload.line, &format!("workload: {what}"), &remedy))
    }

    fn at(&self, line: usize, what: &str, remedy: &str) -> StartError {
        StartError::usage(format!("{}:{line}: {what}", self.file.display()), remedy)
    }

    /// Whether `uswap run` would take these flags on a machine like the guest.
    fn check_variant(&self, experiment: &Experiment, variant: &Variant) -> StartResult<()> {
        let place = format!("{}:{}", self.file.display(), variant.line);
        if variant.flags.iter().any(|flag| flag.starts_with("--policy")) {
            let what = format!("variant {}: --policy among the flags", variant.name);
            return Err(self.at(variant.line, &what, "write `policy = ...` beside the name"));
        }
        if let Some(name) = &variant.policy {
            let path = self.policy_file(name);
            let named = path.as_ref().map_or(name.as_str(), |path| path.to_str().unwrap_or(name));
            policy::named(Path::new("/"), named).map_err(|e| e.at(&place))?;
        }
        let root = std::env::temp_dir().join(format!("uswap-experiment.{}", std::process::id()));
        let checked = check_flags(&root, experiment.memory_mib, &variant.flags);
        let _ = fs::remove_dir_all(&root);
        checked.map_err(|e| e.at(&place))
    }

    /// The file that a policy's name is, as seen from here.
    fn policy_file(&self, name: &str) -> Option<PathBuf> {
        let beside = self.file.parent().unwrap_or(Path::new(""));
        policy::is_file(name).then(|| {
            let path = beside.join(name);
            std::path::absolute(&path).unwrap_or(path)
        })
    }

    fn run_all(
        &self,
        experiment: &Experiment,
        bench: &Bench,
        runs: &[(usize, u32)],
        out: &Path,
    ) -> StartResult<Vec<Run>> {
        let begin = Instant::now();
        let mut done = Vec::new();
        for (at, &(variant, repetition)) in runs.iter().enumerate() {
            let variant = &experiment.variants[variant];
            let log = out.join(format!("{}-{repetition}.log", variant.file_name()));
            let before = Instant::now();
            let run = self.run_one(experiment, bench, variant, repetition, &log)?;
            let each = begin.elapsed() / (at as u32 + 1);
            let left = minutes((each * (runs.len() - at - 1) as u32).as_secs());
            let took = before.elapsed().as_secs();
            let (name, of) = (&variant.name, runs.len());
            match run {
                Some(run) => {
                    done.push(run);
                    say(&format!("run {} of {of}: {name}, {took} s; about {left} left\n", at + 1))?;
                }
                None => note(&format!("run {} of {of}: {name} failed: {}", at + 1, log.display())),
            }
            // Whatever it is, it will not get better by going on.
            if at >= 1 && done.is_empty() {
                let what = "the first two runs failed";
                return Err(StartError::failure(what, format!("see {}", log.display())));
            }
            write_json(&done, out)?;
        }
        Ok(done)
    }

    /// A guest's run; none if it failed, which its log explains.
    fn run_one(
        &self,
        experiment: &Experiment,
        bench: &Bench,
        variant: &Variant,
        repetition: u32,
        log: &Path,
    ) -> StartResult<Option<Run>> {
        let workload = &experiment.workload;
        let limit = PATIENCE * estimate_seconds(1, workload.seconds, workload.mib);
        let mut boot = Command::new(bench.harness.join(BOOT));
        boot.args(["-k", &experiment.kernel, "-m", &experiment.memory_mib.to_string()]);
        boot.args(["-s", &experiment.cpus.to_string(), "-t", &limit.to_string()]);
        boot.arg("-b").arg(&bench.uswap).arg("-b").arg(&bench.workload);
        let mut flags = variant.flags.clone();
        if let Some(name) = &variant.policy {
            let mut policy = name.clone();
            if let Some(file) = self.policy_file(name) {
                policy = format!("{GUEST_BIN}/{}", file.file_name().unwrap_or_default().display());
                boot.arg("-b").arg(file);
            }
            flags.extend(["--policy".to_owned(), policy]);
        }
        boot.arg("-d").arg(&bench.pages).arg(bench.harness.join(JOB));
        boot.arg(if experiment.trace { "trace" } else { "no-trace" });
        boot.arg(&workload.kind).args(&workload.flags).arg("--").args(&flags);
        let file = fs::File::create(log).map_err(|e| unwritable(log, &e))?;
        let also = file.try_clone().map_err(|e| unwritable(log, &e))?;
        let status = boot.stdin(Stdio::null()).stdout(file).stderr(also).status().map_err(|e| {
            let what = format!("cannot start {} ({e})", bench.harness.join(BOOT).display());
            StartError::failure(what, "see tests/vm/setup")
        })?;
        let output = fs::read(log).map_err(|e| unwritable(log, &e))?;
        let output = String::from_utf8_lossy(&output);
        if status.code() == Some(CANNOT_RUN) {
            let why = output.lines().rev().find_map(|line| line.strip_prefix("VM SKIP "));
            let what = format!("no guest: {}", why.unwrap_or("no reason given"));
            return Err(StartError::failure(what, "run tests/vm/setup"));
        }
        if !status.success() {
            return Ok(None);
        }
        if experiment.trace {
            write_trace(&output, &log.with_extension("trace"))?;
        }
        Ok(Run::from_output(&variant.name, repetition, &output))
    }
}

/// The harness in `from` or a directory above it.
fn find_harness(from: &Path) -> Option<PathBuf> {
    let found = |dir: &Path| Some(dir.join(HARNESS)).filter(|path| path.join(BOOT).is_file());
    from.ancestors().find_map(found)
}

/// Applies the rules for `uswap run` to flags, on a machine made of a directory.
fn check_flags(root: &Path, memory_mib: u32, flags: &[String]) -> StartResult<()> {
    let kib = u64::from(memory_mib) << 10;
    let path = under(root, Path::new("/proc/meminfo"));
    fs::create_dir_all(path.with_file_name(""))
        .and_then(|()| fs::write(&path, format!("MemTotal: {kib} kB\nMemAvailable: {kib} kB\n")))
        .map_err(|e| unwritable(&path, &e))?;
    let words = ["uswap", "run"].into_iter().map(str::to_owned).chain(flags.iter().cloned());
    settings_of(root, words.map(OsString::from)).map(|_| ())
}

fn unwritable(path: &Path, e: &std::io::Error) -> StartError {
    StartError::failure(format!("cannot write {}: {e}", path.display()), "name another with --out")
}

/// Writes the trace that a guest printed as base64.
fn write_trace(output: &str, path: &Path) -> StartResult<()> {
    let lines = output.lines().filter_map(|line| line.strip_prefix(PREFIX)?.strip_prefix("trace "));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let coded = path.with_extension("base64");
    fs::write(&coded, text).map_err(|e| unwritable(&coded, &e))?;
    let file = fs::File::create(path).map_err(|e| unwritable(path, &e))?;
    let status = Command::new("base64").arg("-d").arg(&coded).stdout(file).status();
    let _ = fs::remove_file(&coded);
    if status.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let what = format!("{} is incomplete: the guest's output is damaged", path.display());
    Err(StartError::failure(what, "run it again"))
}

fn write_json(runs: &[Run], out: &Path) -> StartResult<()> {
    let path = out.join("runs.json");
    let text = serde_json::to_string_pretty(runs)
        .map_err(|e| StartError::failure(format!("no JSON ({e})"), "report this"))?;
    fs::write(&path, text + "\n").map_err(|e| unwritable(&path, &e))
}

fn write_report(experiment: &Experiment, runs: &[Run], out: &Path) -> StartResult<()> {
    let comparisons = report::comparisons(experiment, runs);
    let (report, plot) = (out.join("report.md"), out.join("report.svg"));
    let text = report::markdown(experiment, runs, &comparisons, "report.svg");
    fs::write(&report, text).map_err(|e| unwritable(&report, &e))?;
    fs::write(&plot, report::picture(&comparisons)).map_err(|e| unwritable(&plot, &e))?;
    say(&format!("{}\n", report.display()))
}

/// A time as one says it.
fn minutes(seconds: u64) -> String {
    match Duration::from_secs(seconds).as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 7200 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
