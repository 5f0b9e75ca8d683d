//! Plots of a report as SVG, small enough for a README.

use super::report::Report;
use super::result::{QUANTILES, Round};
use crate::statistics::median;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::path::Path;

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const WIDTH: u32 = 820;
const FONT: &str = "sans-serif";
/// One colour for each family of targets, from the palette of Okabe and Ito, which colour-blind
/// readers can tell apart.
const COLOURS: [(&str, RGBColor); 3] = [
    ("uswap", RGBColor(0, 114, 178)),
    ("zram", RGBColor(230, 159, 0)),
    ("zswap", RGBColor(0, 158, 115)),
];
const TEXT: RGBColor = RGBColor(30, 30, 30);
const GRID: RGBColor = RGBColor(225, 225, 225);
/// Latencies further out than this are single events of a round; the table has the longest.
const SHOWN_MAX: f64 = 0.99;
/// A lighter bar this much longer than the other has its number shown too.
const WORTH_SAYING: f64 = 1.02;

/// One target's bar.
struct Bar {
    target: String,
    value: f64,
    /// A second value, larger, drawn lighter behind the first.
    behind: Option<f64>,
    /// The value of each round.
    rounds: Vec<f64>,
}

/// Draws all plots of `report` into `directory`; their names.
pub fn all(report: &Report, directory: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let settled = |r: &Round| Some(r.out.settled_us_per_page);
    let out = bars(report, |r| Some(r.out.us_per_page), settled);
    let ops = |r: &Round| Some(r.pressure.operations_per_second);
    let pressure = bars(report, ops, |_| None);
    let path = |name: &str| directory.join(name);
    draw_bars(
        &path("swap-out.svg"),
        "Swap-out: microseconds of reclaim for each page (less is better)",
        "light, in parentheses: until the device had done what it put off; points: single rounds",
        &out,
    )?;
    draw_latency(&path("swap-in.svg"), report)?;
    draw_bars(
        &path("pressure.svg"),
        "Memory for half of the working set: page accesses per second (more is better)",
        "random pages, half of them written; points: single rounds",
        &pressure,
    )?;
    Ok(["swap-out.svg", "swap-in.svg", "pressure.svg"].map(str::to_owned).to_vec())
}

fn bars(
    report: &Report,
    value: impl Fn(&Round) -> Option<f64>,
    behind: impl Fn(&Round) -> Option<f64>,
) -> Vec<Bar> {
    let own = |target: &str, value: &dyn Fn(&Round) -> Option<f64>| -> Vec<f64> {
        report.rounds.iter().filter(|r| r.target == target).filter_map(value).collect()
    };
    let bar = |target: &String| {
        let rounds = own(target, &value);
        let behind = median(own(target, &behind));
        Some(Bar { target: target.clone(), value: median(rounds.clone())?, behind, rounds })
    };
    report.summaries.iter().filter_map(|s| bar(&s.target)).collect()
}

fn colour(target: &str) -> RGBColor {
    let family = target.split('-').next().unwrap_or(target);
    COLOURS.iter().find(|(name, _)| *name == family).map_or(TEXT, |(_, colour)| *colour)
}

fn style(size: u32, h: HPos) -> TextStyle<'static> {
    (FONT, size).into_font().color(&TEXT).pos(Pos::new(h, VPos::Center))
}

fn draw_bars(path: &Path, title: &str, note: &str, bars: &[Bar]) -> Drawn {
    const LEFT: i32 = 110;
    const RIGHT: i32 = 110;
    const TOP: i32 = 62;
    const ROW: i32 = 30;
    const HALF: i32 = 10;
    let rows = i32::try_from(bars.len())?;
    let height = u32::try_from(TOP + ROW * rows + 8)?;
    let canvas: Canvas<'_> = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    canvas.fill(&WHITE)?;
    canvas.draw_text(title, &style(17, HPos::Left), (12, 20))?;
    canvas.draw_text(note, &style(13, HPos::Left), (12, 42))?;
    let all = |bar: &Bar| bar.rounds.iter().copied().chain(bar.behind).fold(bar.value, f64::max);
    let most = bars.iter().map(all).fold(f64::MIN_POSITIVE, f64::max);
    let room = f64::from(i32::try_from(WIDTH)? - LEFT - RIGHT);
    let x = |value: f64| LEFT + (value / most * room).round() as i32;
    for (bar, row) in bars.iter().zip(0..) {
        let y = TOP + ROW * row + ROW / 2;
        let colour = colour(&bar.target);
        let rectangle = |to: f64, style: ShapeStyle| {
            canvas.draw(&Rectangle::new([(LEFT, y - HALF), (x(to), y + HALF)], style))
        };
        if let Some(behind) = bar.behind {
            rectangle(behind, colour.mix(0.35).filled())?;
        }
        rectangle(bar.value, colour.filled())?;
        for &value in &bar.rounds {
            canvas.draw(&Circle::new((x(value), y), 3, WHITE.filled()))?;
            canvas.draw(&Circle::new((x(value), y), 3, TEXT.stroke_width(1)))?;
        }
        canvas.draw_text(&bar.target, &style(14, HPos::Right), (LEFT - 8, y))?;
        let digits = if bar.value < 100.0 { 1 } else { 0 };
        let mut text = format!("{:.digits$}", bar.value);
        if let Some(behind) = bar.behind.filter(|behind| *behind > bar.value * WORTH_SAYING) {
            text.push_str(&format!(" ({behind:.digits$})"));
        }
        canvas.draw_text(&text, &style(14, HPos::Left), (x(all(bar)) + 9, y))?;
    }
    canvas.present()?;
    Ok(())
}

