//! Developer tasks: `cargo xtask test | demo | vm | fuzz | deny | bench | setup`.
//!
//! Everything that needs a real kernel goes through `tests/vm/boot`; what these tasks add is
//! building, real pages to swap, several guests at a time, and one summary.

mod bench;
mod counts;
mod coverage;
mod deb;
mod demo;
mod deny;
mod experiment;
mod fuzz;
mod job;
mod measure;
mod pages;
mod profile;
mod steps;
mod study;
mod traces;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

/// What a task returns: nothing, or the line that says why not.
type Outcome = Result<(), String>;

const USAGE: &str = "\
usage: cargo xtask TASK
  test [--quick | --full] [--require-vm]
                           format, lints, tests, docs, a check for arm64, then every VM scenario,
                           most on both kernels (--full: all; --quick: only smoke, on the newest;
                           --require-vm, or CI in the environment: a skipped one is a failure)
  vm NAME [-k 6.12|new]    one scenario of tests/vm/scenarios, its output streamed
  demo                     swap real memory to uswap in a guest, verified, and show what was stored
  bench counts [-k 6.12|new] [--bless]
                           instructions for each page, beside bench/limits.toml (--bless: write it)
  bench profile [-k 6.12|new]
                           where the time of a swap-out goes, by perf in a guest (Markdown table)
  bench guests             the scenarios that only measure, which are no part of `test`
  screens                  the pictures of README, from a service at work in a guest
  deb                      the Debian package
  setup [--refresh]        QEMU, tools and kernels for the guests (asks the package manager)
";

/// Flags of `test`.
const TEST_FLAGS: [&str; 3] = ["--quick", "--full", "--require-vm"];

/// The top of the source tree: where the workspace's Cargo.toml is.
fn root() -> PathBuf {
    let here =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| "tests/xtask".into(), PathBuf::from);
    here.join("../..").canonicalize().unwrap_or(here)
}

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |d| root().join(d))
}

/// A cargo command that runs at the top of the source tree.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command that talks to the user by itself.
fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|e| format!("cannot start {command:?} ({e})"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

/// Runs a command that talks to nobody, with all output in `log`.
fn run_into(log: &Path, command: &mut Command) -> std::io::Result<ExitStatus> {
    log.parent().map_or(Ok(()), fs::create_dir_all)?;
    let file = fs::File::create(log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).status()
}

/// Packages, kernels: quick where they are already there.
fn setup(arguments: &[String]) -> Outcome {
    run(Command::new(root().join("tests/vm/setup")).args(arguments))
        .map_err(|e| format!("the guests cannot be set up: {e}"))
}

/// The programs that guests need, in release form, and `more` of the benches'. Not all there are:
/// each takes half a minute to link.
fn build(more: &[&str]) -> Outcome {
    let mut command = cargo();
    command.args(["build", "--quiet", "--release", "-p", "uswap", "-p", "uswap-bench"]);
    for program in job::OWN_PROGRAMS.iter().chain(more) {
        command.args(["--bin", program]);
    }
    run(&mut command)
}

fn vm(arguments: &[String]) -> Outcome {
    let (name, kernel) = match arguments {
        [name] => (name, "new"),
        [name, flag, kernel] if flag == "-k" => (name, kernel.as_str()),
        _ => return Err(format!("wrong words\n{USAGE}")),
    };
    let job = job::Job::find(name, kernel)?;
    setup(&[])?;
    build(&[])?;
    if job.wants_package() {
        deb::make()?;
    }
    if job.wants_pages() {
        pages::provide()?;
    }
    run(&mut job.command())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test", flags @ ..] if flags.iter().all(|f| TEST_FLAGS.contains(f)) => {
            let given = |flag: &str| flags.contains(&flag);
            let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
            let require_vm = given("--require-vm") || ci;
            match (given("--quick"), given("--full")) {
                (true, true) => Err("--quick or --full".into()),
                (true, false) => steps::test(steps::Extent::Quick, require_vm),
                (false, true) => steps::test(steps::Extent::Full, require_vm),
                (false, false) => steps::test(steps::Extent::Each, require_vm),
            }
        }
        ["vm", ..] => vm(&arguments[1..]),
        ["bench", "swap", ..] => bench::swap(&arguments[2..]),
        ["screens"] => measure::screens(),
        ["bench", "guests"] => steps::measure(),
        ["bench", words @ ..] => measure::measure(words),
        ["deb"] => deb::deb(),
        ["coverage"] => coverage::task(),
        ["demo"] => demo::demo(),
        ["deny"] => deny::task(false),
        ["deny", "--offline"] => deny::task(true),
        ["fuzz", words @ ..] => fuzz::task(words),
        ["experiment", ..] => experiment::task(&arguments[1..]),
        ["study"] => study::task(),
        ["traces", ..] => traces::task(&arguments[1..]),
        ["setup", ..] => setup(&arguments[1..]),
        _ => {
            eprint!("{USAGE}{}{}{}", experiment::USAGE, traces::USAGE, study::USAGE);
            eprint!("{}{}{}{}", fuzz::USAGE, coverage::USAGE, deny::USAGE, bench::USAGE);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
