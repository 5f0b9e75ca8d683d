//! Words to [`Settings`]: defaults, limits, and whether the machine has the memory.
//!
//! Defaults, for a laptop and no flags: the pool is a quarter of RAM and at most 4 GiB, because in
//! this version it grows with need but does not shrink; the device is three times the pool, because
//! lz4 usually stores program memory at 2.5 to 3 to one, so a full device and a full pool come at
//! about the same time. A larger device would promise room that is not there, a smaller one could
//! not fill the pool.

use super::amount::Given;
use super::load::Keys;
use super::metrics;
use super::policy;
use super::size::format as human;
use super::spill::{self, Spill};
use super::{CodecChoice, CopyChoice, PRIORITY_DEFAULT, RUN_DIR_DEFAULT, Settings, Target, under};
use crate::error::{StartError, StartResult};
use crate::limits::{
    CPUS_PER_QUEUE, DEPTH_DEFAULT, DEPTH_MAX, DEPTH_MIN, DEVICE_BYTES_MAX, DEVICE_BYTES_MIN,
    HELPERS_DEFAULT_MAX, HELPERS_MAX, NAME_LEN_MAX, POLL_US_DEFAULT, POLL_US_MAX, POOL_BYTES_MAX,
    POOL_BYTES_MIN, QUEUES_DEFAULT_MAX, QUEUES_MAX, REQUEST_BYTES_MAX, RESERVE_HIGH_BYTES,
    SEGMENT_BYTES, SPILL_ALONG_BYTES_MAX, SPILL_DRAFTS, STAGING_BYTES_DEFAULT, STAGING_BYTES_MAX,
    STAGING_BYTES_MIN,
};
use crate::sys::statefs::StateDir;
use crate::units::PAGE_SIZE;
use std::path::{Path, PathBuf};

const PAGE: u64 = PAGE_SIZE as u64;
/// Slot table: one word for each page of the device.
const SLOT_BYTES: u64 = 8;
/// The default pool stops growing with RAM here: above it the administrator should decide.
const POOL_DEFAULT_MAX: u64 = 4 << 30;
/// Device bytes for each byte of pool and spill.
const SIZE_PER_POOL: u64 = 3;
/// Left over for the server itself and whoever starts it.
const HEADROOM_BYTES: u64 = 32 << 20;
/// Ends of the names of a service's files beside its state directory, which has its plain name.
const OTHER_FILES: [&str; 4] = [".log", ".sock", ".lock", ".former"];
/// Longest path in a socket address, without the closing zero (Linux include/uapi/linux/un.h).
const SOCKET_PATH_MAX: usize = 107;

/// RAM of the machine, from `/proc/meminfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// MemTotal in bytes.
    pub total: u64,
    /// MemAvailable in bytes.
    pub available: u64,
}

/// Where the kernel tells how much RAM there is.
pub const MEMINFO: &str = "/proc/meminfo";

/// How much RAM there is.
pub fn memory(root: &Path) -> StartResult<Memory> {
    let fail = |what: String| StartError::failure(what, "mount /proc");
    let path = under(root, Path::new(MEMINFO));
    let text = std::fs::read_to_string(&path)
        .map_err(|e| fail(format!("cannot read {}: {e}", path.display())))?;
    memory_in(&text).map_err(|key| fail(format!("{} has no {key}", path.display())))
}

/// How much RAM there is according to the text of [`MEMINFO`]; what is missing there if something
/// is. Does not allocate.
pub fn memory_in(text: &str) -> Result<Memory, &'static str> {
    let row = |key: &'static str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib = rest.and_then(|r| r.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|k| k << 10).ok_or(key)
    };
    Ok(Memory { total: row("MemTotal")?, available: row("MemAvailable")? })
}

/// Whether `name` can be a directory, a unit instance and a metric label.
pub fn name(name: &str) -> StartResult<()> {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if let Some(end) = OTHER_FILES.iter().find(|end| name.ends_with(*end)) {
        return Err(StartError::usage(
            format!("name: {name:?} could be another service's {end} file"),
            format!("use a name without {end} at its end"),
        ));
    }
    if letters && !name.is_empty() && name.len() <= NAME_LEN_MAX && !name.starts_with(['.', '-']) {
        return Ok(());
    }
    Err(StartError::usage(
        format!("name: {name:?} cannot be a service name"),
        format!("use up to {NAME_LEN_MAX} of A-Z a-z 0-9 _ . - and begin with none of . -"),
    ))
}

