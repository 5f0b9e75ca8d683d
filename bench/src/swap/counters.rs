//! What the kernel counts of us and of the machine.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use uswap::error::{StartError, StartResult};
use uswap::units::PAGE_SIZE;

/// Clock ticks a second in /proc/stat: USER_HZ, fixed by the ABI on x86-64 and arm64.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bits of a pagemap entry (Documentation/admin-guide/mm/pagemap.rst).
const PAGEMAP_SWAPPED: u64 = 1 << 62;

/// An error about a file of /proc or /sys.
pub fn unreadable(path: &str, e: &io::Error) -> StartError {
    StartError::failure(
        format!("{path}: {e}"),
        "swapbench runs as root in a guest with cgroup v2 at /sys/fs/cgroup (tests/vm/boot)",
    )
}

fn read(path: &str) -> StartResult<String> {
    fs::read_to_string(path).map_err(|e| unreadable(path, &e))
}

/// The value after `name` and a space in lines such as those of /proc/vmstat.
pub fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Pages that went to swap areas or to zswap since the machine started.
pub fn pages_out() -> StartResult<u64> {
    let text = read("/proc/vmstat")?;
    Ok(value(&text, "pswpout").unwrap_or(0) + value(&text, "zswpout").unwrap_or(0))
}

/// Major faults of this process.
pub fn major_faults() -> StartResult<u64> {
    Ok(majflt(&read("/proc/self/stat")?).unwrap_or(0))
}

/// Field 12 of /proc/PID/stat. The name in parentheses may hold anything.
fn majflt(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(9)?.parse().ok()
}

/// Seconds that all CPUs together have not been idle.
pub fn cpu_seconds() -> StartResult<f64> {
    Ok(busy_ticks(&read("/proc/stat")?) as f64 / TICKS_PER_SECOND)
}

/// user, nice, system, (idle, iowait,) irq, softirq of the first line.
fn busy_ticks(stat: &str) -> u64 {
    let fields = stat.lines().next().unwrap_or("").split_whitespace().skip(1).take(7);
    let ticks = fields.map(|field| field.parse::<u64>().unwrap_or(0)).enumerate();
    ticks.filter(|(at, _)| ![3, 4].contains(at)).map(|(_, ticks)| ticks).sum()
}

/// `vm.page-cluster`.
pub fn page_cluster() -> StartResult<u32> {
    Ok(read("/proc/sys/vm/page-cluster")?.trim().parse().unwrap_or(0))
}

/// Kernel release.
pub fn kernel() -> StartResult<String> {
    Ok(read("/proc/sys/kernel/osrelease")?.trim().to_owned())
}

/// Indexes of the pages of `memory` whose page-table entry points to swap.
pub fn swapped_pages(memory: &[u8]) -> StartResult<Vec<usize>> {
    const PATH: &str = "/proc/self/pagemap";
    let mut entries = vec![0; memory.len() / PAGE_SIZE * 8];
    let at = memory.as_ptr().addr() / PAGE_SIZE * 8;
    fs::File::open(PATH)
        .and_then(|file| file.read_exact_at(&mut entries, at as u64))
        .map_err(|e| unreadable(PATH, &e))?;
    let (entries, _) = entries.as_chunks::<8>();
    let swapped = |entry: &[u8; 8]| u64::from_ne_bytes(*entry) & PAGEMAP_SWAPPED != 0;
    Ok(entries.iter().enumerate().filter(|(_, e)| swapped(e)).map(|(index, _)| index).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "pswpin 3\npswpout_x 9\npswpout 17\n";
        assert_eq!(value(text, "pswpout"), Some(17));
        assert_eq!(value(text, "pswp"), None);
    }

    #[test]
    fn fields_of_stat_are_counted_from_behind_the_name() {
        let stat = "77 (a) b) c) S 1 2 3 4 5 6 700 8 900 10 11";
        assert_eq!(majflt(stat), Some(900));
        assert!(major_faults().is_ok());
    }

    #[test]
    fn idle_time_is_not_busy() {
        assert_eq!(busy_ticks("cpu  1 20 300 4000 50000 600000 7000000 8 9\ncpu0 1\n"), 7_600_321);
    }

    #[test]
    fn fresh_memory_is_not_swapped() {
        let memory = vec![1; 16 * PAGE_SIZE];
        assert!(swapped_pages(&memory).expect("pagemap").is_empty());
    }
}
