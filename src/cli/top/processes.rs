//! Who is swapped out: VmSwap of every process, whichever area its pages are in.

use std::fs;
use std::path::Path;

/// A process with pages in swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The name of its program.
    pub name: String,
    /// Its pages in swap, bytes.
    pub swapped: u64,
    /// Its pages in RAM, bytes.
    pub resident: u64,
}

/// All of them, those with most first.
pub fn swapped(root: &Path) -> Vec<Process> {
    let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let read = |pid: u32| {
        let text = fs::read_to_string(root.join(format!("proc/{pid}/status"))).ok()?;
        parse(pid, &text).filter(|process| process.swapped > 0)
    };
    let mut found: Vec<Process> = pids.filter_map(read).collect();
    found.sort_by_key(|process| (std::cmp::Reverse(process.swapped), process.pid));
    found
}

/// What /proc/PID/status says; nothing of a kernel thread, which has no memory of its own.
fn parse(pid: u32, text: &str) -> Option<Process> {
    let row = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let bytes = |key: &str| {
        let kib = row(key)?.split_whitespace().next()?.parse::<u64>().ok()?;
        Some(kib << 10)
    };
    let name = row("Name:")?.chars().filter(|c| !c.is_control()).collect();
    Some(Process { pid, name, swapped: bytes("VmSwap:")?, resident: bytes("VmRSS:").unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_with_most_come_first() {
        let root = tempfile::tempdir().expect("directory");
        let process = |pid: u32, text: &str| {
            let dir = root.path().join(format!("proc/{pid}"));
            fs::create_dir_all(&dir).expect("directory");
            fs::write(dir.join("status"), text).expect("file");
        };
        process(1, "Name:\tsystemd\nVmRSS:\t    10 kB\nVmSwap:\t       4 kB\n");
        process(2, "Name:\tkthreadd\nState:\tS\n");
        process(3, "Name:\tweb content\nVmRSS:\t 1 kB\nVmSwap:\t   2048 kB\n");
        process(4, "Name:\tsh\nVmSwap:\t 0 kB\n");
        let found = swapped(root.path());
        let shown: Vec<_> = found.iter().map(|p| (p.name.as_str(), p.swapped)).collect();
        assert_eq!(shown, [("web content", 2 << 20), ("systemd", 4096)]);
    }
}
