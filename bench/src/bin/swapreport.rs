//! `swapreport`: what `swapbench` printed in a guest, as a table, and on demand as JSON and plots.

use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use uswap::error::{StartError, StartResult};
use uswap_bench::swap::report::Report;
use uswap_bench::swap::{draw, table};

/// Sums up the output of a guest that ran tests/vm/scenarios/swapbench.sh.
#[derive(Debug, Parser)]
#[command(name = "swapreport")]
struct Arguments {
    /// What the guest printed
    log: PathBuf,
    /// Write swapbench.json and the plots into this directory
    #[arg(long)]
    out: Option<PathBuf>,
    /// Date, for the file
    #[arg(long, default_value = "")]
    date: String,
    /// Commit of the source, for the file
    #[arg(long, default_value = "")]
    commit: String,
    /// Arguments of the scenario, for the file
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    settings: String,
}

fn files(report: &Report, out: &Path) -> StartResult<()> {
    let fail = |path: &Path, e: &dyn std::fmt::Display| {
        let what = format!("cannot write {} ({e})", path.display());
        StartError::failure(what, "give another --out")
    };
    std::fs::create_dir_all(out).map_err(|e| fail(out, &e))?;
    let path = out.join("swapbench.json");
    let json = serde_json::to_string_pretty(report).map_err(|e| fail(&path, &e))?;
    std::fs::write(&path, json + "\n").map_err(|e| fail(&path, &e))?;
    let plots = draw::all(report, out).map_err(|e| fail(out, &e))?;
    println!("wrote swapbench.json, {} in {}", plots.join(", "), out.display());
    Ok(())
}

fn run(arguments: &Arguments) -> StartResult<()> {
    let output = std::fs::read(&arguments.log).map_err(|e| {
        let what = format!("cannot read {} ({e})", arguments.log.display());
        StartError::failure(what, "give a file with a guest's output")
    })?;
    let mut report = Report::from_output(&String::from_utf8_lossy(&output))?;
    report.date.clone_from(&arguments.date);
    report.commit.clone_from(&arguments.commit);
    report.settings.clone_from(&arguments.settings);
    let first = &report.rounds[0];
    println!(
        "{}, {} CPUs, {} MiB of {} captured pages, vm.page-cluster {}, median of {} rounds; \
         in parentheses the ratio to zram lz4",
        first.kernel,
        first.cpus,
        first.mib,
        first.source_pages,
        first.page_cluster,
        report.rounds.iter().map(|r| r.round).max().unwrap_or(1),
    );
    report.skipped.iter().for_each(|why| println!("skipped {why}"));
    print!("{}", table::markdown(&report));
    arguments.out.as_ref().map_or(Ok(()), |out| files(&report, out))
}

fn main() -> ExitCode {
    uswap_bench::exit("swapreport", run(&Arguments::parse()))
}
