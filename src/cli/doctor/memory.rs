//! Memory management settings around swap.

use super::{Level, Row, chosen, line};
use crate::cli::swap;
use crate::cli::tune::{self, PAGE_CLUSTER, Tuning, ZSWAP};
use crate::config::size::format as human;
use crate::daemon::usage::{SwapArea, swap_areas};
use std::path::Path;

/// A sysctl or parameter whose value is simply compared.
struct Setting {
    name: &'static str,
    path: &'static str,
    /// Values that will do. Empty: any will, the row is for information.
    good: &'static [&'static str],
    why: &'static str,
    fix: &'static str,
}

const SETTINGS: [Setting; 6] = [
    Setting {
        name: ZSWAP.name,
        path: ZSWAP.path,
        good: ZSWAP.wanted,
        why: "zswap in front compresses every page first and hands uswap only what it gives up",
        fix: "echo N > /sys/module/zswap/parameters/enabled; to keep it: zswap.enabled=0 at boot",
    },
    Setting {
        name: PAGE_CLUSTER.name,
        path: PAGE_CLUSTER.path,
        good: PAGE_CLUSTER.wanted,
        why: "readahead fetches neighbours that nobody asked for; there is no seek to save in RAM",
        fix: "sysctl -w vm.page-cluster=0",
    },
    Setting {
        name: "vm.swappiness",
        path: "/proc/sys/vm/swappiness",
        good: &[],
        why: "swap in RAM is cheap: 100 to 180 lets the kernel prefer it over dropping file pages",
        fix: "",
    },
    Setting {
        name: "transparent huge pages",
        path: "/sys/kernel/mm/transparent_hugepage/enabled",
        good: &[],
        why: "huge pages go out as one request, are stored by 4 KiB and come back as small pages",
        fix: "",
    },
    Setting {
        name: "kernel.numa_balancing",
        path: "/proc/sys/kernel/numa_balancing",
        good: &["0"],
        why: "it unmaps the server's locked pages to see who uses them: faults in the swap path",
        fix: "sysctl -w kernel.numa_balancing=0",
    },
    Setting {
        name: "vm.compact_unevictable_allowed",
        path: "/proc/sys/vm/compact_unevictable_allowed",
        good: &["0"],
        why: "compaction moves locked pages too, and the server waits meanwhile",
        fix: "sysctl -w vm.compact_unevictable_allowed=0",
    },
];

/// Settings, reserves and other swap areas.
pub fn rows(root: &Path) -> Vec<Row> {
    let mut rows: Vec<Row> = SETTINGS.iter().filter_map(|s| setting(root, s)).collect();
    rows.extend(min_free(root));
    rows.extend(others(root));
    rows
}

/// A row, or none where the kernel does not have the setting.
fn setting(root: &Path, setting: &Setting) -> Option<Row> {
    let value = line(root, setting.path)?;
    let value = chosen(&value);
    let good = setting.good.is_empty() || setting.good.contains(&value);
    let level = if good { Level::Ok } else { Level::Warn };
    Some(Row::new(setting.name, level, value, setting.why, setting.fix))
}

/// The kernel's reserve. Its own default is the square root of 16 x RAM, all in KiB (Linux
/// mm/page_alloc.c); less than 16 MiB is little for a server that competes as an ordinary task.
fn min_free(root: &Path) -> Option<Row> {
    const ENOUGH_KIB: u64 = 16 << 10;
    let kib: u64 = line(root, "/proc/sys/vm/min_free_kbytes")?.parse().ok()?;
    let total = crate::config::check::memory(root).ok()?.total;
    // On a small machine a reserve of 1/64 of RAM has to do.
    let enough = ENOUGH_KIB.min((total >> 10) / 64);
    let level = if kib >= enough { Level::Ok } else { Level::Warn };
    let why = "the kernel's own allocations for I/O come from this reserve when memory is gone";
    let fix = format!("sysctl -w vm.min_free_kbytes={enough}");
    Some(Row::new("vm.min_free_kbytes", level, human(kib << 10), why, &fix))
}

/// Swap areas that are not ours: which is used first, and zram competing for the same RAM.
fn others(root: &Path) -> Vec<Row> {
    let areas = match swap_areas(root) {
        Ok(areas) => areas,
        Err(e) => {
            let why = "what is in use as swap cannot be told, so `uswap down` will refuse";
            let fix = "see `cat /proc/swaps`; report this";
            return vec![Row::new("swap areas", Level::Warn, e.to_string(), why, fix)];
        }
    };
    let row = |area: &SwapArea| {
        let found = swap::describe(area);
        let path = area.path.display();
        let name = format!("other swap {path}");
        if area.is_on("zram") {
            let why = "zram and uswap both keep pages in RAM; two of them share one memory badly";
            let fix = format!("swapoff {path}; to keep it off: remove zram-generator");
            return Row::new(&name, Level::Warn, found, why, &fix);
        }
        let first = area.priority >= i32::from(crate::config::PRIORITY_DEFAULT);
        let level = if first { Level::Warn } else { Level::Ok };
        let why = "the area with the highest priority is filled first; uswap takes 100 by default";
        let fix = format!("use uswap --priority {} or more", area.priority.saturating_add(1));
        Row::new(&name, level, found, why, &fix)
    };
    areas.iter().filter(|area| !area.is_on("ublkb")).map(row).collect()
}

/// What to say before swap is switched on: things that cost speed, with the command, none of them
/// fatal.
pub fn before_swapon(root: &Path) -> Vec<String> {
    tune::ALL.iter().filter_map(|tuning| warning(root, tuning)).collect()
}

/// The same about zswap alone.
pub fn zswap_in_front(root: &Path) -> Option<String> {
    warning(root, &ZSWAP)
}

fn warning(root: &Path, tuning: &Tuning) -> Option<String> {
    let row = setting(root, SETTINGS.iter().find(|s| s.path == tuning.path)?)?;
    let Row { level, name, found, why, fix } = row;
    (level != Level::Ok).then(|| format!("warning: {name} is {found}: {why}; {fix}"))
}
