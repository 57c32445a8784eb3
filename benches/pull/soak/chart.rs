//! Small multiples as SVG: one line each, over the same time.

use std::fmt::Write as _;

const COLUMNS: usize = 2;
/// Of the whole panel, in pixels.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 200.0;
/// Around the plot itself.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 36.0;
/// Above all panels.
const TITLE: f64 = 48.0;
/// Grid lines of an axis, about.
const TICKS: f64 = 4.0;
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#57606a}\
    .h{font-size:16px;font-weight:600;fill:#1f2328}.t{font-size:13px;font-weight:600;fill:#1f2328}\
    .g{stroke:#d8dee4;stroke-width:1}.a{stroke:#8c959f;stroke-width:1}\
    .l{fill:none;stroke:#0969da;stroke-width:1.5;stroke-linejoin:round}\
    .q{stroke:#cf222e;stroke-width:1;stroke-dasharray:5 4}.n{fill:#cf222e}";

pub(super) struct Line {
    /// Minutes, and the figure.
    pub(super) points: Vec<(f64, f64)>,
}

pub(super) struct Panel {
    title: String,
    unit: &'static str,
    line: Line,
    /// A level to compare with, and its name.
    limit: Option<(&'static str, f64)>,
    top: Option<f64>,
}

impl Panel {
    /// Its axis begins at 0 and ends above all points.
    pub(super) fn new(title: &str, unit: &'static str, line: Line) -> Self {
        Self { title: title.to_owned(), unit, line, limit: None, top: None }
    }

    pub(super) fn limit(self, name: &'static str, at: f64) -> Self {
        Self { limit: Some((name, at)), ..self }
    }

    /// Where the axis ends.
    pub(super) fn up_to(self, top: f64) -> Self {
        Self { top: Some(top), ..self }
    }

    fn highest(&self) -> f64 {
        let points = self.line.points.iter().map(|(_, figure)| *figure);
        points.chain(self.limit.map(|(_, at)| at)).fold(0.0, f64::max)
    }

    fn draw(&self, svg: &mut String, longest: f64) {
        let (time_name, per_unit) = if longest > 180.0 { ("hours", 60.0) } else { ("minutes", 1.0) };
        let y_axis = Axis::new(self.highest(), self.top);
        let x_axis = Axis::new(longest / per_unit, Some(longest / per_unit));
        let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let x = |minutes: f64| LEFT + width * minutes / per_unit / x_axis.end;
        let y = |figure: f64| TOP + height * (1.0 - figure / y_axis.end);
        let (bottom, right) = (TOP + height, LEFT + width);
        let unit = if self.unit.is_empty() { String::new() } else { format!(", {}", self.unit) };
        // Writing to a string cannot fail.
        let _written = write!(svg, "<text class='t' x='{LEFT}' y='24'>{}{unit}</text>", self.title);
        for tick in y_axis.ticks() {
            let at = y(tick);
            let _written = write!(
                svg,
                "<line class='g' x1='{LEFT}' x2='{right}' y1='{at:.1}' y2='{at:.1}'/>\
                 <text x='{}' y='{:.1}' text-anchor='end'>{}</text>",
                LEFT - 8.0,
                at + 4.0,
                y_axis.label(tick),
            );
        }
        for tick in x_axis.ticks() {
            let at = x(tick * per_unit);
            let _written = write!(
                svg,
                "<line class='a' x1='{at:.1}' x2='{at:.1}' y1='{bottom}' y2='{}'/>\
                 <text x='{at:.1}' y='{}' text-anchor='middle'>{}</text>",
                bottom + 4.0,
                bottom + 17.0,
                x_axis.label(tick),
            );
        }
        let _written = write!(
            svg,
            "<line class='a' x1='{LEFT}' x2='{right}' y1='{bottom}' y2='{bottom}'/>\
             <text x='{right}' y='{}' text-anchor='end'>{time_name}</text>",
            bottom + 32.0,
        );
        if let Some((name, level)) = self.limit {
            let at = y(level);
            let _written = write!(
                svg,
                "<line class='q' x1='{LEFT}' x2='{right}' y1='{at:.1}' y2='{at:.1}'/>\
                 <text class='n' x='{right}' y='{:.1}' text-anchor='end'>{name}</text>",
                at - 5.0,
            );
        }
        let points = self.line.points.iter().map(|(at, figure)| format!("{:.1},{:.1}", x(*at), y(*figure)));
        let points: Vec<String> = points.collect();
        let _written = write!(svg, "<polyline class='l' points='{}'/>", points.join(" "));
    }
}

/// From 0, in round steps.
struct Axis {
    end: f64,
    step: f64,
}

impl Axis {
    fn new(highest: f64, end: Option<f64>) -> Self {
        let highest = end.unwrap_or(highest * 1.05).max(1e-3);
        let rough = highest / TICKS;
        let power = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough * 0.99);
        let step = step.unwrap_or(rough);
        Self { end: end.unwrap_or_else(|| (highest / step).ceil() * step), step }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (0_u8..=20).map(|nth| f64::from(nth) * self.step).take_while(|tick| *tick <= self.end * 1.001)
    }

    fn label(&self, tick: f64) -> String {
        let decimals = [1.0, 0.1, 0.01].iter().position(|unit| (self.step / unit).fract().abs() < 1e-6).unwrap_or(3);
        format!("{tick:.decimals$}")
    }
}

pub(super) fn draw(title: &str, panels: &[Panel]) -> String {
    let title = title.replace('\'', "’");
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, TITLE + HEIGHT * rows as f64);
    let points = panels.iter().flat_map(|panel| &panel.line.points);
    let longest = points.map(|(at, _)| *at).fold(1e-3, f64::max);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' \
         role='img' aria-label='{title}'><style>{STYLE}</style><rect width='{width}' height='{height}' fill='#fff'/>\
         <text class='h' x='{LEFT}' y='32'>{title}</text>\n",
    );
    for (nth, panel) in panels.iter().enumerate() {
        let (x, y) = (WIDTH * (nth % COLUMNS) as f64, TITLE + HEIGHT * (nth / COLUMNS) as f64);
        let _written = write!(svg, "<g transform='translate({x} {y})'>");
        panel.draw(&mut svg, longest);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}
