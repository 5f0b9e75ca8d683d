//! Settings of the machine that `uswap up` changes for swap in RAM, and `uswap down` puts back.
//!
//! The value that was there before is kept in a file of the run directory, which like the settings
//! themselves is gone after a reboot. It is written once, before the first change: a second service
//! finds its own doing there. The last service to go puts it back, unless somebody has set another
//! value meanwhile.

use crate::config::under;
use crate::daemon::usage::swap_areas;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// End of the name of a file that keeps a former value.
const FORMER: &str = ".former";

/// One setting.
#[derive(Debug)]
pub struct Tuning {
    /// What people call it.
    pub name: &'static str,
    /// Its file.
    pub path: &'static str,
    /// The value that swap in RAM wants, and other words for it.
    pub wanted: &'static [&'static str],
    /// What is gained.
    why: &'static str,
}

/// Readahead of neighbours in swap.
pub const PAGE_CLUSTER: Tuning = Tuning {
    name: "vm.page-cluster",
    path: "/proc/sys/vm/page-cluster",
    wanted: &["0"],
    why: "there is no seek to save in RAM",
};

/// The compressed cache in front of swap devices.
pub const ZSWAP: Tuning = Tuning {
    name: "zswap",
    path: "/sys/module/zswap/parameters/enabled",
    wanted: &["N", "0"],
    why: "pages go to uswap at once and are compressed there",
};

/// All of them.
pub const ALL: [&Tuning; 2] = [&PAGE_CLUSTER, &ZSWAP];

impl Tuning {
    fn former(&self, run_dir: &Path) -> PathBuf {
        run_dir.join(format!("{}{FORMER}", self.name))
    }

    /// The value now; none where the kernel does not have the setting.
    fn read(&self, root: &Path) -> Option<String> {
        let text = fs::read_to_string(under(root, Path::new(self.path))).ok()?;
        Some(text.trim().to_owned())
    }

    fn write(&self, root: &Path, value: &str) -> io::Result<()> {
        // Without O_CREAT: it is there, or the kernel has no such setting.
        let path = under(root, Path::new(self.path));
        OpenOptions::new().write(true).truncate(true).open(path)?.write_all(value.as_bytes())
    }

    fn is_wanted(&self, value: &str) -> bool {
        self.wanted.contains(&value)
    }

    /// Sets the value that is wanted, if it is another, and says so. What cannot be done is said
    /// too; nothing here is needed for swap to work.
    pub fn apply(&self, root: &Path, run_dir: &Path) -> Option<String> {
        let value = self.read(root).filter(|value| !self.is_wanted(value))?;
        let (name, wanted) = (self.name, self.wanted[0]);
        let kept = keep(&self.former(run_dir), &value);
        if let Err(e) = self.write(root, wanted) {
            if kept.as_ref().is_ok_and(|new| *new) {
                let _ = fs::remove_file(self.former(run_dir));
            }
            let by_hand = format!("echo {wanted} > {}", self.path);
            return Some(format!("warning: {name} stays {value} ({e}); as root: {by_hand}"));
        }
        let back = match kept {
            Ok(_) => "`uswap down` puts it back".to_owned(),
            Err(e) => format!("`uswap down` cannot put it back ({e})"),
        };
        Some(format!("{name} set from {value} to {wanted}: {}; {back}", self.why))
    }

    /// Puts the former value back if this is still the one that `apply` set.
    fn restore(&self, root: &Path, run_dir: &Path) -> Option<String> {
        let path = self.former(run_dir);
        let former = fs::read_to_string(&path).ok()?;
        let former = former.trim();
        let ours = self.read(root).is_some_and(|value| self.is_wanted(&value));
        // One word of what these settings can hold: the file may not be what was written there.
        let sound = (1..=8).contains(&former.len())
            && former.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let said = if !(ours && sound) {
            None
        } else if let Err(e) = self.write(root, former) {
            let by_hand = format!("echo {former} > {}", self.path);
            return Some(format!("warning: {} was {former} before ({e}); {by_hand}", self.name));
        } else {
            Some(format!("{} set back to {former}", self.name))
        };
        let _ = fs::remove_file(path);
        said
    }
}

