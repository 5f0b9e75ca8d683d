//! Who uses a block device: swap, mounts, stacked devices. Asked before a device is taken away, so
//! what cannot be read counts as "in use".

use crate::error::{StartError, StartResult};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A line of /proc/swaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapArea {
    /// Device or file.
    pub path: PathBuf,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Bytes of it in use.
    pub used_bytes: u64,
    /// Priority; the higher is used first.
    pub priority: i32,
}

impl SwapArea {
    /// Whether the device is one of those with names such as `zram` and a number.
    pub fn is_on(&self, driver: &str) -> bool {
        self.path.to_string_lossy().starts_with(&format!("/dev/{driver}"))
    }
}

/// All swap areas. A kernel without swap (no /proc/swaps) has none; a table that cannot be read or
/// understood is an error.
pub fn swap_areas(root: &Path) -> io::Result<Vec<SwapArea>> {
    let text = match fs::read_to_string(root.join("proc/swaps")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let unreadable = |line: &str| io::Error::other(format!("/proc/swaps: unreadable: {line}"));
    text.lines().skip(1).map(|line| parse_area(line).ok_or_else(|| unreadable(line))).collect()
}

fn parse_area(line: &str) -> Option<SwapArea> {
    let mut words = line.split_ascii_whitespace();
    let path = PathBuf::from(words.next()?.replace("\\040", " "));
    let priority = words.next_back()?.parse().ok()?;
    let mut bytes = || words.next_back()?.parse::<u64>().ok()?.checked_mul(1024);
    let (used_bytes, size_bytes) = (bytes()?, bytes()?);
    Some(SwapArea { path, size_bytes, used_bytes, priority })
}

/// The swap area on `device` (`/dev/ublkbN`), if it is one, whatever name swapon was given.
pub fn swap_area(root: &Path, device: &Path) -> io::Result<Option<SwapArea>> {
    let number = |p: &Path| fs::metadata(p).map(|m| m.rdev()).ok().filter(|&n| n != 0);
    let own = number(device);
    let same =
        |area: &SwapArea| area.path == device || (own.is_some() && number(&area.path) == own);
    Ok(swap_areas(root)?.into_iter().find(same))
}

/// Refuses with what to do first if anybody uses the device `ublkb<id>`.
pub fn refuse_if_used(root: &Path, name: &str, id: u32) -> StartResult<()> {
    let device = crate::ublk::ctrl::block_path(id);
    let swap = swap_area(root, &device).map_err(|e| {
        let what = format!("cannot tell whether {} is in use as swap ({e})", device.display());
        StartError::failure(what, "see `cat /proc/swaps`, and try again")
    })?;
    if let Some(swap) = swap {
        let what =
            format!("{} is in use as swap ({} MiB in it)", device.display(), swap.used_bytes >> 20);
        let remedy = format!("run `uswap down {name}`, which does swapoff first");
        return Err(StartError::failure(what, remedy));
    }
    if let Some(place) = mounted_at(root, id) {
        let what = format!("{} is mounted on {place}", device.display());
        return Err(StartError::failure(what, format!("run `umount {place}` first")));
    }
    let holders = fs::read_dir(root.join(format!("sys/block/ublkb{id}/holders")));
    if let Some(Ok(holder)) = holders.ok().and_then(|mut h| h.next()) {
        let what = format!("{} is part of {}", device.display(), holder.file_name().display());
        return Err(StartError::failure(what, "take that device down first"));
    }
    Ok(())
}

fn mounted_at(root: &Path, id: u32) -> Option<String> {
    let number = fs::read_to_string(root.join(format!("sys/block/ublkb{id}/dev"))).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(2);
        (fields.next()? == number.trim()).then_some(())?;
        fields.nth(1).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("directory");
            fs::write(path, text).expect("file");
        }
        root
    }

    const SWAPS: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                         /dev/ublkb12     partition\t2097148\t\t1024\t\t100\n\
                         /swap\\040file    file\t\t1024\t\t0\t\t-2\n";

    #[test]
    fn a_swap_area_is_found_by_its_whole_name() {
        let root = tree(&[("proc/swaps", SWAPS)]);
        let area = |device: &str| swap_area(root.path(), Path::new(device)).expect("readable");
        let found = area("/dev/ublkb12").expect("is swap");
        assert_eq!((found.used_bytes, found.priority), (1 << 20, 100));
        assert_eq!(area("/dev/ublkb1"), None);
        let all = swap_areas(root.path()).expect("readable");
        assert_eq!((all[1].path.as_path(), all[1].priority), (Path::new("/swap file"), -2));
        assert!(swap_areas(Path::new("/nonexistent")).expect("no swap").is_empty());
    }

    #[test]
    fn a_table_that_cannot_be_understood_counts_as_in_use() {
        let root = tree(&[("proc/swaps", "Filename\n/dev/ublkb12 partition many few none\n")]);
        assert!(swap_areas(root.path()).is_err());
        let error = refuse_if_used(root.path(), "main", 12).expect_err("nobody knows");
        assert!(error.to_string().contains("cannot tell"));
    }

    #[test]
    fn a_device_in_use_is_refused_with_the_command_that_helps() {
        let root = tree(&[("proc/swaps", SWAPS)]);
        let error = refuse_if_used(root.path(), "main", 12).expect_err("is swap");
        assert!(error.to_string().contains("uswap down main"));
    }

    #[test]
    fn a_mounted_device_is_refused() {
        let root = tree(&[
            ("proc/swaps", "Filename Type Size Used Priority\n"),
            ("sys/block/ublkb3/dev", "259:4\n"),
            ("proc/self/mountinfo", "30 1 259:4 / /mnt/x rw,relatime - ext4 /dev/ublkb3 rw\n"),
        ]);
        let error = refuse_if_used(root.path(), "main", 3).expect_err("is mounted");
        assert!(error.to_string().contains("umount /mnt/x"));
        refuse_if_used(root.path(), "main", 4).expect("nobody uses it");
    }
}
