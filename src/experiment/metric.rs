//! What is compared, and where in a run it stands.

use super::Run;
use Better::{Less, More, Neither};
use Of::{After, Fullest, PerOperation, Workload};
use serde_json::Value;

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More.
    More,
    /// Less.
    Less,
    /// It depends.
    Neither,
}

impl Better {
    /// For a heading.
    pub const fn words(self) -> &'static str {
        match self {
            Self::More => "more is better",
            Self::Less => "less is better",
            Self::Neither => "",
        }
    }
}

/// A number of a run.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// In words.
    pub name: &'static str,
    /// Its unit, empty for a plain number.
    pub unit: &'static str,
    /// Which way is good.
    pub better: Better,
    of: Of,
}

/// Where a number stands.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// In what the workload says.
    Workload(&'static str),
    /// The same, for each operation.
    PerOperation(&'static str),
    /// In the service's status at the end, and when its pool was fullest.
    After(&'static str),
    Fullest(&'static str),
}

impl Metric {
    /// Its value in `run`, if it is there.
    pub fn of(&self, run: &Run) -> Option<f64> {
        let at = |value: &Value, pointer| value.pointer(pointer)?.as_f64();
        let value = match self.of {
            Of::Workload(pointer) => at(&run.workload, pointer)?,
            Of::PerOperation(pointer) => {
                at(&run.workload, pointer)? / at(&run.workload, "/operations")?
            }
            Of::After(pointer) => at(&run.after, pointer)?,
            Of::Fullest(pointer) => at(&run.fullest, pointer)?,
        };
        // Statuses count bytes.
        let value = if self.unit == "MiB" { value / 1048576.0 } else { value };
        Some(value).filter(|value| value.is_finite())
    }
}

const fn metric(name: &'static str, unit: &'static str, better: Better, of: Of) -> Metric {
    Metric { name, unit, better, of }
}

/// Every metric, the one to look at first on top.
pub const METRICS: [Metric; 10] = [
    metric("operations", "1/s", More, Workload("/operations_per_second")),
    metric("latency, median", "us", Less, Workload("/latency_us/p50")),
    metric("latency, 99 %", "us", Less, Workload("/latency_us/p99")),
    metric("latency, 99.9 %", "us", Less, Workload("/latency_us/p999")),
    metric("major faults of an operation", "", Neither, PerOperation("/major_faults")),
    metric("read from the spill", "pages", Less, After("/counters/read_spill_pages")),
    metric("written to the spill", "MiB", Less, After("/counters/spill_write_bytes")),
    metric("made dense", "pages", Neither, After("/counters/recompressed_pages")),
    metric("pool when fullest", "MiB", Less, Fullest("/memory/pool_used_bytes")),
    metric("stored when fullest", "pages", Neither, Fullest("/pages/stored")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_that_are_not_there_or_no_number_are_none() {
        let run = Run {
            variant: "a".into(),
            repetition: 1,
            workload: json!({"operations": 0, "major_faults": 0, "operations_per_second": 5.5}),
            after: json!({"counters": {"spill_write_bytes": 3 << 20}}),
            fullest: json!({}),
        };
        let of = |name: &str| METRICS.iter().find(|m| m.name == name).expect("known").of(&run);
        assert_eq!(of("operations"), Some(5.5));
        assert_eq!(of("written to the spill"), Some(3.0));
        assert_eq!(of("major faults of an operation"), None, "0 / 0");
        assert_eq!(of("pool when fullest"), None);
    }
}
