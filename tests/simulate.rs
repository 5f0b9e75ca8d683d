//! `uswap simulate`: what it says of a recording, and what it refuses.

#[path = "cli/program.rs"]
mod program;

use program::{accepted, refused, str, text, uswap};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use uswap::trace::{Event, Header, Kind, Source, Stored, Writer};
use uswap::units::SlotIndex;

/// 30,000 pages of 3000 bytes that are written, and each read twice, one after the other: 90 MiB.
fn trace() -> Vec<u8> {
    let header = Header {
        uswap_version: "9.9".into(),
        service: "default".into(),
        slots: 1 << 16,
        pool_bytes: 128 << 20,
        spill_bytes: 256 << 20,
        codec: "lz4".into(),
        policy: "balanced".into(),
        ..Header::default()
    };
    let mut writer = Writer::new(Vec::new(), &header).expect("memory");
    let mut time_us = 0;
    for round in 0..3 {
        for slot in 0..30_000 {
            time_us += 100;
            let mut push = |kind| {
                writer.push(&Event { time_us, slot: SlotIndex(slot), kind }).expect("memory");
            };
            if round == 0 {
                push(Kind::Write);
                push(Kind::Stored(Stored::Compressed { bytes: 3000 }));
            } else {
                push(Kind::Read(Source::Pool));
            }
        }
    }
    writer.finish(time_us, 0, 0).expect("memory").0
}

fn recorded(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("a.trace");
    fs::write(&path, trace()).expect("file");
    path
}

#[test]
fn a_grid_is_a_run_for_every_combination() {
    let directory = tempfile::tempdir().expect("directory");
    let path = recorded(&directory);
    let own = accepted(&["simulate", str(&path)]);
    assert!(own.contains("balanced") && own.contains("128M") && own.contains("0.00 %"), "{own}");
    let lists = ["--policy", "lru,dense/sieve", "--pool", "32M,64M,128M", "--spill-size", "256M"];
    let words = [&["simulate", str(&path), "--csv"][..], &lists].concat();
    let csv = accepted(&words);
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 1 + 2 * 3, "{csv}");
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{csv}");
    let column = |name: &str| rows[0].iter().position(|head| *head == name).expect("a column");
    let (misses, optimum) = (column("miss_ratio"), column("optimum_miss_ratio"));
    for row in &rows[1..] {
        let (misses, optimum): (f64, f64) =
            (row[misses].parse().expect("a number"), row[optimum].parse().expect("a number"));
        assert!(optimum <= misses && misses <= 1.0, "{csv}");
        assert_eq!(misses > 0.0, row[1] != (128 << 20).to_string(), "{csv}");
    }
}

#[test]
fn a_script_is_simulated_as_it_would_decide() {
    let directory = tempfile::tempdir().expect("directory");
    let path = recorded(&directory);
    let script = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("file");
        str(&path).to_owned()
    };
    let eager = "fn tick(view, plan) { plan.spill.bytes = 64 * 1024 * 1024; plan }";
    let eager = script("eager.rhai", eager);
    let breaks = "fn state() { #{ n: 0 } }
        fn tick(view, plan) { this.n += 1; if this.n > 7 { loop { } } plan }";
    let breaks = script("breaks.rhai", breaks);
    let names = ["balanced", eager.as_str(), breaks.as_str()];
    let words = ["simulate", str(&path), "--csv", "--pool", "128M", "--policy", &names.join(",")];
    let output = uswap(&words);
    let (csv, said) = (text(&output.stdout), text(&output.stderr));
    let rows: Vec<&str> = csv.lines().skip(1).collect();
    assert_eq!(rows.len(), names.len(), "{csv}{said}");
    let row = |at: usize| rows[at].split_once(',').expect("columns").1;
    assert_ne!(row(0), row(1), "nobody but the script writes before room is low: {csv}");
    assert_eq!(row(0), row(2), "its base decides once it is given up: {csv}");
    assert!(said.contains("breaks.rhai:2: tick: more than 20000 operations"), "{said}");
    assert_eq!(said.matches("given up").count(), 1, "{said}");
}

