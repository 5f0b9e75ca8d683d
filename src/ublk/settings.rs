//! Block-layer settings that decide how swap behaves on the device (`/sys/block/ublkbN/queue`).

use super::ctrl::Features;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// On drivers that notice a death only through the request timer: how long that takes,
/// milliseconds. The default is 30 s; measured with 1000: recovery can begin after 1.7 s.
pub const IO_TIMEOUT_MS: u32 = 1000;
/// On such drivers: tags that the block layer never uses. A command that waits is cancelled when
/// its server dies, and that is noticed at once; with every tag busy there would be none.
pub const SPARE_TAGS: u16 = 2;

/// One setting: what it is and what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// File below the queue directory.
    pub name: &'static str,
    /// Value now.
    pub value: String,
    /// Value that swap wants, in words where it is a range.
    pub wanted: String,
    /// Whether the value will do.
    pub good: bool,
}

fn queue_dir(root: &Path, id: u32) -> PathBuf {
    root.join(format!("sys/block/ublkb{id}/queue"))
}

/// Sets what swap needs. May wait for requests in flight, so the queues must be served.
/// Returns the names of the settings that could not be set.
pub fn apply(
    root: &Path,
    id: u32,
    features: Features,
    depth: u16,
) -> Vec<(&'static str, io::Error)> {
    let dir = queue_dir(root, id);
    let mut wanted = vec![("scheduler", "none".to_owned())];
    if !features.notices_death() {
        wanted.push(("io_timeout", IO_TIMEOUT_MS.to_string()));
        wanted.push(("nr_requests", (depth - SPARE_TAGS).to_string()));
    }
    let set = |(name, value): (&'static str, String)| match fs::write(dir.join(name), value) {
        Ok(()) => None,
        Err(e) => Some((name, e)),
    };
    wanted.into_iter().filter_map(set).collect()
}

/// Reads the settings back and judges them.
pub fn read(root: &Path, id: u32, features: Features, depth: u16) -> Vec<Setting> {
    let dir = queue_dir(root, id);
    let value = |name: &str| {
        fs::read_to_string(dir.join(name))
            .map_or_else(|e| format!("({e})"), |v| v.trim().to_owned())
    };
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    let row = |name, value: String, wanted: String, good| Setting { name, value, wanted, good };

    let scheduler = value("scheduler");
    // "[none] mq-deadline", or just "none" where there is no other
    let none = scheduler.contains("[none]") || scheduler == "none";
    let timeout = value("io_timeout");
    let requests = value("nr_requests");
    let wbt = value("wbt_lat_usec");
    let throttles = wbt != "0";
    let spare = depth - SPARE_TAGS;
    let death = features.notices_death();
    let timeout_good = death || number(&timeout) <= u64::from(IO_TIMEOUT_MS);
    let requests_good = death || number(&requests) <= u64::from(spare);
    let any = "any: the driver notices a dead server itself";
    vec![
        row("scheduler", scheduler, "none".to_owned(), none),
        row("io_timeout", timeout, limit(death, any, IO_TIMEOUT_MS), timeout_good),
        row("nr_requests", requests, limit(death, any, u32::from(spare)), requests_good),
        row("wbt_lat_usec", wbt, "on (not 0): leaves tags for reads".to_owned(), throttles),
    ]
}

fn limit(any: bool, words: &str, most: u32) -> String {
    if any { words.to_owned() } else { format!("at most {most}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ublk_abi::F_QUIESCE;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("directory");
        let dir = queue_dir(root.path(), 3);
        fs::create_dir_all(&dir).expect("directory");
        for (name, value) in [
            ("scheduler", "[mq-deadline] none\n"),
            ("io_timeout", "30000\n"),
            ("nr_requests", "64\n"),
        ] {
            fs::write(dir.join(name), value).expect("file");
        }
        root
    }

    #[test]
    fn old_drivers_get_a_short_timeout_and_spare_tags() {
        let root = tree();
        assert!(read(root.path(), 3, Features(0), 64).iter().filter(|s| !s.good).count() == 3);
        assert!(apply(root.path(), 3, Features(0), 64).is_empty());
        let after = read(root.path(), 3, Features(0), 64);
        assert!(after.iter().all(|s| s.good), "{after:?}");
        assert_eq!(after[2].value, "62");
    }

    #[test]
    fn new_drivers_keep_their_timeout_and_tags() {
        let root = tree();
        assert!(apply(root.path(), 3, Features(F_QUIESCE), 64).is_empty());
        let after = read(root.path(), 3, Features(F_QUIESCE), 64);
        assert_eq!((after[1].value.as_str(), after[2].value.as_str()), ("30000", "64"));
        assert!(after.iter().all(|s| s.good), "{after:?}");
    }

    #[test]
    fn writeback_throttling_switched_off_is_not_good() {
        let root = tree();
        let wbt = |root: &Path| read(root, 3, Features(0), 64).pop().expect("the last row").good;
        assert!(wbt(root.path()), "a kernel without it has nothing to switch on");
        fs::write(queue_dir(root.path(), 3).join("wbt_lat_usec"), "0\n").expect("file");
        assert!(!wbt(root.path()));
    }

    #[test]
    fn a_setting_that_cannot_be_set_is_named() {
        let root = tempfile::tempdir().expect("directory");
        assert_eq!(apply(root.path(), 3, Features(0), 64)[0].0, "scheduler");
    }
}
