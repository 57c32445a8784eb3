//! Tries endpoints in order, each behind its circuit breaker.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::coalesce;
use crate::metrics::{ByAuthority, ByEndpoint};

use crate::upstream::Deadline;
use crate::upstream::breaker::Lane;
use crate::upstream::breaker::trouble::{Finding, TroubleKind};
use crate::upstream::clients::Trial;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::{BreakerCause, Failure, UpstreamError};
use crate::upstream::request::{Fault, Kind, Requests};

/// Shortest `Retry-After` that is waited for: one of a moment would have a herd come back at once.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

impl Requests<'_> {
    /// Runs `operation` on one endpoint after the other until one gives a final answer.
    ///
    /// If only one could be asked, and failed in a way that may be over in a moment, it is asked once more.
    ///
    /// Each gets an even share of the remaining time, so that one that hangs leaves time for the next. Endpoints in
    /// `skip` are left out, because they sent wrong bytes; if all are, the failure is `BadDigest`.
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
        if self.client.settings.offline {
            return Err(UpstreamError { endpoint: self.client.authority.as_str().into(), failure: Failure::Offline });
        }
        // Blobs have their own permits, which last as long as their bodies.
        let slot = match kind.lane() {
            Lane::Manifests => {
                Some(coalesce::queued(tokio::time::timeout_at(deadline, self.client.questions.acquire())).await)
            }
            Lane::Blobs => None,
        };
        if let Some(Err(_elapsed)) = slot {
            return Err(self.client.error_at(0, Failure::Crowded("too many other requests wait for it")));
        }
        let mut worst: Option<UpstreamError> = None;
        let mut another_failed = false;
        let usable: Vec<_> = self.client.endpoints.iter().enumerate().filter(|(at, _)| !skip(*at)).collect();
        for (nth, (at, endpoint)) in usable.iter().enumerate() {
            let longest_wait = deadline.saturating_duration_since(Deadline::now()) / 2;
            let permit = match endpoint.breaker.admitted(kind.lane(), longest_wait).await {
                Ok(permit) => permit,
                Err(open) => {
                    note(&mut worst, endpoint.error(open));
                    continue;
                }
            };
            let shares = u32::try_from(usable.len() - nth).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Deadline::now()) / shares;
            let trial = Trial::until(Deadline::now() + share);
            let ask = || trial.watch(operation(*at, Arc::clone(endpoint)));
            let mut answer = tokio::time::timeout(share, ask()).await;
            let is_last = nth + 1 == usable.len();
            let may_ask_again = self.client.asks_again && kind.is_pulled() && is_last && !another_failed;
            if let Ok(Err(fault)) = &answer
                && may_ask_again
                && fault.failure.may_be_over_soon()
                && let Some(again) = self.after_a_pause(deadline, &ask).await
            {
                answer = Ok(again);
            }
            let fault = match answer {
                Ok(Ok(answer)) => {
                    permit.answered();
                    self.show(endpoint, None);
                    return Ok(answer);
                }
                Ok(Err(fault)) => fault,
                Err(_elapsed) => {
                    Fault { failure: Failure::Timeout("no answer within the deadline"), redirected: false }
                }
            };
            match fault.failure.opens_breaker() {
                // The silence of a connection that was kept for long: the next request has a new one.
                Some(BreakerCause::Timeout) if trial.waits_on_kept() => drop(permit),
                Some(cause) => {
                    let window = if let Failure::RateLimited { retry_after: Some(wait) } = &fault.failure {
                        (*wait).max(MIN_RETRY_AFTER)
                    } else {
                        self.client.settings.breaker_window
                    };
                    permit.failed(cause, window, fault.redirected);
                }
                None => permit.answered(),
            }
            self.show(endpoint, Some(&fault.failure));
            let error = endpoint.error(fault.failure);
            let is_final = !error.failure.tries_next_endpoint();
            let lacks_some = endpoint.partial && error.failure == Failure::NotFound;
            if is_final && !lacks_some {
                return Err(error);
            }
            another_failed |= !lacks_some;
            note(&mut worst, error);
        }
        let none_left =
            || UpstreamError { endpoint: self.client.authority.as_str().into(), failure: Failure::BadDigest };
        Err(worst.unwrap_or_else(none_left))
    }

    /// Asks once more after 0.1 s to 0.4 s; `None` if there is no answer by the deadline.
    async fn after_a_pause<F: Future>(&self, deadline: Deadline, ask: impl Fn() -> F) -> Option<F::Output> {
        let mut random = [0];
        // Without randomness, all wait the shortest time.
        let _no_randomness = getrandom::fill(&mut random);
        let pause = Duration::from_millis(100 + u64::from(random[0]) * 300 / 255);
        tokio::time::timeout_at(deadline, tokio::time::sleep(pause)).await.ok()?;
        let labels = ByAuthority::of(&self.client.settings.name);
        self.client.metrics.upstream_second_tries.get_or_create(&labels).inc();
        tokio::time::timeout_at(deadline, ask()).await.ok()
    }

    /// The failure of the first endpoint, if all breakers refuse now.
    pub(super) fn refused_by_breakers(&self, kind: Kind) -> Option<UpstreamError> {
        let refusals: Vec<_> =
            self.client.endpoints.iter().map_while(|e| Some(e.error(e.breaker.refuses(kind.lane())?))).collect();
        if refusals.len() == self.client.endpoints.len() { refusals.into_iter().next() } else { None }
    }

    /// Shows operators how the endpoint is after a request.
    fn show(&self, endpoint: &Endpoint, failure: Option<&Failure>) {
        if self.client.settings.endpoints.is_empty() {
            // Clients choose the registries under a wildcard, so names of them would be unbounded.
            return;
        }
        let name = &self.client.settings.name;
        // An event in one lane may open or close the other.
        for lane in [Lane::Manifests, Lane::Blobs] {
            let labels =
                ByEndpoint { authority: name.clone(), endpoint: endpoint.label.to_string(), lane: lane.name() };
            let open = i64::from(endpoint.breaker.is_open(lane));
            self.client.metrics.breaker_open.get_or_create(&labels).set(open);
        }
        endpoint.count(failure);
        self.client.troubles.observe(name, &endpoint.label, || troubles_of(endpoint, failure));
    }
}

