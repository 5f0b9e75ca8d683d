//! One boot of one scenario.

use crate::{root, run_into, target};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Programs of this workspace that scenarios may name in `# requires:`.
pub const OWN_PROGRAMS: [&str; 7] =
    ["uswap", "hog", "killer", "capture", "swapbench", "opcount", "workload"];
/// `boot` ends with it where something is missing on this machine (see its head).
const CANNOT_RUN: i32 = 77;

/// A scenario on a kernel.
#[derive(Clone, Debug)]
pub struct Job {
    /// Scenario name, or `selftest`.
    pub name: String,
    /// `6.12` or `new`.
    pub kernel: String,
    script: PathBuf,
    text: String,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Status 0.
    Passed,
    /// Anything else.
    Failed(String),
    /// Something the machine lacks.
    Skipped(String),
}

/// The value of a `# key: value` line.
fn header<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines()
        .take_while(|line| line.starts_with('#'))
        .find_map(|line| line.strip_prefix("# ")?.strip_prefix(key)?.strip_prefix(':'))
        .unwrap_or("")
        .trim()
}

/// Why a boot was skipped, from its output.
fn skip_reason(output: &str) -> &str {
    output.lines().rev().find_map(|l| l.strip_prefix("VM SKIP ")).unwrap_or("no reason given")
}

impl Job {
    /// The scenario `name` for `kernel`.
    pub fn find(name: &str, kernel: &str) -> Result<Self, String> {
        match name {
            "systemd" => return Ok(Self::systemd(kernel)),
            "experiment" => return Ok(Self::experiment()),
            _ => {}
        }
        let script = root().join(format!("tests/vm/scenarios/{name}.sh"));
        Self::read(name, kernel, script).map_err(|_| {
            let names: Vec<String> = names().unwrap_or_default();
            format!("no scenario {name}; there are: {}", names.join(" "))
        })
    }

    /// `profile` or `screens`, which are no tests.
    pub fn of_bench(name: &str, kernel: &str) -> Result<Self, String> {
        Self::read(name, kernel, root().join(format!("bench/{name}.sh")))
    }

    fn read(name: &str, kernel: &str, script: PathBuf) -> Result<Self, String> {
        let text = fs::read_to_string(&script).map_err(|e| format!("{}: {e}", script.display()))?;
        Ok(Self { name: name.into(), kernel: kernel.into(), script, text })
    }

    /// The package under a real systemd, which boots by itself.
    pub fn systemd(kernel: &str) -> Self {
        let script = root().join("tests/vm/systemd");
        Self { name: "systemd".into(), kernel: kernel.into(), script, text: String::new() }
    }

    /// A short experiment, from its file to its report. By its name only: its four guests take
    /// minutes (425 s beside a load of 9).
    pub fn experiment() -> Self {
        let script = crate::experiment::program();
        Self { name: "experiment".into(), kernel: "new".into(), script, text: String::new() }
    }

    /// Whether it installs the Debian package.
    pub fn wants_package(&self) -> bool {
        self.name == "systemd"
    }

    /// The harness's own test, on the newest kernel.
    pub fn selftest() -> Self {
        let script = root().join("tests/vm/selftest");
        Self { name: "selftest".into(), kernel: "new".into(), script, text: String::new() }
    }

    /// What `test` runs, the longest first: every scenario that shows something true or false, and
    /// the package under systemd. With `full` on every kernel that it names; without, those that
    /// depend little on the kernel only where they say (`# test:`).
    pub fn all(full: bool) -> Result<Vec<Self>, String> {
        let mut jobs = vec![Self::selftest(), Self::systemd("6.12"), Self::systemd("new")];
        let wanted = |job: &Self| !job.only_measures() && (full || job.is_in_each_test());
        jobs.extend(scenarios()?.into_iter().filter(wanted));
        jobs.sort_by_key(|job| std::cmp::Reverse(job.seconds()));
        Ok(jobs)
    }

    fn is_in_each_test(&self) -> bool {
        let mut kernels = header(&self.text, "test").split_whitespace().peekable();
        kernels.peek().is_none() || kernels.any(|kernel| kernel == self.kernel)
    }

    /// What `bench guests` runs: those that give numbers to compare, whose absolute values say
    /// nothing.
    pub fn measuring() -> Result<Vec<Self>, String> {
        Ok(scenarios()?.into_iter().filter(Self::only_measures).collect())
    }

    fn only_measures(&self) -> bool {
        header(&self.text, "measures") == "yes"
    }

    fn seconds(&self) -> u32 {
        header(&self.text, "seconds").parse().unwrap_or(300)
    }

    /// Whether it measures time, so that nothing else should run beside it.
    pub fn wants_machine(&self) -> bool {
        header(&self.text, "alone") == "yes"
    }

    /// Whether what it counts has limits.
    pub fn has_limits(&self) -> bool {
        header(&self.text, "limits") == "yes"
    }

    /// Whether it needs captured pages.
    pub fn wants_pages(&self) -> bool {
        header(&self.text, "disk") == "pages" || self.name == "experiment"
    }

    /// The boot command.
    pub fn command(&self) -> Command {
        self.command_with(&[], &[])
    }

