//! Who a client is.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;

use crate::metrics::{ByIdentity, Counter, Metrics};

/// Most names with counters of their own; the rest count as `other`.
const MAX_COUNTED: usize = 1000;
/// Clients that are remembered, of those that are not in the configuration.
const MAX_KNOWN: usize = 10_000;
/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// The name of a client that shows nothing.
pub(in crate::server) const ANONYMOUS: &str = "anonymous";

/// An identity, shared by all its requests.
#[derive(Debug)]
pub(in crate::server) struct Client {
    pub(in crate::server) name: Arc<str>,
    /// Whether it is one of the named users, and not a client that shows nothing.
    pub(super) is_user: bool,
    /// Of the configuration.
    pub(super) groups: Vec<String>,
    pub(in crate::server) allowed: Counter,
    pub(in crate::server) refused: Counter,
}

/// A group of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    /// Globs over the names of clients.
    pub members: Vec<glob::Pattern>,
}

/// The groups of the configuration that a client is in.
pub fn groups_of(groups: &[Group], client: &str) -> Vec<String> {
    let has = |group: &&Group| group.members.iter().any(|member| member.matches(client));
    groups.iter().filter(has).map(|group| group.name.clone()).collect()
}

/// Makes clients, with a bound for their counters.
pub(super) struct Clients<'a> {
    metrics: &'a Metrics,
    groups: &'a [Group],
    made: usize,
}

impl<'a> Clients<'a> {
    pub(super) const fn new(groups: &'a [Group], metrics: &'a Metrics) -> Self {
        Self { metrics, groups, made: 0 }
    }

    pub(super) fn user(&mut self, name: &str) -> Arc<Client> {
        self.make(name, true)
    }

    /// One that shows nothing: anonymous, or known by its network.
    pub(super) fn nobody(&mut self, name: &str) -> Arc<Client> {
        self.make(name, false)
    }

    fn make(&mut self, name: &str, is_user: bool) -> Arc<Client> {
        self.made += 1;
        client(name, is_user, self.made <= MAX_COUNTED, self.groups, self.metrics)
    }

    /// Those that come later share what is left of the bound.
    pub(super) fn strangers(&self) -> Strangers {
        Strangers {
            metrics: self.metrics.clone(),
            groups: self.groups.to_vec(),
            known: Cache::new(MAX_KNOWN),
            counted: Mutex::default(),
            left: MAX_COUNTED.saturating_sub(self.made),
        }
    }
}

fn client(name: &str, is_user: bool, is_counted: bool, groups: &[Group], metrics: &Metrics) -> Arc<Client> {
    let identity = if is_counted { name } else { "other" };
    let counter = |result| {
        let labels = ByIdentity { identity: identity.to_owned(), result };
        metrics.identity_requests.get_or_create_owned(&labels)
    };
    let groups = groups_of(groups, name);
    Arc::new(Client { name: name.into(), is_user, groups, allowed: counter("allowed"), refused: counter("refused") })
}

/// Clients whose names the configuration does not know: others vouch for them.
pub(super) struct Strangers {
    metrics: Metrics,
    groups: Vec<Group>,
    known: Cache<Arc<str>, Arc<Client>>,
    /// Names with counters of their own. They stay, so that a name that is forgotten gets its own again.
    counted: Mutex<HashSet<Arc<str>>>,
    left: usize,
}

impl Strangers {
    /// The one of this name. A name has one kind: that of a certificate begins with `certificate:`.
    pub(super) fn find(&self, name: &Arc<str>, is_user: bool) -> Arc<Client> {
        self.known.get(name).unwrap_or_else(|| {
            let made = client(name, is_user, self.counts(name), &self.groups, &self.metrics);
            self.known.insert(Arc::clone(name), Arc::clone(&made));
            made
        })
    }

    fn counts(&self, name: &Arc<str>) -> bool {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.contains(name) || counted.len() < self.left && counted.insert(Arc::clone(name))
    }
}

/// A line that cannot be read. It shows nothing of the line, which may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {why}")]
pub struct BrokenLine {
    /// From 1.
    pub line: usize,
    pub why: &'static str,
}

/// The lines of a file that are neither empty nor comments, with their numbers from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

pub(super) fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("has no name")
    } else if name.len() > MAX_NAME_BYTES {
        Some("has a name of more than 128 bytes")
    } else if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("has a name with other characters than visible ASCII")
    } else if name == ANONYMOUS {
        Some("has the name of clients that show nothing, `anonymous`")
    } else {
        None
    }
}
