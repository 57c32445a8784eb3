//! What a run is made of.

use super::compare::Work;
use super::measure::Measurement;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Measure(Measurement),
    Compare(Work),
    Scale,
    Soak,
}

/// All of [`Work`].
const COMPARE: &str = "compare";

impl Task {
    /// Without those that take long, which have to be named.
    pub(crate) fn usual() -> Vec<Self> {
        Measurement::ALL.into_iter().map(Self::Measure).chain(Work::ALL.into_iter().map(Self::Compare)).collect()
    }

    fn all() -> impl Iterator<Item = Self> {
        let named = Measurement::NAMED.into_iter().map(Self::Measure).chain([Self::Scale, Self::Soak]);
        Self::usual().into_iter().chain(named)
    }

    /// Those that a name stands for: none if it is unknown.
    pub(crate) fn named(name: &str) -> Vec<Self> {
        Self::all()
            .filter(|task| task.name() == name || (name == COMPARE && matches!(task, Self::Compare(_))))
            .collect()
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Measure(measurement) => measurement.name(),
            Self::Compare(work) => work.name(),
            Self::Scale => "scale",
            Self::Soak => "soak",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Measure(measurement) => measurement.about(),
            Self::Compare(work) => work.about(),
            Self::Scale => "what costs what as the index grows; only when named",
            Self::Soak => "a site's pulls through a small cache, as a picture; only when named",
        }
    }

    /// Programs, besides Roadstead, that it needs.
    pub(crate) const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Measure(measurement) => measurement.programs(),
            Self::Compare(_) => &["setpriv", "sh", "nginx", "docker-registry"],
            Self::Scale | Self::Soak => &["setpriv", "sh"],
        }
    }

    /// As a line of progress.
    pub(crate) fn announced(self) -> String {
        format!("{}: {}", self.name(), self.about())
    }

    /// As a list for the usage.
    pub(crate) fn list() -> String {
        let line = |name: &str, about: &str| format!("\n  {name:<12} {about}");
        let lines: String = Self::all().map(|task| line(task.name(), task.about())).collect();
        lines + &line(COMPARE, "all from `hit` to `tls`: the same work by Roadstead and by others")
    }
}
