//! What the service may do: identity, capabilities, limits, cgroup.

use super::{Level, Row, line};
use crate::config::size::format as human;
use crate::config::under;
use crate::sys::guard::{self, CAP_IPC_LOCK};
use std::path::Path;

/// Capability, its bit (Linux include/uapi/linux/capability.h), and what needs it.
const CAPABILITIES: [(&str, u32, &str); 3] = [
    ("CAP_SYS_ADMIN", 21, "to make ublk devices and to use swapon"),
    (
        "CAP_IPC_LOCK",
        CAP_IPC_LOCK,
        "to lock memory: a server whose pages can be swapped waits for itself",
    ),
    ("CAP_SYS_RESOURCE", 24, "to become an I/O flusher and to be spared by the OOM killer"),
];

/// Capabilities, memory-lock limit and cgroup of this process, which a service started from here
/// inherits.
pub fn rows(root: &Path) -> Vec<Row> {
    let held = capabilities(root);
    let mut rows: Vec<Row> = CAPABILITIES
        .iter()
        .map(|&(name, bit, why)| {
            let has = held & (1 << bit) != 0;
            let (level, found) = if has { (Level::Ok, "yes") } else { (Level::Fail, "no") };
            Row::new(name, level, found, why, "run as root, outside of containers that drop it")
        })
        .collect();
    rows.push(memlock(root, held & (1 << CAP_IPC_LOCK) != 0));
    rows.extend(cgroup(root, "self", "this shell's cgroup"));
    rows
}

/// The effective capabilities; none if they cannot be read.
fn capabilities(root: &Path) -> u64 {
    let path = under(root, Path::new("/proc/self/status"));
    guard::capabilities(&std::fs::read_to_string(path).unwrap_or_default())
}

fn memlock(root: &Path, ipc_lock: bool) -> Row {
    let path = under(root, Path::new("/proc/self/limits"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let limit = text.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let soft = limit.and_then(|l| l.split_whitespace().next()).unwrap_or("unknown");
    let found = soft.parse().map_or_else(|_| soft.to_owned(), human);
    let level = if ipc_lock || soft == "unlimited" { Level::Ok } else { Level::Fail };
    let why = "pool, table and buffers are locked; the limit counts without CAP_IPC_LOCK";
    let fix = "run as root, ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit";
    Row::new("locked memory limit", level, found, why, fix)
}

/// Memory limits on the cgroup (version 2) of `pid` and on those above it.
pub fn cgroup(root: &Path, pid: &str, whose: &str) -> Vec<Row> {
    let membership = under(root, Path::new("/proc")).join(pid).join("cgroup");
    let text = std::fs::read_to_string(membership).unwrap_or_default();
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let limits: Vec<String> = Path::new(path)
        .ancestors()
        .flat_map(|dir| ["memory.max", "memory.high"].map(|file| dir.join(file)))
        .filter_map(|file| {
            let value = line(root, &format!("/sys/fs/cgroup/{}", file.display()))?;
            let bytes: u64 = value.parse().ok()?;
            Some(format!("/{} {}", file.display(), human(bytes)))
        })
        .collect();
    let found = if limits.is_empty() { "no limit".into() } else { limits.join(", ") };
    let level = if limits.is_empty() { Level::Ok } else { Level::Warn };
    let why = "a server that its cgroup throttles or kills takes everybody's swap with it";
    let fix =
        "start it in a cgroup without memory.max and memory.high, such as systemd/uswap@.service";
    vec![Row::new(whose, level, found, why, fix)]
}
