//! Every workload runs, verifies what it holds, and does the same work for the same seed.

use serde_json::Value;
use std::process::{Command, Output};

/// Pages to hold: this program's own bytes.
const PAGES: &str = env!("CARGO_BIN_EXE_workload");

fn workload(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_workload")).args(words).output().expect("started")
}

fn summary(kind: &str, seed: &str, more: &[&str]) -> Value {
    let mut words = vec![kind, "--mib", "8", "--operations", "30000", "--seconds", "60"];
    words.extend(["--source-mib", "1", "--seed", seed, "--pages", PAGES]);
    words.extend(more);
    let output = workload(&words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kind}: {errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn number(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("{key} in {summary}"))
}

/// Nothing here may be locked into RAM, which every workload does.
fn cannot_lock() -> bool {
    let output = workload(&["zipf", "--mib", "4", "--operations", "1", "--pages", PAGES]);
    let said = String::from_utf8_lossy(&output.stderr);
    let forbidden = said.contains("cannot lock itself");
    if forbidden {
        eprintln!("NOT TESTED: {said}");
    }
    forbidden
}

#[test]
fn every_workload_does_what_it_was_told_and_verifies_its_pages() {
    if cannot_lock() {
        return;
    }
    for kind in ["zipf", "scan", "phases"] {
        let summary = summary(kind, "1", &[]);
        assert_eq!(number(&summary, "operations"), 30_000, "{kind}");
        assert_eq!(number(&summary, "verified_pages"), 8 * 256, "{kind}");
        let latency = &summary["latency_us"];
        let at = |key: &str| latency[key].as_f64().expect("a number");
        assert!(at("p50") <= at("p99") && at("p99") <= at("max"), "{kind}: {latency}");
    }
    let collector = summary("collector", "1", &["--work-operations", "100"]);
    assert!(number(&collector, "regions_freed") > 8, "{collector}");
    assert!(number(&collector, "verified_pages") < 8 * 256, "something is free in the end");
    let forks = summary("forks", "1", &["--between-operations", "500"]);
    assert!(number(&forks, "children") > 10, "{forks}");
    assert_eq!(number(&forks, "verified_pages"), 8 * 256, "children leave ours alone");
}

#[test]
fn the_same_seed_is_the_same_work() {
    if cannot_lock() {
        return;
    }
    let freed = |seed: &str| number(&summary("collector", seed, &[]), "regions_freed");
    assert_eq!(freed("5"), freed("5"));
}

#[test]
fn flags_are_checked_without_work() {
    let good = workload(&["scan", "--mib", "8", "--pages", "none", "--check"]);
    assert!(good.status.success() && good.stdout.is_empty());
    for words in [
        &["scan", "--mib", "8", "--thet", "1", "--pages", "none", "--check"][..],
        &["zipf", "--mib", "8", "--theta", "x", "--pages", "none", "--check"],
        &["zipf", "--pages", "none", "--check"],
        &["scan", "--mib", "8", "--pages", "none", "--hot-percent", "80", "--loop-percent", "80"],
    ] {
        let output = workload(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!output.stderr.is_empty());
    }
}
