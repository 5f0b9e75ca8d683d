//! `cargo xtask bench counts` and `bench profile`: one scenario each, and what its log says.

use crate::counts::{self, Run};
use crate::job::{End, Job};
use crate::profile::Samples;
use crate::{Outcome, USAGE, build, pages, root, run, setup, target};
use std::process::Command;

/// Runs a scenario that must pass; what it printed.
fn run_logged(job: &Job) -> Result<String, String> {
    match job.run() {
        (End::Passed, text) => Ok(text),
        (End::Skipped(why), _) => Err(format!("{} cannot run here: {why}", job.name)),
        (End::Failed(why), _) => {
            Err(format!("{}: {why}; all of it: {}", job.name, job.log().display()))
        }
    }
}

/// Counts on each kernel; with `bless` they become the limits.
fn count(kernels: &[&str], bless: bool) -> Outcome {
    setup(&[])?;
    build(&[])?;
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
    build(&[])?;
    pages::provide()?;
    let samples = Samples::parse(&run_logged(&Job::of_bench("profile", kernel)?)?)?;
    let functions = samples.resolve(&target().join("release/uswap"))?;
    print!("{}", samples.table(&functions));
    Ok(())
}

/// The pictures of README: a service at work in a guest, as `uswap top` and the dashboard show it.
pub fn screens() -> Outcome {
    setup(&[])?;
    build(&["screens"])?;
    pages::provide()?;
    let job = Job::of_bench("screens", "new")?;
    run_logged(&job)?;
    let mut command = Command::new(target().join("release/screens"));
    command.arg(job.log()).arg("--work").arg(target().join("vm/screens"));
    run(command.arg("--out").arg(root().join("docs")))
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