/// Applies defaults and every rule. `keys` has been through `load::keys`, so it has a name.
pub fn settings(root: &Path, keys: Keys) -> StartResult<Settings> {
    let service = keys.name.clone().unwrap_or_else(|| super::NAME_DEFAULT.into());
    name(&service)?;
    let target = keys.target.unwrap_or(Target::Swap);
    let depth = keys.depth.unwrap_or(DEPTH_DEFAULT);
    between("depth", depth, DEPTH_MIN, DEPTH_MAX)?;
    if let Some(queues) = keys.queues {
        between("queues", queues, 1, QUEUES_MAX)?;
    }
    let run_dir = keys.run_dir.as_deref().unwrap_or(Path::new(RUN_DIR_DEFAULT));
    let run_dir = absolute("run-dir", run_dir)?;
    let mut memory = memory(root)?;
    if StateDir::is_mounted(&under(root, &run_dir.join(&service))) {
        memory.available = u64::MAX; // it has its memory already
    }
    let given = Given::on(memory.total, &keys)?;
    let (staging, helpers) = staging(root, &keys, given.staging, target)?;
    let poll_us = keys.poll_us.unwrap_or(if cpus(root) > 1 { POLL_US_DEFAULT } else { 0 });
    between("poll-us", poll_us, 0, POLL_US_MAX)?;
    let spill = spill::of(&keys, &given, target)?;
    let queues = keys.queues.unwrap_or_else(|| queues_most(root));
    let requests = u64::from(queues) * u64::from(depth);
    let asked = given.any() || keys.queues.is_some() || keys.depth.is_some();
    let (size, pool) = sizes(memory, &given, target, (requests, staging), spill.as_ref(), asked)?;
    let unsafe_no_lock = keys.unsafe_no_lock.unwrap_or(false);
    let swapon = keys.swapon.unwrap_or(false);
    if swapon && target == Target::Null {
        return Err(StartError::usage(
            "swapon: the null target stores nothing, so it cannot be swap",
            "drop swapon or use target swap",
        ));
    }
    let priority = keys.priority.unwrap_or(PRIORITY_DEFAULT);
    between("priority", priority, 0, i16::MAX)?;
    let socket = keys.socket.unwrap_or_else(|| run_dir.join(format!("{service}.sock")));
    let socket = absolute("socket", &socket)?;
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(StartError::usage(
            format!("socket: {} is longer than {SOCKET_PATH_MAX} bytes", socket.display()),
            "use a shorter --socket or --run-dir",
        ));
    }
    let metrics = metrics::parse(keys.metrics.as_deref())?;
    Ok(Settings {
        name: service,
        id: keys.id,
        size,
        pool,
        queues: keys.queues,
        depth,
        staging,
        helpers,
        poll_us,
        codec: keys.codec.unwrap_or(CodecChoice::Lz4),
        policy: policy::named(root, keys.policy.as_deref().unwrap_or(policy::DEFAULT))?,
        target,
        spill_size: spill.as_ref().map_or(0, |spill| spill.pages_bytes),
        spill: spill.map(|spill| spill.path),
        copy: keys.copy.unwrap_or(CopyChoice::Auto),
        unsafe_spill: keys.unsafe_spill.unwrap_or(false),
        run_dir,
        socket,
        metrics,
        swapon,
        priority: Some(priority),
        discard: keys.discard.unwrap_or(swapon),
        standby: keys.standby.unwrap_or(target != Target::Null && !unsafe_no_lock),
        unsafe_no_lock,
    })
}

/// The path of this key, from the root on.
pub(super) fn absolute(key: &str, path: &Path) -> StartResult<PathBuf> {
    std::path::absolute(path)
        .map_err(|e| StartError::usage(format!("{key}: {path:?}: {e}"), "give an absolute path"))
}

/// Refuses `n` unless it lies between `min` and `max`, both included.
pub fn between<T: PartialOrd + std::fmt::Display>(
    key: &str,
    n: T,
    min: T,
    max: T,
) -> StartResult<()> {
    if min <= n && n <= max {
        return Ok(());
    }
    Err(StartError::usage(
        format!("{key}: {n} is out of range"),
        format!("use a number from {min} to {max}"),
    ))
}

