//! What one round measured, as it goes from the guest to the host, and sums over rounds.

use crate::statistics::quantile;
use serde::{Deserialize, Serialize};

/// Quantiles of latency that a round keeps: enough to draw the distribution.
pub const QUANTILES: [f64; 27] = [
    0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7,
    0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0,
];

/// One round on one swap area.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// What was swapped to, such as `uswap-lz4` or `zram-zstd`.
    pub target: String,
    /// Counted from 1.
    pub round: u32,
    /// Kernel release.
    pub kernel: String,
    /// `vm.page-cluster`: 2^n pages are read ahead.
    pub page_cluster: u32,
    /// CPUs of the machine.
    pub cpus: usize,
    /// Working set in MiB.
    pub mib: u32,
    /// Different captured pages in it.
    pub source_pages: usize,
    /// Median time between two readings of the clock, in microseconds: part of every latency here.
    pub clock_us: f64,
    /// Seconds to fill the working set.
    pub fill_seconds: f64,
    /// All of it pushed out.
    pub out: Out,
    /// Single pages touched in random order.
    pub random_in: RandomIn,
    /// All other pages touched in order.
    pub sequential_in: SequentialIn,
    /// Half of it pushed out after all of it was written again, before the pressure phase.
    pub half_out: Out,
    /// Random reads and writes with memory for half of the working set.
    pub pressure: Pressure,
    /// Pages that were compared with what was written at the end: all of them, or none where the
    /// target loses data by design.
    pub verified_pages: usize,
}

/// A push through `memory.reclaim`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Out {
    /// Until the pages had been freed.
    pub seconds: f64,
    /// Until the device had also done the work it put off.
    pub settled_seconds: f64,
    /// Pages written to the device or to zswap.
    pub pages: u64,
    /// Pages that were no longer in memory afterwards.
    pub freed_pages: u64,
    /// `seconds` for each page written, in microseconds.
    pub us_per_page: f64,
    /// The same with `settled_seconds`.
    pub settled_us_per_page: f64,
    /// Data written in a second, MiB.
    pub mib_per_second: f64,
    /// CPU time of the whole machine, until settled, for each page written, in microseconds.
    pub cpu_us_per_page: f64,
    /// Writes to `memory.reclaim`.
    pub steps: u32,
}

/// Latency of single faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RandomIn {
    /// Pages touched, each swapped out before by its pagemap entry.
    pub faults: usize,
    /// Of these the kernel counted this many as major: the page had to be got from swap.
    pub major_faults: u64,
    /// Latency at each of [`QUANTILES`], in microseconds.
    pub quantiles_us: Vec<f64>,
}

impl RandomIn {
    /// Exact order statistics of latencies in microseconds. Sorts them.
    pub fn new(latencies: &mut [f64], major_faults: u64) -> Self {
        latencies.sort_by(f64::total_cmp);
        let quantiles_us = QUANTILES.iter().map(|&q| quantile(latencies, q)).collect();
        Self { faults: latencies.len(), major_faults, quantiles_us }
    }

    /// The latency at `q`, one of [`QUANTILES`], in microseconds.
    pub fn at(&self, q: f64) -> Option<f64> {
        let index = QUANTILES.iter().position(|&known| known == q)?;
        self.quantiles_us.get(index).copied()
    }
}

/// Reading all that is out, in order of addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequentialIn {
    /// Time for all.
    pub seconds: f64,
    /// Pages touched.
    pub pages: usize,
    /// Of these major faults; below `pages` where the kernel reads ahead.
    pub major_faults: u64,
    /// Data read in a second, MiB.
    pub mib_per_second: f64,
}

/// Random access with too little memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// How long.
    pub seconds: f64,
    /// `memory.max`.
    pub limit_bytes: u64,
    /// Pages read (and compared) or written, half each.
    pub operations: u64,
    /// Of these in a second.
    pub operations_per_second: f64,
    /// Faults that had to get their page from swap.
    pub major_faults: u64,
    /// Pages written to the device or to zswap meanwhile.
    pub pages_out: u64,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A round whose numbers follow from `scale`.
    pub fn round(target: &str, number: u32, scale: f64) -> Round {
        let out = Out {
            seconds: scale,
            settled_seconds: 2.0 * scale,
            pages: 1000,
            freed_pages: 1001,
            us_per_page: 1000.0 * scale,
            settled_us_per_page: 2000.0 * scale,
            mib_per_second: 4.0 / scale,
            cpu_us_per_page: 1500.0 * scale,
            steps: 3,
        };
        let mut latencies: Vec<f64> = (1..=1000).map(|n| f64::from(n) * scale).collect();
        let pressure = Pressure {
            seconds: 5.0,
            limit_bytes: 1 << 20,
            operations: 10,
            operations_per_second: 2.0 / scale,
            major_faults: 5,
            pages_out: 6,
        };
        Round {
            target: target.into(),
            round: number,
            kernel: "7.3".into(),
            page_cluster: 0,
            cpus: 2,
            mib: 64,
            source_pages: 10,
            clock_us: 0.5,
            fill_seconds: 1.25,
            out: out.clone(),
            random_in: RandomIn::new(&mut latencies, 1000),
            sequential_in: SequentialIn {
                seconds: 1.0,
                pages: 256,
                major_faults: 256,
                mib_per_second: 1.0,
            },
            half_out: out,
            pressure,
            verified_pages: 16384,
        }
    }

    #[test]
    fn latencies_need_no_order() {
        let given = RandomIn::new(&mut [5.0, 1.0, 3.0, 2.0, 4.0], 5);
        assert_eq!((given.at(0.5), given.at(1.0), given.at(0.123)), (Some(3.0), Some(5.0), None));
    }

    #[test]
    fn a_round_survives_its_json() {
        let wanted = round("uswap-lz4", 2, 0.1);
        let text = serde_json::to_string(&wanted).expect("JSON");
        assert!(!text.contains('\n'), "a round is one line of the serial console");
        assert_eq!(serde_json::from_str::<Round>(&text).expect("round"), wanted);
    }
}
