//! A report as a table of Markdown that is also readable on a terminal.

use super::report::{Report, Summary};
use std::fmt::Write;

type Value = fn(&Summary) -> Option<f64>;
/// Heading, value, digits behind the point, and whether to show the ratio to the reference.
type Column = (&'static str, Value, usize, bool);

const COLUMNS: [Column; 9] = [
    ("out us/page", |s| s.out_us, 1, true),
    ("settled", |s| s.settled_us, 1, false),
    ("CPU us/page", |s| s.cpu_us, 1, false),
    ("in p50 us", |s| s.in_p50_us, 1, true),
    ("p90", |s| s.in_p90_us, 1, false),
    ("p99", |s| s.in_p99_us, 1, false),
    ("max", |s| s.in_max_us, 0, false),
    ("seq in MiB/s", |s| s.sequential_mib_s, 1, true),
    ("pressure ops/s", |s| s.pressure_ops_s, 0, true),
];

/// A line for each target; ratios to the reference in parentheses.
pub fn markdown(report: &Report) -> String {
    let mut rows = vec![vec!["target".to_owned()]];
    rows[0].extend(COLUMNS.iter().map(|(heading, ..)| (*heading).to_owned()));
    for summary in &report.summaries {
        let mut row = vec![summary.target.clone()];
        row.extend(COLUMNS.iter().map(|column| cell(column, summary, report.reference())));
        rows.push(row);
    }
    let width = |at: usize| rows.iter().map(|row| row[at].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (at, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = if at == 0 {
                write!(text, "| {cell:<width$} |")
            } else {
                write!(text, " {cell:>width$} |")
            };
        }
        text.push('\n');
        if number == 0 {
            let _ = write!(text, "|{}|", "-".repeat(widths[0] + 2));
            for width in &widths[1..] {
                let _ = write!(text, "{}:|", "-".repeat(width + 1));
            }
            text.push('\n');
        }
    }
    text
}

fn cell(column: &Column, summary: &Summary, reference: Option<&Summary>) -> String {
    let (_, value, digits, compare) = column;
    let Some(own) = value(summary) else { return "-".into() };
    let mut text = format!("{own:.digits$}");
    if let (true, Some(other)) = (compare, reference.and_then(value)) {
        let _ = write!(text, " ({:.2})", own / other);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::report::tests::output;

    #[test]
    fn the_table_has_a_line_for_each_target_and_ratios() {
        let mut report = Report::from_output(&output()).expect("report");
        report.summaries[1].pressure_ops_s = None;
        let text = markdown(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        assert!(lines[2].contains("| zram-lz4  | 2000.0 (1.00) |"), "{text}");
        assert!(lines[3].contains("| uswap-lz4 | 1000.0 (0.50) |"), "{text}");
        assert!(lines[3].ends_with(" - |"), "{text}");
    }
}
