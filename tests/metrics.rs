//! The metrics as others see them: Prometheus's own tool reads the page and the alert rules, and
//! the dashboard asks only for what is there.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use uswap::daemon::exposition;
use uswap::daemon::protocol::{
    BlockSetting, MemoryUse, PageCounts, PolicyUse, ProcessUse, ScriptUse, SpillUse, Status,
    SwapUse, TimeUse,
};
use uswap::metrics::{counters, dashboard, names};

fn full_spill() -> SpillUse {
    SpillUse {
        path: "/x".into(),
        health: "full".into(),
        size_bytes: 1 << 30,
        used_bytes: 1 << 30,
        segments: 4096,
        segments_used: 4096,
        pages: 5,
        data_bytes: 9,
        written_bytes: 10,
        write_errors: 11,
        read_errors: 12,
    }
}

/// A status with everything in it that a service can say, numbers all different.
fn full() -> Status {
    let numbered = |rows: &[counters::Row]| -> Vec<(String, u64)> {
        rows.iter().zip(1..).map(|(row, n)| (row.0.to_owned(), n)).collect()
    };
    let time = |n: u64| TimeUse {
        count: n + 2,
        sum_ns: 1_000_000 * n,
        buckets: vec![(1024, n), (57_344, 1), (u64::MAX, 1)],
        ..TimeUse::default()
    };
    Status {
        processes: Some(ProcessUse {
            parent_pid: 1,
            server_pid: 2,
            standby_pid: 3,
            standby_warm: true,
            recoveries: 4,
            last_recovery_us: 15_000,
            longest_recovery_us: 250_000,
        }),
        name: "default".into(),
        device: "/dev/ublkb0".into(),
        target: "swap".into(),
        swap: Some(SwapUse {
            size_bytes: 6 << 30,
            used_bytes: 3 << 20,
            stale_pages_min: 232,
            priority: 100,
        }),
        policy: Some(PolicyUse {
            name: "balanced".into(),
            digest: String::new(),
            victim: "lru".into(),
            pressure: "tight".into(),
            short: Some("the spill is full".into()),
            age_tick: 7,
            ages_began_us: 0,
            script: Some(ScriptUse { base: "dense".into(), errors: 3, ..ScriptUse::default() }),
        }),
        spill: Some(full_spill()),
        memory: MemoryUse { pool_level: "low".into(), ..MemoryUse::default() },
        pages: PageCounts { stored: 1000, ..PageCounts::default() },
        block: vec![BlockSetting {
            name: "scheduler".into(),
            value: "mq-deadline".into(),
            wanted: "none".into(),
            good: false,
        }],
        counters: numbered(counters::COUNTERS).into_iter().collect(),
        times: numbered(counters::TIMES).into_iter().map(|(name, n)| (name, time(n))).collect(),
        ..Status::default()
    }
}

/// Prometheus's tool: named by USWAP_PROMTOOL, put beside the kernels by tests/vm/setup, or
/// installed. Nothing, loudly, where there is none; a failure where the tests must be complete.
fn promtool() -> Option<PathBuf> {
    let given = std::env::var_os("USWAP_PROMTOOL").map(PathBuf::from);
    let cache = std::env::var_os("USWAP_VM_DIR").map(PathBuf::from).or_else(|| {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        Some(std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?.join("uswap-vm"))
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|dir| dir.join("promtool"));
    let cached = cache.map(|dir| dir.join("tools/promtool"));
    let found = given.into_iter().chain(cached).chain(installed).find(|file| file.exists());
    if found.is_none() {
        assert!(
            std::env::var_os("USWAP_TEST_ALL").is_none(),
            "promtool is not here, and this run requires it; run tests/vm/setup"
        );
        eprintln!("SKIPPED: NOT TESTED, because promtool is not here; run tests/vm/setup");
    }
    found
}

/// Runs promtool with `input`, which it must accept without a word of complaint.
fn accepted(tool: &Path, words: &[&str], dir: &Path, input: &str) -> String {
    let mut command = Command::new(tool);
    command.args(words).current_dir(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool runs");
    let mut pipe = child.stdin.take().expect("piped");
    pipe.write_all(input.as_bytes()).expect("promtool reads");
    drop(pipe);
    let output = child.wait_with_output().expect("promtool ends");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && errors.is_empty(), "{errors}{said}");
    said
}

/// Metric names that `text` speaks of, without the endings of a histogram's parts.
fn spoken_of(text: &str) -> HashSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("uswap_"));
    let histogram = |name: &str| {
        names::ALL.iter().any(|m| m.name == name && m.kind == uswap::metrics::Kind::Histogram)
    };
    ours.map(|word| {
        let ends = ["_bucket", "_sum", "_count"].iter();
        let base = ends.filter_map(|end| word.strip_suffix(end)).find(|base| histogram(base));
        base.unwrap_or(word)
    })
    .collect()
}

fn known() -> HashSet<&'static str> {
    names::ALL.iter().map(|metric| metric.name).collect()
}

#[test]
fn every_metric_is_on_a_full_page_once_and_nothing_else() {
    let text = exposition::text(&full());
    let families: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let on_page: HashSet<&str> = families.iter().copied().collect();
    assert_eq!(on_page, known());
    assert_eq!(families.len(), on_page.len(), "a family stands twice");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let keys: Vec<&str> = samples.filter_map(|l| l.rsplit_once(' ').map(|(key, _)| key)).collect();
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "a sample stands twice");
    assert!(keys.iter().all(|key| key.contains("{device=\"ublkb0\",service=\"default\"")));
}

