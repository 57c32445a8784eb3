//! What is fetched in the background: the keys `complete`, `platforms`, `referrers`, and the rules `completion`.

use crate::mirror::{Complete, Completion, Platforms};
use crate::oci::{Platform, RepositoryPattern};

use super::rules::pattern;
use super::section::Section;

/// The keys of one section, as far as they are there.
#[derive(Default)]
struct Keys {
    complete: Option<Complete>,
    platforms: Option<Platforms>,
    referrers: Option<bool>,
}

impl Keys {
    fn read(section: &Section<'_>) -> Self {
        let complete = section.text("complete").and_then(|text| match text.as_str() {
            "off" => Some(Complete::Off),
            "config" => Some(Complete::Config),
            "image" => Some(Complete::Image),
            _ => {
                section.problem("complete", "must be \"off\", \"config\" or \"image\"");
                None
            }
        });
        let named = section.each("platforms", |text| match text {
            "all" => Ok(None),
            text => text.parse::<Platform>().map(Some),
        });
        // One `None` among them is "all".
        let platforms =
            named.map(|named| named.into_iter().collect::<Option<_>>().map_or(Platforms::All, Platforms::Only));
        Self { complete, platforms, referrers: section.flag("referrers") }
    }

    fn or(self, other: &Completion) -> Completion {
        Completion {
            complete: self.complete.unwrap_or(other.complete),
            platforms: self.platforms.unwrap_or_else(|| other.platforms.clone()),
            referrers: self.referrers.unwrap_or(other.referrers),
        }
    }
}

/// What an upstream does by default, and its rules. Keys that are missing in a rule come from the upstream.
pub(super) fn completion(
    own: &Section<'_>,
    defaults: &Section<'_>,
) -> (Completion, Vec<(RepositoryPattern, Completion)>) {
    let base = Keys::read(own).or(&Keys::read(defaults).or(&Completion::default()));
    let mut rules = Vec::new();
    for section in [own, defaults] {
        for rule in section.sections("completion") {
            let repositories = pattern(&rule, "match", &rule.text("match").unwrap_or_else(|| "**".to_owned()));
            let completion = Keys::read(&rule).or(&base);
            rules.extend(repositories.map(|repositories| (repositories, completion)));
            rule.finish();
        }
    }
    (base, rules)
}
