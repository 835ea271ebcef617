//! Plots as inline SVG.
//!
//! Colours in the SVG are those of the light page; the style sheet maps each of
//! them to its dark partner, so that one drawing serves both and prints as drawn.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::format::number;

/// Text, axes and grid.
const INK: RGBColor = RGBColor(0x1F, 0x29, 0x33);
const QUIET: RGBColor = RGBColor(0x6B, 0x72, 0x80);
const GRID: RGBColor = RGBColor(0xE5, 0xE7, 0xEB);

/// Colours of series, in order. The style sheet knows them.
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(0x2F, 0x6D, 0xB3),
    RGBColor(0xC7, 0x6B, 0x1E),
    RGBColor(0x2E, 0x85, 0x58),
    RGBColor(0x7E, 0x57, 0xA6),
    RGBColor(0xB8, 0x3F, 0x4B),
    RGBColor(0x5F, 0x6B, 0x7A),
];

/// A colour as it stands in HTML.
pub(super) fn css(colour: usize) -> String {
    let RGBColor(red, green, blue) = COLOURS[colour % COLOURS.len()];
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// One axis.
#[derive(Clone, Copy)]
pub(super) struct Axis<'a> {
    /// What it shows, with its unit.
    pub(super) label: &'a str,
    /// Whether equal steps are equal factors.
    pub(super) log: bool,
}

/// One line.
pub(super) struct Series {
    /// Its name, for the legend.
    pub(super) name: String,
    /// Ascending x.
    pub(super) points: Vec<(f64, f64)>,
    /// Whether it holds its value until the next point.
    pub(super) steps: bool,
    /// Place in [`COLOURS`].
    pub(super) colour: usize,
}

/// Lines over two axes, some points marked.
pub(super) struct Plot<'a> {
    /// For readers who do not see it.
    pub(super) title: &'a str,
    /// Horizontal axis.
    pub(super) x: Axis<'a>,
    /// Vertical axis.
    pub(super) y: Axis<'a>,
    /// The lines.
    pub(super) series: Vec<Series>,
    /// Marked points.
    pub(super) marks: Vec<(f64, f64, String)>,
    /// Values of y that a line across the plot shows.
    pub(super) levels: Vec<f64>,
    /// Height over width.
    pub(super) height: u32,
}

const WIDTH: u32 = 760;

impl Plot<'_> {
    /// The drawing, or nothing when there is nothing to draw.
    pub(super) fn svg(&self) -> Option<String> {
        let x = range(self.points().map(|point| point.0), self.x.log)?;
        let levels = self.levels.iter().copied();
        let y = range(self.points().map(|point| point.1).chain(levels), self.y.log)?;
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (WIDTH, self.height)).into_drawing_area();
            match (self.x.log, self.y.log) {
                (false, false) => self.draw(&root, x.0..x.1, y.0..y.1),
                (true, false) => self.draw(&root, (x.0..x.1).log_scale(), y.0..y.1),
                (false, true) => self.draw(&root, x.0..x.1, (y.0..y.1).log_scale()),
                (true, true) => self.draw(&root, (x.0..x.1).log_scale(), (y.0..y.1).log_scale()),
            }
            .ok()?;
        }
        Some(labelled(&svg, self.title))
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let (log_x, log_y) = (self.x.log, self.y.log);
        self.series
            .iter()
            .flat_map(|series| series.points.iter().copied())
            .filter(move |(x, y)| (!log_x || *x > 0.0) && (!log_y || *y > 0.0))
    }

    fn draw<X, Y>(
        &self,
        root: &DrawingArea<SVGBackend<'_>, Shift>,
        x: X,
        y: Y,
    ) -> Result<(), Box<dyn std::error::Error>>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(root)
            .margin(8)
            .margin_right(28)
            .x_label_area_size(46)
            .y_label_area_size(72)
            .build_cartesian_2d(x, y)?;
        let text = ("sans-serif", 13).into_font().color(&QUIET);
        chart
            .configure_mesh()
            .x_desc(self.x.label)
            .y_desc(self.y.label)
            .axis_style(QUIET)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(text.clone())
            .axis_desc_style(text)
            .x_labels(8)
            .y_labels(6)
            .x_label_formatter(&|value| number(*value))
            .y_label_formatter(&|value| number(*value))
            .draw()?;
        for &level in &self.levels {
            let ends = self
                .points()
                .map(|point| point.0)
                .fold((f64::INFINITY, f64::NEG_INFINITY), |ends, x| {
                    (ends.0.min(x), ends.1.max(x))
                });
            chart.draw_series(DashedLineSeries::new(
                [(ends.0, level), (ends.1, level)],
                5,
                5,
                QUIET.stroke_width(1),
            ))?;
        }
        for series in &self.series {
            let style = COLOURS[series.colour % COLOURS.len()].stroke_width(2);
            chart.draw_series(LineSeries::new(self.shown(series), style))?;
        }
        for (x, y, label) in &self.marks {
            let font = ("sans-serif", 13).into_font().color(&INK);
            chart.draw_series(std::iter::once(
                EmptyElement::at((*x, *y))
                    + Circle::new((0, 0), 4, INK.filled())
                    + Text::new(label.clone(), (8, -18), font),
            ))?;
        }
        Ok(())
    }

    fn shown(&self, series: &Series) -> Vec<(f64, f64)> {
        let (log_x, log_y) = (self.x.log, self.y.log);
        let points = series
            .points
            .iter()
            .copied()
            .filter(|(x, y)| (!log_x || *x > 0.0) && (!log_y || *y > 0.0));
        if !series.steps {
            return points.collect();
        }
        let mut steps: Vec<(f64, f64)> = Vec::new();
        for (x, y) in points {
            if let Some(last) = steps.last().copied() {
                steps.push((x, last.1));
            }
            steps.push((x, y));
        }
        steps
    }
}