#[test]
fn json_and_plots_say_the_same_to_programs_and_people() {
    let directory = tempfile::tempdir().expect("directory");
    let (path, plots) = (recorded(&directory), directory.path().join("plots"));
    let lists = ["--pool", "32M,64M", "--dense", "off", "--plots", str(&plots), "--json"];
    let words = [&["simulate", str(&path)][..], &lists].concat();
    let json: serde_json::Value = serde_json::from_str(&accepted(&words)).expect("JSON");
    assert_eq!(json["runs"].as_array().expect("runs").len(), 2);
    assert!(json["runs"][0]["reads"]["spill"].as_u64().expect("a count") > 0);
    let curve = json["curve"].as_array().expect("a curve");
    let lru: Vec<f64> = curve.iter().map(|p| p["lru"].as_f64().expect("a number")).collect();
    assert!(lru.len() > 4 && lru.is_sorted_by(|a, b| a >= b), "{lru:?}");
    for name in ["ram.svg", "misses.svg", "stall.svg"] {
        let svg = fs::read_to_string(plots.join(name)).expect("a plot");
        assert!(svg.starts_with("<svg") && svg.contains("balanced"), "{name}");
    }
}

#[test]
fn a_comparison_fails_beyond_its_tolerance() {
    let directory = tempfile::tempdir().expect("directory");
    let path = recorded(&directory);
    let same = accepted(&["simulate", str(&path), "--compare"]);
    assert!(same.contains("60000") && !same.contains("off"), "{same}");
    let other = uswap(&["simulate", str(&path), "--compare", "--pool", "32M"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stdout).contains("off"), "{}", text(&other.stdout));
    let loose = ["simulate", str(&path), "--compare", "--pool", "32M", "--tolerance", "100000"];
    accepted(&loose);
}

#[test]
fn what_is_not_a_recording_or_no_grid_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let path = recorded(&directory);
    let other = directory.path().join("other");
    fs::write(&other, "policy = 1\n").expect("file");
    let whole = trace();
    let cut = directory.path().join("cut");
    fs::write(&cut, &whole[..whole.len() - 9]).expect("file");
    assert!(refused(&["simulate", str(&other)], 1).contains("not a trace"));
    assert!(refused(&["simulate", str(&cut)], 1).contains("ends"));
    assert!(refused(&["simulate", "/nowhere"], 1).contains("/nowhere"));
    for (words, part) in [
        (&["--policy", "fastest"][..], "s3-fifo"),
        (&["--policy", ""], "balanced, dense"),
        (&["--pool", ""], "it is empty"),
        (&["--pool", "1M"], "pool: 1M is too small; use at least 16M"),
        (&["--spill-size", "1M"], "spill-size: 1M is too small"),
        (&["--spill-mib-s", "0"], "not a rate"),
        (&["--spill-read-us", "-1"], "not a time"),
        (&["--dense", "perhaps"], "perhaps"),
        (&["--tolerance", "1"], "--compare"),
    ] {
        let words = [&["simulate", str(&path)][..], words].concat();
        let line = refused(&words, 2);
        assert!(line.contains(part), "{words:?}: {line}");
    }
}

#[test]
fn runs_that_take_long_are_asked_about_first() {
    let directory = tempfile::tempdir().expect("directory");
    let path = recorded(&directory);
    let list = |first: &str, step: &str| {
        (1..400).fold(first.to_owned(), |list, i| format!("{list},{i}{step}"))
    };
    let (pools, rates) = (list("4G", "00M"), list("1", "00"));
    let lists = ["--pool", &pools, "--spill-mib-s", &rates, "--dense", "on,off"];
    let line = refused(&[&["simulate", str(&path)][..], &lists].concat(), 2);
    assert!(line.contains("320000 runs would take about") && line.contains("--yes"), "{line}");
}
