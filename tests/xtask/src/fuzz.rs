//! `cargo xtask fuzz`: the fuzzers of tests/fuzz under libFuzzer, with what each knows so far.

use crate::{Outcome, root, run, target};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the task takes.
pub const USAGE: &str = "\
  fuzz [NAME...] [--seconds N]
                           lets libFuzzer look for inputs that fail, in one fuzzer or all, one
                           after the other, each for so long (default 60; needs a C++ compiler)
  fuzz --minimize NAME...  puts what was found into tests/fuzz/corpus, as little as covers as much
";

/// The instruments that libFuzzer reads, in all of our code and that of libraries.
const INSTRUMENTS: &str = "\
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// With a target named, programs that run while it is built have no instruments.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Longest input: what is checked is how things are read, not how many.
const INPUT_BYTES_MAX: u32 = 8192;
/// All of a corpus that is kept, its entries, and one of them.
const KEPT_BYTES_MAX: usize = 12 << 10;
const KEPT_ENTRIES_MAX: usize = 64;
const KEPT_ENTRY_BYTES_MAX: u64 = 2048;

fn corpora() -> PathBuf {
    root().join("tests/fuzz/corpus")
}

fn names() -> Result<Vec<String>, String> {
    let entries = fs::read_dir(corpora()).map_err(|e| format!("{}: {e}", corpora().display()))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Builds the program of all fuzzers.
fn build() -> Result<PathBuf, String> {
    let built = target().join("fuzz");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root().join("tests/fuzz/libfuzzer"));
    cargo.args(["build", "--quiet", "--release", "--target", TRIPLE]);
    cargo.env("CARGO_TARGET_DIR", &built).env("RUSTFLAGS", INSTRUMENTS);
    run(&mut cargo)?;
    Ok(built.join(TRIPLE).join("release/uswap-fuzz"))
}

/// Where a fuzzer keeps what it has seen.
fn seen(name: &str) -> PathBuf {
    target().join("fuzz/seen").join(name)
}

fn make(dir: &Path) -> Outcome {
    fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))
}

fn command(program: &Path, name: &str) -> Command {
    let mut command = Command::new(program);
    command.env("USWAP_FUZZER", name).arg(format!("-max_len={INPUT_BYTES_MAX}"));
    command
}

/// Lets a fuzzer run; what it finds is an error that names the input.
fn fuzz(program: &Path, name: &str, seconds: u32) -> Outcome {
    make(&seen(name))?;
    println!("fuzz {name} for {seconds} s");
    let mut command = command(program, name);
    command.arg(format!("-max_total_time={seconds}"));
    command.args(["-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/found-{name}-", target().join("fuzz").display()));
    run(command.arg(seen(name)).arg(corpora().join(name)))
}

/// Keeps as few and as short inputs as cover what all do, up to a bound.
fn minimize(program: &Path, name: &str) -> Outcome {
    let (all, kept) = (target().join("fuzz/small").join(name), corpora().join(name));
    let _ = fs::remove_dir_all(&all);
    make(&all)?;
    run(command(program, name).arg("-merge=1").args([&all, &kept, &seen(name)]))?;
    let entries = fs::read_dir(&all).map_err(|e| e.to_string())?;
    let mut paths: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.len(), entry.path()))
        })
        .filter(|(len, _)| *len <= KEPT_ENTRY_BYTES_MAX)
        .collect();
    paths.sort();
    // Short and long ones alike, where not all can be kept.
    let bytes: u64 = paths.iter().map(|(len, _)| len).sum();
    let share = (bytes as usize).div_ceil(KEPT_BYTES_MAX);
    let share = share.max(paths.len().div_ceil(KEPT_ENTRIES_MAX)).max(1);
    fs::remove_dir_all(&kept).map_err(|e| e.to_string())?;
    make(&kept)?;
    for (number, (_, path)) in paths.iter().step_by(share).enumerate() {
        fs::copy(path, kept.join(format!("{number:03}"))).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The task.
pub fn task(words: &[&str]) -> Outcome {
    let (mut chosen, mut seconds, mut minimal) = (Vec::new(), 60, false);
    let mut words = words.iter();
    let all = names()?;
    while let Some(word) = words.next() {
        match *word {
            "--minimize" => minimal = true,
            "--seconds" => {
                let number = words.next().and_then(|word| word.parse().ok());
                seconds = number.ok_or("--seconds takes a number")?;
            }
            name if all.iter().any(|known| known == name) => chosen.push(name.to_owned()),
            other => return Err(format!("no fuzzer {other}; there are: {}", all.join(" "))),
        }
    }
    let chosen = if chosen.is_empty() { all } else { chosen };
    let program = build()?;
    chosen.iter().try_for_each(|name| match minimal {
        true => minimize(&program, name),
        false => fuzz(&program, name, seconds),
    })
}