/// Keeps `value` in a new file; false if there is one already. `create_new` never follows
/// somebody's link.
fn keep(path: &Path, value: &str) -> io::Result<bool> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => writeln!(file, "{value}").map(|()| true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Puts everything back that `up` changed, if no ublk device is in use as swap any more. Lines for
/// a person.
pub fn restore(root: &Path, run_dir: &Path) -> Vec<String> {
    let others = swap_areas(root).map(|areas| areas.iter().any(|area| area.is_on("ublkb")));
    // A table that cannot be read counts as "in use": then the last `down` that can read it does
    // it.
    if others.unwrap_or(true) {
        return Vec::new();
    }
    ALL.iter().filter_map(|tuning| tuning.restore(root, run_dir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        root: tempfile::TempDir,
    }

    impl Machine {
        fn new(page_cluster: &str, zswap: &str) -> Self {
            let machine = Self { root: tempfile::tempdir().expect("directory") };
            machine.set(PAGE_CLUSTER.path, page_cluster);
            machine.set(ZSWAP.path, zswap);
            machine.swaps(&[]);
            machine
        }

        fn set(&self, path: &str, value: &str) {
            let path = under(self.root.path(), Path::new(path));
            fs::create_dir_all(path.parent().expect("has one")).expect("directory");
            fs::write(path, format!("{value}\n")).expect("file");
        }

        fn swaps(&self, devices: &[&str]) {
            let lines = devices.iter().map(|d| format!("{d} partition 1024 0 100\n"));
            self.set("/proc/swaps", format!("Filename\n{}", lines.collect::<String>()).trim_end());
        }

        fn run_dir(&self) -> PathBuf {
            self.root.path().join("run/uswap")
        }

        fn apply(&self, tuning: &Tuning) -> Option<String> {
            tuning.apply(self.root.path(), &self.run_dir())
        }

        fn restore(&self) -> Vec<String> {
            restore(self.root.path(), &self.run_dir())
        }

        fn values(&self) -> [String; 2] {
            ALL.map(|tuning| tuning.read(self.root.path()).expect("there"))
        }

        fn files(&self) -> usize {
            fs::read_dir(self.run_dir()).map_or(0, Iterator::count)
        }
    }

    #[test]
    fn what_up_sets_down_puts_back() {
        let machine = Machine::new("3", "Y");
        let said = machine.apply(&PAGE_CLUSTER).expect("changed");
        assert!(said.starts_with("vm.page-cluster set from 3 to 0: "), "{said}");
        let said = machine.apply(&ZSWAP).expect("changed");
        assert!(said.starts_with("zswap set from Y to N: "), "{said}");
        assert_eq!(machine.values(), ["0", "N"]);
        let said = machine.restore();
        assert_eq!(said, ["vm.page-cluster set back to 3", "zswap set back to Y"]);
        assert_eq!(machine.values(), ["3", "Y"]);
        assert_eq!((machine.files(), machine.restore().len()), (0, 0));
    }

    #[test]
    fn what_is_right_already_is_left_alone() {
        let machine = Machine::new("0", "0");
        assert_eq!(ALL.map(|tuning| machine.apply(tuning)), [None, None]);
        assert_eq!((machine.files(), machine.values()), (0, ["0".into(), "0".into()]));
    }

    #[test]
    fn the_last_service_puts_back_what_the_first_one_found() {
        let machine = Machine::new("3", "N");
        assert!(machine.apply(&PAGE_CLUSTER).is_some());
        machine.set(PAGE_CLUSTER.path, "2");
        assert!(machine.apply(&PAGE_CLUSTER).is_some(), "somebody undid it; a second service");
        machine.swaps(&["/dev/ublkb1"]);
        assert_eq!(machine.restore(), Vec::<String>::new(), "one is still in use");
        machine.swaps(&["/dev/sda2"]);
        assert_eq!(machine.restore(), ["vm.page-cluster set back to 3"]);
    }

    #[test]
    fn what_somebody_set_meanwhile_stays() {
        let machine = Machine::new("3", "N");
        assert!(machine.apply(&PAGE_CLUSTER).is_some());
        machine.set(PAGE_CLUSTER.path, "1");
        assert_eq!(machine.restore(), Vec::<String>::new());
        assert_eq!((machine.values()[0].as_str(), machine.files()), ("1", 0));
    }

    #[test]
    fn strange_words_in_the_file_are_not_written() {
        let machine = Machine::new("3", "N");
        assert!(machine.apply(&PAGE_CLUSTER).is_some());
        for strange in ["", "../x", "1\n2", "123456789"] {
            fs::write(PAGE_CLUSTER.former(&machine.run_dir()), strange).expect("file");
            assert_eq!(machine.restore(), Vec::<String>::new(), "{strange:?}");
            assert_eq!(machine.values()[0], "0");
        }
    }

    #[test]
    fn a_setting_that_the_kernel_lacks_is_none() {
        let root = tempfile::tempdir().expect("directory");
        assert_eq!(ALL.map(|tuning| tuning.apply(root.path(), root.path())), [None, None]);
        assert_eq!(fs::read_dir(root.path()).expect("directory").count(), 0);
    }

    #[test]
    fn a_setting_that_cannot_be_written_is_a_warning_and_leaves_no_file() {
        let machine = Machine::new("3", "N");
        // What is no file can be read by nobody and written by nobody; root may write any file.
        let path = under(machine.root.path(), Path::new(PAGE_CLUSTER.path));
        let stubborn = Tuning { path: "/proc/sys/vm/stubborn", ..PAGE_CLUSTER };
        let link = path.with_file_name("stubborn");
        std::os::unix::fs::symlink("/proc/self/comm-not-there", &link).expect("link");
        assert_eq!(machine.apply(&stubborn), None, "cannot be read");
        fs::remove_file(&link).expect("there");
        std::os::unix::fs::symlink("/proc/version", &link).expect("link");
        let said = machine.apply(&stubborn).expect("warned");
        assert!(said.starts_with("warning: vm.page-cluster stays Linux"), "{said}");
        assert_eq!(machine.files(), 0);
    }
}
