//! How long a new digest of a tag is held back: the keys `min_age` and `min_age_mode`, and the rules `cooldown`.

use std::time::Duration;

use super::rules::{pattern, tags};
use super::section::Section;
use crate::mirror::{MinAge, MinAgeRule};

/// The keys of one section, as far as they are there.
struct Keys {
    age: Option<Duration>,
    is_audit: Option<bool>,
}

impl Keys {
    fn read(section: &Section<'_>) -> Self {
        let is_audit = section.text("min_age_mode").and_then(|text| match text.as_str() {
            "hold" => Some(false),
            "audit" => Some(true),
            _ => {
                section.problem("min_age_mode", "must be \"hold\" or \"audit\"");
                None
            }
        });
        Self { age: section.duration("min_age"), is_audit }
    }

    fn or(&self, other: MinAge) -> MinAge {
        MinAge { age: self.age.unwrap_or(other.age), is_audit: self.is_audit.unwrap_or(other.is_audit) }
    }
}

/// What holds for an upstream, and its rules. Keys that are missing in a rule come from the upstream.
pub(super) fn cooldown(own: &Section<'_>, defaults: &Section<'_>) -> (MinAge, Vec<MinAgeRule>) {
    let base = Keys::read(own).or(Keys::read(defaults).or(MinAge::default()));
    let mut rules = Vec::new();
    for section in [own, defaults] {
        for rule in section.sections("cooldown") {
            let repositories = pattern(&rule, "match", &rule.text("match").unwrap_or_else(|| "**".to_owned()));
            let (tag, min_age) = (tags(&rule), Keys::read(&rule).or(base));
            rules.extend(repositories.map(|repositories| MinAgeRule { repositories, tag, min_age }));
            rule.finish();
        }
    }
    (base, rules)
}
