//! Problems of a configuration, collected instead of stopping at the first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use crate::upstream::CloudVariables;

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
    /// What is allowed, and hardly meant.
    doubts: RefCell<Vec<Problem>>,
    /// The variable or option that set each key.
    set_by: BTreeMap<String, String>,
    /// Whether secrets, certificates and keys are read, as a server needs them.
    pub(super) reads_secrets: bool,
    /// What the environment says of clouds.
    pub(super) cloud: CloudVariables,
}

impl Collected {
    pub(super) fn new(
        problems: Vec<Problem>,
        doubts: Vec<Problem>,
        set_by: BTreeMap<String, String>,
        reads_secrets: bool,
        cloud: CloudVariables,
    ) -> Self {
        Self { problems: problems.into(), doubts: doubts.into(), set_by, reads_secrets, cloud }
    }

    pub(super) fn add(&self, key: String, message: impl Into<String>) {
        self.add_to(&self.problems, Problem { key, message: message.into() });
    }

    pub(super) fn doubt(&self, key: String, message: impl Into<String>) {
        self.add_to(&self.doubts, Problem { key, message: message.into() });
    }

    fn add_to(&self, list: &RefCell<Vec<Problem>>, mut problem: Problem) {
        let set = problem.key.split_once('[').map_or(problem.key.as_str(), |(key, _)| key);
        if let Some(by) = self.set_by.get(set) {
            problem.message.push_str("; it is set by ");
            problem.message.push_str(by);
        }
        let mut problems = list.borrow_mut();
        // `[defaults]` is read once per upstream, so its problems may repeat.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// What is allowed, and hardly meant.
    pub(super) fn take_doubts(&self) -> Vec<Problem> {
        self.doubts.take()
    }

    /// The value, or the problems if there are any.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, Problems> {
        let problems = self.problems.into_inner();
        if problems.is_empty() { Ok(value) } else { Err(Problems(problems)) }
    }
}
