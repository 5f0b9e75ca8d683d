//! The built program: exit codes and one-line errors.

mod fake;
mod program;
mod services;

use fake::{directory, left_in, real_driver};
use program::{accepted, refused, str, text, uswap};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

#[test]
fn help_and_version_are_success() {
    assert_eq!(accepted(&["--version"]), concat!("uswap ", env!("CARGO_PKG_VERSION"), "\n"));
    let commands = [
        "run",
        "up",
        "down",
        "list",
        "status",
        "top",
        "estimate",
        "simulate",
        "set",
        "reload",
        "doctor",
        "metrics",
        "check-config",
        "experiment",
        "generate",
    ];
    for command in commands {
        assert!(accepted(&["--help"]).contains(&format!("  {command}")));
        assert!(accepted(&[command, "--help"]).contains("Usage: uswap"));
    }
    assert!(!accepted(&["--help"]).contains("swapon-helper"));
}

#[test]
fn wrong_words_are_code_2_with_a_remedy() {
    for (words, part) in [
        (&[][..], "no command given; see `uswap --help`"),
        (&["frob"], "unrecognized subcommand 'frob'"),
        (&["run", "--sise", "1G"], "a similar argument exists: '--size'"),
        (&["run", "--size", "0"], "size: is zero; use at least 2M"),
        (&["run", "--size", "5000"], "not a multiple of 4096"),
        (&["run", "--size", "1.5Q"], "unknown unit \"Q\"; write bytes or a number with K, M"),
        (&["run", "--size", "-1G"], "negative"),
        (&["run", "--size", ""], "it is empty"),
        (&["run", "--size", "99999999999T"], "too large"),
        (&["run", "--size", "17T"], "size: 17T is too large; use at most 16T"),
        (&["run", "--pool", "1M"], "pool: 1M is too small; use at least 16M"),
        (&["run", "--pool", "256G"], "larger than memory allows: 256G pool"),
        (&["run", "--pool", "4K", "--size", "8G"], "pool: 4K is too small"),
        (&["run", "--depth", "4"], "depth: 4 is out of range; use a number from 8 to 128"),
        (&["run", "--depth", "many"], "not a whole number"),
        (&["run", "--queues", "0"], "queues: 0 is out of range"),
        (&["run", "--queues", "70000"], "70000 is not in 0..=65535"),
        (&["run", "--priority", "-5"], "priority: -5 is out of range"),
        (&["run", "--id", "-1"], "unexpected argument '-1'"),
        (&["run", "--codec", "lzo"], "not a codec; use lz4, zstd or none"),
        (&["run", "--target", "disk"], "not a target; use swap, loop or null"),
        (&["run", "--name", "../x"], "cannot be a service name; use up to 32 of A-Z"),
        (&["run", "--name", ".x"], "cannot be a service name"),
        (&["run", "--name", "-x"], "cannot be a service name"),
        (&["run", "--target", "null", "--swapon"], "the null target stores nothing"),
        (&["up", "--target", "null"], "the null target stores nothing"),
        (&["up", "a b"], "cannot be a service name"),
        (&["up", "a.sock"], "could be another service's .sock file"),
        (&["down", "a/b"], "cannot be a service name"),
        (&["status", "..."], "cannot be a service name"),
        (&["list", "all"], "unexpected argument 'all'"),
    ] {
        let line = refused(words, 2);
        assert!(line.contains(part), "{words:?}: {line}");
    }
    let long = "s".repeat(120);
    assert!(refused(&["run", "--socket", &format!("/{long}")], 2).contains("longer than 107"));
}

#[test]
fn bad_files_are_code_2_with_the_line() {
    let dir = directory();
    let file = dir.path().join("x.toml");
    let path = str(&file);
    let line = refused(&["run", "--config", path], 2);
    assert!(
        line.contains(&format!("cannot read {path}")) && line.contains("; create it"),
        "{line}"
    );
    assert!(refused(&["run", "--config", str(dir.path())], 2).contains("name a file in it"));
    for (content, part) in [
        ("depth = 64\nsise = \"1G\"", ":2: unknown key \"sise\"; did you mean \"size\"?"),
        ("\n\nsize = \"1.5Q\"", ":3: \"1.5Q\" is not a size"),
        ("depth = \"x\"", ":1: invalid type: string \"x\", expected a whole number"),
        ("codec = \"lzo\"", ":1: unknown variant `lzo`, expected one of `lz4`, `zstd`, `none`"),
        ("size: 1G", ":1: "),
        ("[run]\n", ":1: unknown key \"run\"; known keys are name"),
    ] {
        std::fs::write(&file, content).expect("file");
        for command in ["run", "up"] {
            let line = refused(&[command, "--config", path], 2);
            assert!(line.contains(&format!("{path}{part}")), "{line}");
        }
    }
    std::fs::write(&file, [0xff, 0xfe]).expect("file");
    assert!(refused(&["run", "--config", path], 2).contains("save it as UTF-8"));
}

