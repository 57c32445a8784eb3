//! Questions that a test may ask an upstream, and events that it may wait for.

pub(crate) mod canary;
pub(crate) mod record;

use http::Method;

use self::record::Recorded;
use crate::support::upstream::Upstream;
use crate::support::upstream::script::gate::PATIENCE;
use crate::support::upstream::script::matcher::Matcher;
use crate::support::upstream::server::route::Kind;

impl Upstream {
    /// All requests in order of arrival.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.journal.all()
    }

    pub(crate) fn requests_of(&self, matcher: &Matcher) -> Vec<Recorded> {
        self.requests().into_iter().filter(|request| matcher.matches(request)).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "`Method::GET` reads better than `&Method::GET` in a test")]
    pub(crate) fn count(&self, method: Method, kind: Kind) -> usize {
        self.requests().iter().filter(|request| request.method == method && request.kind == kind).count()
    }

    /// GETs of this digest or tag, in any repository, as manifest or as blob.
    pub(crate) fn gets_of(&self, reference: &str) -> usize {
        self.methods_of(&Method::GET, reference)
    }

    pub(crate) fn heads_of(&self, reference: &str) -> usize {
        self.methods_of(&Method::HEAD, reference)
    }

    fn methods_of(&self, method: &Method, reference: &str) -> usize {
        let is_it = |request: &&Recorded| request.method == *method && request.reference.as_deref() == Some(reference);
        self.requests().iter().filter(is_it).count()
    }

    /// Bytes of body handed to connections, all answers together.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.requests().iter().map(Recorded::sent).sum()
    }

    pub(crate) fn bytes_sent_of(&self, reference: &str) -> u64 {
        let requests = self.requests();
        requests.iter().filter(|request| request.reference.as_deref() == Some(reference)).map(Recorded::sent).sum()
    }

    /// The next phase of a test starts with an empty record. Waits count from here too.
    pub(crate) fn forget_requests(&self) {
        self.shared.journal.forget();
    }

    /// Resolves when `n` such requests have arrived since the start, and returns all of them.
    pub(crate) async fn wait_for(&self, n: usize, matcher: Matcher) -> Vec<Recorded> {
        self.shared.journal.wait_for(n, |request| matcher.matches(request)).await
    }

    /// Connections accepted since the start.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.borrow().total
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.shared.connections.borrow().open
    }

    /// The most that were open at one time.
    pub(crate) fn peak_connections(&self) -> usize {
        self.shared.connections.borrow().peak
    }

    /// Resolves when exactly `n` connections are open: a client has connected, or has gone.
    pub(crate) async fn wait_for_open_connections(&self, n: usize) {
        let mut connections = self.shared.connections.subscribe();
        let reached = connections.wait_for(|connections| connections.open == n);
        let reached = tokio::time::timeout(PATIENCE, reached).await.map(|reached| drop(reached.expect("held by self")));
        assert!(reached.is_ok(), "{} connections are open, not {n}, after {PATIENCE:?}", self.open_connections());
    }
}
