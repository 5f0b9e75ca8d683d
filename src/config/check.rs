//! Words to [`Settings`]: defaults, limits, and whether the machine has the memory.
//!
//! Defaults, for a laptop and no flags: the pool is a quarter of RAM and at most 4 GiB, because in this version it is
//! wholly resident from the start, used or not; the device is three times the pool, because lz4 usually stores
//! program memory at 2.5 to 3 to one, so a full device and a full pool come at about the same time. A larger device
//! would promise room that is not there, a smaller one would leave locked memory idle.

use super::load::{Bytes, Keys};
use super::size::format as human;
use super::{CodecChoice, PRIORITY_DEFAULT, RUN_DIR_DEFAULT, Settings, Target, under};
use crate::error::{StartError, StartResult};
use crate::limits::{
    DEPTH_DEFAULT, DEPTH_MAX, DEPTH_MIN, DEVICE_BYTES_MAX, DEVICE_BYTES_MIN, NAME_LEN_MAX,
    POOL_BYTES_MAX, POOL_BYTES_MIN, QUEUES_MAX,
};
use crate::units::PAGE_SIZE;
use std::path::{Path, PathBuf};

const PAGE: u64 = PAGE_SIZE as u64;
/// Slot table: one word for each page of the device.
const SLOT_BYTES: u64 = 8;
/// The default pool stops growing with RAM here: above it the administrator should decide.
const POOL_DEFAULT_MAX: u64 = 4 << 30;
/// Device bytes for each byte of pool.
const SIZE_PER_POOL: u64 = 3;
/// Left over for request buffers, the server itself and whoever starts it.
const HEADROOM_BYTES: u64 = 32 << 20;
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

/// How much RAM there is.
pub fn memory(root: &Path) -> StartResult<Memory> {
    let fail = |what: String| StartError::failure(what, "mount /proc");
    let path = under(root, Path::new("/proc/meminfo"));
    let text = std::fs::read_to_string(&path)
        .map_err(|e| fail(format!("cannot read {}: {e}", path.display())))?;
    let row = |key: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib = rest.and_then(|r| r.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|k| k << 10).ok_or_else(|| fail(format!("{} has no {key}", path.display())))
    };
    Ok(Memory { total: row("MemTotal")?, available: row("MemAvailable")? })
}

/// Whether `name` can be a directory, a unit instance and a metric label.
pub fn name(name: &str) -> StartResult<()> {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if letters && !name.is_empty() && name.len() <= NAME_LEN_MAX && !name.starts_with(['.', '-']) {
        return Ok(());
    }
    Err(StartError::usage(
        format!("--name: {name:?} cannot be a service name"),
        format!("use up to {NAME_LEN_MAX} of A-Z a-z 0-9 _ . - and begin with none of . -"),
    ))
}

/// Applies defaults and every rule. `keys` has been through `load::keys`, so it has a name.
pub fn settings(root: &Path, keys: Keys) -> StartResult<Settings> {
    let service = keys.name.clone().unwrap_or_else(|| super::NAME_DEFAULT.into());
    name(&service)?;
    let target = keys.target.unwrap_or(Target::Swap);
    let (size, pool) = sizes(root, &keys, target)?;
    let swapon = keys.swapon.unwrap_or(false);
    if swapon && target == Target::Null {
        return Err(StartError::usage(
            "--swapon: the null target stores nothing, so it cannot be swap",
            "drop --swapon or use --target swap",
        ));
    }
    let depth = keys.depth.unwrap_or(DEPTH_DEFAULT);
    between("--depth", depth, DEPTH_MIN, DEPTH_MAX)?;
    if let Some(queues) = keys.queues {
        between("--queues", queues, 1, QUEUES_MAX)?;
    }
    let priority = keys.priority.unwrap_or(PRIORITY_DEFAULT);
    between("--priority", priority, 0, i16::MAX)?;
    let run_dir = absolute(keys.run_dir.unwrap_or_else(|| RUN_DIR_DEFAULT.into()))?;
    let socket = keys.socket.unwrap_or_else(|| run_dir.join(format!("{service}.sock")));
    let socket = absolute(socket)?;
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(StartError::usage(
            format!("--socket: {} is longer than {SOCKET_PATH_MAX} bytes", socket.display()),
            "use a shorter --socket or --run-dir",
        ));
    }
    Ok(Settings {
        name: service,
        id: keys.id,
        size,
        pool,
        queues: keys.queues,
        depth,
        codec: keys.codec.unwrap_or(CodecChoice::Lz4),
        target,
        run_dir,
        socket,
        swapon,
        priority: Some(priority),
        discard: keys.discard.unwrap_or(false),
        unsafe_no_lock: keys.unsafe_no_lock.unwrap_or(false),
    })
}

fn absolute(path: PathBuf) -> StartResult<PathBuf> {
    std::path::absolute(&path)
        .map_err(|e| StartError::usage(format!("path {path:?}: {e}"), "give an absolute path"))
}

fn between<T: PartialOrd + std::fmt::Display>(flag: &str, n: T, min: T, max: T) -> StartResult<()> {
    if min <= n && n <= max {
        return Ok(());
    }
    Err(StartError::usage(
        format!("{flag}: {n} is out of range"),
        format!("use a number from {min} to {max}"),
    ))
}

