//! The comparison: the same work by several servers, and what Roadstead has to reach.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::report::{Unit, median};

const WORK_WIDTH: usize = 42;
const COLUMN_WIDTH: usize = 11;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Roadstead,
    Static,
    Proxy,
    Registry,
    Direct,
    /// What the same machine does with a program that does only what has to be done.
    Bare,
}

impl Who {
    pub(crate) const ALL: [Self; 6] =
        [Self::Roadstead, Self::Static, Self::Proxy, Self::Registry, Self::Direct, Self::Bare];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Roadstead => "Roadstead",
            Self::Static => "nginx static",
            Self::Proxy => "nginx proxy_cache",
            Self::Registry => "docker-registry proxy",
            Self::Direct => "direct",
            Self::Bare => "bare",
        }
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::Roadstead => "Roadstead",
            Self::Static => "static",
            Self::Proxy => "proxy_cache",
            Self::Registry => "registry",
            Self::Direct => "direct",
            Self::Bare => "bare",
        }
    }
}

/// What was promised of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    /// Roadstead's figure divided by the other's.
    AtMost(f64, Who),
    AtLeast(f64, Who),
    /// Roadstead's figure itself.
    Limit(f64),
    Exactly(f64),
}

/// One figure of each server, once in each round.
pub(crate) struct Row {
    work: String,
    unit: Unit,
    rounds: Vec<(Who, Vec<f64>)>,
    bars: Vec<Bar>,
}

struct Verdict {
    text: String,
    ratio: Option<f64>,
    holds: bool,
}

impl Row {
    pub(crate) fn new(work: impl Into<String>, unit: Unit) -> Self {
        Self { work: work.into(), unit, rounds: Vec::new(), bars: Vec::new() }
    }

    pub(crate) fn bar(mut self, bar: Bar) -> Self {
        self.bars.push(bar);
        self
    }

    /// The figure of the next round.
    pub(crate) fn add(&mut self, who: Who, figure: f64) {
        match self.rounds.iter_mut().find(|(of, _)| *of == who) {
            Some((_, figures)) => figures.push(figure),
            None => self.rounds.push((who, vec![figure])),
        }
    }

    fn of(&self, who: Who) -> Option<&[f64]> {
        self.rounds.iter().find(|(of, _)| *of == who).map(|(_, figures)| figures.as_slice())
    }

    fn median(&self, who: Who) -> Option<f64> {
        self.of(who).map(|figures| median(figures.iter().copied()))
    }

    /// The median of the ratios of the rounds: what changes from round to round changes both.
    fn ratio(&self, to: Who) -> f64 {
        let (ours, theirs) = (self.of(Who::Roadstead).unwrap_or_default(), self.of(to).unwrap_or_default());
        median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
    }

    fn verdict(&self, bar: Bar) -> Verdict {
        let ours = self.median(Who::Roadstead).unwrap_or(f64::NAN);
        let decimals = self.unit.decimals();
        let of_ratio = |ratio: f64, relation: &str, most: f64, to: Who, holds: bool| Verdict {
            text: format!("{ratio:.2} × {}, bar {relation} {most}: {}", to.name(), word(holds)),
            ratio: Some(ratio),
            holds,
        };
        match bar {
            Bar::AtMost(most, to) => {
                let ratio = self.ratio(to);
                of_ratio(ratio, "≤", most, to, ratio <= most)
            }
            Bar::AtLeast(least, to) => {
                let ratio = self.ratio(to);
                of_ratio(ratio, "≥", least, to, ratio >= least)
            }
            Bar::Limit(most) => Verdict {
                text: format!("bar ≤ {most}: {ours:.decimals$} {}", word(ours <= most)),
                ratio: None,
                holds: ours <= most,
            },
            Bar::Exactly(promised) => {
                // In each round, not in most. Answers have heads, which count too.
                let all = self.of(Who::Roadstead).unwrap_or_default();
                let holds = !all.is_empty() && all.iter().all(|figure| (figure - promised).abs() < 0.05);
                Verdict { text: format!("bar = {promised}: {}", word(holds)), ratio: None, holds }
            }
        }
    }

    pub(crate) fn bars(&self) -> usize {
        self.bars.len()
    }

    pub(crate) fn held(&self) -> usize {
        self.bars.iter().filter(|bar| self.verdict(**bar).holds).count()
    }

    pub(crate) fn shown(&self) -> String {
        let decimals = self.unit.decimals();
        let mut line = format!("{:<WORK_WIDTH$}", self.work);
        for who in Who::ALL {
            let figure = self.median(who).map_or_else(String::new, |figure| format!("{figure:.decimals$}"));
            // Writing to a string cannot fail.
            let _written = write!(line, "{figure:>COLUMN_WIDTH$}");
        }
        let _written = write!(line, "  {:<10}", self.unit.name());
        let bars: Vec<String> = self.bars.iter().map(|bar| self.verdict(*bar).text).collect();
        format!("{line}{}", bars.join("; ")).trim_end().to_owned()
    }

    /// As a row of a table in Markdown; [`markdown_heading`] goes above.
    pub(crate) fn markdown(&self) -> String {
        let decimals = self.unit.decimals();
        let figures =
            Who::ALL.map(|who| self.median(who).map_or_else(String::new, |figure| format!("{figure:.decimals$}")));
        let bars: Vec<String> = self.bars.iter().map(|bar| self.verdict(*bar).text).collect();
        format!("| {}, {} | {} | {} |", self.work, self.unit.name(), figures.join(" | "), bars.join("; "))
            .replace(",  |", " |")
    }

    pub(crate) fn json(&self, measurement: &str) -> Value {
        let figures = self.rounds.iter().map(|(who, figures)| {
            let median = median(figures.iter().copied());
            (who.name().to_owned(), json!({"median": median, "rounds": figures}))
        });
        let bars = self.bars.iter().map(|bar| {
            let verdict = self.verdict(*bar);
            json!({"bar": verdict.text, "ratio": verdict.ratio, "holds": verdict.holds})
        });
        json!({
            "measurement": measurement,
            "work": self.work,
            "unit": self.unit.name(),
            "figures": figures.collect::<serde_json::Map<_, _>>(),
            "bars": bars.collect::<Vec<_>>(),
        })
    }
}

const fn word(holds: bool) -> &'static str {
    if holds { "holds" } else { "MISSED" }
}

pub(crate) fn markdown_heading() -> String {
    let names = Who::ALL.map(Who::name).join(" | ");
    format!("| | {names} | bar |\n|---|{}---|", "--:|".repeat(Who::ALL.len()))
}

/// The line above the rows.
pub(crate) fn heading() -> String {
    let columns = Who::ALL.iter().map(|who| format!("{:>COLUMN_WIDTH$}", who.heading()));
    format!("{:<WORK_WIDTH$}{}  {:<10}bar", "", columns.collect::<String>(), "unit")
}
