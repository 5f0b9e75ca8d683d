//! A service's state on a real tmpfs: made, left, attached to and taken over. Needs the right to
//! mount; without it there is nothing to test, which is told.

use std::fs;
use std::path::Path;
use uswap::codec::Stream;
use uswap::config::load::{Bytes, Keys};
use uswap::config::{Settings, check};
use uswap::daemon::{State, format_of};
use uswap::error::IoError;
use uswap::stats::QueueStats;
use uswap::sys::statefs::StateDir;
use uswap::sys::ublk_abi::CopyMode;
use uswap::units::{PAGE_SIZE, Page, SlotIndex};

const SLOTS: u32 = 4096;

fn settings(run_dir: &Path) -> Settings {
    let keys = Keys {
        size: Some(Bytes::Exact(u64::from(SLOTS) << 12)),
        pool: Some(Bytes::Exact(64 << 20)),
        run_dir: Some(run_dir.to_owned()),
        ..Keys::default()
    };
    check::settings(Path::new("/"), keys).expect("settings")
}

fn page(slot: u32) -> Page {
    std::array::from_fn(|i| ((i / 9) as u32).wrapping_mul(slot + 3) as u8)
}

/// Unmounts, whatever the test did.
struct Mounted<'a>(&'a Settings);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = StateDir::remove(&self.0.run_dir.join(&self.0.name));
    }
}

fn prepare(settings: &Settings) -> Option<State> {
    match State::prepare(settings, 1, CopyMode::Copy, None, false) {
        Ok(state) => Some(state),
        Err(e) => {
            eprintln!("SKIPPED: {e}");
            None
        }
    }
}

#[test]
fn pages_outlive_the_server_that_stored_them() {
    let dir = tempfile::tempdir().expect("directory");
    let settings = settings(&dir.path().join("run"));
    let Some(state) = prepare(&settings) else { return };
    let _mounted = Mounted(&settings);
    let mut standby = State::attach(&settings, 1, CopyMode::Copy, None, false).expect("attached");
    let (mut stream, stats) = (Stream::new(), QueueStats::default());
    let store = state.store.as_ref().expect("a swap target");
    for slot in 0..SLOTS {
        store.write(SlotIndex(slot), &page(slot), &mut stream, &stats).expect("room");
    }
    while store.pool().slab_bytes() < 48 << 20 {
        assert!(store.pool().grow(1 << 20).expect("memory"));
    }
    assert!(standby.keep_up().expect("memory") >= 16 << 20, "what the pool has grown by");
    assert_eq!(standby.keep_up().expect("memory"), 0);
    let usage = store.pool_usage();
    state.leave();

    let stats = QueueStats::default();
    let (state, rebuilt) = standby.take_over(&stats).expect("taken over");
    assert_eq!((rebuilt.poisoned, rebuilt.objects), (0, usage.objects));
    assert_eq!(state.buffers.len(), usize::from(settings.depth));
    let store = state.store.as_ref().expect("a swap target");
    assert_eq!(store.pool_usage(), usage);
    let mut found = [0; PAGE_SIZE];
    for slot in 0..SLOTS {
        store.read(SlotIndex(slot), &mut found, &mut stream, &stats).expect("readable");
        assert!(found == page(slot), "slot {slot}");
    }
    store.check().expect("consistent");
    drop(state);
    assert!(format_of(&settings.run_dir, &settings.name).is_err(), "an orderly end removes it");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_changed() {
    let dir = tempfile::tempdir().expect("directory");
    let settings = settings(&dir.path().join("run"));
    let attach = |settings: &Settings| {
        let result = State::attach(settings, 1, CopyMode::Copy, None, false);
        result.map(drop).map_err(|e| e.to_string())
    };
    let error = attach(&settings).expect_err("nobody made it");
    assert!(error.contains("no state of") && error.contains("uswap up"), "{error}");
    let Some(state) = prepare(&settings) else { return };
    let _mounted = Mounted(&settings);
    attach(&settings).expect("the same settings");
    let other = Settings { pool: 128 << 20, ..settings.clone() };
    let error = attach(&other).expect_err("another pool");
    assert!(error.contains("was made with --pool in bytes 67108864"), "{error}");
    let other = Settings { depth: 32, ..settings.clone() };
    assert!(attach(&other).expect_err("another depth").contains("; give the settings"));
    let format = settings.run_dir.join(&settings.name).join("format");
    let mut bytes = fs::read(&format).expect("readable");
    bytes[8] ^= 6;
    fs::write(&format, &bytes).expect("writable");
    let error = attach(&settings).expect_err("another version");
    assert!(error.contains("has format 7, and this program knows 1; keep the program"), "{error}");
    fs::write(&format, &bytes[..20]).expect("writable");
    assert!(attach(&settings).expect_err("cut off").contains("has format 7"));
    fs::write(&format, b"").expect("writable");
    assert!(attach(&settings).expect_err("empty").contains("is damaged, or was never finished"));
    let mut page = [1; PAGE_SIZE];
    let store = state.store.as_ref().expect("a swap target");
    let (mut stream, stats) = (Stream::new(), QueueStats::default());
    let read = store.read(SlotIndex(SLOTS), &mut page, &mut stream, &stats);
    assert_eq!(read, Err(IoError::Invalid), "it still serves");
}
