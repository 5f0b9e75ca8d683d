//! The machine's memory as a policy sees it.

use crate::config::{check, under};
use std::path::Path;
use uswap_policy::Machine;

/// Where the kernel tells how long tasks wait for memory (Documentation/accounting/psi.rst). Not
/// there without CONFIG_PSI.
const PRESSURE: &str = "/proc/pressure/memory";

/// Reads it below `root`; what cannot be read is 0, which a policy takes for unknown or calm.
/// Allocates and reads files: for a thread that may wait.
pub fn machine(root: &Path) -> Machine {
    let memory = check::memory(root).ok();
    let text = std::fs::read_to_string(under(root, Path::new(PRESSURE))).unwrap_or_default();
    Machine {
        total_bytes: memory.map_or(0, |memory| memory.total),
        available_bytes: memory.map_or(0, |memory| memory.available),
        some_permille: permille(&text, "some"),
        full_permille: permille(&text, "full"),
    }
}

/// The share of the last ten seconds in the line that begins with `kind`.
fn permille(text: &str, kind: &str) -> u16 {
    let line = text.lines().find_map(|line| line.strip_prefix(kind));
    let value = line.and_then(|line| line.split_whitespace().next()?.strip_prefix("avg10="));
    let percent = value.and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
    (percent * 10.0).round() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_pressure_are_read_and_may_be_missing() {
        let root = tempfile::tempdir().expect("directory");
        assert_eq!(machine(root.path()), Machine::default());
        let proc = root.path().join("proc");
        std::fs::create_dir_all(proc.join("pressure")).expect("directories");
        let text = "MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\n";
        std::fs::write(proc.join("meminfo"), text).expect("meminfo");
        let text = "some avg10=12.34 avg60=1.00 avg300=0.20 total=5\n\
                    full avg10=100.00 avg60=0.10 avg300=0.00 total=4\n";
        std::fs::write(proc.join("pressure/memory"), text).expect("pressure");
        let wanted = Machine {
            total_bytes: 4 << 20,
            available_bytes: 1 << 20,
            some_permille: 123,
            full_permille: 1000,
        };
        assert_eq!(machine(root.path()), wanted);
    }
}
