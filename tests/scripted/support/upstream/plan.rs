//! What is to happen to one request: the sum of the steps that match it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::content::Content;
use super::contents::Contents;
use super::gate::Gate;

#[derive(Clone, Default)]
pub(super) struct Plan {
    pub(super) delay: Duration,
    pub(super) hold: Option<Gate>,
    pub(super) cut: Option<Cut>,
    pub(super) says: Option<Bytes>,
    pub(super) answer: Option<Scripted>,
    pub(super) unknown: Unknown,
    pub(super) lies: Vec<Lie>,
    pub(super) ignores_range: bool,
    pub(super) chunked: bool,
    pub(super) headers: Vec<HeaderEdit>,
    pub(super) stall: Option<(u64, Gate)>,
    pub(super) hooks: Vec<Hook>,
}

pub(super) type Hook = Arc<dyn Fn(&mut Contents) + Send + Sync>;

/// An answer that has nothing to do with what the registry holds.
#[derive(Clone)]
pub(super) struct Scripted {
    pub(super) status: StatusCode,
    pub(super) body: Content,
}

#[derive(Clone, Copy)]
pub(super) enum Cut {
    BeforeHeaders,
    /// Behind so many bytes of body.
    After(u64),
}

/// What is said about things that the registry has, or has not.
#[derive(Clone, Copy, Default)]
pub(super) enum Unknown {
    #[default]
    Honest,
    /// HEAD finds anything, with this size.
    HeadSaysYes(u64),
    /// HEAD finds nothing that was not fetched by GET before.
    HeadSaysNoUntilGet,
}

/// A change of the bytes; headers that depend on size follow it, digests do not.
#[derive(Clone)]
pub(super) enum Lie {
    Other(Content),
    WrongByte(u64),
    Size(u64),
    ExtraByte,
    Gzip,
}

#[derive(Clone)]
pub(super) enum HeaderEdit {
    Set(HeaderName, HeaderValue),
    Add(HeaderName, HeaderValue),
    Remove(HeaderName),
}

impl Plan {
    /// `later` wins where both say something that can be said once only.
    pub(super) fn add(&mut self, later: Self) {
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