/// Device and pool size. The null target has no pool and no table.
fn sizes(root: &Path, keys: &Keys, target: Target) -> StartResult<(u64, u64)> {
    let given = |flag, bytes: Option<Bytes>, min, max| match bytes {
        Some(Bytes(n)) => bytes_between(flag, n, min, max).map(Some),
        None => Ok(None),
    };
    let size = given("--size", keys.size, DEVICE_BYTES_MIN, DEVICE_BYTES_MAX)?;
    let pool = given("--pool", keys.pool, POOL_BYTES_MIN, POOL_BYTES_MAX)?;
    let memory = memory(root)?;
    let share = (memory.total / 4).min(POOL_DEFAULT_MAX);
    let share = (share - share % (1 << 20)).max(POOL_BYTES_MIN);
    // A pool larger than the device could not be filled by it.
    let default = size.map_or(share, |size| share.min(size.max(POOL_BYTES_MIN)));
    let wanted = pool.unwrap_or(default);
    let size = size.unwrap_or_else(|| (wanted * SIZE_PER_POOL).min(DEVICE_BYTES_MAX));
    if target == Target::Null {
        return Ok((size, 0));
    }
    fits(memory, size, wanted, keys.pool.is_some() || keys.size.is_some())?;
    Ok((size, wanted))
}

fn bytes_between(flag: &str, bytes: u64, min: u64, max: u64) -> StartResult<u64> {
    let refuse = |what: String, remedy: String| Err(StartError::usage(what, remedy));
    if bytes == 0 {
        return refuse(format!("{flag}: is zero"), format!("use at least {}", human(min)));
    }
    if !bytes.is_multiple_of(PAGE) {
        let low = bytes - bytes % PAGE;
        let near = [low, low + PAGE].into_iter().find(|&n| n >= min).unwrap_or(min);
        return refuse(
            format!("{flag}: {bytes} is not a multiple of {PAGE}"),
            format!("use {near}, or a number with M or G"),
        );
    }
    if bytes < min {
        return refuse(
            format!("{flag}: {} is too small", human(bytes)),
            format!("use at least {}", human(min)),
        );
    }
    if bytes > max {
        return refuse(
            format!("{flag}: {} is too large", human(bytes)),
            format!("use at most {}", human(max)),
        );
    }
    Ok(bytes)
}

/// Whether pool and table fit in RAM now: they are made present and locked before the device starts, and pushing
/// everything else out to make room is what swap is there to avoid.
fn fits(memory: Memory, size: u64, pool: u64, asked: bool) -> StartResult<()> {
    let table = size / PAGE * SLOT_BYTES;
    let need = pool + table + HEADROOM_BYTES;
    let there = memory.available.min(memory.total);
    if need <= there {
        return Ok(());
    }
    let what = format!(
        "larger than memory allows: pool {}, slot table {} and {} for the server need {}, but {} \
         of {} are available",
        human(pool),
        human(table),
        human(HEADROOM_BYTES),
        human(need),
        human(there),
        human(memory.total),
    );
    let room = there.saturating_sub(table + HEADROOM_BYTES);
    let room = room - room % (1 << 20);
    let remedy = if room >= POOL_BYTES_MIN {
        format!("use --pool {} or less", human(room).replace(".0", ""))
    } else if table > there / 4 {
        "use a smaller --size".into()
    } else {
        "free some memory first".into()
    };
    Err(if asked { StartError::usage(what, remedy) } else { StartError::failure(what, remedy) })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let keys = Keys { size: Some(Bytes(64 * MIB)), ..Keys::default() };
        assert_eq!(settings(root.path(), keys).expect("fits").pool, 64 * MIB);
    }

    #[test]
    fn null_needs_no_memory() {
        let root = machine(1 << 20, 1 << 10);
        let keys = Keys { target: Some(Target::Null), ..Keys::default() };
        assert_eq!(settings(root.path(), keys).expect("null").pool, 0);
    }

    #[test]
    fn memory_is_counted_and_told() {
        let error = refusal(Keys { pool: Some(Bytes(2 << 30)), ..Keys::default() });
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        for part in ["larger than memory allows", "pool 2G", "12M", "900M of 1G", "use --pool 856M"]
        {
            assert!(text.contains(part), "{text}");
        }
        let keys = Keys { size: Some(Bytes(DEVICE_BYTES_MAX)), ..Keys::default() };
        assert!(refusal(keys).to_string().contains("smaller --size"));
        let root = machine(1 << 20, 20 << 10);
        let error = settings(root.path(), Keys::default()).expect_err("no memory");
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn every_number_has_its_limits() {
        let size = |n| Keys { size: Some(Bytes(n)), ..Keys::default() };
        let pool = |n| Keys { pool: Some(Bytes(n)), ..Keys::default() };
        for (keys, part) in [
            (size(0), "--size: is zero"),
            (size(5000), "not a multiple of 4096; use 2097152"),
            (size(4096), "--size: 4K is too small; use at least 2M"),
            (size(DEVICE_BYTES_MAX + PAGE), "--size: 16T is too large; use at most 16T"),
            (pool(0), "--pool: is zero"),
            (pool(MIB), "--pool: 1M is too small; use at least 16M"),
            (pool((16 << 20) + 1), "not a multiple of 4096"),
            (Keys { depth: Some(4), ..Keys::default() }, "--depth: 4 is out of range"),
            (Keys { depth: Some(129), ..Keys::default() }, "from 8 to 128"),
            (Keys { queues: Some(0), ..Keys::default() }, "from 1 to 64"),
            (Keys { priority: Some(-2), ..Keys::default() }, "--priority"),
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
    }
}
