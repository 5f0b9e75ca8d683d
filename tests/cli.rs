//! The built program: exit codes, one-line errors, and what it does with services that it finds.
//! The services here are threads of the test that speak the control socket's language.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use tempfile::TempDir;
use uswap::daemon::protocol::{
    BlockSetting, MemoryUse, PageCounts, Reply, Request, Safety, Status, SwapUse, TimeUse,
};

fn uswap(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uswap"));
    command.args(words).stdin(Stdio::null()).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// The one line on stderr of a command that must fail with `code` and say nothing else.
#[track_caller]
fn refused(words: &[&str], code: i32) -> String {
    let output = uswap(words);
    let line = text(&output.stderr).to_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {line}");
    assert_eq!(text(&output.stdout), "", "{words:?}");
    assert_eq!(line.matches('\n').count(), 1, "{words:?}: {line}");
    assert!(line.starts_with("uswap: ") && line.contains("; "), "{words:?}: {line}");
    line
}

#[track_caller]
fn accepted(words: &[&str]) -> String {
    let output = uswap(words);
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("directory")
}

fn str(path: &Path) -> &str {
    path.to_str().expect("path")
}

/// What is in a run directory, but for lock files, which stay.
fn left_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("directory").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with(".lock")).collect()
}

/// Where a test must not go on, because a real device would be made.
fn real_driver() -> bool {
    let real = Path::new("/dev/ublk-control").exists();
    if real {
        eprintln!("skipped: this machine has ublk; tests/vm covers it");
    }
    real
}

fn time_use() -> TimeUse {
    TimeUse { count: 48, mean_ns: 4_321, p50_ns: 4_096, p99_ns: 28_672, ..TimeUse::default() }
}

