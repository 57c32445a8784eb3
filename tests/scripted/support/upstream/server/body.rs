//! A body with accidents: it may stop, and it may be the last thing that the connection carries.

use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::line::{Fate, Line};
use crate::support::upstream::content::bytes::Content;
use crate::support::upstream::observe::record::Progress;
use crate::support::upstream::script::gate::Gate;
use crate::support::upstream::script::plan::{Cut, Plan};

const PIECE: u64 = 64 * 1024;

pub(crate) struct Body {
    content: Content,
    rest: Range<u64>,
    sent: u64,
    faults: Faults,
    held: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    progress: Arc<Progress>,
}

/// Positions count bytes of this body, not of the blob.
pub(crate) struct Faults {
    stall: Option<(u64, Gate)>,
    cut: Option<u64>,
    line: Arc<Line>,
}

impl Faults {
    pub(crate) fn of(plan: &Plan, line: Arc<Line>) -> Self {
        let cut = match plan.cut {
            Some(Cut::After(bytes)) => Some(bytes),
            Some(Cut::BeforeHeaders) | None => None,
        };
        Self { stall: plan.stall.clone(), cut, line }
    }

    /// How many bytes may go before something happens.
    fn room(&self, sent: u64) -> u64 {
        let stall = self.stall.as_ref().map(|(at, _)| *at);
        stall.into_iter().chain(self.cut).map(|at| at.saturating_sub(sent)).min().unwrap_or(u64::MAX)
    }
}

impl Body {
    pub(crate) fn new(content: Content, rest: Range<u64>, faults: Faults, progress: Arc<Progress>) -> Self {
        Self { content, rest, sent: 0, faults, held: None, progress }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(held) = &mut self.held {
                ready!(held.as_mut().poll(cx));
                self.held = None;
            }
            if self.rest.is_empty() {
                return Poll::Ready(None);
            }
            let sent = self.sent;
            if let Some((_, gate)) = self.faults.stall.take_if(|(at, _)| *at <= sent) {
                self.held = Some(Box::pin(gate.wait()));
                continue;
            }
            if self.faults.cut.is_some_and(|at| at <= sent) {
                // Nobody wakes this task again: hyper flushes, and the wire ends the connection behind it.
                self.faults.line.decide(Fate::EndsWhenFlushed);
                return Poll::Pending;
            }
            let most = PIECE.min(self.rest.end - self.rest.start).min(self.faults.room(sent));
            let piece = self.content.piece(self.rest.start, most);
            self.rest.start += piece.len() as u64;
            self.sent += piece.len() as u64;
            self.progress.sent(piece.len());
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }
}
