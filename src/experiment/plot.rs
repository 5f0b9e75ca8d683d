//! The runs of an experiment as a picture: a row of points for each variant, a panel for each
//! metric.

use super::report::Comparison;
use std::fmt::Write;

/// Width of all, of the names on the left and of the numbers on the right; pixels.
const WIDTH: f64 = 820.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 90.0;
/// Height of a heading and of a variant's row.
const HEAD: f64 = 40.0;
const ROW: f64 = 26.0;
/// Okabe and Ito's, which colour-blind readers can tell apart.
const COLOURS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#7f7f7f", "#b8a800"];
const STYLE: &str = "text{font:13px sans-serif;fill:#1e1e1e}.h{font-weight:bold}\
                     .e{text-anchor:end}.g{stroke:#e1e1e1}";

/// Text as XML may hold it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A number with as many digits as one reads.
pub fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// Every comparison that has values, one below the other: a light point for each run, a bar at the
/// median. Axes begin at 0.
pub fn svg(comparisons: &[Comparison]) -> String {
    let mut body = String::new();
    let mut top = 0.0;
    for comparison in comparisons {
        panel(&mut body, comparison, top);
        top += HEAD + ROW * comparison.groups.len() as f64 + 8.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" \
         width=\"{WIDTH}\" height=\"{top}\">\n<style>{STYLE}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{top}\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

fn panel(body: &mut String, comparison: &Comparison, top: f64) {
    let all = comparison.groups.iter().flat_map(|group| group.values.iter().copied());
    let most = all.fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + value / most * (WIDTH - LEFT - RIGHT);
    let metric = comparison.metric;
    let unit = if metric.unit.is_empty() { String::new() } else { format!(", {}", metric.unit) };
    let good = match metric.better.words() {
        "" => String::new(),
        words => format!(" ({words})"),
    };
    let heading = escaped(&format!("{}{unit}{good}", metric.name));
    let _ = writeln!(body, "<text class=\"h\" x=\"12\" y=\"{}\">{heading}</text>", top + 24.0);
    for (group, at) in comparison.groups.iter().zip(0..) {
        let y = top + HEAD + ROW * (f64::from(at) + 0.5);
        let colour = COLOURS[at as usize % COLOURS.len()];
        let _ = writeln!(
            body,
            "<text class=\"e\" x=\"{}\" y=\"{}\">{}</text><line class=\"g\" x1=\"{LEFT}\" \
             y1=\"{y}\" x2=\"{}\" y2=\"{y}\"/>",
            LEFT - 8.0,
            y + 4.0,
            escaped(&group.variant),
            WIDTH - RIGHT
        );
        for &value in &group.values {
            let _ = writeln!(
                body,
                "<circle cx=\"{:.1}\" cy=\"{y}\" r=\"4\" fill=\"{colour}\" fill-opacity=\"0.5\"/>",
                x(value)
            );
        }
        if let Some(median) = group.median() {
            let _ = writeln!(
                body,
                "<rect x=\"{:.1}\" y=\"{}\" width=\"3\" height=\"18\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                x(median) - 1.5,
                y - 9.0,
                WIDTH - RIGHT + 10.0,
                y + 4.0,
                digits(median)
            );
        }
    }
}
