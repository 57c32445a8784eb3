//! Selectors: several tags of one repository, by what they are called.
//!
//! `docker.io/library/nginx{regex=^1\.2[0-9]$}`, `quay.io/org/app{semver=>=1.20, <2; newest=3}`. The newest are those with
//! the highest versions; tags that are no versions come after all that are.

use regex_lite::Regex;

use super::pull::{NotPulled, Puller};
use super::version::{Range, Version};
use crate::jobs::job_report::JobOutcome;
use crate::mirror::TagsQuery;
use crate::oci::ImageName;

/// Pages of a list of tags.
const MAX_PAGES: usize = 200;
/// Tags on one page.
const PAGE: u32 = 1000;
/// Longest regular expression, in bytes.
const MAX_REGEX: usize = 1000;

/// The tags that are wanted.
#[derive(Debug, Default)]
pub struct Selector {
    regex: Option<Regex>,
    semver: Option<Range>,
    newest: Option<usize>,
}

impl Selector {
    /// Splits `repository{…}`; `None` if the text has no selector.
    pub fn split(text: &str) -> Option<Result<(&str, Self), String>> {
        let (repository, rest) = text.split_once('{')?;
        let Some(inside) = rest.strip_suffix('}') else {
            return Some(Err("a selector ends with `}`".to_owned()));
        };
        Some(Self::parse(inside).map(|selector| (repository, selector)))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut selector = Self::default();
        for part in text.split(';') {
            let (key, value) = part.split_once('=').ok_or("a selector is `regex=…`, `semver=…` or `newest=…`")?;
            match key.trim() {
                "regex" if value.len() <= MAX_REGEX => {
                    selector.regex = Some(Regex::new(value.trim()).map_err(|err| format!("regex: {err}"))?);
                }
                "regex" => return Err(format!("regex: it has more than {MAX_REGEX} bytes")),
                "semver" => {
                    let range = Range::parse(value).ok_or("semver: it is no range, as in `>=1.20, <2`")?;
                    selector.semver = Some(range);
                }
                "newest" => {
                    let count = value.trim().parse().ok().filter(|count| *count > 0);
                    selector.newest = Some(count.ok_or("newest: it is a number of tags")?);
                }
                other => return Err(format!("`{other}` selects nothing; `regex`, `semver` and `newest` do")),
            }
        }
        Ok(selector)
    }

    /// Those of the tags that are wanted, the newest first.
    pub fn choose(&self, mut tags: Vec<String>) -> Vec<String> {
        tags.retain(|tag| self.regex.as_ref().is_none_or(|regex| regex.is_match(tag)));
        let mut tags: Vec<(Option<Version>, String)> =
            tags.into_iter().map(|tag| (Version::parse(&tag), tag)).collect();
        if let Some(range) = &self.semver {
            tags.retain(|(version, _)| version.as_ref().is_some_and(|version| range.contains(version)));
        }
        tags.sort_unstable();
        tags.into_iter().rev().map(|(_, tag)| tag).take(self.newest.unwrap_or(usize::MAX)).collect()
    }
}

/// The full names that one line stands for.
pub(super) async fn resolve(puller: &Puller, text: &str) -> Result<Vec<String>, NotPulled> {
    let refused = |why: String| (JobOutcome::Refused, why);
    let Some(split) = Selector::split(text) else {
        let name: ImageName = text.parse().map_err(|err| refused(format!("{err}")))?;
        return Ok(vec![name.to_string()]);
    };
    let (repository, selector) = split.map_err(refused)?;
    let (authority, repository) = ImageName::parse_repository(repository).map_err(|err| refused(err.to_string()))?;
    let name = ImageName { authority, repository, tag: None, digest: None };
    let at = puller.place(&name)?;
    let mut tags: Vec<String> = Vec::new();
    let mut query = TagsQuery { n: Some(PAGE), last: None, cursors: Vec::new() };
    for _page in 0..MAX_PAGES {
        let (mirror, target, asked) = (puller.mirror(), &at.target, &query);
        let page = puller.patiently(&at, move || mirror.tags(target, asked)).await?;
        let names: Vec<String> = serde_json::from_slice(&page.tags)
            .map_err(|_no_names| (JobOutcome::Failed, "its list of tags cannot be read".to_owned()))?;
        let last = names.last().cloned();
        tags.extend(names);
        match (page.next, last) {
            (Some(_), Some(last)) if query.last.as_ref() != Some(&last) => query.last = Some(last),
            _ => break,
        }
    }
    let chosen = selector.choose(tags);
    if chosen.is_empty() {
        return Err((JobOutcome::Missing, "no tag of it is selected".to_owned()));
    }
    Ok(chosen.into_iter().map(|tag| format!("{name}:{tag}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_chosen_by_pattern_range_and_number() {
        let tags = ["1.9", "1.10", "1.11-rc1", "2.0", "latest", "1.10-alpine"].map(str::to_owned).to_vec();
        let chosen = |text: &str| {
            let text = format!("docker.io/library/app{{{text}}}");
            let (repository, selector) = Selector::split(&text).unwrap().unwrap();
            assert_eq!(repository, "docker.io/library/app");
            selector.choose(tags.clone())
        };
        assert_eq!(chosen("semver=^1"), ["1.10", "1.9"]);
        assert_eq!(chosen("newest=2"), ["2.0", "1.11-rc1"]);
        assert_eq!(chosen(r"regex=^1\.\d+$; newest=1"), ["1.10"]);
        assert_eq!(chosen("regex=alpine"), ["1.10-alpine"]);
        assert_eq!(chosen("semver=>=1.10, <3; newest=5"), ["2.0", "1.10"]);
        for bad in ["a{}", "a{newest=0}", "a{regex=(}", "a{semver=x}", "a{other=1}", "a{newest=1"] {
            assert!(Selector::split(bad).unwrap().is_err(), "{bad}");
        }
        assert!(Selector::split("a:1").is_none());
    }
}