    /// The same with more options for `boot` and with arguments for the scenario.
    pub fn command_with(&self, options: &[&str], arguments: &[String]) -> Command {
        if self.name == "selftest" {
            return Command::new(&self.script);
        }
        if self.name == "experiment" {
            let mut command = Command::new(&self.script);
            command.arg("experiment").arg(root().join("bench/experiments/short.toml"));
            command.arg("--harness").arg(root().join("tests/vm"));
            command.arg("--pages").arg(crate::pages::path());
            command.arg("--out").arg(target().join("vm/experiment"));
            return command;
        }
        if self.wants_package() {
            let mut command = Command::new(&self.script);
            command.args(["-k", &self.kernel]).arg(crate::deb::path());
            return command;
        }
        let mut command = Command::new(root().join("tests/vm/boot"));
        command.args(["-k", &self.kernel]).args(options);
        for program in header(&self.text, "requires").split_whitespace() {
            if OWN_PROGRAMS.contains(&program) {
                command.arg("-b").arg(target().join("release").join(program));
            }
        }
        if self.wants_pages() {
            command.arg("-d").arg(crate::pages::path());
        }
        if header(&self.text, "disk") == "programs" {
            command.arg("-d").arg(crate::traces::programs());
        }
        command.arg(&self.script).args(arguments);
        command
    }

    /// Where [`Self::run`] keeps what it prints.
    pub fn log(&self) -> PathBuf {
        target().join(format!("vm/{}-{}.log", self.name, self.kernel))
    }

    /// Runs it with all output in its log, which is returned. The boot has its own time limit.
    pub fn run(&self) -> (End, String) {
        self.run_with(&[], &[])
    }

    /// The same with more options for `boot` and with arguments for the scenario.
    pub fn run_with(&self, options: &[&str], arguments: &[String]) -> (End, String) {
        let log = self.log();
        let status = run_into(&log, &mut self.command_with(options, arguments));
        let output = fs::read(&log).unwrap_or_default();
        let output = String::from_utf8_lossy(&output).into_owned();
        let end = match status {
            Ok(status) if status.success() => End::Passed,
            Ok(status) if status.code() == Some(CANNOT_RUN) => {
                End::Skipped(skip_reason(&output).into())
            }
            Ok(status) => {
                let marks = ["FAIL: ", "VM FAIL ", "uswap: "];
                let tells = |l: &&str| marks.iter().any(|mark| l.starts_with(mark));
                let why = output.lines().rev().find(tells);
                End::Failed(why.map_or_else(|| status.to_string(), str::to_owned))
            }
            Err(e) => End::Failed(format!("cannot start ({e})")),
        };
        (end, output)
    }
}

/// On every kernel that they name.
fn scenarios() -> Result<Vec<Job>, String> {
    let mut jobs = Vec::new();
    for name in names()? {
        let any = Job::find(&name, "")?;
        let kernels = header(&any.text, "kernels").split_whitespace();
        jobs.extend(kernels.map(|k| Job { kernel: k.into(), ..any.clone() }));
    }
    Ok(jobs)
}

fn names() -> Result<Vec<String>, String> {
    let directory = root().join("tests/vm/scenarios");
    let entries = fs::read_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|e| Some(e.ok()?.file_name().to_str()?.strip_suffix(".sh")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_end_where_the_script_begins() {
        let text = "# desc: a\n# memory: 700\n. /vm/lib.sh\n# seconds: 9\n";
        assert_eq!(header(text, "memory"), "700");
        assert_eq!(header(text, "seconds"), "");
    }

    #[test]
    fn every_scenario_says_what_it_needs() {
        let mut jobs = Job::all(true).unwrap();
        assert!(jobs.len() > 10);
        jobs.extend(Job::measuring().unwrap());
        assert!(jobs.iter().any(Job::has_limits), "nothing is held to bench/limits.toml");
        for job in jobs.iter().filter(|job| !job.text.is_empty()) {
            for key in ["desc", "requires", "kernels", "memory", "seconds", "smp"] {
                assert_ne!(header(&job.text, key), "", "{} has no `# {key}:`", job.name);
            }
            assert!(["6.12", "new"].contains(&job.kernel.as_str()), "{}", job.name);
        }
    }

    #[test]
    fn what_only_measures_is_no_test_and_has_the_machine_to_itself() {
        let measuring = Job::measuring().unwrap();
        assert!(!measuring.is_empty() && measuring.iter().all(Job::wants_machine));
        let tested = Job::all(true).unwrap();
        assert!(tested.iter().all(|job| measuring.iter().all(|other| other.name != job.name)));
    }

    #[test]
    fn each_test_runs_every_scenario_of_the_full_one_on_some_kernel() {
        let (each, full) = (Job::all(false).unwrap(), Job::all(true).unwrap());
        assert!(each.len() < full.len());
        for job in &full {
            assert!(each.iter().any(|other| other.name == job.name), "{} in none", job.name);
        }
    }

    #[test]
    fn a_skip_carries_its_reason() {
        assert_eq!(skip_reason("x\nVM SKIP this machine has no fio\n"), "this machine has no fio");
    }
}