/// A bar of several parts, one after the other.
pub(super) struct Bar {
    /// What it shows.
    pub(super) label: String,
    /// Length and place in [`COLOURS`] of each part.
    pub(super) parts: Vec<(f64, usize)>,
}

/// Horizontal bars with their labels above them and their sums behind.
pub(super) fn bars(title: &str, unit: &str, bars: &[Bar]) -> Option<String> {
    let sum = |bar: &Bar| bar.parts.iter().map(|(length, _)| length).sum::<f64>();
    let most = bars.iter().map(sum).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let count = bars.len() as f64;
    let mut svg = String::new();
    {
        let height = 44 * bars.len() as u32 + 56;
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        draw_bars(&root, unit, bars, (most, count)).ok()?;
    }
    Some(labelled(&svg, title))
}

fn draw_bars(
    root: &DrawingArea<SVGBackend<'_>, Shift>,
    unit: &str,
    bars: &[Bar],
    (most, count): (f64, f64),
) -> Result<(), Box<dyn std::error::Error>> {
    let mut chart = ChartBuilder::on(root)
        .margin(8)
        .margin_right(20)
        .x_label_area_size(44)
        .build_cartesian_2d(0.0..most * 1.12, count..0.0)?;
    let quiet = ("sans-serif", 13).into_font().color(&QUIET);
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc(unit)
        .axis_style(QUIET)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(quiet.clone())
        .axis_desc_style(quiet)
        .x_label_formatter(&|value| number(*value))
        .draw()?;
    let font = ("sans-serif", 13).into_font().color(&INK);
    for (place, bar) in bars.iter().enumerate() {
        let top = place as f64;
        let mut from = 0.0;
        chart.draw_series(std::iter::once(Text::new(
            bar.label.clone(),
            (0.0, top + 0.12),
            font.clone(),
        )))?;
        for &(length, colour) in &bar.parts {
            let fill = COLOURS[colour % COLOURS.len()].filled();
            chart.draw_series(std::iter::once(Rectangle::new(
                [(from, top + 0.48), (from + length, top + 0.88)],
                fill,
            )))?;
            from += length;
        }
        let behind =
            EmptyElement::at((from, top + 0.68)) + Text::new(number(from), (6, -7), font.clone());
        chart.draw_series(std::iter::once(behind))?;
    }
    Ok(())
}

/// The ends of an axis that shows all `values`; `None` without a value.
fn range(values: impl Iterator<Item = f64>, log: bool) -> Option<(f64, f64)> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| value.is_finite()) {
        low = low.min(value);
        high = high.max(value);
    }
    if low > high {
        return None;
    }
    if log {
        return Some((low / 1.15, high * 1.3));
    }
    let low = low.min(0.0);
    Some((
        low,
        if high > low {
            low + (high - low) * 1.08
        } else {
            low + 1.0
        },
    ))
}

/// The SVG with a name for those who do not see it, fit for a page.
fn labelled(svg: &str, title: &str) -> String {
    let start = svg.find("<svg").unwrap_or(0);
    let title = maud::html! { (title) }.into_string();
    svg[start..].replacen(
        "<svg ",
        &format!("<svg role=\"img\" aria-label=\"{title}\" "),
        1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>, log: bool) -> Option<String> {
        let axis = Axis {
            label: "a <b>",
            log,
        };
        Plot {
            title: "\"quoted\" <title>",
            x: axis,
            y: axis,
            series: vec![Series {
                name: String::new(),
                points,
                steps: true,
                colour: 0,
            }],
            marks: vec![(1.0, 1.0, "</svg><script>".to_owned())],
            levels: vec![2.0],
            height: 200,
        }
        .svg()
    }

    #[test]
    fn foreign_text_is_escaped() {
        let svg = plot(vec![(1.0, 1.0), (10.0, 5.0)], true).unwrap();
        assert!(svg.starts_with("<svg role=\"img\" aria-label=\"&quot;quoted&quot;"));
        assert!(!svg.contains("<script>") && !svg.contains("<b>"), "{svg}");
        assert_eq!(svg.matches("</svg>").count(), 1);
    }

    #[test]
    fn odd_values_draw_or_are_left_out() {
        assert!(plot(vec![], false).is_none());
        assert!(plot(vec![(0.0, 0.0)], false).is_some());
        assert!(plot(vec![(0.0, 0.0), (1.0, 2.0)], true).is_some());
        assert!(plot(vec![(f64::NAN, 1.0), (1.0, 2.0)], false).is_some());
        assert!(bars("", "ms", &[]).is_none());
    }

    /// The style sheet turns each colour of the drawings for the dark page.
    #[test]
    fn the_style_sheet_knows_every_colour() {
        let style = include_str!("style.css");
        for colour in 0..COLOURS.len() {
            assert!(style.contains(&css(colour)), "{}", css(colour));
        }
        for RGBColor(red, green, blue) in [INK, QUIET, GRID] {
            assert!(style.contains(&format!("#{red:02X}{green:02X}{blue:02X}")));
        }
    }
}
