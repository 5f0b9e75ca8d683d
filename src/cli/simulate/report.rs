//! What is printed.

use super::cases::{Case, HANDS};
use super::source::Recording;
use crate::cli::columns::Numbers;
use crate::cli::list::json;
use crate::cli::{say, table};
use crate::error::StartResult;
use crate::simulate::{Difference, Outcome, SizesKnown, compare};
use serde::Serialize;
use std::process::ExitCode;

/// One run.
#[derive(Debug, Serialize)]
pub struct Row {
    pub policy: String,
    pub pool_bytes: u64,
    pub spill_bytes: u64,
    pub spill_mib_per_second: f64,
    pub dense: bool,
    /// Share of reads that the spill had to serve, and that it would with a pool that knows the
    /// future.
    pub miss_ratio: f64,
    pub optimum_miss_ratio: f64,
    pub stall_seconds: f64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Misses with a pool of some size.
#[derive(Debug, Serialize)]
pub struct Point {
    pub pool_bytes: u64,
    pub lru: f64,
    pub optimum: f64,
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Study {
    /// Seconds that were recorded, events that are missing, and what is known of pages' sizes.
    pub recorded_seconds: f64,
    pub dropped_events: u64,
    pub sizes: SizesKnown,
    pub runs: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<Point>,
}

impl Row {
    pub fn new(case: Case, outcome: Outcome, optimum_miss_ratio: f64) -> Self {
        Self {
            policy: case.policy.name.clone(),
            pool_bytes: case.setup.pool_bytes,
            spill_bytes: case.setup.spill_bytes,
            spill_mib_per_second: case.setup.spill_mib_per_second,
            dense: case.dense,
            miss_ratio: outcome.reads.miss_ratio(),
            optimum_miss_ratio,
            stall_seconds: outcome.stall_seconds(),
            outcome,
        }
    }

    /// What tells it from the others.
    pub fn name(&self, numbers: Numbers) -> String {
        let dense = if self.dense { "" } else { ", not dense" };
        format!("{}, {}{dense}", self.policy, numbers.bytes(self.pool_bytes))
    }
}

const HEAD: [&str; 16] = [
    "POLICY",
    "POOL",
    "SPILL",
    "MIB/S",
    "DENSE",
    "MISSES",
    "OPTIMUM",
    "DENSE READS",
    "WRITTEN",
    "DAY",
    "STALL",
    "RAM MEAN",
    "RAM MAX",
    "REFUSED",
    "MADE DENSER",
    "SPILLED",
];

fn percent(ratio: f64) -> String {
    format!("{:.2} %", ratio * 100.0)
}

fn cells(row: &Row, numbers: Numbers) -> Vec<String> {
    let out = &row.outcome;
    let dense = crate::simulate::share(out.reads.dense, out.reads.served());
    vec![
        row.policy.clone(),
        numbers.bytes(row.pool_bytes),
        numbers.bytes(row.spill_bytes),
        format!("{}", row.spill_mib_per_second),
        if row.dense { "on".into() } else { "off".into() },
        percent(row.miss_ratio),
        percent(row.optimum_miss_ratio),
        percent(dense),
        numbers.bytes(out.spill_written_bytes),
        numbers.bytes(out.spill_written_bytes_per_day as u64),
        format!("{:.3} s", row.stall_seconds),
        numbers.bytes(out.ram_mean_bytes),
        numbers.bytes(out.ram_max_bytes),
        out.refused_writes.to_string(),
        out.denser_pages.to_string(),
        out.spilled_pages.to_string(),
    ]
}

impl Study {
    pub fn new(recording: &Recording, runs: Vec<Row>, curve: Vec<Point>) -> Self {
        Self {
            recorded_seconds: recording.replay.duration_us() as f64 / 1e6,
            dropped_events: recording.dropped,
            sizes: recording.replay.sizes,
            runs,
            curve,
        }
    }

    pub fn json(&self) -> StartResult<String> {
        Ok(json(self)? + "\n")
    }

