//! Problems of a configuration, collected instead of stopping at the first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// One problem of the configuration. It never holds a value, which may be a secret in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The full key, as in `upstreams."docker.io".url`.
    pub key: String,
    pub message: String,
}

/// At least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { key, message } in &self.0 {
            writeln!(f, "  {key}: {message}")?;
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Collected {
    problems: RefCell<Vec<Problem>>,
    /// The variable that set each key.
    variables: BTreeMap<String, String>,
}

impl Collected {
    pub(super) fn new(problems: Vec<Problem>, variables: BTreeMap<String, String>) -> Self {
        Self { problems: problems.into(), variables }
    }

    pub(super) fn add(&self, key: String, message: impl Into<String>) {
        let mut problem = Problem { key, message: message.into() };
        let set = problem.key.split_once('[').map_or(problem.key.as_str(), |(key, _)| key);
        if let Some(variable) = self.variables.get(set) {
            problem.message.push_str("; it is set by ");
            problem.message.push_str(variable);
        }
        let mut problems = self.problems.borrow_mut();
        // `[defaults]` is read once per upstream, so its problems may repeat.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// The value, or the problems if there are any.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, Problems> {
        let problems = self.problems.into_inner();
        if problems.is_empty() { Ok(value) } else { Err(Problems(problems)) }
    }
}
