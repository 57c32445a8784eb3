//! The plan for one request: the sum of the steps that match it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::gate::Gate;
use crate::support::upstream::content::bytes::Content;
use crate::support::upstream::content::contents::Contents;

#[derive(Clone, Default)]
pub(crate) struct Plan {
    pub(crate) delay: Duration,
    pub(crate) hold: Option<Gate>,
    pub(crate) cut: Option<Cut>,
    pub(crate) says: Option<Bytes>,
    pub(crate) answer: Option<Scripted>,
    pub(crate) unknown: Unknown,
    pub(crate) lies: Vec<Lie>,
    pub(crate) ignores_range: bool,
    pub(crate) chunked: bool,
    pub(crate) headers: Vec<HeaderEdit>,
    pub(crate) stall: Option<(u64, Gate)>,
    pub(crate) hooks: Vec<Hook>,
}

pub(crate) type Hook = Arc<dyn Fn(&mut Contents) + Send + Sync>;

/// An answer that has nothing to do with what the registry holds.
#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) status: StatusCode,
    pub(crate) body: Content,
}

#[derive(Clone, Copy)]
pub(crate) enum Cut {
    BeforeHeaders,
    /// Behind so many bytes of body.
    After(u64),
}

/// The answer for content that the registry does not have.
#[derive(Clone, Copy, Default)]
pub(crate) enum Unknown {
    #[default]
    Honest,
    /// HEAD finds anything, with this size.
    HeadSaysYes(u64),
    /// HEAD finds nothing that was not fetched by GET before.
    HeadSaysNoUntilGet,
}

/// A change of the bytes; headers that depend on size follow it, digests do not.
#[derive(Clone)]
pub(crate) enum Lie {
    Other(Content),
    WrongByte(u64),
    Size(u64),
    ExtraByte,
    Gzip,
}

#[derive(Clone)]
pub(crate) enum HeaderEdit {
    Set(HeaderName, HeaderValue),
    Add(HeaderName, HeaderValue),
    Remove(HeaderName),
}

impl Plan {
    /// `later` wins where both say something that can be said once only.
    pub(crate) fn add(&mut self, later: Self) {
        self.delay += later.delay;
        self.hold = later.hold.or(self.hold.take());
        self.cut = later.cut.or(self.cut);
        self.says = later.says.or(self.says.take());
        self.answer = later.answer.or(self.answer.take());
        if !matches!(later.unknown, Unknown::Honest) {
            self.unknown = later.unknown;
        }
        self.lies.extend(later.lies);
        self.ignores_range |= later.ignores_range;
        self.chunked |= later.chunked;
        self.headers.extend(later.headers);
        self.stall = later.stall.or(self.stall.take());
        self.hooks.extend(later.hooks);
    }
}