    /// For people.
    pub fn text(&self, exact: bool) -> String {
        let numbers = Numbers { exact };
        let sizes = &self.sizes;
        let mut text = format!(
            "{:.1} s recorded; {} pages stored, {} never settled; dense sizes: {} known, {} \
             estimated\n",
            self.recorded_seconds,
            sizes.stored_pages,
            sizes.unsettled_pages,
            sizes.dense_known_pages,
            sizes.dense_estimated_pages
        );
        if self.dropped_events > 0 {
            text += &format!("{} events were lost while recording\n", self.dropped_events);
        }
        let left_out = self.runs.first().map_or(0, |row| row.outcome.reads.empty);
        if left_out > 0 {
            text += &format!("{left_out} reads are left out: of pages from before the recording\n");
        }
        let rows: Vec<_> = self.runs.iter().map(|row| cells(row, numbers)).collect();
        let right: Vec<usize> = (1..HEAD.len()).collect();
        text += &table::render(Some(&HEAD), &rows, &right);
        if !self.curve.is_empty() {
            let point =
                |p: &Point| vec![numbers.bytes(p.pool_bytes), percent(p.lru), percent(p.optimum)];
            let rows: Vec<_> = self.curve.iter().map(point).collect();
            text += "\n";
            text += &table::render(Some(&["POOL", "LRU", "OPTIMUM"]), &rows, &[0, 1, 2]);
        }
        text
    }

    /// For programs: a line for each run.
    pub fn csv(&self) -> String {
        let mut text = "policy,pool_bytes,spill_bytes,spill_mib_per_second,dense,miss_ratio,\
                        optimum_miss_ratio,reads_same,reads_pool,reads_dense,reads_huge,\
                        reads_spill,reads_staged,spill_written_bytes,spill_written_bytes_per_day,\
                        stall_seconds,write_stall_seconds,ram_mean_bytes,ram_max_bytes,\
                        refused_writes,denser_pages,not_denser_pages,spilled_pages,\
                        promoted_pages\n"
            .to_owned();
        for row in &self.runs {
            let (out, reads) = (&row.outcome, &row.outcome.reads);
            let numbers = [
                row.optimum_miss_ratio,
                reads.same as f64,
                reads.pool as f64,
                reads.dense as f64,
                reads.huge as f64,
                reads.spill as f64,
                reads.staged as f64,
                out.spill_written_bytes as f64,
                out.spill_written_bytes_per_day,
                row.stall_seconds,
                out.write_stall_seconds,
                out.ram_mean_bytes as f64,
                out.ram_max_bytes as f64,
                out.refused_writes as f64,
                out.denser_pages as f64,
                out.not_denser_pages as f64,
                out.spilled_pages as f64,
                out.promoted_pages as f64,
            ];
            let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
            text += &format!(
                "{},{},{},{},{},{},{}\n",
                row.policy,
                row.pool_bytes,
                row.spill_bytes,
                row.spill_mib_per_second,
                row.dense,
                row.miss_ratio,
                numbers.join(",")
            );
        }
        text
    }
}

/// What is printed of a comparison as JSON.
#[derive(Debug, Serialize)]
struct Comparison {
    policy: String,
    pool_bytes: u64,
    tolerance_percent: f64,
    totals: Vec<Difference>,
}

/// Prints how far each replay is from the recording; exit code 1 if that is too far.
pub fn comparison(
    recording: &Recording,
    cases: &[Case],
    outcomes: &[Outcome],
    tolerance: f64,
    as_json: bool,
) -> StartResult<ExitCode> {
    let mut all = Vec::new();
    for (cases, outcomes) in cases.chunks(HANDS).zip(outcomes.chunks(HANDS)) {
        all.push(Comparison {
            policy: cases[0].policy.name.clone(),
            pool_bytes: cases[0].setup.pool_bytes,
            tolerance_percent: tolerance,
            totals: compare(&recording.replay.live, outcomes),
        });
    }
    let is_off = |d: &Difference| d.is_off(tolerance);
    let off = all.iter().any(|comparison| comparison.totals.iter().any(is_off));
    if as_json {
        say(&(json(&all)? + "\n"))?;
    } else {
        for Comparison { policy, pool_bytes, totals, .. } in &all {
            let row = |d: &Difference| {
                let verdict = if is_off(d) { "off" } else { "" };
                let percent = format!("{:.1} %", d.percent);
                vec![
                    d.what.into(),
                    d.live.to_string(),
                    d.simulated.to_string(),
                    d.least.to_string(),
                    d.most.to_string(),
                    percent,
                    verdict.into(),
                ]
            };
            let rows: Vec<_> = totals.iter().map(row).collect();
            let head = ["TOTAL", "LIVE", "SIMULATED", "LEAST", "MOST", "DIFFERENCE", ""];
            let pool = Numbers { exact: false }.bytes(*pool_bytes);
            say(&format!(
                "{policy}, {pool}\n{}",
                table::render(Some(&head), &rows, &[1, 2, 3, 4, 5])
            ))?;
        }
    }
    Ok(if off { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
