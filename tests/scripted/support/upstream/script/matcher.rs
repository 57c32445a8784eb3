//! Which requests a step, a count or a wait is about.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::step::{Step, Uses};
use crate::support::upstream::observe::record::Recorded;
use crate::support::upstream::server::route::Kind;

/// Every condition must hold; none holds for every request.
#[derive(Clone, Default)]
pub(crate) struct Matcher {
    method: Option<Method>,
    kind: Option<Kind>,
    repository: Option<String>,
    reference: Option<String>,
    ranged: Option<bool>,
    predicate: Option<Predicate>,
    pub(crate) nth: Nth,
    pub(crate) unauthorized_too: bool,
}

type Predicate = Arc<dyn Fn(&Recorded) -> bool + Send + Sync>;

/// Counted from 1, among the requests that match otherwise, from the moment a step is scripted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Nth {
    #[default]
    Any,
    Only(usize),
    Since(usize),
}

impl Nth {
    pub(crate) fn includes(self, n: usize) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => n == only,
            Self::Since(first) => n >= first,
        }
    }
}

pub(crate) fn every_request() -> Matcher {
    Matcher::default()
}

pub(crate) fn manifests() -> Matcher {
    every_request().kind(Kind::Manifest)
}

pub(crate) fn blobs() -> Matcher {
    every_request().kind(Kind::Blob)
}

pub(crate) fn tag_lists() -> Matcher {
    every_request().kind(Kind::Tags)
}

pub(crate) fn referrers() -> Matcher {
    every_request().kind(Kind::Referrers)
}

pub(crate) fn tokens() -> Matcher {
    every_request().kind(Kind::Token)
}

pub(crate) fn pings() -> Matcher {
    every_request().kind(Kind::Ping)
}

/// Paths outside the registry protocol, as `Upstream::file` puts them there.
pub(crate) fn files() -> Matcher {
    every_request().kind(Kind::File)
}

impl Matcher {
    pub(crate) fn kind(self, kind: Kind) -> Self {
        Self { kind: Some(kind), ..self }
    }

    pub(crate) fn method(self, method: Method) -> Self {
        Self { method: Some(method), ..self }
    }

    pub(crate) fn get(self) -> Self {
        self.method(Method::GET)
    }

    pub(crate) fn head(self) -> Self {
        self.method(Method::HEAD)
    }

    pub(crate) fn repository(self, name: &str) -> Self {
        Self { repository: Some(name.to_owned()), ..self }
    }

    /// A tag or a digest.
    pub(crate) fn reference(self, reference: &str) -> Self {
        Self { reference: Some(reference.to_owned()), ..self }
    }

    /// Only requests with a `Range` header.
    pub(crate) fn ranged(self) -> Self {
        Self { ranged: Some(true), ..self }
    }

    pub(crate) fn unranged(self) -> Self {
        Self { ranged: Some(false), ..self }
    }

    /// Any other condition.
    pub(crate) fn when(self, predicate: impl Fn(&Recorded) -> bool + Send + Sync + 'static) -> Self {
        Self { predicate: Some(Arc::new(predicate)), ..self }
    }

    /// Only the `n`th of them, from 1. For steps; counts and waits do not look at it.
    pub(crate) fn nth(self, n: usize) -> Self {
        Self { nth: Nth::Only(n), ..self }
    }

    /// The `n`th of them, from 1, and all later ones. For steps, as `nth`.
    pub(crate) fn since_nth(self, n: usize) -> Self {
        Self { nth: Nth::Since(n), ..self }
    }

    /// Steps are for requests that authentication lets in; this one is for the others too.
    pub(crate) fn unauthorized_too(self) -> Self {
        Self { unauthorized_too: true, ..self }
    }

    /// A step for one request, which must come.
    pub(crate) fn once(self) -> Step {
        self.times(1)
    }

    /// A step for `n` requests, all of which must come.
    pub(crate) fn times(self, n: usize) -> Step {
        Step::new(self, Uses::Exactly(n))
    }

    /// A step for at most `n` requests.
    pub(crate) fn up_to(self, n: usize) -> Step {
        Step::new(self, Uses::UpTo(n))
    }

    /// A step for all such requests, whether any come or not.
    pub(crate) fn always(self) -> Step {
        Step::new(self, Uses::Always)
    }

    pub(crate) fn matches(&self, request: &Recorded) -> bool {
        self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.kind.is_none_or(|kind| kind == request.kind)
            && (self.repository.is_none() || self.repository == request.repository)
            && (self.reference.is_none() || self.reference == request.reference)
            && self.ranged.is_none_or(|ranged| ranged == request.range.is_some())
            && self.predicate.as_ref().is_none_or(|predicate| predicate(request))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.method.as_ref().map_or("any method", Method::as_str);
        let kind = self.kind.map_or_else(|| "any kind".to_owned(), |kind| format!("{kind:?}"));
        let repository = self.repository.as_deref().unwrap_or("*");
        let reference = self.reference.as_deref().unwrap_or("*");
        write!(f, "{method} {kind} {repository} {reference} (nth: {:?})", self.nth)
    }
}
