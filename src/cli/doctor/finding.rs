//! What was found, with what to do.

use serde::Serialize;

/// How bad it is, from the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Good,
    /// It works, and may not for long, or is hardly meant.
    Doubt,
    /// It does not work.
    Bad,
}

#[derive(Debug, Serialize)]
pub(super) struct Finding {
    level: Level,
    /// The thing that was looked at.
    about: String,
    what: String,
    /// What to do about it; `None` for what is good.
    remedy: Option<String>,
}

#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn good(&mut self, about: &str, what: impl AsRef<str>) {
        self.add(Level::Good, about, what.as_ref(), None);
    }

    pub(super) fn doubt(&mut self, about: &str, what: impl AsRef<str>, remedy: impl AsRef<str>) {
        self.add(Level::Doubt, about, what.as_ref(), Some(remedy.as_ref()));
    }

    pub(super) fn bad(&mut self, about: &str, what: impl AsRef<str>, remedy: impl AsRef<str>) {
        self.add(Level::Bad, about, what.as_ref(), Some(remedy.as_ref()));
    }

    /// Others wrote some of these words: none of them moves a terminal's cursor, and all are cut to a length.
    fn add(&mut self, level: Level, about: &str, what: &str, remedy: Option<&str>) {
        let clean = |text: &str| {
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            roadstead::quote::quoted(text)
        };
        self.0.push(Finding { level, about: clean(about), what: clean(what), remedy: remedy.map(clean) });
    }

    pub(super) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    pub(super) fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Good)
    }

    pub(super) fn all(&self) -> &[Finding] {
        &self.0
    }

    pub(super) fn lines(&self) -> String {
        let lines = self.0.iter().map(|Finding { level, about, what, remedy }| {
            let sign = match level {
                Level::Good => "ok   ",
                Level::Doubt => "warn ",
                Level::Bad => "BAD  ",
            };
            let remedy = remedy.as_ref().map_or_else(String::new, |remedy| format!("\n       -> {remedy}"));
            format!("{sign} {about}: {what}{remedy}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
