//! `uswap experiment` from the file to the report, with a harness that only says it has booted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Notes its words, and prints what a guest would: a value that depends on how often it ran and on
/// the codec. A variant with `--depth 9` fails.
const BOOT: &str = r#"#!/bin/bash
cd "$(dirname "$0")"
echo "$*" >>calls
case "$*" in *'--depth 9'*) echo 'FAIL: on purpose'; exit 1 ;; esac
value=$(wc -l <calls)
case "$*" in *'--codec zstd'*) value=$((value + 100)) ;; esac
echo 'EXPERIMENT workload {"operations_per_second": '$value', "operations": 9, "major_faults": 3}'
echo 'EXPERIMENT fullest {"pages": {"stored": 7}}'
echo 'EXPERIMENT after {"kernel": "7.3-fake", "version": "0.1.0", "counters": {}}'
"#;
const WORKLOAD: &str = r#"#!/bin/bash
case "$*" in *--bad*) echo "error: unexpected argument '--bad' found" >&2; exit 2 ;; esac
"#;
const GOOD: &str = "\
repetitions = 3
flags = [\"--pool\", \"100M\"]
[workload]
kind = \"zipf\"
mib = 100
seconds = 2
[[variant]]
name = \"fast\"
flags = [\"--codec\", \"lz4\"]
[[variant]]
name = \"small\"
policy = \"mine.toml\"
flags = [\"--codec\", \"zstd\"]
";

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().expect("directory") };
        fs::create_dir_all(bench.at("tests/vm")).expect("directory");
        for (name, text) in
            [("tests/vm/boot", BOOT), ("tests/vm/experiment-job", ""), ("workload", WORKLOAD)]
        {
            fs::write(bench.at(name), text).expect("file");
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(bench.at(name), mode).expect("executable");
        }
        fs::write(bench.at("pages"), [7; 4096]).expect("pages");
        fs::write(bench.at("mine.toml"), "base = \"dense\"\n").expect("policy");
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, text: &str, words: &[&str]) -> Output {
        fs::write(self.at("x.toml"), text).expect("file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_uswap"));
        command.current_dir(self.dir.path());
        command.args(["experiment", "x.toml", "--workload", "workload"]).args(words);
        if !words.contains(&"--pages") {
            command.args(["--pages", "pages"]);
        }
        command.output().expect("started")
    }

    #[track_caller]
    fn refuses(&self, text: &str, words: &[&str], wanted: &str) {
        let output = self.run(text, words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(wanted), "{said}");
        assert_eq!(said.matches('\n').count(), 1, "{said}");
        assert!(!self.at("tests/vm/calls").exists(), "nothing may have run");
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).expect("a file")
}

#[test]
fn variants_run_by_turns_and_are_reported() {
    let bench = Bench::new();
    let output = bench.run(GOOD, &["--out", "results"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = read(bench.at("tests/vm/calls"));
    let turns: Vec<bool> = calls.lines().map(|line| line.contains("--codec lz4")).collect();
    assert_eq!(turns, [true, false, false, true, false, true]);
    let second = calls.lines().nth(1).expect("six lines");
    for part in [
        "-k new -m 700 -s 2",
        "experiment-job no-trace zipf --mib 100 --seconds 2 -- --pool 100M --codec zstd",
        "-b mine.toml --policy /usr/bin/mine.toml",
    ] {
        let file = bench.at("mine.toml").display().to_string();
        let second = second.replace(&file, "mine.toml");
        let words: Vec<&str> = part.split(" --policy").collect();
        assert!(words.iter().all(|word| second.contains(word)), "{part} in {second}");
    }
    let report = read(bench.at("results/report.md"));
    assert!(report.contains("Kernel 7.3-fake") && report.contains("| small | 103 | 102 | 105 |"));
    assert!(report.contains("| 0.100 |"), "two of twenty ways: {report}");
    assert!(read(bench.at("results/report.svg")).contains("operations, 1/s"));
    let runs: serde_json::Value =
        serde_json::from_str(&read(bench.at("results/runs.json"))).expect("JSON");
    assert_eq!(runs.as_array().map(Vec::len), Some(6));
    assert!(bench.at("results/fast-3.log").exists());
}

#[test]
fn a_run_that_fails_is_counted_and_the_rest_is_reported() {
    let bench = Bench::new();
    let output = bench.run(&GOOD.replace("\"zstd\"", "\"zstd\", \"--depth\", \"9\""), &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("small failed: x.results/small-1.log"), "{said}");
    assert!(said.contains("3 of 6 runs failed; see the logs in x.results"), "{said}");
    assert!(read(bench.at("x.results/report.md")).contains("**3 of 6 runs failed**"));
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let bench = Bench::new();
    let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
    bench.refuses(&with("zipf", "zipt"), &[], "x.toml:4: no workload \"zipt\"; did you mean");
    bench.refuses(
        &with("seconds = 2", "seconds = 2\nbad = 1"),
        &[],
        "x.toml:3: workload: unexpected argument '--bad' found; `workload zipf --help`",
    );
    bench.refuses(&with("\"lz4\"", "\"lzo\""), &[], "x.toml:7: ");
    bench.refuses(&with("\"100M\"", "\"100G\""), &[], "larger than memory allows");
    bench.refuses(&with("mine.toml", "other.toml"), &[], "x.toml:10: policy: cannot read");
    bench.refuses(&with("\"--codec\", \"lz4\"", "\"--policy\", \"dense\""), &[], "--policy among");
    let long = with("seconds = 2", "seconds = 900");
    bench.refuses(&long, &[], "x.toml: it takes about 96 min; give --yes");
    bench.refuses(GOOD, &["--harness", "."], "harness: . has no boot; name tests/vm");
    bench.refuses(GOOD, &["--pages", "none"], "no none; `cargo xtask experiment FILE` captures");
    fs::rename(bench.at("tests"), bench.at("other")).expect("moved");
    let output = bench.run(GOOD, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no tests/vm in ") && said.contains("--harness DIR"), "{said}");
}

#[test]
fn a_check_says_how_long_it_takes_and_does_nothing() {
    let bench = Bench::new();
    let output = bench.run(&GOOD.replace("seconds = 2", "seconds = 900"), &["--check"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("x: 2 variants, 6 runs, about 96 min"), "{said}");
    assert!(!bench.at("x.results").exists());
}
