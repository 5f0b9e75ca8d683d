//! What is compared, and where in a run it stands.

use super::Run;
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
    of: fn(&Run) -> Option<f64>,
}

impl Metric {
    /// Its value in `run`, if it is there.
    pub fn of(&self, run: &Run) -> Option<f64> {
        (self.of)(run).filter(|value| value.is_finite())
    }
}

fn at(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer)?.as_f64()
}

fn mib(value: &Value, pointer: &str) -> Option<f64> {
    Some(at(value, pointer)? / 1048576.0)
}

/// Every metric, the one to look at first on top.
pub const METRICS: [Metric; 10] = [
    Metric {
        name: "operations",
        unit: "1/s",
        better: Better::More,
        of: |run| at(&run.workload, "/operations_per_second"),
    },
    Metric {
        name: "latency, median",
        unit: "us",
        better: Better::Less,
        of: |run| at(&run.workload, "/latency_us/p50"),
    },
    Metric {
        name: "latency, 99 %",
        unit: "us",
        better: Better::Less,
        of: |run| at(&run.workload, "/latency_us/p99"),
    },
    Metric {
        name: "latency, 99.9 %",
        unit: "us",
        better: Better::Less,
        of: |run| at(&run.workload, "/latency_us/p999"),
    },
    Metric {
        name: "major faults of an operation",
        unit: "",
        better: Better::Neither,
        of: |run| Some(at(&run.workload, "/major_faults")? / at(&run.workload, "/operations")?),
    },
    Metric {
        name: "read from the spill",
        unit: "pages",
        better: Better::Less,
        of: |run| at(&run.after, "/counters/read_spill_pages"),
    },
    Metric {
        name: "written to the spill",
        unit: "MiB",
        better: Better::Less,
        of: |run| mib(&run.after, "/counters/spill_write_bytes"),
    },
    Metric {
        name: "made dense",
        unit: "pages",
        better: Better::Neither,
        of: |run| at(&run.after, "/counters/recompressed_pages"),
    },
    Metric {
        name: "pool when fullest",
        unit: "MiB",
        better: Better::Less,
        of: |run| mib(&run.fullest, "/memory/pool_used_bytes"),
    },
    Metric {
        name: "stored when fullest",
        unit: "pages",
        better: Better::Neither,
        of: |run| at(&run.fullest, "/pages/stored"),
    },
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
