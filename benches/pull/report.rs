//! Figures, and how they are shown.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::table::{self, Row};

/// Columns of the table. Rows are shown as they come, so the widest is not known.
const NAME_WIDTH: usize = 12;
const WHAT_WIDTH: usize = 72;

/// One figure, in one unit.
pub(crate) struct Figure {
    what: String,
    value: f64,
    unit: Unit,
    promised: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    Seconds,
    Milliseconds,
    Microseconds,
    Kibibytes,
    Mebibytes,
    MebibytesPerSecond,
    RequestsPerSecond,
    PerSecond,
    SecondsPerGibibyte,
    CpuSecondsPerGibibyte,
    Percent,
    Times,
}

impl Unit {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::Kibibytes => "KiB",
            Self::Mebibytes => "MiB",
            Self::MebibytesPerSecond => "MiB/s",
            Self::RequestsPerSecond => "req/s",
            Self::PerSecond => "/s",
            Self::SecondsPerGibibyte => "s/GiB",
            Self::CpuSecondsPerGibibyte => "CPU-s/GiB",
            Self::Percent => "%",
            Self::Times => "times",
        }
    }

    pub(crate) const fn decimals(self) -> usize {
        match self {
            Self::RequestsPerSecond | Self::MebibytesPerSecond | Self::PerSecond => 0,
            Self::Milliseconds | Self::Microseconds | Self::Kibibytes | Self::Mebibytes | Self::Percent => 1,
            Self::Times => 2,
            Self::Count | Self::Seconds | Self::SecondsPerGibibyte | Self::CpuSecondsPerGibibyte => 3,
        }
    }
}

impl Figure {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { what: what.into(), value, unit, promised: None }
    }

    pub(crate) fn seconds(what: impl Into<String>, time: Duration) -> Self {
        Self::new(what, time.as_secs_f64(), Unit::Seconds)
    }

    pub(crate) fn milliseconds(what: impl Into<String>, time: Duration) -> Self {
        Self::new(what, time.as_secs_f64() * 1000.0, Unit::Milliseconds)
    }

    /// A figure that Roadstead promises: another one makes the run fail.
    pub(crate) fn promised(what: impl Into<String>, value: f64, promised: f64) -> Self {
        Self { promised: Some(promised), ..Self::new(what, value, Unit::Count) }
    }

    fn is_as_promised(&self) -> bool {
        self.promised.is_none_or(|promised| (promised - self.value).abs() < 1e-9)
    }

    fn shown(&self) -> String {
        let decimals = if self.value.fract() == 0.0 && self.unit == Unit::Count { 0 } else { self.unit.decimals() };
        let promised = match self.promised {
            Some(promised) if self.is_as_promised() => format!("  (as promised: {promised})"),
            Some(promised) => format!("  (PROMISED: {promised})"),
            None => String::new(),
        };
        format!("{:>10.decimals$} {:<9}{promised}", self.value, self.unit.name()).trim_end().to_owned()
    }
}

pub(crate) struct Report {
    quick: bool,
    figures: Vec<(&'static str, Figure)>,
    rows: Vec<(&'static str, Row)>,
    /// What a soak saw.
    over_time: Value,
}

impl Report {
    pub(crate) const fn new(quick: bool) -> Self {
        Self { quick, figures: Vec::new(), rows: Vec::new(), over_time: Value::Null }
    }

    /// Takes the figures of a measurement, and gives their rows of the table.
    pub(crate) fn add(&mut self, measurement: &'static str, figures: Vec<Figure>) -> String {
        let mut rows = String::new();
        for (row, figure) in figures.into_iter().enumerate() {
            let name = if row == 0 { measurement } else { "" };
            // Writing to a string cannot fail.
            let _written = writeln!(rows, "{name:<NAME_WIDTH$}{:<WHAT_WIDTH$}{}", figure.what, figure.shown());
            self.figures.push((measurement, figure));
        }
        rows
    }

    /// Takes the same figures of several sizes, and shows them side by side.
    pub(crate) fn curve(&mut self, measurement: &'static str, sizes: Vec<(String, Vec<Figure>)>) -> String {
        const COLUMN_WIDTH: usize = 24;
        let mut shown = format!("\n{measurement:<WHAT_WIDTH$}");
        for (size, _) in &sizes {
            let _written = write!(shown, "{size:>COLUMN_WIDTH$}");
        }
        shown.push('\n');
        let rows = sizes.first().map_or(0, |(_, figures)| figures.len());
        for row in 0..rows {
            let of_row: Vec<&Figure> = sizes.iter().filter_map(|(_, figures)| figures.get(row)).collect();
            let what = of_row.first().map_or("", |figure| figure.what.as_str());
            let _written = write!(shown, "{what:<WHAT_WIDTH$}");
            for figure in of_row {
                let value = figure.shown();
                let _written = write!(shown, "{value:>COLUMN_WIDTH$}");
            }
            shown.push('\n');
        }
        for (size, figures) in sizes {
            let named = figures.into_iter().map(|figure| Figure { what: format!("{size}: {}", figure.what), ..figure });
            self.figures.extend(named.map(|figure| (measurement, figure)));
        }
        shown
    }

    pub(crate) fn add_over_time(&mut self, samples: Value) {
        self.over_time = samples;
    }

    /// Takes the rows of a comparison, and shows them.
    pub(crate) fn compare(&mut self, measurement: &'static str, rows: Vec<Row>) -> String {
        let heading = if self.rows.is_empty() { format!("\n{}\n", table::heading()) } else { String::new() };
        let shown = rows.iter().map(|row| row.shown() + "\n").collect::<String>();
        self.rows.extend(rows.into_iter().map(|row| (measurement, row)));
        heading + &shown
    }

    /// The rows that have bars, for a page.
    pub(crate) fn markdown(&self) -> String {
        let rows = self.rows.iter().filter(|(_, row)| row.bars() > 0).map(|(_, row)| row.markdown() + "\n");
        format!("{}\n{}", table::markdown_heading(), rows.collect::<String>())
    }

    /// How many bars hold, if there were any.
    pub(crate) fn summary(&self) -> String {
        let sum = |of: fn(&Row) -> usize| self.rows.iter().map(|(_, row)| of(row)).sum::<usize>();
        match (sum(Row::held), sum(Row::bars)) {
            (_, 0) => String::new(),
            (held, bars) => format!("{held} of {bars} bars hold\n"),
        }
    }

    pub(crate) fn is_as_promised(&self) -> bool {
        self.figures.iter().all(|(_, figure)| figure.is_as_promised())
    }

    pub(crate) fn json(&self) -> String {
        let figures = self.figures.iter().map(|(measurement, figure)| {
            json!({
                "measurement": measurement,
                "figure": figure.what,
                "value": figure.value,
                "unit": figure.unit.name(),
                "promised": figure.promised,
            })
        });
        let report = json!({
            "roadstead": env!("CARGO_PKG_VERSION"),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "quick": self.quick,
            "figures": figures.collect::<Vec<_>>(),
            "over_time": self.over_time,
            "comparison": self.rows.iter().map(|(measurement, row)| row.json(measurement)).collect::<Vec<_>>(),
        });
        format!("{report:#}\n")
    }
}

/// The middle one of some.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.wrapping_sub(1)), at(middle)) }
}

pub(crate) fn median_time(times: impl IntoIterator<Item = Duration>) -> Duration {
    Duration::from_secs_f64(median(times.into_iter().map(|time| time.as_secs_f64())))
}