#[test]
fn numbers_are_those_of_the_status() {
    let text = exposition::text(&full());
    let common = "device=\"ublkb0\",service=\"default\"";
    let at = |name: &str| counters::COUNTERS.iter().position(|row| row.0 == name).expect("row") + 1;
    for (sample, value) in [
        (format!("uswap_requests_total{{{common},op=\"write\"}}"), at("write_requests")),
        (format!("uswap_pages{{{common},tier=\"pool\",codec=\"dense\"}}"), at("slots_dense")),
        (format!("uswap_swap_used_bytes{{{common}}}"), 3 << 20),
        (format!("uswap_stale_pages{{{common}}}"), 1000 - 768),
        (format!("uswap_policy_short{{{common},reason=\"the spill is full\"}}"), 1),
        (format!("uswap_standby_ready{{{common}}}"), 1),
        (format!("uswap_recoveries_total{{{common}}}"), 4),
        (format!("uswap_policy_pressure{{{common},pressure=\"tight\"}}"), 1),
        (format!("uswap_policy_pressure{{{common},pressure=\"calm\"}}"), 0),
        (format!("uswap_safe{{{common},protection=\"io_flusher\"}}"), 0),
    ] {
        let line = format!("{sample} {value}");
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
}

#[test]
fn what_a_service_does_not_have_is_not_on_its_page() {
    let bare = Status { swap: None, spill: None, policy: None, processes: None, ..full() };
    let text = exposition::text(&bare);
    for name in [
        "uswap_swap_used",
        "uswap_spill_size",
        "uswap_policy_pressure",
        "uswap_stale",
        "uswap_standby",
    ] {
        assert!(!text.contains(name), "{name}");
    }
    assert!(text.contains("uswap_swap_active{device=\"ublkb0\",service=\"default\"} 0\n"));
}

#[test]
fn promtool_accepts_the_page() {
    let Some(tool) = promtool() else { return };
    accepted(&tool, &["check", "metrics"], Path::new("."), &exposition::text(&full()));
}

#[test]
fn dashboard_and_alerts_ask_only_for_what_there_is() {
    let known = known();
    let queries: Vec<String> = dashboard::queries().collect();
    assert!(queries.len() > 30);
    for text in queries.iter().map(String::as_str).chain([uswap::metrics::ALERTS]) {
        let unknown: Vec<_> = spoken_of(text).difference(&known).copied().collect();
        assert_eq!(unknown, [""; 0], "in {text}");
    }
    // Labels too: a query by a label that no sample has finds nothing, silently.
    let page = exposition::text(&full());
    for query in &queries {
        for selector in query.split(['{', ',']).filter_map(|part| part.split_once("=\"")) {
            let (label, value) = (selector.0.trim_end_matches('='), selector.1);
            let value = value.split('"').next().unwrap_or_default();
            if !["le", "service", "instance"].contains(&label) && !label.contains('~') {
                assert!(page.contains(&format!("{label}=\"{value}\"")), "{label} {value}: {query}");
            }
        }
    }
}

#[test]
fn promtool_accepts_alerts_and_every_query_of_the_dashboard() {
    let Some(tool) = promtool() else { return };
    let dir = tempfile::tempdir().expect("directory");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::write(dir.path().join("rules.yml"), uswap::metrics::ALERTS).expect("written");
    std::fs::copy(root.join("tests/alerts.yml"), dir.path().join("tests.yml")).expect("copied");
    // Queries are checked as recording rules.
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (i, query) in dashboard::queries().enumerate() {
        rules += &format!("      - record: query:{i}\n        expr: {query:?}\n");
    }
    std::fs::write(dir.path().join("dashboard.yml"), rules).expect("written");
    accepted(&tool, &["check", "rules", "rules.yml", "dashboard.yml"], dir.path(), "");
    accepted(&tool, &["test", "rules", "tests.yml"], dir.path(), "");
    let tests = std::fs::read_to_string(root.join("tests/alerts.yml")).expect("tests");
    for line in uswap::metrics::ALERTS.lines() {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            let fires = tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n"));
            assert!(fires, "no test fires {alert}");
        }
    }
}

/// Two machines with a service of the same name, as one Prometheus has them.
#[test]
fn queries_that_divide_keep_machines_apart() {
    let Some(tool) = promtool() else { return };
    let dir = tempfile::tempdir().expect("directory");
    let mut tests = String::from("tests:\n  - interval: 1m\n    input_series:\n");
    for (instance, bytes) in [("a", 204_800), ("b", 409_600)] {
        let labels = format!("instance=\"{instance}\",device=\"ublkb0\",service=\"x\"");
        for (series, value) in [
            (format!("uswap_pages{{{labels},tier=\"pool\",codec=\"lz4\"}}"), 100),
            (format!("uswap_pool_object_bytes{{{labels}}}"), bytes),
            (format!("uswap_pool_resident_bytes{{{labels}}}"), bytes),
        ] {
            tests += &format!("      - series: '{series}'\n        values: '{value}x5'\n");
        }
    }
    tests += "    promql_expr_test:\n";
    let queries: Vec<String> = dashboard::queries().filter(|q| q.contains(" on (")).collect();
    assert_eq!(queries.len(), 2);
    for query in queries {
        tests += &format!("      - expr: {query:?}\n        eval_time: 3m\n        exp_samples:\n");
        for (instance, ratio) in [("a", 2), ("b", 1)] {
            let labels = format!("{{instance=\"{instance}\", service=\"x\"}}");
            tests += &format!("          - labels: '{labels}'\n            value: {ratio}\n");
        }
    }
    std::fs::write(dir.path().join("tests.yml"), tests).expect("written");
    accepted(&tool, &["test", "rules", "tests.yml"], dir.path(), "");
}