/// Device and pool size. Only the swap target has a pool and a table; the loop target's device is
/// as large as its file.
fn sizes(
    memory: Memory,
    given: &Given,
    target: Target,
    (requests, staging): (u64, u64),
    spill: Option<&Spill>,
    asked: bool,
) -> StartResult<(u64, u64)> {
    let checked = |key, bytes: Option<u64>, min, max| {
        bytes.map(|n| bytes_between(key, n, min, max)).transpose()
    };
    let size = checked("size", given.size, DEVICE_BYTES_MIN, DEVICE_BYTES_MAX)?;
    let pool = checked("pool", given.pool, POOL_BYTES_MIN, POOL_BYTES_MAX)?;
    let share = (memory.total / 4).min(POOL_DEFAULT_MAX);
    let share = (share - share % (1 << 20)).max(POOL_BYTES_MIN);
    // A pool larger than the device could not be filled by it.
    let default = size.map_or(share, |size| share.min(size.max(POOL_BYTES_MIN)));
    let wanted = pool.unwrap_or(default);
    let size = size.unwrap_or_else(|| match (spill, target) {
        (Some(spill), Target::Loop) => spill.bytes,
        (spill, _) => {
            let stored = wanted + spill.map_or(0, |spill| spill.bytes);
            stored.saturating_mul(SIZE_PER_POOL).min(DEVICE_BYTES_MAX)
        }
    });
    let (pool, table) = match target {
        Target::Swap => (wanted, size / PAGE * SLOT_BYTES),
        Target::Null | Target::Loop => (0, 0),
    };
    let mut buffers = requests * REQUEST_BYTES_MAX as u64 + staging;
    if target == Target::Swap && spill.is_some() {
        let segments = (SPILL_DRAFTS as u64 + 1) * SEGMENT_BYTES as u64;
        buffers += segments + requests * SPILL_ALONG_BYTES_MAX as u64;
    }
    fits(memory, &Need { pool, table, buffers }, asked)?;
    Ok((size, pool))
}

/// Bytes of staging and number of helpers. The null target has nothing to compress.
fn staging(
    root: &Path,
    keys: &Keys,
    given: Option<u64>,
    target: Target,
) -> StartResult<(u64, u16)> {
    if target != Target::Swap {
        return Ok((0, 0));
    }
    let bytes = given.unwrap_or(STAGING_BYTES_DEFAULT);
    if bytes != 0 {
        bytes_between("staging", bytes, STAGING_BYTES_MIN, STAGING_BYTES_MAX)?;
    }
    let least = u16::from(bytes > 0);
    let default = cpus(root).saturating_sub(1).clamp(1, HELPERS_DEFAULT_MAX) * least;
    let helpers = keys.helpers.unwrap_or(default);
    let most = HELPERS_MAX * least;
    if helpers < least || helpers > most {
        let (what, remedy) = match bytes {
            0 => ("there is nothing to help with", "use 0, or staging above 0".to_owned()),
            _ => ("is out of range", format!("use a number from {least} to {most}")),
        };
        return Err(StartError::usage(format!("helpers: {helpers} {what}"), remedy));
    }
    Ok((bytes, helpers))
}

/// The most queues that a service may choose by itself.
fn queues_most(root: &Path) -> u16 {
    (cpus(root) / CPUS_PER_QUEUE).clamp(1, QUEUES_DEFAULT_MAX)
}

/// CPUs that are on; as many as matter if that cannot be read.
fn cpus(root: &Path) -> u16 {
    let text = std::fs::read_to_string(under(root, Path::new("/proc/stat"))).unwrap_or_default();
    let cpu = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    match text.lines().filter(cpu).count() {
        0 => QUEUES_DEFAULT_MAX * CPUS_PER_QUEUE,
        cpus => u16::try_from(cpus).unwrap_or(u16::MAX),
    }
}

pub(super) fn bytes_between(key: &str, bytes: u64, min: u64, max: u64) -> StartResult<u64> {
    let refuse = |what: String, remedy: String| Err(StartError::usage(what, remedy));
    if bytes == 0 {
        return refuse(format!("{key}: is zero"), format!("use at least {}", human(min)));
    }
    if !bytes.is_multiple_of(PAGE) {
        let low = bytes - bytes % PAGE;
        let near = [low, low + PAGE].into_iter().find(|&n| n >= min).unwrap_or(min);
        return refuse(
            format!("{key}: {bytes} is not a multiple of {PAGE}"),
            format!("use {near}, or a number with M or G"),
        );
    }
    if bytes < min {
        return refuse(
            format!("{key}: {} is too small", human(bytes)),
            format!("use at least {}", human(min)),
        );
    }
    if bytes > max {
        return refuse(
            format!("{key}: {} is too large", human(bytes)),
            format!("use at most {}", human(max)),
        );
    }
    Ok(bytes)
}

