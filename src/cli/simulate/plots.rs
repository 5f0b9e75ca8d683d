//! Charts of a study.

use super::report::{Row, Study};
use crate::cli::columns::Numbers;
use crate::error::{StartError, StartResult};
use crate::simulate::plot::{Chart, Mark, Series};
use std::collections::BTreeMap;
use std::path::Path;

const MIB: f64 = (1 << 20) as f64;

/// Draws all charts into a directory, which is made if it is not there.
pub fn draw(study: &Study, directory: &Path) -> StartResult<()> {
    let cannot = |path: &Path, e: std::io::Error| {
        let what = format!("cannot write {} ({e})", path.display());
        StartError::failure(what, "give --plots a directory that you may write to")
    };
    std::fs::create_dir_all(directory).map_err(|e| cannot(directory, e))?;
    for (name, chart) in
        [("ram.svg", ram(study)), ("misses.svg", misses(study)), ("stall.svg", stall(study))]
    {
        let path = directory.join(name);
        std::fs::write(&path, chart.svg()?).map_err(|e| cannot(&path, e))?;
    }
    Ok(())
}

fn name(row: &Row) -> String {
    row.name(Numbers { exact: false })
}

fn ram(study: &Study) -> Chart {
    let series = study.runs.iter().map(|row| Series {
        name: name(row),
        mark: Mark::Line,
        points: row
            .outcome
            .series
            .iter()
            .map(|s| (s.at_ms as f64 / 1000.0, s.resident_bytes as f64 / MIB))
            .collect(),
    });
    Chart {
        title: "RAM of the pool".into(),
        x: "seconds".into(),
        y: "resident, MiB".into(),
        series: series.collect(),
    }
}

fn misses(study: &Study) -> Chart {
    let mut policies: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for row in &study.runs {
        let dense = if row.dense { "" } else { ", not dense" };
        let point = (row.pool_bytes as f64 / MIB, row.miss_ratio * 100.0);
        policies.entry(format!("{}{dense}", row.policy)).or_default().push(point);
    }
    let curve = |of: fn(&super::report::Point) -> f64| -> Vec<(f64, f64)> {
        study.curve.iter().map(|p| (p.pool_bytes as f64 / MIB, of(p) * 100.0)).collect()
    };
    let mut series = vec![
        Series { name: "exact LRU".into(), mark: Mark::Line, points: curve(|p| p.lru) },
        Series { name: "optimum".into(), mark: Mark::Reference, points: curve(|p| p.optimum) },
    ];
    for (name, mut points) in policies {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        series.push(Series { name, mark: Mark::Points, points });
    }
    Chart {
        title: "Reads that the spill has to serve".into(),
        x: "pool, MiB".into(),
        y: "percent of reads".into(),
        series,
    }
}

fn stall(study: &Study) -> Chart {
    let series = study.runs.iter().map(|row| Series {
        name: name(row),
        mark: Mark::Points,
        points: vec![(row.outcome.spill_written_bytes as f64 / MIB, row.stall_seconds)],
    });
    Chart {
        title: "Writing against waiting (less is better, of both)".into(),
        x: "written to the spill, MiB".into(),
        y: "seconds that reads and writes took".into(),
        series: series.collect(),
    }
}