/// What is wrong with the endpoint now.
fn troubles_of(endpoint: &Endpoint, failure: Option<&Failure>) -> Vec<Finding> {
    let causes = endpoint.breaker.causes();
    let is_one = causes.iter().filter(|(_, open)| open.is_some()).count() == 1;
    let of_lane = |(lane, open): (Lane, Option<(BreakerCause, Timestamp)>)| {
        let (cause, retry_at) = open?;
        let kind = match cause {
            BreakerCause::Unreachable | BreakerCause::Timeout => TroubleKind::Unreachable,
            BreakerCause::RateLimited => TroubleKind::Rationed,
        };
        let why = if is_one { format!("{cause}, for {}", lane.name()) } else { cause.to_string() };
        Some(Finding { kind, why: Some(why), retry_at: Some(retry_at) })
    };
    let failing = endpoint.is_failing().then(|| Finding {
        kind: TroubleKind::Failing,
        why: failure.filter(|failure| failure.is_of_the_server()).map(|failure| format!("it {failure}")),
        retry_at: None,
    });
    causes.into_iter().filter_map(of_lane).chain(failing).collect()
}

/// Keeps the failure that explains most: a real answer more than an open breaker, and both more than the 404 of an endpoint
/// that does not have everything.
fn note(worst: &mut Option<UpstreamError>, error: UpstreamError) {
    let rank = |error: &UpstreamError| {
        let is_partial = error.failure == Failure::NotFound;
        let is_answer = !matches!(error.failure, Failure::BreakerOpen { .. });
        (!is_partial, is_answer)
    };
    if worst.as_ref().is_none_or(|worst| rank(worst) < rank(&error)) {
        *worst = Some(error);
    }
}