/// Bytes that a service takes, by purpose.
struct Need {
    pool: u64,
    table: u64,
    buffers: u64,
}

/// Whether the service fits in RAM. Table, request buffers and reserve are made present and locked
/// before the device starts, so they must fit in what is available: pushing everything else out to
/// make room is what swap is there to avoid. The pool grows to its size later, so that has to fit
/// in RAM as such.
fn fits(memory: Memory, need: &Need, asked: bool) -> StartResult<()> {
    let &Need { pool, table, buffers } = need;
    let reserve = pool.min(RESERVE_HIGH_BYTES);
    let at_start = reserve + table + buffers + HEADROOM_BYTES;
    let in_all = pool + table + buffers + HEADROOM_BYTES;
    let (larger, less) = if buffers > table {
        (buffers, "use fewer --queues or a smaller --depth")
    } else {
        (table, "use a smaller --size")
    };
    let fixed = [(table, "slot table"), (buffers, "request buffers")];
    let (what, remedy) = if in_all > memory.total {
        let room = memory.total.saturating_sub(in_all - pool) >> 20;
        let what = format!(
            "{} are {}, but this machine has {}",
            listed(&[&[(pool, "pool")], &fixed[..]].concat()),
            human(in_all),
            human(memory.total),
        );
        let by_pool = room << 20 >= POOL_BYTES_MIN && pool >= larger;
        (what, if by_pool { format!("use --pool {room}M or less") } else { less.into() })
    } else if at_start > memory.available {
        let what = format!(
            "{} must be there at start, but {} of {} are available",
            listed(&[&fixed[..], &[(reserve, "of the pool")]].concat()),
            human(memory.available),
            human(memory.total),
        );
        let enough = at_start - larger <= memory.available;
        (what, if enough { less } else { "free some memory first" }.to_owned())
    } else {
        return Ok(());
    };
    let what = format!("larger than memory allows: {what}");
    Err(if asked { StartError::usage(what, remedy) } else { StartError::failure(what, remedy) })
}

