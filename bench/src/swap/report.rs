//! Rounds of one boot, put side by side.

use super::result::Round;
use crate::statistics::median;
use serde::{Deserialize, Serialize};
use uswap::error::{StartError, StartResult};

/// In front of each round's JSON in the guest's output.
pub const PREFIX: &str = "SWAPBENCH ";
/// What everything is compared with.
pub const REFERENCE: &str = "zram-lz4";

/// Medians over the rounds of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name.
    pub target: String,
    /// Rounds.
    pub rounds: usize,
    /// Swap-out by reclaim: microseconds a page, of the one thread that reclaims.
    pub out_us: Option<f64>,
    /// The same until the device had done the work it put off.
    pub settled_us: Option<f64>,
    /// CPU time of the whole machine for each page that went out, in microseconds.
    pub cpu_us: Option<f64>,
    /// Latency of a single fault, in microseconds.
    pub in_p50_us: Option<f64>,
    /// 90 % are at most this.
    pub in_p90_us: Option<f64>,
    /// 99 % are at most this.
    pub in_p99_us: Option<f64>,
    /// The longest.
    pub in_max_us: Option<f64>,
    /// Reading in order, MiB a second.
    pub sequential_mib_s: Option<f64>,
    /// Operations a second with memory for half of the working set.
    pub pressure_ops_s: Option<f64>,
}

impl Summary {
    fn new(target: &str, rounds: &[Round]) -> Self {
        let own: Vec<&Round> = rounds.iter().filter(|r| r.target == target).collect();
        let over =
            |value: &dyn Fn(&Round) -> Option<f64>| median(own.iter().filter_map(|r| value(r)));
        let latency = |q: f64| over(&|r| r.random_in.at(q));
        Self {
            target: target.into(),
            rounds: own.len(),
            out_us: over(&|r| Some(r.out.us_per_page)),
            settled_us: over(&|r| Some(r.out.settled_us_per_page)),
            cpu_us: over(&|r| Some(r.out.cpu_us_per_page)),
            in_p50_us: latency(0.5),
            in_p90_us: latency(0.9),
            in_p99_us: latency(0.99),
            in_max_us: latency(1.0),
            sequential_mib_s: over(&|r| Some(r.sequential_in.mib_per_second)),
            pressure_ops_s: over(&|r| Some(r.pressure.operations_per_second)),
        }
    }
}

/// Everything about one boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Year, month and day.
    pub date: String,
    /// Commit of the source, with `-dirty` if it was changed.
    pub commit: String,
    /// What was asked for: arguments of the scenario.
    pub settings: String,
    /// The emulator's line about the machine.
    pub machine: String,
    /// Why some targets are missing.
    pub skipped: Vec<String>,
    /// One for each target, in the order they ran.
    pub summaries: Vec<Summary>,
    /// All that was measured.
    pub rounds: Vec<Round>,
}

impl Report {
    /// Reads the output of a guest.
    pub fn from_output(output: &str) -> StartResult<Self> {
        let rest =
            |prefix: &'static str| output.lines().filter_map(move |l| l.strip_prefix(prefix));
        let read = |line: &str| {
            serde_json::from_str(line).map_err(|e| {
                let what = format!("a line of the guest's output is damaged ({e}): {line}");
                StartError::failure(what, "a kernel message in its middle? Run it again")
            })
        };
        let rounds: Vec<Round> = rest(PREFIX).map(read).collect::<StartResult<_>>()?;
        if rounds.is_empty() {
            return Err(StartError::failure(
                "the guest's output has no result",
                "its last lines say why",
            ));
        }
        let mut targets: Vec<&str> = Vec::new();
        for round in &rounds {
            if !targets.contains(&round.target.as_str()) {
                targets.push(&round.target);
            }
        }
        Ok(Self {
            date: String::new(),
            commit: String::new(),
            settings: String::new(),
            machine: rest("VM BOOT ").next().unwrap_or("").to_owned(),
            skipped: rest("== skipped ").map(str::to_owned).collect(),
            summaries: targets.iter().map(|target| Summary::new(target, &rounds)).collect(),
            rounds,
        })
    }

    /// The summary that all others are compared with, if it was measured.
    pub fn reference(&self) -> Option<&Summary> {
        self.summaries.iter().find(|s| s.target == REFERENCE)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::swap::result::tests::round;

    /// What a guest prints: three rounds of two targets.
    pub fn output() -> String {
        let mut text = String::from("VM BOOT 7.3 tcg\n== skipped uswap-zstd: no such codec\n");
        for number in 1..=3 {
            for (target, scale) in [("zram-lz4", 1.0), ("uswap-lz4", 0.5)] {
                let round = round(target, number, scale * f64::from(number));
                let json = serde_json::to_string(&round).expect("JSON");
                text.push_str(&format!("   round {number}: {target}\n{PREFIX}{json}\n"));
            }
        }
        text
    }

    #[test]
    fn medians_are_over_the_rounds_of_one_target() {
        let report = Report::from_output(&output()).expect("report");
        let names: Vec<&str> = report.summaries.iter().map(|s| s.target.as_str()).collect();
        assert_eq!(names, ["zram-lz4", "uswap-lz4"]);
        let reference = report.reference().expect("measured");
        assert_eq!((reference.rounds, reference.out_us), (3, Some(2000.0)));
        assert_eq!(report.summaries[1].out_us, Some(1000.0));
        assert_eq!(report.summaries[1].in_p50_us, Some(500.0));
        assert_eq!(report.summaries[1].pressure_ops_s, Some(2.0));
        assert_eq!(report.machine, "7.3 tcg");
        assert_eq!(report.skipped, ["uswap-zstd: no such codec"]);
    }

    #[test]
    fn a_report_survives_its_json() {
        let report = Report::from_output(&output()).expect("report");
        let text = serde_json::to_string(&report).expect("JSON");
        assert_eq!(serde_json::from_str::<Report>(&text).expect("report"), report);
    }

    #[test]
    fn output_without_results_or_with_half_a_line_is_refused() {
        assert!(Report::from_output("VM BOOT\n").is_err());
        let half = &output()[..500];
        assert!(Report::from_output(half).expect_err("damaged").to_string().contains("damaged"));
    }
}