/// Medians over rounds of the latency at each quantile that is shown: (microseconds, percent).
fn distribution(report: &Report, target: &str) -> Vec<(f64, f64)> {
    let rounds = report.rounds.iter().filter(|r| r.target == target);
    let latencies: Vec<_> = rounds.map(|r| &r.random_in).collect();
    let shown = QUANTILES.into_iter().filter(|q| *q <= SHOWN_MAX);
    shown
        .filter_map(|q| Some((median(latencies.iter().filter_map(|l| l.at(q)))?, q * 100.0)))
        .collect()
}

/// 1, 2 and 5 times every power of ten in the range.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (-1..=7).map(|power| 10f64.powi(power));
    let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * decade));
    all.filter(|tick| (low * 0.9..=high * 1.1).contains(tick)).collect()
}

fn draw_latency(path: &Path, report: &Report) -> Drawn {
    let names = report.summaries.iter().map(|s| s.target.as_str());
    let lines: Vec<(&str, Vec<(f64, f64)>)> = names
        .map(|name| (name, distribution(report, name)))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    let times = || lines.iter().flat_map(|(_, points)| points.iter().map(|p| p.0));
    let low = times().fold(f64::INFINITY, f64::min).max(0.1);
    let high = times().fold(low, f64::max);
    let canvas: Canvas<'_> = SVGBackend::new(path, (WIDTH, 420)).into_drawing_area();
    canvas.fill(&WHITE)?;
    canvas.draw_text(
        "Swap-in: latency of a single fault, random order (further left is better)",
        &style(17, HPos::Left),
        (12, 20),
    )?;
    let mut chart = ChartBuilder::on(&canvas)
        .margin_top(40)
        .margin_left(8)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(58)
        .build_cartesian_2d(
            (low * 0.9..high * 1.1).log_scale().with_key_points(ticks(low, high)),
            0.0..100.0,
        )?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(TEXT)
        .label_style((FONT, 13).into_font().color(&TEXT))
        .x_desc("microseconds (logarithmic)")
        .y_desc("percent of faults done by then")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (name, points) in &lines {
        // A second codec of the same family is drawn thinner and lighter.
        let (colour, width) = if name.ends_with("lz4") {
            (colour(name).mix(1.0), 3)
        } else {
            (colour(name).mix(0.55), 2)
        };
        let line = ShapeStyle { color: colour, filled: false, stroke_width: width };
        chart
            .draw_series(LineSeries::new(points.iter().copied(), line))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], line));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(GRID)
        .legend_area_size(30)
        .label_font((FONT, 14).into_font().color(&TEXT))
        .draw()?;
    canvas.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::report::tests::output;

    #[test]
    fn ticks_are_round_numbers_in_the_range() {
        assert_eq!(ticks(18.0, 501.0), [20.0, 50.0, 100.0, 200.0, 500.0]);
    }

    #[test]
    fn every_plot_names_every_target() {
        let report = Report::from_output(&output()).expect("report");
        let directory = tempfile::tempdir().expect("directory");
        let names = all(&report, directory.path()).expect("drawn");
        assert_eq!(names.len(), 3);
        for name in names {
            let text = std::fs::read_to_string(directory.path().join(&name)).expect("SVG");
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{name}");
            for target in ["uswap-lz4", "zram-lz4"] {
                assert!(text.contains(target), "{name} lacks {target}");
            }
        }
    }
}
