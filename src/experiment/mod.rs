//! Comparisons of ways to run uswap: the order of runs, what each amounts to, and what can be said
//! about all of them. Runs themselves are `cli::experiment`'s, the description is
//! `config::experiment`'s.

pub mod metric;
pub mod plot;
pub mod report;
pub mod significance;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the guest's lines of results begin with; a word and JSON follow.
pub const PREFIX: &str = "EXPERIMENT ";
/// Fixed time of a run beside the workload's own, in seconds: boot, start, fill, verification. As
/// measured on two emulated CPUs; on real ones it is a fraction.
const RUN_SECONDS: u64 = 40;
/// MiB that are filled or verified in a second there.
const FILL_MIB_PER_SECOND: u64 = 16;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name of the variant.
    pub variant: String,
    /// Which repetition, from 1 on.
    pub repetition: u32,
    /// What the workload printed.
    pub workload: Value,
    /// `uswap status --json` when the workload had ended; counters are of this run alone, because
    /// every run has a service of its own.
    pub after: Value,
    /// The status in which most pages were stored, of those taken while the workload ran.
    pub fullest: Value,
}

impl Run {
    /// What a guest printed as a run; none of a guest that did not get to the end.
    pub fn from_output(variant: &str, repetition: u32, output: &str) -> Option<Self> {
        let value = |word: &str| {
            let said = |line: &str| -> Option<Value> {
                let text = line.strip_prefix(PREFIX)?.strip_prefix(word)?.strip_prefix(' ')?;
                serde_json::from_str(text).ok()
            };
            output.lines().find_map(said)
        };
        Some(Self {
            variant: variant.to_owned(),
            repetition,
            workload: value("workload")?,
            after: value("after")?,
            fullest: value("fullest")?,
        })
    }
}

/// Which variant comes when: (variant, repetition from 1 on). Each repetition has all of them and
/// begins with another one, every second one goes backwards: what changes on the machine meanwhile
/// meets all of them alike.
pub fn order(variants: usize, repetitions: u32) -> Vec<(usize, u32)> {
    let one = |repetition: u32| {
        let first = (repetition as usize - 1) / 2 % variants.max(1);
        let mut all: Vec<usize> = (0..variants).map(|at| (first + at) % variants).collect();
        if repetition.is_multiple_of(2) {
            all.reverse();
        }
        all.into_iter().map(move |variant| (variant, repetition))
    };
    (1..=repetitions).flat_map(one).collect()
}

/// Seconds that so many runs take, about.
pub fn estimate_seconds(runs: usize, workload_seconds: u32, mib: u32) -> u64 {
    let each = RUN_SECONDS + u64::from(workload_seconds) + u64::from(mib) * 2 / FILL_MIB_PER_SECOND;
    runs as u64 * each
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_has_every_repetition_and_every_place() {
        let order = order(3, 6);
        for variant in 0..3 {
            let places: Vec<usize> = order
                .iter()
                .enumerate()
                .filter(|(_, r)| r.0 == variant)
                .map(|(at, _)| at)
                .collect();
            assert_eq!(places.len(), 6);
            let mean = places.iter().sum::<usize>() as f64 / 6.0;
            assert!((mean - 8.5).abs() < 0.1, "variant {variant} is early or late: {places:?}");
        }
        assert_eq!(super::order(2, 2), [(0, 1), (1, 1), (1, 2), (0, 2)]);
    }

    #[test]
    fn a_run_is_what_the_guest_printed_between_other_lines() {
        let output = "boot\nEXPERIMENT workload {\"seconds\": 2}\nEXPERIMENT fullest {\"a\":1}\n\
                      x EXPERIMENT after 1\nEXPERIMENT after {\"b\":2}\n";
        let run = Run::from_output("a", 3, output).expect("a run");
        assert_eq!((run.workload["seconds"].as_u64(), run.after["b"].as_u64()), (Some(2), Some(2)));
        assert_eq!(run.fullest["a"].as_u64(), Some(1));
        assert_eq!(Run::from_output("a", 3, &output.replace("{\"b\"", "{b")), None);
    }
}
