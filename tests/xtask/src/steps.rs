//! `cargo xtask test`: everything, counted.

use crate::job::{End, Job};
use crate::{Outcome, build, cargo, counts, deb, pages, run_into, setup, target};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

/// Lines of a failed log to show.
const TAIL_LINES: usize = 40;
/// Guests at a time: each has two CPUs and up to 2 GiB.
const GUESTS_MAX: usize = 2;

/// The count that ends a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn of(end: &End) -> Self {
        match end {
            End::Passed => Self { passed: 1, ..Self::default() },
            End::Failed(_) => Self { failed: 1, ..Self::default() },
            End::Skipped(_) => Self { skipped: 1, ..Self::default() },
        }
    }

    fn line(self) -> String {
        let skipped =
            if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }
}

/// What libtest or nextest printed of single tests.
fn count_tests(output: &str) -> Tally {
    let number = |words: &[&str], what: &str| -> u32 {
        let at = words.iter().position(|w| w.trim_end_matches([';', ',', '.']) == what);
        at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
    };
    let mut tally = Tally::default();
    for line in output.lines().map(str::trim) {
        if line.starts_with("test result:") || line.starts_with("Summary [") {
            let words: Vec<&str> = line.split_whitespace().collect();
            tally.passed += number(&words, "passed");
            tally.failed += number(&words, "failed");
        }
    }
    tally
}

fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|l| format!("    {l}\n")).collect()
}

fn report(what: &str, end: &End, begin: Instant, log: &Path) {
    let seconds = begin.elapsed().as_secs();
    match end {
        End::Passed => println!("PASS {what} ({seconds} s)"),
        End::Skipped(why) => println!("SKIPPED {what}: NOT TESTED, because {why}"),
        End::Failed(why) => {
            print!("FAIL {what} ({seconds} s): {why}\n{}", tail(log));
            println!("    all of it: {}", log.display());
        }
    }
}

/// Runs one cargo step into its log; single tests it ran count instead of the step where there are
/// any.
fn step(name: &str, command: &mut Command, logs: &Path) -> Tally {
    let begin = Instant::now();
    let log = logs.join(format!("{name}.log"));
    let end = match run_into(&log, command) {
        Ok(status) if status.success() => End::Passed,
        Ok(_) => End::Failed("see below".into()),
        Err(e) => End::Failed(format!("cannot start ({e})")),
    };
    report(name, &end, begin, &log);
    let mut tally = count_tests(&fs::read_to_string(&log).unwrap_or_default());
    // A step can fail without a failed test (it does not compile), and a test step without tests is
    // one thing.
    if tally == Tally::default() || (tally.failed == 0 && end != End::Passed) {
        tally.add(Tally::of(&end));
    }
    tally
}

