//! Who uses a block device: swap, mounts, stacked devices. Asked before a device is taken away.

use super::protocol::SwapUse;
use crate::error::{StartError, StartResult};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The swap area on `device` (`/dev/ublkbN`), if it is one.
pub fn swap_use(root: &Path, device: &Path) -> Option<SwapUse> {
    let table = fs::read_to_string(root.join("proc/swaps")).ok()?;
    let number = |p: &Path| fs::metadata(p).map(|m| m.rdev()).ok().filter(|&n| n != 0);
    let own = number(device);
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [path, _kind, size, used, priority] = fields[..] else { return None };
        let path = Path::new(path);
        let same = path == device || (own.is_some() && number(path) == own);
        let kib = |text: &str| text.parse::<u64>().ok().map(|n| n << 10);
        same.then_some(SwapUse {
            size_bytes: kib(size)?,
            used_bytes: kib(used)?,
            priority: priority.parse().ok()?,
        })
    })
}

/// Refuses with what to do first if anybody uses the device `ublkb<id>`.
pub fn refuse_if_used(root: &Path, name: &str, id: u32) -> StartResult<()> {
    let device = crate::ublk::ctrl::block_path(id);
    if let Some(swap) = swap_use(root, &device) {
        let what =
            format!("{} is in use as swap ({} MiB in it)", device.display(), swap.used_bytes >> 20);
        return Err(StartError::failure(
            what,
            format!("run `uswap down {name}`, which does swapoff first"),
        ));
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
                         /dev/ublkb12                            partition\t2097148\t\t1024\t\t100\n";

    #[test]
    fn a_swap_area_is_found_by_its_whole_name() {
        let root = tree(&[("proc/swaps", SWAPS)]);
        let found = swap_use(root.path(), Path::new("/dev/ublkb12")).expect("is swap");
        assert_eq!((found.used_bytes, found.priority), (1 << 20, 100));
        assert!(swap_use(root.path(), Path::new("/dev/ublkb1")).is_none());
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
