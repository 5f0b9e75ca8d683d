//! Panels of a dashboard as SVG.

use super::{escaped, svg};
use std::fmt::Write;
use uswap::config::size::format as human;

/// Panels beside each other, their size, and where in it the plot is.
const ACROSS: u32 = 3;
const PANEL: (u32, u32) = (400, 218);
const PLOT: (f64, f64, f64, f64) = (54.0, 30.0, 388.0, 156.0);
/// Names below a panel: so many columns and lines; what is too much is counted.
const LEGEND: (usize, usize) = (3, 2);
const LETTERS_MAX: usize = 18;
/// Okabe and Ito's, which colour-blind readers can tell apart.
const COLORS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#7f7f7f", "#b8a800"];
const STYLE: &str = "text{font:11px sans-serif;fill:#333}.t{font-size:13px;font-weight:bold}\
                     .y{text-anchor:end}.x{text-anchor:middle}path{fill:none;stroke-width:1.5}\
                     .g{stroke:#ddd;stroke-width:1}";

/// One line of a panel.
#[derive(Clone, Debug)]
pub struct Series {
    /// In words.
    pub name: String,
    /// Seconds and values.
    pub points: Vec<(f64, f64)>,
}

/// A panel with what its queries found.
#[derive(Clone, Debug)]
pub struct Panel {
    /// In words.
    pub title: String,
    /// Grafana's word: `bytes`, `s`, `ops`, `short`.
    pub unit: String,
    /// Whether the series are parts of a whole.
    pub stacked: bool,
    /// In the order of the queries.
    pub series: Vec<Series>,
}

/// A value as an axis shows it.
fn value(value: f64, unit: &str) -> String {
    let short = |v: f64| match v {
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e4 => format!("{:.0}k", v / 1e3),
        v if v >= 10.0 || v == 0.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    };
    match unit {
        "bytes" => human(value as u64),
        "s" if value == 0.0 => "0".into(),
        "s" if value < 1e-3 => format!("{:.0} us", value * 1e6),
        "s" if value < 1.0 => format!("{:.0} ms", value * 1e3),
        "s" => format!("{value:.1} s"),
        "ops" => format!("{}/s", short(value)),
        _ => short(value),
    }
}

/// The end of an axis: the next of 1, 2, 5 and 10 times a power (of 2 for bytes).
fn ceiling(most: f64, unit: &str) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    if unit == "bytes" {
        let power = most.log2().floor().exp2();
        return [1.0, 1.25, 1.5, 2.0]
            .map(|n| n * power)
            .into_iter()
            .find(|n| *n >= most)
            .unwrap_or(most);
    }
    let power = 10f64.powf(most.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|n| *n >= most).unwrap_or(most)
}

/// Each series upon those before it, for parts of a whole.
fn pile(series: &[Series]) -> Vec<Series> {
    let mut sums: Vec<(f64, f64)> = Vec::new();
    let mut piled = Vec::new();
    for one in series {
        let mut points = Vec::new();
        for &(at, value) in &one.points {
            let sum = match sums.iter_mut().find(|(t, _)| *t == at) {
                Some((_, sum)) => {
                    *sum += value;
                    *sum
                }
                None => {
                    sums.push((at, value));
                    value
                }
            };
            points.push((at, sum));
        }
        piled.push(Series { name: one.name.clone(), points });
    }
    piled
}

fn draw(body: &mut String, panel: &Panel, span: (f64, f64)) {
    let (left, top, right, bottom) = PLOT;
    // What never happened needs no name, and no line on the axis.
    let happened = |s: &&Series| s.points.iter().any(|(_, v)| *v != 0.0);
    let series: Vec<Series> = panel.series.iter().filter(happened).cloned().collect();
    let shown = if panel.stacked { pile(&series) } else { series };
    let values = shown.iter().flat_map(|s| &s.points).map(|(_, v)| *v);
    let end = ceiling(values.fold(0.0, f64::max), &panel.unit);
    let x = |at: f64| left + (at - span.0) / (span.1 - span.0) * (right - left);
    let y = |v: f64| bottom - (v / end).clamp(0.0, 1.0) * (bottom - top);
    let (width, height) = (PANEL.0 - 8, PANEL.1 - 8);
    let _ = writeln!(
        body,
        "<rect width=\"{width}\" height=\"{height}\" rx=\"4\" fill=\"#fff\" stroke=\"#ccc\"/>\
         <text class=\"t\" x=\"12\" y=\"20\">{}</text>",
        escaped(&panel.title)
    );
    for part in 0..=2 {
        let part = f64::from(part) / 2.0;
        let (at, label) = (y(end * part), value(end * part, &panel.unit));
        let _ = writeln!(
            body,
            "<path class=\"g\" d=\"M{left} {at:.0}H{right}\"/>\
             <text class=\"y\" x=\"{:.0}\" y=\"{:.0}\">{label}</text>",
            left - 4.0,
            at + 4.0
        );
        let seconds = (span.1 - span.0) * part;
        let _ = writeln!(
            body,
            "<text class=\"x\" x=\"{:.0}\" y=\"{:.0}\">{seconds:.0} s</text>",
            x(span.0 + seconds).min(right - 12.0),
            bottom + 14.0
        );
    }
    for (one, color) in shown.iter().zip(COLORS.iter().cycle()) {
        // A gap of more than two steps is a gap.
        let step = one.points.windows(2).map(|w| w[1].0 - w[0].0).fold(f64::INFINITY, f64::min);
        let mut path = String::new();
        let mut before = f64::NEG_INFINITY;
        for &(at, v) in &one.points {
            let pen = if at - before > 2.0 * step { 'M' } else { 'L' };
            let _ = write!(path, "{pen}{:.0} {:.0}", x(at), y(v));
            before = at;
        }
        let _ = writeln!(body, "<path stroke=\"{color}\" d=\"{path}\"/>");
    }
    legend(body, &shown);
}

