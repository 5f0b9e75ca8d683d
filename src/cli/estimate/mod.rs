//! `uswap estimate`: what uswap would save on memory that is really there, per codec.

mod sample;

use super::columns::Numbers;
use super::list::json;
use super::{note, say, table};
use crate::error::{StartError, StartResult};
use crate::units::PAGE_SIZE;
use clap::Args;
use sample::{CODECS, Estimate, Sample};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "\
Only pages in RAM that could be swapped are counted: private and without a file. They are read
through /proc/PID/mem without stopping anybody, and nothing is brought back from swap.
\"dense\" is what pages become that stay untouched: zstd with a dictionary, which is trained on one
half of the sample and tried on the other. WOULD TAKE has rounding, headers and 8 bytes of slot in
it. 95 of 100 samples of this size come out within the +- of what all pages would.")]
pub struct EstimateArgs {
    /// A process; may be given several times
    #[arg(long = "pid", value_name = "PID", group = "what")]
    pids: Vec<u32>,
    /// All processes of a cgroup and of those below it, such as system.slice/nginx.service
    #[arg(long, value_name = "PATH", group = "what")]
    cgroup: Option<PathBuf>,
    /// All processes that may be read
    #[arg(long, group = "what")]
    all: bool,
    /// A file of raw 4 KiB pages
    #[arg(value_name = "FILE", group = "what")]
    file: Option<PathBuf>,
    /// Pages to look at, at most
    #[arg(long, value_name = "N", default_value_t = 4096)]
    #[arg(value_parser = clap::value_parser!(u32).range(256..=1 << 20))]
    pages: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print sizes in bytes
    #[arg(long, short)]
    bytes: bool,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Report {
    /// Pages in RAM that could be swapped.
    pages: u64,
    /// Their bytes.
    bytes: u64,
    /// Pages that were looked at.
    sampled_pages: u64,
    /// Runs of neighbours that these came in.
    sampled_runs: u64,
    /// Processes that could not be read.
    unreadable: u64,
    codecs: Vec<Estimate>,
}

impl EstimateArgs {
    /// Samples, and prints a table.
    pub fn execute(&self) -> StartResult<()> {
        let mut sample = Sample::new(self.pages as usize);
        let unreadable = self.fill(&mut sample)?;
        if sample.pages() == 0 {
            return Err(StartError::failure(
                "there is no page in RAM that could be swapped",
                "choose processes that run and hold memory; root may read all of them",
            ));
        }
        let report = Report {
            pages: sample.pages(),
            bytes: sample.pages() * PAGE_SIZE as u64,
            codecs: sample.estimate(),
            sampled_pages: sample.sampled(),
            sampled_runs: sample.runs() as u64,
            unreadable,
        };
        if unreadable > 0 {
            note(&format!(
                "{unreadable} processes could not be read and are left out; run as root"
            ));
        }
        if self.json {
            return say(&(json(&report)? + "\n"));
        }
        let numbers = Numbers { exact: self.bytes };
        let row = |e: &Estimate| {
            let saved = report.bytes.saturating_sub(e.bytes);
            vec![
                e.codec.to_owned(),
                numbers.bytes(e.bytes),
                numbers.bytes(saved),
                format!("{:.2}", report.bytes as f64 / e.bytes.max(1) as f64),
                format!("{:.1} %", e.error_percent),
            ]
        };
        let rows: Vec<Vec<String>> = report.codecs.iter().map(row).collect();
        let head = ["CODEC", "WOULD TAKE", "SAVED", "RATIO", "+-"];
        say(&format!(
            "{} in {} pages that could be swapped; looked at {} of them, in {} runs\n{}",
            numbers.bytes(report.bytes),
            report.pages,
            report.sampled_pages,
            report.sampled_runs,
            table::render(Some(&head), &rows, &[1, 2, 3, 4])
        ))
    }

    /// Shows the sample all pages; how many processes could not be read.
    fn fill(&self, sample: &mut Sample) -> StartResult<u64> {
        if let Some(file) = &self.file {
            return sample.add_file(file).map(|()| 0).map_err(|e| {
                StartError::usage(
                    format!("cannot take pages from {} ({e})", file.display()),
                    "name a file of raw 4 KiB pages, as the benchmarks' `capture` writes it",
                )
            });
        }
        let pids = match &self.cgroup {
            Some(path) => processes_of(&cgroup(path))?,
            None if self.all => every_process()?,
            None if self.pids.is_empty() => {
                let what = "nothing to look at was named";
                return Err(StartError::usage(what, "use --pid, --cgroup, --all or a file"));
            }
            None => self.pids.clone(),
        };
        let mut unreadable = 0;
        for pid in pids {
            match sample.add_process(pid) {
                Ok(()) => {}
                Err(e) if self.pids.contains(&pid) => {
                    return Err(StartError::failure(
                        format!("cannot read {e}"),
                        "the process must still run, and you must be root or have CAP_SYS_PTRACE",
                    ));
                }
                // It may have ended meanwhile.
                Err(e) => unreadable += u64::from(e.kind() == std::io::ErrorKind::PermissionDenied),
            }
        }
        Ok(unreadable)
    }
}

/// Where a cgroup is: a path below the mount of version 2, or one that leads there.
fn cgroup(path: &Path) -> PathBuf {
    const MOUNT: &str = "/sys/fs/cgroup";
    if path.starts_with(MOUNT) {
        path.to_owned()
    } else {
        Path::new(MOUNT).join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Processes in a cgroup and below it.
fn processes_of(cgroup: &Path) -> StartResult<Vec<u32>> {
    let fail = |e: std::io::Error| {
        let what = format!("cannot read {} ({e})", cgroup.display());
        StartError::usage(what, "name a cgroup below /sys/fs/cgroup; `systemd-cgls` shows them")
    };
    let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).map_err(fail)?;
    let mut pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in std::fs::read_dir(cgroup).map_err(fail)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // One that goes away meanwhile has nobody in it.
            pids.extend(processes_of(&entry.path()).unwrap_or_default());
        }
    }
    Ok(pids)
}

/// Every process but this one.
fn every_process() -> StartResult<Vec<u32>> {
    let entries = std::fs::read_dir("/proc")
        .map_err(|e| StartError::failure(format!("cannot read /proc ({e})"), "mount /proc"))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter(|pid| *pid != std::process::id()).collect())
}

const _: () = assert!(CODECS == 3);
