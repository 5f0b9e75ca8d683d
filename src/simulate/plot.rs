//! Charts of lines as SVG, small enough for a README.

use crate::error::{StartError, StartResult};
use plotters::prelude::*;
use plotters::style::Color;
use std::error::Error;

const SIZE: (u32, u32) = (820, 420);
const FONT: &str = "sans-serif";
/// From the palette of Okabe and Ito, which colour-blind readers can tell apart.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(127, 127, 127),
];
const TEXT: RGBColor = RGBColor(30, 30, 30);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A line.
    Line,
    /// A thin black line: what others are compared with.
    Reference,
    /// Points alone.
    Points,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// In words.
    pub name: String,
    /// How it is drawn.
    pub mark: Mark,
    /// In the order of x.
    pub points: Vec<(f64, f64)>,
}

/// A chart. Both axes begin at 0.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it says.
    pub title: String,
    /// What is from left to right, with its unit.
    pub x: String,
    /// What is upwards, with its unit.
    pub y: String,
    /// The lines.
    pub series: Vec<Series>,
}

impl Chart {
    /// The chart as SVG.
    pub fn svg(&self) -> StartResult<String> {
        let mut text = String::new();
        self.draw(&mut text).map_err(|e| {
            StartError::failure(format!("cannot draw \"{}\": {e}", self.title), "leave out --plots")
        })?;
        Ok(text)
    }

    fn most(&self, of: impl Fn(&(f64, f64)) -> f64) -> f64 {
        let all = self.series.iter().flat_map(|series| &series.points).map(of);
        all.fold(f64::MIN_POSITIVE, f64::max)
    }

    fn draw(&self, into: &mut String) -> Result<(), Box<dyn Error + '_>> {
        let canvas = SVGBackend::with_string(into, SIZE).into_drawing_area();
        canvas.fill(&WHITE)?;
        let title = (FONT, 17).into_font().color(&TEXT);
        canvas.draw_text(&self.title, &title, (12, 12))?;
        let (right, top) = (self.most(|point| point.0), self.most(|point| point.1) * 1.05);
        let mut chart = ChartBuilder::on(&canvas)
            .margin_top(40)
            .margin_left(8)
            .margin_right(24)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(TEXT)
            .label_style((FONT, 13).into_font().color(&TEXT))
            .x_desc(&self.x)
            .y_desc(&self.y)
            .x_label_formatter(&|x| number(*x, right))
            .y_label_formatter(&|y| number(*y, top))
            .draw()?;
        let lines = self.series.iter().filter(|series| series.mark != Mark::Reference);
        let coloured = lines.zip(COLOURS.iter().cycle());
        let references = self.series.iter().filter(|series| series.mark == Mark::Reference);
        for (series, colour) in coloured.chain(references.zip(std::iter::repeat(&BLACK))) {
            let width = if series.mark == Mark::Reference { 1 } else { 2 };
            let style = ShapeStyle { color: colour.mix(1.0), filled: false, stroke_width: width };
            let points = series.points.iter().copied();
            let drawn = match series.mark {
                Mark::Points => {
                    chart.draw_series(points.map(|point| Circle::new(point, 5, style.filled())))?
                }
                _ => chart.draw_series(LineSeries::new(points, style))?,
            };
            drawn
                .label(&series.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(GRID)
            .legend_area_size(30)
            .label_font((FONT, 14).into_font().color(&TEXT))
            .draw()?;
        canvas.present()?;
        Ok(())
    }
}

/// A number on an axis that ends at `end`: with as many digits as tell the marks apart.
fn number(value: f64, end: f64) -> String {
    let digits = if end >= 20.0 {
        0
    } else if end >= 2.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_drawn_and_named() {
        let series = |name: &str, mark| Series {
            name: name.into(),
            mark,
            points: vec![(0.0, 0.5), (10.0, 0.25)],
        };
        let chart = Chart {
            title: "Misses <1>".into(),
            x: "pool, MiB".into(),
            y: "share of reads".into(),
            series: vec![
                series("sieve", Mark::Line),
                series("optimum", Mark::Reference),
                series("runs", Mark::Points),
            ],
        };
        let svg = chart.svg().expect("drawn");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for word in ["sieve", "optimum", "runs", "pool, MiB", "Misses &lt;1&gt;"] {
            assert!(svg.contains(word), "{word} is not in {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 2, "points are points");
    }

    #[test]
    fn a_chart_of_nothing_is_a_chart() {
        let (title, x, y) = (String::new(), String::new(), String::new());
        let svg = Chart { title, x, y, series: Vec::new() }.svg().expect("drawn");
        assert!(svg.starts_with("<svg"));
    }
}
