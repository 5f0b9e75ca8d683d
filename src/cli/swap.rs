//! The kernel's list of swap areas, and the util-linux programs that change it.

use crate::config::{size, under};
use crate::error::{StartError, StartResult};
use std::path::Path;
use std::process::{Command, Stdio};

/// Longest label that fits in a swap header with its closing zero.
const LABEL_BYTES_MAX: usize = 15;
/// For a PATH without the system directories, as users and some units have.
const PROGRAM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A line of /proc/swaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapArea {
    /// Device or file.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of it in use.
    pub used: u64,
    /// Priority; the higher is used first.
    pub priority: i32,
}

/// All swap areas. A machine without /proc/swaps has none.
pub fn areas(root: &Path) -> Vec<SwapArea> {
    let text = std::fs::read_to_string(under(root, Path::new("/proc/swaps"))).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let path = words.next()?.replace("\\040", " ");
        let mut number = || words.next_back()?.parse::<i64>().ok();
        let (priority, used, size) = (number()?, number()?, number()?);
        let bytes = |kib: i64| u64::try_from(kib).ok().map(|k| k << 10);
        Some(SwapArea { path, size: bytes(size)?, used: bytes(used)?, priority: priority as i32 })
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// The swap area on `device`, if it is one.
pub fn area(root: &Path, device: &str) -> Option<SwapArea> {
    areas(root).into_iter().find(|area| area.path == device)
}

/// Writes a swap header to `device` and switches it on. A line for the person who asked comes back.
pub fn enable(device: &str, name: &str, priority: i16, discard: bool) -> StartResult<String> {
    let mut label = format!("uswap-{name}");
    label.truncate(LABEL_BYTES_MAX);
    program("mkswap", &["-L", &label, device])?;
    let priority_word = priority.to_string();
    let mut words = vec!["-p", &priority_word];
    words.extend(discard.then_some("-d"));
    words.push(device);
    program("swapon", &words)?;
    Ok(format!("swap on {device} priority {priority}"))
}

/// What a person types to do [`enable`] by hand.
pub fn enable_by_hand(device: &str, priority: i16, discard: bool) -> String {
    let discard = if discard { " -d" } else { "" };
    format!("`mkswap {device} && swapon -p {priority}{discard} {device}`")
}

/// A program that is looked for where administrators' programs are.
pub fn command(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:{PROGRAM_PATH}")).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn program(name: &str, words: &[&str]) -> StartResult<()> {
    let output = command(name).args(words).output().map_err(|e| {
        StartError::failure(format!("cannot run {name}: {e}"), "install util-linux")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let errors = errors.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>();
    let last = errors.last().map_or_else(|| output.status.to_string(), |l| (*l).to_owned());
    let last = last.strip_prefix(&format!("{name}: ")).unwrap_or(&last).to_owned();
    Err(StartError::failure(
        format!("{name} {}: {last}", words.join(" ")),
        "see `uswap doctor` and the kernel log (dmesg)",
    ))
}

/// `used of size, priority P`.
pub fn describe(area: &SwapArea) -> String {
    let (used, size) = (size::format(area.used), size::format(area.size));
    format!("{used} of {size} used, priority {}", area.priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_swaps_is_read() {
        let root = tempfile::tempdir().expect("directory");
        std::fs::create_dir(root.path().join("proc")).expect("proc");
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                    /dev/ublkb0                             partition\t1048572\t\t4\t\t100\n\
                    /swap\\040file                           file\t\t1024\t\t0\t\t-2\n";
        std::fs::write(root.path().join("proc/swaps"), text).expect("swaps");
        let found = areas(root.path());
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].used, found[0].priority), (4096, 100));
        assert_eq!((found[1].path.as_str(), found[1].priority), ("/swap file", -2));
        assert!(area(root.path(), "/dev/ublkb0").is_some());
        assert!(area(root.path(), "/dev/ublkb1").is_none());
        assert!(areas(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn a_missing_program_is_told() {
        let error = program("uswap-no-such-program", &[]).expect_err("missing").to_string();
        assert!(error.contains("install util-linux"), "{error}");
        let error = program("false", &["x"]).expect_err("fails").to_string();
        assert!(error.contains("false x: exit status: 1"), "{error}");
    }
}
