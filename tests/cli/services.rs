//! What the program does with services that it finds.

use crate::fake::{directory, left_in, real_driver, serve, status};
use crate::program::{accepted, refused, str, text, uswap};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use uswap::daemon::protocol::{BackingUse, BlockSetting, SpillUse, Status};

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
    // The server's word on what is wrong counts as if it had been said here.
    let wrong = refused(&["set", "policy", "wrong", at[0], at[1]], 2);
    assert_eq!(wrong, "uswap: policy: no; say so\n");
    assert_eq!(
        refused(&["set", "policy", "not now", at[0], at[1]], 1),
        "uswap: policy: no; wait\n"
    );
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
fn doctor_misses_a_file_that_was_deleted() {
    let dir = directory();
    let at = ["--run-dir", str(dir.path())];
    let path = dir.path().join("file").display().to_string();
    let backing =
        BackingUse { path: path.clone(), copy: "copy".into(), direct: true, discard: false };
    let spill = SpillUse { path, health: "spent".into(), ..SpillUse::default() };
    let both = Status { backing: Some(backing), spill: Some(spill), ..status("one", false) };
    let server = serve(dir.path(), both);
    let rows = || -> Vec<(String, String, String)> {
        let output = uswap(&["doctor", "--json", at[0], at[1]]);
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
        let word = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("").to_owned();
        let ours = rows
            .iter()
            .filter(|row| ["one: spill", "one: file"].contains(&word(row, "name").as_str()));
        ours.map(|row| (word(row, "level"), word(row, "found"), word(row, "fix"))).collect()
    };
    let gone = rows();
    assert_eq!(gone.len(), 2);
    for (level, found, fix) in gone {
        assert_eq!(level, "fail");
        assert!(found.contains("was deleted; only who has it open still does"), "{found}");
        assert!(fix.contains("`uswap down one` now, which does swapoff"), "{fix}");
    }
    std::fs::write(dir.path().join("file"), "").expect("file");
    let there = rows();
    assert_eq!((there[0].0.as_str(), there[1].0.as_str()), ("warn", "ok"));
    assert!(there[0].2.contains("next day"), "{}", there[0].2);
    accepted(&["down", "one", at[0], at[1]]);
    server.join().expect("the service ended");
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

/// `uswap top` at a terminal of its own, made by script(1).
#[test]
fn top_outlives_a_take_over_and_puts_the_terminal_back() {
    let dir = directory();
    let at = ["--run-dir", str(dir.path())];
    let server = serve(dir.path(), status("one", true));
    let program = env!("CARGO_BIN_EXE_uswap");
    let pid_file = dir.path().join("pid");
    // The shell becomes top, so that its process is known.
    let words =
        format!("stty rows 40 cols 110; echo $$ >{}; exec {program} top one", str(&pid_file));
    let mut script = Command::new("script")
        .args(["-qfc", &format!("{words} {} {}", at[0], at[1]), "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let mut out = script.stdout.take().expect("piped");
    let (mut shown, end) = (Vec::new(), Instant::now() + Duration::from_secs(60));
    let mut wait_for = |part: &str| {
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&shown).contains(part) {
            assert!(Instant::now() < end, "no {part} in {}", String::from_utf8_lossy(&shown));
            let count = out.read(&mut piece).expect("the terminal");
            assert!(count > 0, "ended without {part}: {}", String::from_utf8_lossy(&shown));
            shown.extend_from_slice(&piece[..count]);
        }
        shown.clear();
    };
    wait_for("/dev/uswap-test-one");
    accepted(&["down", "one", at[0], at[1]]);
    server.join().expect("the server ended");
    wait_for("ANSWER");
    let server = serve(dir.path(), status("one", true));
    // The frame instead of that.
    wait_for("───────────");
    let pid = std::fs::read_to_string(&pid_file).expect("its number");
    assert!(Command::new("kill").arg(pid.trim()).status().expect("kill runs").success());
    // Leaving the alternate screen.
    wait_for("\x1b[?1049l");
    drop(script.stdin.take().map(|mut pipe| pipe.flush()));
    script.wait().expect("ended");
    accepted(&["down", "one", at[0], at[1]]);
    server.join().expect("the server ended");
}
