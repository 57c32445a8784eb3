//! Requests in order of arrival, and what became of them.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use tokio::sync::watch;

use crate::support::upstream::script::gate::PATIENCE;
use crate::support::upstream::server::route::Kind;

/// A request as it arrived. Clones share the progress of the answer.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Without the question mark; empty if there is none.
    pub(crate) query: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) kind: Kind,
    pub(crate) repository: Option<String>,
    pub(crate) reference: Option<String>,
    /// The `Range` header.
    pub(crate) range: Option<String>,
    /// The connection's number, from 1.
    pub(crate) at_connection: usize,
    pub(crate) client_certificate: bool,
    /// Whether it had what the upstream's authentication asks for (always, if it asks for nothing).
    pub(crate) authorized: bool,
    pub(crate) progress: Arc<Progress>,
}

#[derive(Debug, Default)]
pub(crate) struct Progress {
    status: AtomicU16,
    sent: AtomicU64,
}

impl Progress {
    pub(crate) fn answered(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Recorded {
    /// A header's first value, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// `a` of `Range: bytes=a-…`.
    pub(crate) fn range_start(&self) -> Option<u64> {
        self.range.as_deref()?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }

    /// The status that was answered; none while held, or if the connection was cut first.
    pub(crate) fn status(&self) -> Option<u16> {
        Some(self.progress.status.load(Ordering::Relaxed)).filter(|status| *status != 0)
    }

    /// Bytes of body handed to the connection so far.
    pub(crate) fn sent(&self) -> u64 {
        self.progress.sent.load(Ordering::Relaxed)
    }

    /// One line for the messages of failing tests; headers stay out, they may hold secrets.
    pub(crate) fn line(&self) -> String {
        let status = self.status().map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let range = self.range.as_deref().unwrap_or("no range");
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        format!("#{} {} {}{query} ({range}): {status}", self.at_connection, self.method, self.path)
    }
}

/// All requests since the start.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    requests: Mutex<Vec<Recorded>>,
    count: watch::Sender<usize>,
}

impl Journal {
    pub(crate) fn record(&self, request: Recorded) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(request);
        self.count.send_replace(requests.len());
    }

    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn forget(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) async fn wait_for(&self, n: usize, wanted: impl Fn(&Recorded) -> bool) -> Vec<Recorded> {
        let mut count = self.count.subscribe();
        let deadline = tokio::time::sleep(PATIENCE);
        tokio::pin!(deadline);
        loop {
            count.mark_unchanged();
            let found = self.all().into_iter().filter(&wanted).collect::<Vec<_>>();
            if found.len() >= n {
                return found;
            }
            tokio::select! {
                changed = count.changed() => changed.expect("the sender is in self"),
                () = &mut deadline => {
                    let lines = self.all().iter().map(Recorded::line).collect::<Vec<_>>().join("\n  ");
                    panic!("{} of {n} such requests in {PATIENCE:?}; what arrived:\n  {lines}", found.len());
                }
            }
        }
    }
}