fn status(name: &str, swap: bool) -> Status {
    Status {
        name: name.into(),
        device: format!("/dev/uswap-test-{name}"),
        id: 0,
        pid: u32::MAX,
        version: "0".into(),
        kernel: "6.12".into(),
        target: "swap".into(),
        codec: "lz4".into(),
        size_bytes: 6 << 30,
        queues: 1,
        depth: 64,
        staging_bytes: 8 << 20,
        helpers: 1,
        poll_us: 200,
        metrics: None,
        settings: [
            ("pool", "2147483648"),
            ("poll-us", "200"),
            ("codec", "lz4"),
            ("policy", "balanced"),
            ("discard", "true"),
            ("standby", "true"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        uptime_seconds: 5,
        swap: swap.then_some(SwapUse {
            size_bytes: 6 << 30,
            used_bytes: 3 << 20,
            stale_pages_min: 5,
            priority: 100,
        }),
        backing: None,
        policy: None,
        spill: None,
        processes: None,
        memory: MemoryUse {
            pool_bytes: 2 << 30,
            pool_used_bytes: 1 << 20,
            pool_level: "low".into(),
            pool_growth_failures: 41,
            ..MemoryUse::default()
        },
        pages: PageCounts { stored: 768, lz4: 768, ..PageCounts::default() },
        safety: Safety::default(),
        block: vec![BlockSetting {
            name: "scheduler".into(),
            value: "mq-deadline".into(),
            wanted: "none".into(),
            good: false,
        }],
        features: vec!["USER_RECOVERY".into()],
        counters: [("write_lz4_pages".to_owned(), 768)].into(),
        times: [("commit".to_owned(), time_use())].into(),
    }
}

/// A service that answers until it is asked to stop, then takes its socket away.
fn serve(dir: &Path, status: Status) -> JoinHandle<()> {
    let path = dir.join(format!("{}.sock", status.name));
    let listener = UnixListener::bind(&path).expect("bind");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("connection");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("request");
            // A connection without a request only asks whether anybody is there.
            let Ok(request) = serde_json::from_str::<Request>(&line) else { continue };
            let stop = matches!(request, Request::Stop);
            let reply = match request {
                Request::Stop => Reply::Stopping,
                Request::Set { key, value } => Reply::Done { message: format!("{key} is {value}") },
                Request::Status => Reply::Status(Box::new(status.clone())),
            };
            writeln!(stream, "{}", serde_json::to_string(&reply).expect("reply")).expect("sent");
            if stop {
                return std::fs::remove_file(&path).expect("socket removed");
            }
        }
    })
}

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
        "set",
        "reload",
        "doctor",
        "metrics",
        "check-config",
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
    assert!(refused(&["down", "x", at[0], at[1]], 1).contains("no service x runs"));
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
fn services_are_listed_described_and_stopped() {
    let dir = directory();
    let at = ["--run-dir", str(dir.path())];
    let one = serve(dir.path(), status("one", false));
    assert!(accepted(&["status", at[0], at[1]]).contains("/dev/uswap-test-one"));
    let two = serve(dir.path(), status("two", true));
    let list = accepted(&["list", at[0], at[1]]);
    let lines: Vec<Vec<&str>> = list.lines().map(|l| l.split_whitespace().collect()).collect();
    let row = ["one", "/dev/uswap-test-one", "6G", "swap", "lz4", "2G", "3M", "1M", "3.00", "-"];
    assert_eq!(lines[1], row);
    assert_eq!(lines[2][9..], ["3M", "[100]"]);
    let json: Vec<Status> =
        serde_json::from_str(&accepted(&["list", "--json", at[0], at[1]])).expect("JSON");
    assert_eq!(json.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    let several = refused(&["status", at[0], at[1]], 2);
    assert!(several.contains("several services: one, two; name one"), "{several}");
    let json = accepted(&["status", "two", "--json", at[0], at[1]]);
    let found: Status = serde_json::from_str(&json).expect("JSON");
    assert_eq!((found.name.as_str(), found.pages.stored), ("two", 768));
    let shown = accepted(&["status", "two", at[0], at[1]]);
    for part in ["3M of 6G used, priority 100", "ratio 3.00", "mq-deadline (want none)", "768"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    // The pool's watermark and refused growth: see policy/src/watermark.rs.
    assert!(shown.contains("room: low"), "{shown}");
    let refusals = shown.lines().find(|line| line.starts_with("growth refused"));
    assert!(refusals.is_some_and(|line| line.ends_with(" 41")), "{shown}");
    // Tests keep their hands off this machine's vm.page-cluster.
    let keep = "--keep-page-cluster";
    let busy = refused(&["up", "two", keep, "--pool", "16M", at[0], at[1]], 1);
    assert!(busy.contains("already runs and is in use as swap"), "{busy}");
    for (name, server) in [("one", one), ("two", two)] {
        assert_eq!(accepted(&["down", name, at[0], at[1]]), format!("{name} is down\n"));
        server.join().expect("the service ended");
    }
}

#[test]
fn tables_have_the_columns_that_were_asked_for() {
    let dir = directory();
    let at = ["--run-dir", str(dir.path())];
    let server = serve(dir.path(), status("one", true));
    let list = |words: &[&str]| accepted(&[&["list", at[0], at[1]], words].concat());
    assert_eq!(list(&["-n", "-o", "name,used,priority,pages"]), "one  3M  100  768\n");
    let shown = list(&["--bytes", "--output", "STORED,Size"]);
    assert_eq!(shown, " STORED        SIZE\n1048576  6442450944\n");
    let json = list(&["--json", "-o", "name,data,ratio,spill,swap"]);
    let rows: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(rows[0]["swap"]["used_bytes"], 3_145_728);
    assert_eq!((&rows[0]["name"], &rows[0]["data"]), (&"one".into(), &3_145_728.into()));
    assert_eq!((&rows[0]["ratio"], &rows[0]["spill"]), (&3.0.into(), &serde_json::Value::Null));
    let wrong = refused(&["list", "-o", "name,sise", at[0], at[1]], 2);
    assert!(wrong.contains("no column \"sise\"; the columns are NAME, DEVICE, SIZE"), "{wrong}");
    let rows = accepted(&["status", "-n", "-b", "-o", "size,resident", at[0], at[1]]);
    assert_eq!(rows, "size      6442450944\nresident  0\n");
    let wrong = refused(&["status", "-o", "sizes", at[0], at[1]], 2);
    assert!(wrong.contains("no row \"sizes\"; the rows are"), "{wrong}");
    let frame = accepted(&["top", "--once", at[0], at[1]]);
    for part in ["uswap one /dev/uswap-test-one", "3M of 6G (0 %)", "requests", "in swap"] {
        assert!(frame.contains(part), "{part} in\n{frame}");
    }
    assert!(refused(&["top", at[0], at[1]], 2).contains("needs a terminal; use --once"));
    accepted(&["down", "one", at[0], at[1]]);
    server.join().expect("the service ended");
}

#[test]
fn a_running_service_is_changed_by_hand_and_by_its_file() {
    let dir = directory();
    let at = ["--run-dir", str(dir.path())];
    let server = serve(dir.path(), status("one", false));
    assert_eq!(accepted(&["set", "policy", "dense", at[0], at[1]]), "policy is dense\n");
    let file = dir.path().join("one.toml");
    std::fs::write(&file, "pool = \"16M\"\npoll-us = 50\ncodec = \"lz4\"\n").expect("file");
    let output = uswap(&["reload", "--config", str(&file), at[0], at[1]]);
    assert_eq!(text(&output.stdout), "poll-us is 50 (was 200)\n");
    let note = "uswap: pool is 2G and stays so until the service is started anew; to make it 16M: \
                `uswap down one` and `uswap up one`\n";
    assert_eq!((text(&output.stderr), output.status.code()), (note, Some(0)));
    std::fs::write(&file, "poll-us = 200\n").expect("file");
    let reload = ["reload", "--config", str(&file), at[0], at[1]];
    assert_eq!(accepted(&reload), "nothing to change\n");
    std::fs::write(&file, "poll-us = 200\ndiscard = false\nstandby = true\n").expect("file");
    let output = uswap(&reload);
    assert_eq!(text(&output.stdout), "nothing to change\n");
    let notes = text(&output.stderr);
    assert!(
        notes.starts_with("uswap: discard is true and stays so") && notes.contains("make it false")
    );
    assert_eq!(notes.lines().count(), 1, "{notes}");
    // A policy is what its file says, not what it is called.
    let policy = dir.path().join("mine.toml");
    std::fs::write(&policy, "base = \"dense\"\n").expect("file");
    std::fs::write(&file, format!("policy = {policy:?}\n")).expect("file");
    let said = accepted(&reload);
    assert!(said.ends_with("(was balanced)\n"), "{said}");
    std::fs::write(&file, "poll-us = 200\nsise = 1\n").expect("file");
    assert!(refused(&reload, 2).contains("one.toml:2: unknown key \"sise\""));
    accepted(&["down", "one", at[0], at[1]]);
    server.join().expect("the service ended");
}

#[test]
fn a_dead_server_is_told_and_cleaned_up() {
    let dir = directory();
    let at = ["--run-dir", str(dir.path())];
    let socket = dir.path().join("gone.sock");
    drop(UnixListener::bind(&socket).expect("bind"));
    std::fs::create_dir(dir.path().join("gone")).expect("state");
    let output = uswap(&["list", at[0], at[1]]);
    assert!(text(&output.stderr).contains("its server is dead; clean up with `uswap down gone`"));
    assert_eq!(output.status.code(), Some(1));
    std::fs::remove_file(&socket).expect("socket");
    let output = uswap(&["list", at[0], at[1]]);
    assert!(text(&output.stderr).contains("gone: its server is dead"), "only its state is left");
    let doctor = uswap(&["doctor", "--json", at[0], at[1]]);
    assert!(text(&doctor.stdout).contains("its server is dead"));
    if real_driver() {
        return;
    }
    let output = uswap(&["down", "gone", at[0], at[1]]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("gone is down\n", ""));
    assert_eq!(left_in(dir.path()), [""; 0]);
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
fn doctor_gives_commands_that_can_be_typed() {
    let dir = directory();
    let setting = |name: &str, wanted: &str| BlockSetting {
        name: name.into(),
        value: "0".into(),
        wanted: wanted.into(),
        good: false,
    };
    let block = vec![
        setting("scheduler", "none"),
        setting("io_timeout", "at most 1000"),
        setting("nr_requests", "at most 62"),
        setting("wbt_lat_usec", "on (not 0): leaves tags for reads"),
    ];
    let server = serve(dir.path(), Status { block, ..status("one", false) });
    let at = ["--run-dir", str(dir.path())];
    let output = uswap(&["doctor", at[0], at[1]]);
    let shown = text(&output.stdout);
    for (value, name) in [
        ("none", "scheduler"),
        ("1000", "io_timeout"),
        ("62", "nr_requests"),
        ("2000", "wbt_lat_usec"),
    ] {
        let fix = format!("fix: echo {value} > /sys/block/uswap-test-one/queue/{name}\n");
        assert!(shown.contains(&fix), "{fix} in {shown}");
    }
    accepted(&["down", "one", at[0], at[1]]);
    server.join().expect("the service ended");
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
