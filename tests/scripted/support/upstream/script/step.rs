//! One line of a script: which requests, how many of them, and what happens to them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::gate::Gate;
use super::matcher::Matcher;
use super::plan::{Cut, Plan, Scripted};
use crate::support::upstream::Upstream;
use crate::support::upstream::content::bytes::Content;
use crate::support::upstream::content::contents::Contents;
use crate::support::upstream::server::answer::error_body;

/// Made by a `Matcher`, handed to `Upstream::script`. Several things may happen in one step.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) matcher: Matcher,
    pub(crate) uses: Uses,
    pub(crate) plan: Plan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uses {
    Exactly(usize),
    UpTo(usize),
    Always,
}

/// Instead of what the registry holds.
impl Step {
    /// This status; a body of the spec's error form from 400 on, else none. Add headers with `header`.
    pub(crate) fn status(self, status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a status has three digits");
        let body = if status.as_u16() >= 400 { error_body(status) } else { Content::from("") };
        let step = self.plan(|plan| plan.answer = Some(Scripted { status, body }));
        if status.as_u16() >= 400 { step.header("content-type", "application/json") } else { step }
    }

    /// The body of a `status`; without one, of a 200.
    pub(crate) fn body(self, body: impl Into<Content>) -> Self {
        let body = body.into();
        self.plan(|plan| {
            let status = plan.answer.as_ref().map_or(StatusCode::OK, |answer| answer.status);
            plan.answer = Some(Scripted { status, body });
        })
    }

    /// 200 and a page for people, as a captive portal or a broken front door answers.
    pub(crate) fn html(self) -> Self {
        self.body("<!DOCTYPE html><title>Sign in</title><p>Please sign in.\n").header("content-type", "text/html")
    }

    pub(crate) fn too_many_requests(self, retry_after: &str) -> Self {
        self.status(429).header("retry-after", retry_after)
    }

    /// 307 to `url`, in which `{path}` stands for the path asked for.
    pub(crate) fn redirect(self, url: &str) -> Self {
        self.status(307).header("location", url)
    }

    /// 307 to the same path on another upstream.
    pub(crate) fn redirect_to(self, other: &Upstream) -> Self {
        self.redirect(&format!("{}{{path}}", other.url()))
    }

    /// These very bytes on the connection, which then ends: for what no HTTP library would write.
    pub(crate) fn says(self, bytes: impl Into<Bytes>) -> Self {
        self.plan(|plan| plan.says = Some(bytes.into()))
    }
}

/// When and how far.
impl Step {
    /// A pause before the headers. For measurements; tests of order use gates.
    pub(crate) fn delay(self, delay: Duration) -> Self {
        self.plan(|plan| plan.delay = delay)
    }

    /// Nothing is answered until the gate opens.
    pub(crate) fn stall_before_headers(self, gate: &Gate) -> Self {
        self.plan(|plan| plan.hold = Some(gate.clone()))
    }

    pub(crate) fn hang_before_headers(self) -> Self {
        self.stall_before_headers(&Gate::closed())
    }

    /// The body stops behind `bytes` bytes, which do arrive, until the gate opens. If it is no longer than that,
    /// nothing happens.
    pub(crate) fn stall_after(self, bytes: u64, gate: &Gate) -> Self {
        self.plan(|plan| plan.stall = Some((bytes, gate.clone())))
    }

    pub(crate) fn hang_after(self, bytes: u64) -> Self {
        self.stall_after(bytes, &Gate::closed())
    }

    pub(crate) fn cut_before_headers(self) -> Self {
        self.plan(|plan| plan.cut = Some(Cut::BeforeHeaders))
    }

    /// The connection ends behind `bytes` bytes of a body that was announced in full. If it is no longer than that,
    /// nothing happens. Exact on HTTP/1.1; on HTTP/2 the client's windows may keep some of the bytes back.
    pub(crate) fn cut_after(self, bytes: u64) -> Self {
        self.plan(|plan| plan.cut = Some(Cut::After(bytes)))
    }

    /// Runs when the answer is decided and before it goes out: whoever reads the answer knows that it has run.
    pub(crate) fn then(self, hook: impl Fn(&mut Contents) + Send + Sync + 'static) -> Self {
        self.plan(|plan| plan.hooks.push(Arc::new(hook)))
    }
}

impl Step {
    pub(crate) fn new(matcher: Matcher, uses: Uses) -> Self {
        Self { matcher, uses, plan: Plan::default() }
    }

    pub(crate) fn plan(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        self
    }
}