/// `complete`: a test that lacks a program of this machine fails instead of saying so.
fn cargo_steps(logs: &Path, complete: bool) -> Tally {
    let mut tally = Tally::default();
    tally.add(step("fmt", cargo().args(["fmt", "--all", "--check"]), logs));
    let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    tally.add(step("clippy", cargo().args(lints), logs));
    let tests = |words: &[&str], complete| {
        let mut command = cargo();
        command.args(words);
        if complete {
            command.env("USWAP_TEST_ALL", "1");
        }
        command
    };
    let nextest = cargo().args(["nextest", "--version"]).output();
    if nextest.is_ok_and(|o| o.status.success()) {
        let all = ["nextest", "run", "--workspace", "--no-fail-fast"];
        tally.add(step("test", &mut tests(&all, complete), logs));
        tally.add(step("doctest", cargo().args(["test", "--workspace", "--doc"]), logs));
    } else {
        tally.add(step(
            "test",
            &mut tests(&["test", "--workspace", "--no-fail-fast"], complete),
            logs,
        ));
    }
    let doc = ["doc", "--workspace", "--no-deps"];
    tally.add(step("doc", cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"), logs));
    tally
}

/// Whether the program builds for arm64 as well. What is C in its dependencies wants a compiler,
/// which setup provides. A machine that cannot get what it takes says so and goes on: no other
/// check depends on it.
fn arm64(logs: &Path) -> Tally {
    const TARGET: &str = "aarch64-unknown-linux-gnu";
    let runs = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output();
        output.is_ok_and(|output| output.status.success())
    };
    let lacks = match () {
        () if !runs("rustup", &["target", "add", TARGET]) => "rustup cannot add its target",
        () if !runs("aarch64-linux-gnu-gcc", &["--version"]) => "there is no C compiler for it",
        () => {
            let words = ["check", "--package", "uswap", "--target", TARGET];
            return step("arm64", cargo().args(words), logs);
        }
    };
    let end = End::Skipped(lacks.into());
    report("arm64", &end, Instant::now(), logs);
    Tally::default()
}

/// All jobs, a few at a time, then those that measure time one by one; the lines that scenarios
/// mark RESULT are shown together at the end.
fn run_jobs(jobs: Vec<Job>) -> Tally {
    let (alone, together): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(Job::wants_machine);
    let guests = std::thread::available_parallelism().map_or(1, |n| n.get().min(GUESTS_MAX));
    let (mut tally, mut lines) = run_batch(together, guests);
    let (more, more_lines) = run_batch(alone, 1);
    tally.add(more);
    lines.extend(more_lines);
    lines.sort();
    for line in lines {
        println!("MEASURED {line}");
    }
    tally
}

fn run_batch(jobs: Vec<Job>, guests: usize) -> (Tally, Vec<String>) {
    let results = Mutex::new((Tally::default(), Vec::new()));
    let waiting = Mutex::new(jobs.into_iter());
    let work = || {
        loop {
            let Some(job) = waiting.lock().ok().and_then(|mut jobs| jobs.next()) else { return };
            let begin = Instant::now();
            let what = format!("vm {} on {}", job.name, job.kernel);
            let (mut end, text) = job.run();
            if end == End::Passed && job.has_limits() {
                end = counts::gate(&text, &job.kernel);
            }
            let lines = text.lines().filter_map(|l| l.strip_prefix("RESULT "));
            if let Ok(mut results) = results.lock() {
                report(&what, &end, begin, &job.log());
                results.0.add(Tally::of(&end));
                results.1.extend(lines.map(|l| format!("{:5} {l}", job.kernel)));
            }
        }
    };
    std::thread::scope(|scope| (0..guests).for_each(|_| drop(scope.spawn(work))));
    results.into_inner().unwrap_or_default()
}

/// What stands between us and the guests: something the machine lacks (skip) or something broken
/// here (fail).
fn prepare(there: Outcome) -> End {
    if let Err(why) = there {
        return End::Skipped(why);
    }
    // Without the package its own scenario says so and is skipped.
    let package = deb::make();
    if let Err(why) = package {
        println!("no package: {why}");
    }
    match build(&[]).and_then(|()| pages::provide()) {
        Ok(()) => End::Passed,
        Err(why) => End::Failed(why),
    }
}

/// What a whole run amounts to. Where guests are required, one that was skipped is no success.
fn verdict(tally: Tally, require_vm: bool) -> Outcome {
    if tally.failed > 0 {
        return Err("something failed; the lines above say what".into());
    }
    if require_vm && tally.skipped > 0 {
        return Err(format!(
            "{} steps or VM scenarios were skipped, and this run requires all of them \
             (--require-vm, or CI in the environment); the lines above say what the machine lacks",
            tally.skipped
        ));
    }
    Ok(())
}

/// All scenarios that only measure, one by one; they must still end well.
pub fn measure() -> Outcome {
    setup(&[])?;
    build(&[])?;
    pages::provide()?;
    let tally = run_jobs(Job::measuring()?);
    println!("{}", tally.line());
    verdict(tally, true)
}

/// How much to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Of the guests one.
    Quick,
    /// Every scenario.
    Each,
    /// Every scenario on every kernel that it names.
    Full,
}

/// All checks. With `require_vm` none may be skipped.
pub fn test(extent: Extent, require_vm: bool) -> Outcome {
    // First, because it also provides what tests of this machine run.
    let there = setup(&[]);
    let logs = target().join("vm");
    let mut tally = cargo_steps(&logs, require_vm);
    if extent != Extent::Quick {
        tally.add(arm64(&logs));
    }
    let jobs = match extent {
        Extent::Quick => vec![Job::find("smoke", "new")?],
        Extent::Each => Job::all(false)?,
        Extent::Full => Job::all(true)?,
    };
    match prepare(there) {
        End::Passed => tally.add(run_jobs(jobs)),
        End::Failed(why) => {
            println!("FAIL all VM scenarios: {why}");
            tally.failed += u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        }
        End::Skipped(why) => {
            println!("SKIPPED all VM scenarios: NOT TESTED, because {why}");
            tally.skipped += u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        }
    }
    println!("{}", tally.line());
    verdict(tally, require_vm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_tests_are_counted() {
        let libtest = "running 3 tests\n\
                       test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured\n\
                       test result: ok. 5 passed; 0 failed; 0 ignored\n";
        assert_eq!(count_tests(libtest), Tally { passed: 7, failed: 1, skipped: 0 });
        let nextest = "     Summary [   0.3s] 9 tests run: 8 passed, 1 failed, 0 skipped\n";
        assert_eq!(count_tests(nextest), Tally { passed: 8, failed: 1, skipped: 0 });
        assert_eq!(count_tests("Compiling\n"), Tally::default());
    }

    #[test]
    fn a_skipped_scenario_fails_a_run_that_requires_it() {
        let skipped = Tally { passed: 3, failed: 0, skipped: 2 };
        assert_eq!(verdict(skipped, false), Ok(()));
        assert!(
            verdict(skipped, true).unwrap_err().contains("2 steps or VM scenarios were skipped")
        );
        assert_eq!(verdict(Tally { skipped: 0, ..skipped }, true), Ok(()));
        assert!(verdict(Tally { failed: 1, ..skipped }, false).is_err());
    }

    #[test]
    fn the_last_line_has_its_form() {
        assert_eq!(Tally { passed: 3, failed: 1, skipped: 0 }.line(), "3 passed, 1 failed");
        assert_eq!(
            Tally { passed: 3, failed: 0, skipped: 2 }.line(),
            "3 passed, 0 failed, 2 skipped"
        );
    }
}
