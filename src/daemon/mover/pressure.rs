//! The machine's memory as a policy sees it.

use crate::config::{check, under};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use uswap_policy::Machine;

/// Where the kernel tells how long tasks wait for memory (Documentation/accounting/psi.rst). Not
/// there without CONFIG_PSI.
const PRESSURE: &str = "/proc/pressure/memory";
/// Longer than either file.
const TEXT_BYTES: usize = 8192;

/// The files that tell, open. They stay open because opening one takes memory that there may not be
/// when the answer matters; the kernel keeps the buffer of an open one (fs/seq_file.c).
#[derive(Debug)]
pub struct Gauges {
    meminfo: Option<File>,
    pressure: Option<File>,
}

impl Gauges {
    /// Opens them below `root`. What is not there is 0, which a policy takes for unknown or calm.
    pub fn open(root: &Path) -> Self {
        let open = |path: &str| File::open(under(root, Path::new(path))).ok();
        Self { meminfo: open(check::MEMINFO), pressure: open(PRESSURE) }
    }

    /// Reads them. Does not allocate.
    pub fn machine(&self) -> Machine {
        let mut buffer = [0; TEXT_BYTES];
        let memory = check::memory_in(text(&self.meminfo, &mut buffer)).ok();
        let (total_bytes, available_bytes) = memory.map_or((0, 0), |m| (m.total, m.available));
        let text = text(&self.pressure, &mut buffer);
        Machine {
            total_bytes,
            available_bytes,
            some_permille: permille(text, "some"),
            full_permille: permille(text, "full"),
        }
    }
}

/// What is in a file from its start.
fn text<'a>(file: &Option<File>, buffer: &'a mut [u8]) -> &'a str {
    let len = file.as_ref().map_or(0, |file| file.read_at(buffer, 0).unwrap_or(0));
    std::str::from_utf8(&buffer[..len]).unwrap_or("")
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
        assert_eq!(Gauges::open(root.path()).machine(), Machine::default());
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
        let gauges = Gauges::open(root.path());
        assert_eq!(gauges.machine(), wanted);
        let text = "some avg10=0.00 avg60=1.00 avg300=0.20 total=5\n";
        std::fs::write(proc.join("pressure/memory"), text).expect("pressure");
        let calm = Machine { some_permille: 0, full_permille: 0, ..wanted };
        assert_eq!(gauges.machine(), calm, "an open file is read anew");
    }

    #[test]
    fn the_real_files_are_read_again_and_again() {
        let gauges = Gauges::open(Path::new("/"));
        for _ in 0..3 {
            let machine = gauges.machine();
            assert!(machine.total_bytes > machine.available_bytes && machine.available_bytes > 0);
        }
    }
}
