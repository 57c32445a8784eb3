//! Reads TOML and environment into unchecked values.

use std::collections::BTreeMap;

use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::Dict;

use super::Overrides;
use super::problems::{Collected, Problem, Problems};
use crate::upstream::CloudVariables;

const ENVIRONMENT_PREFIX: &str = "ROADSTEAD__";
/// Sections that variables can set. Upstreams are set in the file only: variable names cannot hold dots and ports.
const ENVIRONMENT_SECTIONS: [&str; 3] = ["server", "storage", "defaults"];

/// Reads the values, with the problems found so far. Checking goes on, so that all problems are reported at once.
pub(super) fn read(
    text: Option<&str>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &Overrides,
    reads_secrets: bool,
) -> Result<(Dict, Collected), Problems> {
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    let cloud = CloudVariables::of(&environment);
    let (mut problems, mut doubts) = (Vec::new(), Vec::new());
    let mut set_by = BTreeMap::new();
    let mut figment = Figment::new();
    match (text, overrides.upstreams.as_slice()) {
        (Some(text), _) => figment = figment.merge(Toml::string(text)),
        // A trial of one registry: names that do not say theirs are its own.
        (None, [(name, _)]) => figment = figment.merge(Serialized::global("server.default_authority", name)),
        (None, _) => {}
    }
    for (name, value) in environment {
        let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
            doubts.extend(misspelt(&name));
            continue;
        };
        let key = key.to_ascii_lowercase();
        match key.split_once("__") {
            Some((section, key)) if ENVIRONMENT_SECTIONS.contains(&section) && !key.contains("__") => {
                let key = format!("{section}.{key}");
                figment = figment.merge(Serialized::global(&key, value));
                set_by.insert(key, name);
            }
            _ => problems.push(Problem {
                key: name,
                message:
                    "the environment sets ROADSTEAD__SERVER__…, ROADSTEAD__STORAGE__… and ROADSTEAD__DEFAULTS__… only"
                        .to_owned(),
            }),
        }
    }
    if !overrides.listen.is_empty() {
        figment = figment.merge(Serialized::global("server.listen", &overrides.listen));
        set_by.insert("server.listen".to_owned(), "--listen".to_owned());
    }
    if let Some(path) = &overrides.storage {
        figment = figment.merge(Serialized::global("storage.path", path));
        set_by.insert("storage.path".to_owned(), "--storage".to_owned());
    }
    if !overrides.upstreams.is_empty() {
        let url = |url: &Option<String>| url.iter().map(|url| ("url", url.clone())).collect::<BTreeMap<_, _>>();
        let named: BTreeMap<_, _> =
            overrides.upstreams.iter().map(|(name, given)| (name.as_str(), url(given))).collect();
        figment = figment.merge(Serialized::globals(BTreeMap::from([("upstreams", named)])));
    }
    match figment.extract::<Dict>() {
        Ok(values) => Ok((values, Collected::new(problems, doubts, set_by, reads_secrets, cloud))),
        Err(err) => {
            problems.extend(err.into_iter().map(|err| {
                let text = err.to_string();
                // The lines between the first and the last quote the file, which may hold secrets.
                let lines: Vec<&str> = text
                    .lines()
                    .map(str::trim)
                    .filter(|line| !line.is_empty() && !line.starts_with("in TOML"))
                    .collect();
                let message = match lines.as_slice() {
                    [] => "cannot be read".to_owned(),
                    [only] => (*only).to_owned(),
                    [first, .., last] => format!("{first}: {last}"),
                };
                Problem { key: "TOML".to_owned(), message }
            }));
            Err(Problems(problems))
        }
    }
}

/// A variable with one underscore where two belong. Kubernetes sets some by itself, for a service of this name.
fn misspelt(name: &str) -> Option<Problem> {
    let rest = name.strip_prefix("ROADSTEAD_")?;
    if rest.starts_with("SERVICE_") || rest == "PORT" || rest.starts_with("PORT_") {
        return None;
    }
    let section = ENVIRONMENT_SECTIONS.iter().find_map(|section| {
        let key = rest.strip_prefix(&section.to_ascii_uppercase())?.trim_start_matches('_');
        Some(format!("; did you mean {ENVIRONMENT_PREFIX}{}__{key}?", section.to_ascii_uppercase()))
    });
    let hint = section.unwrap_or_default();
    let message =
        format!("is no variable of this program and changes nothing: two underscores are between all parts{hint}");
    Some(Problem { key: name.to_owned(), message })
}