/// The parts that take anything, in words, and what is left over for the server.
fn listed(parts: &[(u64, &str)]) -> String {
    let some = parts.iter().filter(|(bytes, _)| *bytes > 0);
    let words: Vec<String> = some.map(|&(bytes, what)| human(bytes) + " " + what).collect();
    format!("{} and {} for the server", words.join(", "), human(HEADROOM_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Bytes;

    const MIB: u64 = 1 << 20;

    fn machine(total_kib: u64, available_kib: u64) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("directory");
        std::fs::create_dir(root.path().join("proc")).expect("proc");
        let text = format!("MemTotal: {total_kib} kB\nMemAvailable: {available_kib} kB\n");
        std::fs::write(root.path().join("proc/meminfo"), text).expect("meminfo");
        root
    }

    fn refusal(keys: Keys) -> StartError {
        let root = machine(1 << 20, 900 << 10);
        settings(root.path(), keys).expect_err("refused")
    }

    #[test]
    fn defaults_suit_small_and_large_machines() {
        for (ram_gib, pool) in [(1, 256 * MIB), (8, 2048 * MIB), (64, 4096 * MIB)] {
            let root = machine(ram_gib << 20, ram_gib << 20);
            let found = settings(root.path(), Keys::default()).expect("defaults");
            assert_eq!((found.pool, found.size), (pool, 3 * pool));
        }
    }

    #[test]
    fn a_small_device_gets_a_small_pool() {
        let root = machine(8 << 20, 8 << 20);
        let keys = Keys { size: Some(Bytes::Exact(64 * MIB)), ..Keys::default() };
        assert_eq!(settings(root.path(), keys).expect("fits").pool, 64 * MIB);
    }

    #[test]
    fn null_needs_its_request_buffers_only() {
        let keys = Keys { target: Some(Target::Null), queues: Some(1), ..Keys::default() };
        let root = machine(1 << 20, 40 << 10);
        assert_eq!(settings(root.path(), keys.clone()).expect("8M and 32M").pool, 0);
        let root = machine(1 << 20, 39 << 10);
        let error = settings(root.path(), keys).expect_err("buffers").to_string();
        let all = "allows: 8M request buffers and 32M for the server must be there at start";
        assert!(error.contains(all) && error.contains("fewer --queues"), "{error}");
    }

    #[test]
    fn request_buffers_are_counted_and_told() {
        let keys = Keys { queues: Some(64), depth: Some(128), ..Keys::default() };
        let error = refusal(keys.clone());
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("1G request buffers"), "{text}");
        assert!(text.contains("; use fewer --queues or a smaller --depth"), "{text}");
        let root = machine(4 << 20, 1 << 20);
        let text = settings(root.path(), keys.clone()).expect_err("not free now").to_string();
        assert!(text.contains("must be there at start") && text.contains("--queues"), "{text}");
        let root = machine(4 << 20, 2 << 20);
        settings(root.path(), keys).expect("fits");
    }

    #[test]
    fn queues_are_counted_by_cpu_up_to_a_few() {
        let root = machine(1 << 20, 1 << 20);
        assert_eq!(queues_most(root.path()), QUEUES_DEFAULT_MAX, "nobody knows");
        for (cpus, queues) in [(1, 1), (2, 1), (9, 2), (64, QUEUES_DEFAULT_MAX)] {
            let lines: String = (0..cpus).map(|n| format!("cpu{n} 1 2 3\n")).collect();
            std::fs::write(root.path().join("proc/stat"), format!("cpu  9 9\n{lines}intr 1\n"))
                .expect("stat");
            assert_eq!(queues_most(root.path()), queues);
        }
    }

    #[test]
    fn memory_is_counted_and_told() {
        let error = refusal(Keys { pool: Some(Bytes::Exact(2 << 30)), ..Keys::default() });
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        for part in [
            "larger than memory allows",
            "2G pool, 12M slot table, 40M request buffers",
            "this machine has 1G",
            "use --pool 940M",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let keys = Keys { size: Some(Bytes::Exact(DEVICE_BYTES_MAX)), ..Keys::default() };
        assert!(refusal(keys).to_string().contains("smaller --size"));
        let root = machine(1 << 20, 20 << 10);
        let error = settings(root.path(), Keys::default()).expect_err("no memory");
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("20M of 1G are available; free some memory first"));
    }

    #[test]
    fn a_pool_may_grow_beyond_what_is_free_at_start() {
        let root = machine(656_432, 499_336);
        let keys = Keys { pool: Some(Bytes::Exact(500 * MIB)), ..Keys::default() };
        settings(root.path(), keys).expect("table and reserve fit");
    }

    #[test]
    fn every_number_has_its_limits() {
        let size = |n| Keys { size: Some(Bytes::Exact(n)), ..Keys::default() };
        let pool = |n| Keys { pool: Some(Bytes::Exact(n)), ..Keys::default() };
        for (keys, part) in [
            (size(0), "size: is zero"),
            (size(5000), "not a multiple of 4096; use 2097152"),
            (size(4096), "size: 4K is too small; use at least 2M"),
            (size(DEVICE_BYTES_MAX + PAGE), "size: 16T is too large; use at most 16T"),
            (pool(0), "pool: is zero"),
            (pool(MIB), "pool: 1M is too small; use at least 16M"),
            (pool((16 << 20) + 1), "not a multiple of 4096"),
            (Keys { depth: Some(4), ..Keys::default() }, "depth: 4 is out of range"),
            (Keys { depth: Some(129), ..Keys::default() }, "from 8 to 128"),
            (Keys { queues: Some(0), ..Keys::default() }, "from 1 to 64"),
            (Keys { staging: Some(Bytes::Exact(4096)), ..Keys::default() }, "use at least 256K"),
            (Keys { helpers: Some(0), ..Keys::default() }, "from 1 to 16"),
            (Keys { helpers: Some(17), ..Keys::default() }, "from 1 to 16"),
            (Keys { poll_us: Some(20_000), ..Keys::default() }, "from 0 to 10000"),
            (
                Keys { staging: Some(Bytes::Exact(0)), helpers: Some(1), ..Keys::default() },
                "helpers: 1 there is nothing to help with; use 0",
            ),
            (Keys { priority: Some(-2), ..Keys::default() }, "priority"),
        ] {
            let error = refusal(keys);
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn names_are_tame() {
        for good in ["default", "a", "x_1.y-z", &"n".repeat(NAME_LEN_MAX)] {
            name(good).expect(good);
        }
        for bad in ["", ".", "-x", ".x", "a/b", "a b", "ä", "a\n", &"n".repeat(NAME_LEN_MAX + 1)] {
            assert!(!name(bad).expect_err(bad).to_string().contains('\n'));
        }
        for bad in ["x.log", "x.sock", "x.lock", "x.former"] {
            assert!(name(bad).expect_err(bad).to_string().contains("another service's"));
        }
        name("x.locks").expect("no such file");
    }
}
