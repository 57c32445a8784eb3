//! Reads TOML and environment into unchecked values.

use std::collections::BTreeMap;

use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::Dict;

use super::problems::{Collected, Problem, Problems};

const ENVIRONMENT_PREFIX: &str = "ROADSTEAD__";
/// Sections that variables can set. Upstreams are set in the file only: variable names cannot hold dots and ports.
const ENVIRONMENT_SECTIONS: [&str; 3] = ["server", "storage", "defaults"];

/// Reads the values, with the problems found so far. Checking goes on, so that all problems are reported at once.
pub(super) fn read(
    text: Option<&str>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(Dict, Collected), Problems> {
    let mut problems = Vec::new();
    let mut variables = BTreeMap::new();
    let mut figment = Figment::new();
    if let Some(text) = text {
        figment = figment.merge(Toml::string(text));
    }
    for (name, value) in environment {
        let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let key = key.to_ascii_lowercase();
        match key.split_once("__") {
            Some((section, key)) if ENVIRONMENT_SECTIONS.contains(&section) && !key.contains("__") => {
                let key = format!("{section}.{key}");
                figment = figment.merge(Serialized::global(&key, value));
                variables.insert(key, name);
            }
            _ => problems.push(Problem {
                key: name,
                message:
                    "the environment sets ROADSTEAD__SERVER__…, ROADSTEAD__STORAGE__… and ROADSTEAD__DEFAULTS__… only"
                        .to_owned(),
            }),
        }
    }
    match figment.extract::<Dict>() {
        Ok(values) => Ok((values, Collected::new(problems, variables))),
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
