//! `cargo xtask coverage`: which lines of the engine the simulation runs.

use crate::{Outcome, cargo, root, run, target};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What the task takes.
pub const USAGE: &str = "\
  coverage                 lines of store, spill and recovery that `cargo test --test simulation`
                           runs, file by file, and those that it does not
";

/// What the simulation is for: the store with its recovery, the tiers and the memory they are in.
const MODULES: [&str; 7] = [
    "src/store",
    "src/spill",
    "src/pool",
    "src/table",
    "src/daemon/staging.rs",
    "src/daemon/spill_reads.rs",
    "src/daemon/grower.rs",
];

/// The pool's bookkeeping without memory, for `uswap simulate`: no part of a service.
const OF_THE_SIMULATOR: &str = "pool/ledger.rs";

/// Where LLVM's tools of this compiler are; rustup brings them if they are missing.
fn tools() -> Result<PathBuf, String> {
    let told = |words: &[&str]| -> Result<String, String> {
        let output = Command::new("rustc").args(words).output().map_err(|e| e.to_string())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (sysroot, version) = (told(&["--print", "sysroot"])?, told(&["-vV"])?);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not say its host")?;
    let dir = PathBuf::from(sysroot.trim()).join("lib/rustlib").join(host).join("bin");
    if !dir.join("llvm-cov").exists() {
        run(Command::new("rustup").args(["component", "add", "llvm-tools"]))?;
    }
    Ok(dir)
}

/// The test program that cargo's messages name.
fn program(messages: &str) -> Result<PathBuf, String> {
    let named = |line: &str| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        let (path, _) = rest.split_once('"')?;
        path.rsplit('/').next()?.starts_with("simulation-").then(|| PathBuf::from(path))
    };
    messages.lines().find_map(named).ok_or_else(|| "cargo names no simulation".to_owned())
}

/// The task.
pub fn task() -> Outcome {
    let (tools, built) = (tools()?, target().join("coverage"));
    let profiles = built.join("profiles");
    let _ = fs::remove_dir_all(&profiles);
    let mut build = cargo();
    build.args(["test", "--test", "simulation", "--no-run", "--message-format=json"]);
    build.env("RUSTFLAGS", "-Cinstrument-coverage").env("CARGO_TARGET_DIR", &built);
    build.env("LLVM_PROFILE_FILE", built.join("build-%p.profraw"));
    let output =
        build.stderr(std::process::Stdio::inherit()).output().map_err(|e| e.to_string())?;
    let program = program(&String::from_utf8_lossy(&output.stdout))?;
    let mut test = Command::new(&program);
    run(test.current_dir(root()).env("LLVM_PROFILE_FILE", profiles.join("%p.profraw")))?;
    let entries = fs::read_dir(&profiles).map_err(|e| e.to_string())?;
    let raw: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let merged = built.join("simulation.profdata");
    run(Command::new(tools.join("llvm-profdata"))
        .args(["merge", "--sparse", "-o"])
        .arg(&merged)
        .args(raw))?;
    let cov = |what: &str| {
        let mut cov = Command::new(tools.join("llvm-cov"));
        cov.arg(what).arg("--instr-profile").arg(&merged).arg(&program);
        cov.args(MODULES.map(|module| root().join(module)));
        cov
    };
    let output = cov("export").arg("--format=lcov").output().map_err(|e| e.to_string())?;
    show(&String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// The lines of a file's product and those that ran, of an lcov report, and their sums for each
/// directory; unit tests at the end of a file do not count.
fn show(lcov: &str) {
    let mut sums = BTreeMap::<&str, (usize, usize)>::new();
    for record in lcov.split("end_of_record") {
        let Some(path) = record.lines().find_map(|line| line.strip_prefix("SF:")) else { continue };
        if path.ends_with("tests.rs") || path.ends_with(OF_THE_SIMULATOR) {
            continue;
        }
        let text = fs::read_to_string(path).unwrap_or_default();
        let end = text.lines().position(|line| line == "#[cfg(test)]").unwrap_or(usize::MAX);
        let lines = record.lines().filter_map(|line| {
            let (number, count) = line.strip_prefix("DA:")?.split_once(',')?;
            Some((number.parse::<usize>().ok()?, count != "0"))
        });
        let lines: Vec<(usize, bool)> = lines.filter(|(number, _)| *number <= end).collect();
        let missed: Vec<usize> = lines.iter().filter(|(_, ran)| !ran).map(|(n, _)| *n).collect();
        let here = lines.len() - missed.len();
        let name = path.rsplit_once("/src/").map_or(path, |(_, name)| name);
        let (ran, all) = sums.entry(name.split('/').next().unwrap_or(name)).or_default();
        (*ran, *all) = (*ran + here, *all + lines.len());
        println!(
            "{:5.1} % of {:4} {name}: without {}",
            share(here, lines.len()),
            lines.len(),
            ranges(&missed)
        );
    }
    for (directory, (ran, all)) in &sums {
        println!("{:5.1} % of {all:4} {directory}", share(*ran, *all));
    }
    let (ran, all) = sums.values().fold((0, 0), |(a, b), (ran, all)| (a + ran, b + all));
    println!("{:5.1} % of {all:4} lines", share(ran, all));
}

fn share(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// `3-5 8` for 3, 4, 5 and 8.
fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let part = |(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    parts.iter().map(part).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_a_row_are_a_range() {
        assert_eq!(ranges(&[3, 4, 5, 8]), "3-5 8");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn the_program_is_found_among_messages() {
        let messages = "{\"executable\":null}\n{\"executable\":\"/t/deps/simulation-12ab\"}\n";
        assert_eq!(program(messages), Ok(PathBuf::from("/t/deps/simulation-12ab")));
        assert!(program("{}").is_err());
    }
}
