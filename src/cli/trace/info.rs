//! `uswap trace info`: what is in a trace.

use crate::cli::list::json;
use crate::cli::say;
use crate::cli::table;
use crate::config::size;
use crate::error::StartResult;
use crate::trace::{Header, Kind, Reader, Totals, Trailer, summarize};
use clap::Args;
use serde::Serialize;
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct Info {
    /// A file that `uswap trace record` has written
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print an object, sizes in bytes
    #[arg(long)]
    json: bool,
}

/// What is said of a trace.
#[derive(Debug, Serialize)]
struct Report {
    header: Header,
    #[serde(flatten)]
    trailer: Trailer,
    events: u64,
    reads: u64,
    stored: u64,
    /// Slots that were written, read or discarded one by one.
    distinct_slots: u64,
    writes_per_second: f64,
    reads_per_second: f64,
    file_bytes: u64,
    bytes_per_event: f64,
}

impl Info {
    /// Reads all of it, so that nothing is said of a trace that is not whole.
    pub fn execute(&self) -> StartResult<()> {
        let fail = |e: crate::trace::TraceError| e.of(&self.file);
        let mut slots = HashSet::new();
        let reader = Reader::open(&self.file).map_err(fail)?;
        let (header, trailer) = summarize(reader, |event| {
            if matches!(event.kind, Kind::Write | Kind::Read(_)) {
                slots.insert(event.slot);
            }
        })
        .map_err(fail)?;
        let totals = trailer.totals;
        let seconds = trailer.duration_us as f64 / 1e6;
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let file_bytes = fs::metadata(&self.file).map_or(0, |metadata| metadata.len());
        let report = Report {
            events: totals.events(),
            reads: totals.reads(),
            stored: totals.stored(),
            distinct_slots: slots.len() as u64,
            writes_per_second: rate(totals.writes),
            reads_per_second: rate(totals.reads()),
            file_bytes,
            bytes_per_event: file_bytes as f64 / totals.events().max(1) as f64,
            header,
            trailer,
        };
        match self.json {
            true => say(&(json(&report)? + "\n")),
            false => say(&text(&report)),
        }
    }
}

fn text(report: &Report) -> String {
    let Report { header, trailer, .. } = report;
    let Totals { compressed_bytes, stored_compressed, denser_bytes, denser, .. } = trailer.totals;
    let mean = |bytes: u64, pages: u64| match pages {
        0 => "-".to_owned(),
        _ => format!("{} bytes", bytes / pages),
    };
    let totals = &trailer.totals;
    let rows = [
        ("service", format!("{}, uswap {}", header.service, header.uswap_version)),
        ("device", size::format(header.slots << 12)),
        ("pool", size::format(header.pool_bytes)),
        ("spill", size::format(header.spill_bytes)),
        ("staging", size::format(header.staging_bytes)),
        ("RAM", size::format(header.ram_bytes)),
        ("codec", header.codec.clone()),
        ("policy", header.policy.clone()),
        ("duration", format!("{:.3} s", trailer.duration_us as f64 / 1e6)),
        ("events", report.events.to_string()),
        ("dropped", trailer.dropped.to_string()),
        ("gaps", trailer.gaps.to_string()),
        ("writes", format!("{} ({:.0}/s)", totals.writes, report.writes_per_second)),
        ("reads", format!("{} ({:.0}/s)", report.reads, report.reads_per_second)),
        ("  of staged", totals.reads_staged.to_string()),
        ("  of same", totals.reads_same.to_string()),
        ("  of pool", totals.reads_pool.to_string()),
        ("  of dense", totals.reads_dense.to_string()),
        ("  of huge", totals.reads_huge.to_string()),
        ("  of spill", totals.reads_spill.to_string()),
        ("  of nothing", totals.reads_empty.to_string()),
        ("discards", format!("{} of {} slots", totals.discards, totals.discarded_slots)),
        ("stored", report.stored.to_string()),
        ("  same", totals.stored_same.to_string()),
        ("  compressed", stored_compressed.to_string()),
        ("  huge", totals.stored_huge.to_string()),
        ("compressed to", mean(compressed_bytes, stored_compressed)),
        ("made denser", format!("{} of {}", denser, denser + totals.not_denser)),
        ("denser", mean(denser_bytes, denser)),
        ("spilled", totals.spilled.to_string()),
        ("promoted", totals.promoted.to_string()),
        ("slots", format!("{} distinct", report.distinct_slots)),
        (
            "file",
            format!(
                "{}, {:.1} bytes an event",
                size::format(report.file_bytes),
                report.bytes_per_event
            ),
        ),
    ];
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    table::render(None, &rows, &[])
}
