//! `cargo xtask bench counts` and `bench profile`: one scenario each, and what its log says.

use crate::counts::{self, Run};
use crate::job::{End, Job};
use crate::profile::Samples;
use crate::{Outcome, USAGE, build, pages, setup, target};
use std::fs;
use std::path::PathBuf;

/// Runs a scenario into its log, which is also what the tests write; the text of the log.
fn run_logged(job: &Job) -> Result<String, String> {
    let directory: PathBuf = target().join("vm");
    fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let log = directory.join(format!("{}-{}.log", job.name, job.kernel));
    let end = job.run_to(&log);
    let text = fs::read(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    match end {
        End::Passed => Ok(text),
        End::Skipped(why) => Err(format!("{} cannot run here: {why}", job.name)),
        End::Failed(why) => Err(format!("{}: {why}; all of it: {}", job.name, log.display())),
    }
}

/// Counts on each kernel; with `bless` they become the limits.
fn count(kernels: &[&str], bless: bool) -> Outcome {
    setup(&[])?;
    build()?;
    let mut failures = Vec::new();
    for kernel in kernels {
        let run = Run::parse(&run_logged(&Job::find("counts", kernel)?)?);
        if bless {
            counts::bless(kernel, &run)?;
        }
        failures.extend(counts::show(kernel, &run).err());
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// Samples of a swap-out as a Markdown table.
fn profile(kernel: &str) -> Outcome {
    setup(&[])?;
    build()?;
    pages::provide()?;
    let samples = Samples::parse(&run_logged(&Job::profile(kernel)?)?)?;
    let functions = samples.resolve(&target().join("release/uswap"))?;
    print!("{}", samples.table(&functions));
    Ok(())
}

/// `counts`, `profile`.
pub fn measure(words: &[&str]) -> Outcome {
    match words {
        ["counts"] => count(&["6.12", "new"], false),
        ["counts", "--bless"] => count(&["6.12", "new"], true),
        ["counts", "-k", kernel] => count(&[kernel], false),
        ["profile"] => profile("new"),
        ["profile", "-k", kernel] => profile(kernel),
        _ => Err(format!("wrong words\n{USAGE}")),
    }
}
