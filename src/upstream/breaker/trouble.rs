//! Upstreams that are in trouble: since when, what is served meanwhile, and what to do. For operators.
//!
//! A trouble is logged once when it begins and once when it ends. What clients see is decided elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::clock::{Clock, Timestamp};
use crate::metrics::{ByTrouble, Metrics};

/// A kind of trouble. An endpoint may be in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// It cannot be reached, or does not answer in time.
    Unreachable,
    /// It answers 429.
    Rationed,
    /// It answers several requests in a row with 5xx, or breaks the connection.
    Failing,
}

impl TroubleKind {
    const ALL: [Self; 3] = [Self::Unreachable, Self::Rationed, Self::Failing];

    /// The name in metrics and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Rationed => "rationed",
            Self::Failing => "failing",
        }
    }

    /// What clients get while it lasts.
    pub const fn meanwhile(self) -> &'static str {
        match self {
            Self::Unreachable | Self::Failing => {
                "what is stored is served, tags as they were last seen; what is not stored fails"
            }
            Self::Rationed => "what is stored is served, tags as they were last seen; what is not stored has to wait",
        }
    }

    /// What an operator can do.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Unreachable => "check network, DNS and proxy between this mirror and the registry",
            Self::Rationed => "wait, or give this mirror credentials of its own, which raise the ration",
            Self::Failing => "see the registry's own status; this mirror goes on asking",
        }
    }
}

/// What is seen of an endpoint at one moment.
pub(in crate::upstream) struct Finding {
    pub(in crate::upstream) kind: TroubleKind,
    /// The cause, in words; `None` leaves the known one.
    pub(in crate::upstream) why: Option<String>,
    /// It is not asked before this time.
    pub(in crate::upstream) retry_at: Option<Timestamp>,
}

/// One trouble of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The upstream as it is configured.
    pub upstream: String,
    /// Host and port.
    pub endpoint: String,
    pub trouble: TroubleKind,
    /// Milliseconds since the epoch.
    pub since: Timestamp,
    pub why: String,
    /// It is not asked before this time; in the past if it is asked at the next request. Milliseconds since the epoch.
    pub retry_at: Option<Timestamp>,
    pub meanwhile: &'static str,
    pub remedy: &'static str,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { upstream, endpoint, trouble, since, why, meanwhile, remedy, retry_at: _ } = self;
        let (kind, since) = (trouble.name(), since.rfc3339());
        write!(f, "{upstream} ({endpoint}): {kind} since {since}: {why}; {meanwhile}; {remedy}")
    }
}

/// The troubles of all configured upstreams, shared by clones. Registries that a wildcard admits have none here: clients
/// choose their names.
#[derive(Clone)]
pub struct Troubles {
    known: Arc<Known>,
    clock: Clock,
    metrics: Metrics,
}

/// Upstream, endpoint and kind.
type Key = (String, Arc<str>, TroubleKind);

#[derive(Default)]
struct Known {
    troubles: Mutex<BTreeMap<Key, Entry>>,
    /// Their number, so that a request without any looks at no lock.
    count: AtomicUsize,
}

struct Entry {
    since: Timestamp,
    why: String,
    retry_at: Option<Timestamp>,
}

impl Troubles {
    /// None yet.
    pub fn new(clock: Clock, metrics: Metrics) -> Self {
        Self { known: Arc::default(), clock, metrics }
    }

    /// All of them, by upstream.
    pub fn list(&self) -> Vec<Trouble> {
        let troubles = self.known.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let list = troubles.iter().map(|((upstream, endpoint, kind), entry)| Trouble {
            upstream: upstream.clone(),
            endpoint: endpoint.to_string(),
            trouble: *kind,
            since: entry.since,
            why: entry.why.clone(),
            retry_at: entry.retry_at,
            meanwhile: kind.meanwhile(),
            remedy: kind.remedy(),
        });
        list.collect()
    }

    /// Takes over what `look` finds wrong with an endpoint. Whatever was wrong before and is not found has ended.
    ///
    /// `look` is called with the table locked, so that of two requests the one that looks later decides.
    pub(in crate::upstream) fn observe(&self, upstream: &str, endpoint: &Arc<str>, look: impl Fn() -> Vec<Finding>) {
        if look().is_empty() && self.known.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let now = self.clock.now();
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        {
            let mut troubles = self.known.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            let found = look();
            for kind in TroubleKind::ALL {
                let of_kind: Vec<_> = found.iter().filter(|finding| finding.kind == kind).collect();
                let key = (upstream.to_owned(), Arc::clone(endpoint), kind);
                if of_kind.is_empty() {
                    ended.extend(troubles.remove(&key).map(|entry| (kind, now.since(entry.since))));
                    continue;
                }
                let why = of_kind.iter().find_map(|finding| finding.why.clone());
                let entry = troubles.entry(key).or_insert_with(|| {
                    let why = why.clone().unwrap_or_default();
                    begun.push((kind, why.clone()));
                    Entry { since: now, why, retry_at: None }
                });
                entry.why = why.unwrap_or_else(|| std::mem::take(&mut entry.why));
                entry.retry_at = of_kind.iter().filter_map(|finding| finding.retry_at).max();
            }
            self.known.count.store(troubles.len(), Ordering::Release);
            for (kind, open) in begun.iter().map(|(kind, _)| (kind, 1)).chain(ended.iter().map(|(kind, _)| (kind, 0))) {
                let labels =
                    ByTrouble { authority: upstream.to_owned(), endpoint: endpoint.to_string(), trouble: kind.name() };
                self.metrics.upstream_trouble.get_or_create(&labels).set(open);
            }
        }
        for (kind, error) in begun {
            let (trouble, meanwhile, remedy) = (kind.name(), kind.meanwhile(), kind.remedy());
            tracing::warn!(upstream, %endpoint, trouble, error, "an upstream is in trouble: {meanwhile}; {remedy}");
        }
        for (kind, lasted) in ended {
            tracing::warn!(upstream, %endpoint, trouble = kind.name(), lasted_s = lasted.as_secs(),
                "an upstream's trouble is over");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_trouble_lasts_from_the_first_look_that_finds_it_to_the_first_that_does_not() {
        let (clock, metrics) = (Clock::default(), Metrics::default());
        let troubles = Troubles::new(clock.clone(), metrics);
        let endpoint: Arc<str> = "registry-1.docker.io".into();
        let see = |why: Option<&str>| {
            troubles.observe("docker.io", &endpoint, || {
                let finding = |why: &str| Finding {
                    kind: TroubleKind::Rationed,
                    why: (!why.is_empty()).then(|| why.to_owned()),
                    retry_at: None,
                };
                why.map(finding).into_iter().collect()
            });
        };
        see(None);
        assert_eq!(troubles.list(), []);
        see(Some("429"));
        let since = troubles.list()[0].since;
        clock.advance(Duration::from_mins(1));
        see(Some(""));
        let known = troubles.list();
        assert_eq!((known.len(), known[0].since, &*known[0].why), (1, since, "429"));
        see(None);
        assert_eq!(troubles.list(), []);
    }
}
