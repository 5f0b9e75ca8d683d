//! Services that are threads of the test: they speak the control socket's language.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;
use tempfile::TempDir;
use uswap::daemon::protocol::{
    BlockSetting, MemoryUse, PageCounts, Reply, Request, Status, SwapUse, TimeUse,
};
use uswap::error::StartError;

pub fn directory() -> TempDir {
    tempfile::tempdir().expect("directory")
}

/// What is in a run directory, but for lock files, which stay.
pub fn left_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("directory").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with(".lock")).collect()
}

/// Where a test must not go on, because a real device would be made.
pub fn real_driver() -> bool {
    let real = Path::new("/dev/ublk-control").exists();
    if real {
        eprintln!("skipped: this machine has ublk; tests/vm covers it");
    }
    real
}

pub fn time_use() -> TimeUse {
    TimeUse { count: 48, mean_ns: 4_321, p50_ns: 4_096, p99_ns: 28_672, ..TimeUse::default() }
}

pub fn status(name: &str, swap: bool) -> Status {
    Status {
        name: name.into(),
        device: format!("/dev/uswap-test-{name}"),
        pid: u32::MAX,
        target: "swap".into(),
        codec: "lz4".into(),
        size_bytes: 6 << 30,
        queues: 1,
        depth: 64,
        poll_us: 200,
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
        swap: swap.then_some(SwapUse {
            size_bytes: 6 << 30,
            used_bytes: 3 << 20,
            stale_pages_min: 5,
            priority: 100,
        }),
        memory: MemoryUse {
            pool_bytes: 2 << 30,
            pool_used_bytes: 1 << 20,
            pool_level: "low".into(),
            pool_growth_failures: 41,
            ..MemoryUse::default()
        },
        pages: PageCounts { stored: 768, lz4: 768, ..PageCounts::default() },
        block: vec![BlockSetting {
            name: "scheduler".into(),
            value: "mq-deadline".into(),
            wanted: "none".into(),
            good: false,
        }],
        counters: [("write_lz4_pages".to_owned(), 768)].into(),
        times: [("commit".to_owned(), time_use())].into(),
        ..Status::default()
    }
}

/// A service that answers until it is asked to stop, then takes its socket away.
pub fn serve(dir: &Path, status: Status) -> JoinHandle<()> {
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
                Request::Set { key, value } => match value.as_str() {
                    "wrong" => Reply::refused(&StartError::usage(format!("{key}: no"), "say so")),
                    "not now" => Reply::refused(&StartError::failure(format!("{key}: no"), "wait")),
                    _ => Reply::Done { message: format!("{key} is {value}") },
                },
                Request::Record { on } => Reply::Done { message: format!("recording {on}") },
                Request::Status => Reply::Status(Box::new(status.clone())),
            };
            writeln!(stream, "{}", serde_json::to_string(&reply).expect("reply")).expect("sent");
            if stop {
                return std::fs::remove_file(&path).expect("socket removed");
            }
        }
    })
}
