//! Kernel, driver and io_uring: without these there is no device.

use super::{Level, Probe, Row, line};
use crate::config::under;
use crate::daemon::best_copy_mode;
use crate::sys::ublk_abi::CopyMode;
use crate::ublk::Features;
use std::path::Path;

/// Kernel release, page size, driver, features, io_uring.
pub fn rows(root: &Path, probe: Probe<'_>) -> Vec<Row> {
    let control = control_device(root);
    let usable = control.level == Level::Ok;
    let mut rows = vec![kernel(root), page_size(root), control];
    if usable {
        rows.extend(features(probe));
    }
    rows.push(io_uring(root));
    rows.push(noswap(root));
    rows
}

fn release(root: &Path) -> String {
    line(root, "/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into())
}

/// Major and minor number of a release such as `6.12.57+deb13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn kernel(root: &Path) -> Row {
    let release = release(root);
    let level = match version(&release) {
        Some(found) if found >= (6, 12) => Level::Ok,
        Some(found) if found >= (6, 4) => Level::Warn,
        _ => Level::Fail,
    };
    let why = "uswap is tested on 6.12 and newer; before 6.4 its state could be swapped out";
    Row::new("kernel", level, release, why, "boot a kernel of 6.12 or newer")
}

/// The size of a page, from this process's own map of memory.
fn page_size(root: &Path) -> Row {
    let path = under(root, Path::new("/proc/self/smaps"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MMUPageSize:")).map(str::trim);
    let (level, found) = match kib {
        Some("4 kB") => (Level::Ok, "4096"),
        Some(other) => (Level::Fail, other),
        None => (Level::Warn, "unknown"),
    };
    let why = "the device and every stored page are made of 4 KiB pages";
    Row::new("page size", level, found, why, "boot a kernel with 4 KiB pages")
}

fn control_device(root: &Path) -> Row {
    let row = |level, found: &str, fix: &str| {
        let why = "devices are made through the ublk driver's control device";
        Row::new("ublk driver", level, found, why, fix)
    };
    let is = |path: &str| under(root, Path::new(path)).exists();
    if is("/dev/ublk-control") {
        return row(Level::Ok, "/dev/ublk-control", "");
    }
    if is("/sys/module/ublk_drv") {
        let found = "ublk_drv is loaded, but /dev/ublk-control is missing";
        return row(Level::Fail, found, "mount devtmpfs on /dev, or give the container the device");
    }
    let release = release(root);
    let listed = |file: &str| {
        let path = format!("/lib/modules/{release}/{file}");
        let text = std::fs::read_to_string(under(root, Path::new(&path))).unwrap_or_default();
        text.contains("/ublk_drv.ko")
    };
    if listed("modules.dep") {
        let fix = "modprobe ublk_drv; to keep it: echo ublk_drv > /etc/modules-load.d/uswap.conf";
        return row(Level::Fail, "module ublk_drv is there, but not loaded", fix);
    }
    if listed("modules.builtin") {
        return row(
            Level::Fail,
            "built in, but /dev/ublk-control is missing",
            "mount devtmpfs on /dev",
        );
    }
    let fix =
        "install a kernel with CONFIG_BLK_DEV_UBLK=m (Debian: linux-image-amd64, 6.12 or newer)";
    let found = format!("no module ublk_drv for kernel {release} (CONFIG_BLK_DEV_UBLK missing)");
    row(Level::Fail, &found, fix)
}

fn features(probe: Probe<'_>) -> Vec<Row> {
    let (level, found, fix, copy) = match probe() {
        Ok(names) => {
            let copy = best_copy_mode(Features::named(&names));
            (Level::Ok, names.join(" "), String::new(), Some(copy))
        }
        Err(e) => (Level::Warn, "unknown".into(), e.to_string(), None),
    };
    let why = "what the driver offers decides how the service talks to it and what a crash costs";
    let mut rows = vec![Row::new("ublk features", level, found, why, &fix)];
    rows.extend(copy.map(copy_mode));
    rows
}

fn copy_mode(copy: CopyMode) -> Row {
    let found = match copy {
        CopyMode::Zero => "zero: requests' pages go to the file as they are",
        CopyMode::Copy | CopyMode::User => "copy: zero copy needs AUTO_BUF_REG (Linux 6.16)",
    };
    Row::new("loop copy mode", Level::Ok, found, "how `--target loop` moves data by default", "")
}

fn io_uring(root: &Path) -> Row {
    let value = line(root, "/proc/sys/kernel/io_uring_disabled");
    let (level, found) = match value.as_deref() {
        Some("0") | None => (Level::Ok, "enabled"),
        Some("1") => (Level::Warn, "io_uring_disabled=1: only for root and io_uring_group"),
        Some(_) => (Level::Fail, "io_uring_disabled=2: for nobody"),
    };
    let why = "requests travel through io_uring; there is no other way to ublk";
    Row::new("io_uring", level, found, why, "sysctl -w kernel.io_uring_disabled=0")
}

fn noswap(root: &Path) -> Row {
    let new = version(&release(root)).is_some_and(|found| found >= (6, 4));
    let (level, found) =
        if new { (Level::Ok, "supported") } else { (Level::Fail, "needs kernel 6.4") };
    let why = "stored pages live on a tmpfs that the kernel must never try to swap out to itself";
    Row::new("tmpfs noswap", level, found, why, "boot a kernel of 6.12 or newer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.12.57+deb13-amd64"), Some((6, 12)));
        assert_eq!(version("7.3-rc1"), Some((7, 3)));
        assert_eq!(version("unknown"), None);
    }
}