#[test]
fn no_services() {
    let dir = directory();
    let run_dir = dir.path().join("none");
    let at = ["--run-dir", str(&run_dir)];
    assert_eq!(accepted(&["list", "--json", at[0], at[1]]), "[]\n");
    assert!(accepted(&["list", at[0], at[1]]).starts_with("NAME  DEVICE"));
    assert!(refused(&["status", at[0], at[1]], 1).contains("start one with `uswap up`"));
    assert!(refused(&["status", "x", at[0], at[1]], 1).contains("no server answers for x"));
    for command in ["down", "upgrade"] {
        assert!(refused(&[command, "x", at[0], at[1]], 1).contains("no service x runs"));
    }
    assert!(!run_dir.exists());
}

#[test]
fn a_reader_that_leaves_is_success() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uswap"));
    let mut child = command
        .args(["run", "--help"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn up_reports_what_the_server_said_and_leaves_only_the_log() {
    if real_driver() {
        return;
    }
    let dir = directory();
    let log = dir.path().join("default.log");
    std::fs::write(&log, "old\n").expect("log");
    let words = ["up", "--keep-page-cluster", "--pool", "16M", "--run-dir", str(dir.path())];
    let output = uswap(&words);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    let last = errors.lines().last().expect("a message");
    assert!(last.starts_with("uswap: the server ended (exit status: 1): "), "{errors}");
    assert!(last.contains("; "), "{errors}");
    let said = std::fs::read_to_string(&log).expect("log");
    assert!(said.starts_with("uswap: ") && !said.contains("old"), "{said}");
    assert_eq!(log.metadata().expect("log").permissions().mode() & 0o777, 0o600);
    assert_eq!(left_in(dir.path()), ["default.log"]);
}

#[test]
fn a_service_that_does_not_come_up_leaves_no_helper_talking() {
    if real_driver() {
        return;
    }
    let dir = directory();
    let words = ["run", "--swapon", "--pool", "16M", "--run-dir", str(dir.path())];
    let line = refused(&words, 1);
    assert!(!line.contains("by hand"), "{line}");
}

#[test]
fn the_helper_waits_for_a_device() {
    let helper = ["swapon-helper", "--name", "x", "--priority", "7", "--discard"];
    assert_eq!(accepted(&helper), "");
    let mut child = Command::new(env!("CARGO_BIN_EXE_uswap"))
        .args(helper)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut pipe = child.stdin.take().expect("piped");
    writeln!(pipe, "/nonexistent/ublkb0").expect("the helper reads");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(1));
    let line = text(&output.stderr);
    let by_hand = "by hand: `mkswap /nonexistent/ublkb0 && swapon -p 7 -d /nonexistent/ublkb0`";
    assert!(line.contains("the service runs, but") && line.contains(by_hand), "{line}");
    let cluster = std::fs::read_to_string("/proc/sys/vm/page-cluster");
    let wrong = cluster.is_ok_and(|value| value.trim() != "0");
    assert_eq!(line.contains("uswap: warning: vm.page-cluster is"), wrong, "{line}");
}

#[test]
fn doctor_speaks_json_and_its_exit_code_is_the_worst_row() {
    let dir = directory();
    let output = uswap(&["doctor", "--json", "--run-dir", str(dir.path())]);
    let rows: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_slice(&output.stdout).expect("JSON");
    for row in &rows {
        for key in ["name", "level", "found", "why", "fix"] {
            assert!(row.get(key).is_some_and(serde_json::Value::is_string), "{key} in {row:?}");
        }
    }
    let failed = rows.iter().any(|row| row["level"] == "fail");
    assert_eq!(output.status.code(), Some(i32::from(failed)));
    assert!(rows.iter().any(|row| row["name"] == "ublk driver"));
}