fn legend(body: &mut String, shown: &[Series]) {
    let (columns, lines) = LEGEND;
    let more = shown.len().saturating_sub(columns * lines);
    let named = if more > 0 { columns * lines - 1 } else { shown.len() };
    if shown.is_empty() {
        let _ = writeln!(body, "<text x=\"12\" y=\"186\">nothing all the time</text>");
    }
    for (i, (one, color)) in shown.iter().zip(COLORS.iter().cycle()).take(named).enumerate() {
        let (x, y) = (12 + i % columns * 128, 186 + i / columns * 16);
        let name: String = one.name.chars().take(LETTERS_MAX).collect();
        let _ = writeln!(
            body,
            "<rect x=\"{x}\" y=\"{}\" width=\"9\" height=\"9\" fill=\"{color}\"/>\
             <text x=\"{}\" y=\"{y}\">{}</text>",
            y - 9,
            x + 13,
            escaped(&name)
        );
    }
    if more > 0 {
        let (x, y) = (12 + named % columns * 128, 186 + named / columns * 16);
        let _ = writeln!(body, "<text x=\"{x}\" y=\"{y}\">and {} more</text>", shown.len() - named);
    }
}

/// All panels in one picture, for this span of seconds.
pub fn picture(panels: &[Panel], span: (f64, f64)) -> String {
    let rows = (panels.len() as u32).div_ceil(ACROSS);
    let (width, height) = (ACROSS * PANEL.0 + 8, rows * PANEL.1 + 8);
    let mut body = format!("<rect width=\"{width}\" height=\"{height}\" fill=\"#f4f5f5\"/>\n");
    for (panel, i) in panels.iter().zip(0..) {
        let (x, y) = (8 + i % ACROSS * PANEL.0, 8 + i / ACROSS * PANEL.1);
        let _ = writeln!(body, "<g transform=\"translate({x} {y})\">");
        draw(&mut body, panel, span);
        body += "</g>\n";
    }
    svg(width, height, STYLE, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.into(), points: points.to_vec() }
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(ceiling(340.0, "ops"), 500.0);
        assert_eq!(ceiling(0.0, "ops"), 1.0);
        assert_eq!(ceiling(1.3 * 1024.0, "bytes"), 1536.0);
        assert_eq!(value(0.000_25, "s"), "250 us");
        assert_eq!(value(12_000.0, "ops"), "12k/s");
        assert_eq!(value(f64::from(3 << 20), "bytes"), "3M");
    }

    #[test]
    fn parts_of_a_whole_stand_upon_each_other() {
        let piled = pile(&[series("a", &[(1.0, 2.0), (2.0, 2.0)]), series("b", &[(2.0, 3.0)])]);
        assert_eq!(piled[0].points, [(1.0, 2.0), (2.0, 2.0)]);
        assert_eq!(piled[1].points, [(2.0, 5.0)]);
    }

    #[test]
    fn what_happened_is_drawn_and_named_and_nothing_else() {
        let series = vec![
            series("used <1>", &[(0.0, 1.0), (1.0, 2.0), (2.0, 1.0), (9.0, 1.0)]),
            series("never", &[(0.0, 0.0), (1.0, 0.0)]),
        ];
        let panel = Panel { title: "Swap".into(), unit: "short".into(), stacked: false, series };
        let svg = picture(&[panel], (0.0, 10.0));
        assert!(svg.contains(">Swap</text>") && svg.contains(">used &lt;1&gt;</text>"), "{svg}");
        assert!(!svg.contains("never"));
        let line = "d=\"M54 93L87 30L121 93M355 93\"";
        assert!(svg.contains(line), "no {line} in {svg}");
        let empty = Panel { title: "x".into(), unit: "ops".into(), stacked: true, series: vec![] };
        assert!(picture(&[empty], (0.0, 1.0)).contains("nothing all the time"));
    }
}
