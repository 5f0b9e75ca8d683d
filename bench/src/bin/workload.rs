//! `workload`: memory that is used in a way that can be described, while it is swapped.
//!
//! Every page is real memory with a stamp, compared with what was written whenever it is touched
//! and once more in the end. Prints one line of JSON ([`uswap_bench::workload::Summary`]).

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use uswap::error::{StartError, StartResult};
use uswap_bench::workload::collector::{Collector, CollectorArgs};
use uswap_bench::workload::forks::{Forks, ForksArgs};
use uswap_bench::workload::machine;
use uswap_bench::workload::phases::{Phases, PhasesArgs};
use uswap_bench::workload::scan::{Scan, ScanArgs};
use uswap_bench::workload::zipf::{Zipf, ZipfArgs};
use uswap_bench::workload::{Common, Pattern, run};

/// Accesses in a second of a trace, if nobody says.
const PER_SECOND: u32 = 1000;

/// Uses memory in a way of its own until it swaps, and verifies every page.
#[derive(Debug, Parser)]
#[command(name = "workload")]
struct Arguments {
    #[command(subcommand)]
    kind: Kind,
}

/// Which way.
#[derive(Debug, Subcommand)]
enum Kind {
    /// Pages as popular as words: few are touched often, most seldom
    Zipf(ZipfArgs),
    /// A hot set beside scans in a loop and scans that come once
    Scan(ScanArgs),
    /// A working set that changes from time to time
    Phases(PhasesArgs),
    /// Child processes that change a copy of some memory, and end
    Forks(ForksArgs),
    /// Allocation, ageing, and a collector that goes over all of the heap
    Collector(CollectorArgs),
}

impl Kind {
    fn parts(&self) -> StartResult<(&'static str, &Common, Box<dyn Pattern>)> {
        let wrong = |what| StartError::usage(what, "give smaller parts");
        Ok(match self {
            Self::Zipf(args) => ("zipf", &args.common, Box::new(Zipf::new(args))),
            Self::Scan(args) => ("scan", &args.common, Box::new(Scan::new(args).map_err(wrong)?)),
            Self::Phases(args) => ("phases", &args.common, Box::new(Phases::new(args))),
            Self::Forks(args) => ("forks", &args.common, Box::new(Forks::new(args))),
            Self::Collector(args) => ("collector", &args.common, Box::new(Collector::new(args))),
        })
    }
}

fn work(arguments: &Arguments) -> StartResult<()> {
    let (name, common, mut pattern) = arguments.kind.parts()?;
    if common.check {
        return Ok(());
    }
    if let (Some(path), Some(ram_mib), Some(operations)) =
        (&common.trace, common.limit_mib, common.operations)
    {
        let numbers = (ram_mib, common.per_second.unwrap_or(PER_SECOND), operations);
        let done = machine::record(name, common, numbers, pattern.as_mut(), path)?;
        println!("{done} accesses");
        return Ok(());
    }
    let summary = run(name, common, pattern.as_mut())?;
    let line = serde_json::to_string(&summary)
        .map_err(|e| StartError::failure(format!("no JSON ({e})"), "report this"))?;
    println!("{line}");
    Ok(())
}

fn main() -> ExitCode {
    uswap_bench::exit("workload", work(&Arguments::parse()))
}
