//! `cargo xtask bench swap`: the swap path of uswap, zram and zswap measured in one boot.

use crate::job::Job;
use crate::{Outcome, build, pages, root, run, setup, target};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// What `bench swap` takes.
pub const USAGE: &str = "\
  bench swap [--quick] [-k 6.12|new] [--out DIR] [--targets 'T...'] [--rounds N] [--mib N]
      [--pressure-seconds N] [--faults N] [--page-cluster N] [-- FLAGS OF uswap run...]
                           swap-out, swap-in and pressure on uswap, zram and zswap in one guest;
                           table here, JSON and plots in DIR (bench/results); --quick: one round of
                           uswap null, uswap lz4 and zram lz4 in under a minute, table only
";

/// Words for the scenario that every run has, unless said otherwise.
const FULL: [(&str, &str); 4] =
    [("--rounds", "3"), ("--mib", "96"), ("--pressure-seconds", "4"), ("--faults", "8192")];
const QUICK: [(&str, &str); 5] = [
    ("--targets", "uswap-null uswap-lz4 zram-lz4"),
    ("--rounds", "1"),
    ("--mib", "64"),
    ("--pressure-seconds", "3"),
    ("--faults", "4096"),
];
/// Flags of the scenario that take a value.
const VALUES: [&str; 6] =
    ["--targets", "--rounds", "--mib", "--pressure-seconds", "--faults", "--page-cluster"];
/// A boot that takes longer has got stuck.
const SECONDS_MAX: &str = "2400";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    quick: bool,
    kernel: String,
    out: Option<String>,
    /// For the scenario.
    arguments: Vec<String>,
}

impl Wanted {
    fn parse(words: &[String]) -> Result<Self, String> {
        let split = words.iter().position(|w| w == "--").unwrap_or(words.len());
        let (own, rest) = words.split_at(split);
        let quick = own.iter().any(|w| w == "--quick");
        let mut wanted = Self { quick, kernel: "new".into(), out: None, arguments: Vec::new() };
        if !quick {
            wanted.out = Some(root().join("bench/results").display().to_string());
        }
        // The scenario takes the last of two equal flags, so what is given wins.
        let defaults = if quick { &QUICK[..] } else { &FULL[..] };
        let pairs = defaults.iter().flat_map(|(flag, value)| [*flag, *value]);
        wanted.arguments.extend(pairs.map(str::to_owned));
        let mut own = own.iter().filter(|w| *w != "--quick");
        while let Some(word) = own.next() {
            let mut value = || own.next().cloned().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "-k" => wanted.kernel = value()?,
                "--out" => wanted.out = Some(value()?),
                flag if VALUES.contains(&flag) => wanted.arguments.extend([flag.into(), value()?]),
                other => return Err(format!("unknown word {other}\n{USAGE}")),
            }
        }
        wanted.arguments.extend_from_slice(rest);
        Ok(wanted)
    }
}

/// Runs the command with its output shown and kept in `log`.
fn watch(command: &mut Command, log: &Path) -> Outcome {
    let fail = |e: std::io::Error| format!("{}: {e}", log.display());
    let mut kept = fs::File::create(log).map_err(fail)?;
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|e| format!("cannot start {command:?} ({e})"))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            writeln!(kept, "{line}").map_err(fail)?;
            // The results are shown as a table in the end.
            if !line.starts_with("SWAPBENCH ") {
                println!("{line}");
                let _ = std::io::stdout().flush();
            }
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("the guest failed ({status}), see above")) }
}

/// One line of a program's output; nothing if it is not there or fails.
fn line_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    let good = output.ok().filter(|o| o.status.success());
    good.map_or_else(String::new, |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

/// Builds, boots, measures, sums up.
pub fn swap(words: &[String]) -> Outcome {
    let wanted = Wanted::parse(words)?;
    let job = Job::find("swapbench", &wanted.kernel)?;
    setup(&[])?;
    build(&["swapreport"])?;
    pages::provide()?;
    let log = target().join("vm/swapbench.out");
    watch(&mut job.command_with(&["-t", SECONDS_MAX], &wanted.arguments), &log)?;
    let mut report = Command::new(target().join("release/swapreport"));
    report.arg(&log).args(["--settings", &wanted.arguments.join(" ")]);
    report.args(["--date", &line_of("date", &["-u", "+%F"])]);
    let commit = line_of("git", &["describe", "--always", "--dirty", "--exclude=*"]);
    report.args(["--commit", &commit]);
    if let Some(out) = &wanted.out {
        report.args(["--out", out]);
    }
    run(&mut report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn flags_for_the_server_come_last_and_untouched() {
        let wanted = Wanted::parse(&words("--quick --mib 32 -k 6.12 -- --queues 1 --mib")).unwrap();
        assert_eq!((wanted.quick, wanted.kernel.as_str(), wanted.out), (true, "6.12", None));
        let line = wanted.arguments.join(" ");
        assert!(line.ends_with("--faults 4096 --mib 32 -- --queues 1 --mib"), "{line}");
    }

    #[test]
    fn a_full_run_leaves_files_and_unknown_words_are_refused() {
        assert!(Wanted::parse(&[]).unwrap().out.unwrap().ends_with("bench/results"));
        assert!(Wanted::parse(&words("--fast")).unwrap_err().contains("--fast"));
        assert!(Wanted::parse(&words("--mib")).unwrap_err().contains("needs a value"));
    }
}
