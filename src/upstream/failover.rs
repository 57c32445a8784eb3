//! Endpoints in their order, each behind its breaker.

use std::sync::Arc;
use std::time::Duration;

use crate::coalesce;
use crate::metrics::ByEndpoint;

use super::breaker::Lane;
use super::endpoint::Endpoint;
use super::error::{Failure, UpstreamError};
use super::exchange::{Fault, Kind};
use super::{Deadline, Upstream};

impl Upstream {
    /// Runs `operation` on one endpoint after the other until one gives an answer that is final.
    ///
    /// Each gets an even share of the time that is left, so that one that hangs leaves some for the next. Endpoints in
    /// `skip` are left out; if all are, the failure is `BadDigest`, which is what endpoints are skipped for.
    pub(super) async fn over_endpoints<T, F>(
        &self,
        kind: Kind,
        deadline: Deadline,
        skip: impl Fn(usize) -> bool,
        operation: impl Fn(usize, Arc<Endpoint>) -> F,
    ) -> Result<T, UpstreamError>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        if self.settings.offline {
            return Err(UpstreamError { endpoint: self.authority.as_str().into(), failure: Failure::Offline });
        }
        // Blobs have slots of their own, which last as long as their bodies.
        let slot = match kind.lane() {
            Lane::Manifests => Some(coalesce::turn(tokio::time::timeout_at(deadline, self.questions.acquire())).await),
            Lane::Blobs => None,
        };
        if let Some(Err(_elapsed)) = slot {
            return Err(self.error_at(0, Failure::Timeout("too many other questions are waiting for it")));
        }
        let mut worst: Option<UpstreamError> = None;
        let usable: Vec<_> = self.endpoints.iter().enumerate().filter(|(at, _)| !skip(*at)).collect();
        for (nth, (at, endpoint)) in usable.iter().enumerate() {
            let patience = deadline.saturating_duration_since(Deadline::now()) / 2;
            let leave = match endpoint.breaker.admitted(kind.lane(), patience).await {
                Ok(leave) => leave,
                Err(open) => {
                    worst.get_or_insert_with(|| endpoint.error(open));
                    continue;
                }
            };
            let shares = u32::try_from(usable.len() - nth).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Deadline::now()) / shares;
            let fault = match tokio::time::timeout(share, operation(*at, Arc::clone(endpoint))).await {
                Ok(Ok(answer)) => {
                    leave.answered();
                    self.show_breaker(endpoint);
                    return Ok(answer);
                }
                Ok(Err(fault)) => fault,
                Err(_elapsed) => {
                    Fault { failure: Failure::Timeout("no answer within the deadline"), redirected: false }
                }
            };
            match fault.failure.opens_breaker() {
                Some(cause) => {
                    let mut window = self.settings.breaker_window;
                    if let Failure::RateLimited { retry_after: Some(wait) } = &fault.failure {
                        window = window.max(*wait);
                    }
                    leave.failed(cause, window, fault.redirected);
                }
                None => leave.answered(),
            }
            self.show_breaker(endpoint);
            let error = endpoint.error(fault.failure);
            if !error.failure.tries_next_endpoint() {
                return Err(error);
            }
            // What an endpoint said now tells more than that another is not being asked.
            if worst.as_ref().is_none_or(|worst| matches!(worst.failure, Failure::BreakerOpen { .. })) {
                worst = Some(error);
            }
        }
        let none_left = || UpstreamError { endpoint: self.authority.as_str().into(), failure: Failure::BadDigest };
        Err(worst.unwrap_or_else(none_left))
    }

    /// The failure, if no endpoint may be asked now.
    pub(super) fn refused_by_breakers(&self, kind: Kind) -> Option<UpstreamError> {
        let refusals: Vec<_> =
            self.endpoints.iter().map_while(|e| Some(e.error(e.breaker.refuses(kind.lane())?))).collect();
        if refusals.len() == self.endpoints.len() { refusals.into_iter().next() } else { None }
    }

    /// Of both lanes: what happens in one may open or close the other.
    fn show_breaker(&self, endpoint: &Endpoint) {
        if self.settings.endpoints.is_empty() {
            // Clients choose the registries under a wildcard: a line for each would never end.
            return;
        }
        for lane in [Lane::Manifests, Lane::Blobs] {
            let labels = ByEndpoint {
                authority: self.settings.name.clone(),
                endpoint: endpoint.label.to_string(),
                lane: lane.name(),
            };
            let open = i64::from(endpoint.breaker.is_open(lane));
            self.metrics.breaker_open.get_or_create(&labels).set(open);
        }
    }

    /// After a lie, the endpoint is not asked for that digest for a while.
    pub fn distrust(&self, endpoint: usize, digest: crate::oci::Digest) {
        const WINDOW: Duration = Duration::from_secs(10);
        let now = self.clock.now();
        let mut distrusted = self.distrusted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        distrusted.retain(|_, until| now < *until);
        distrusted.insert((endpoint, digest), now.plus(WINDOW));
    }

    /// Whether there is an endpoint that may be asked for this digest.
    pub fn trusts_any(&self, digest: crate::oci::Digest) -> bool {
        (0..self.endpoints.len()).any(|endpoint| !self.distrusts(endpoint, digest))
    }

    pub(super) fn distrusts(&self, endpoint: usize, digest: crate::oci::Digest) -> bool {
        let distrusted = self.distrusted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        distrusted.get(&(endpoint, digest)).is_some_and(|until| self.clock.now() < *until)
    }
}
