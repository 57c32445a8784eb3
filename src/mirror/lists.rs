//! Lists as cached facts: fresh for `tag_ttl`, fetched once for all who ask, served stale like tags.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::coalesce::Role;
use crate::index::{Change, ListRow, Scope};
use crate::metrics::ByResult;

use super::outcome::{Outcome, Provenance, PullError};
use super::policy::OnDenied;
use super::{Member, Mirror};

/// A failed check is not repeated sooner.
const MIN_HOLD: Duration = Duration::from_secs(10);

/// The outcome of one fetch, shared by all who waited: the list as JSON.
pub(super) type FetchedList = Result<String, PullError>;

impl Mirror {
    /// The list `name` of `scope`: from the index while it is fresh, else by `fetch`, else what the index still has.
    pub(super) async fn cached_list<T, W, F>(
        self: &Arc<Self>,
        member: &Arc<Member>,
        scope: &Scope,
        name: &str,
        fetch: W,
    ) -> Result<(T, Provenance), PullError>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        W: Fn() -> F,
        F: Future<Output = Result<T, PullError>> + Send + 'static,
    {
        let now = self.clock.now();
        let held = self.index.list(scope, name).await.unwrap_or_else(|err| {
            tracing::warn!(%err, list = name, "upstream is asked instead");
            None
        });
        let held = held.and_then(|row| Some((serde_json::from_str::<T>(&row.content).ok()?, row)));
        let (held, row) = held.unzip();
        if let Some(row) = &row {
            let age = now.since(row.checked);
            let fresh = row.checked <= now && age < member.policy.tag_ttl;
            let because = if member.policy.offline {
                Some("this upstream is offline by configuration".to_owned())
            } else {
                (now < row.hold_until).then(|| "the last check failed a moment ago".to_owned())
            };
            let outcome = match because {
                _ if fresh => Some((Outcome::Hit, None)),
                Some(because) if member.within_max_stale(age) => Some((Outcome::Stale, Some(because))),
                _ => None,
            };
            if let (Some((outcome, stale_because)), Some(_)) = (outcome, &held) {
                let provenance = Provenance { outcome, age: Some(age), stale_because };
                return held.map(|list| (list, provenance)).ok_or_else(|| member.not_found(true));
            }
        }
        if member.policy.offline {
            return Err(member.not_found(true));
        }
        let work = || {
            let fetching = fetch();
            async move {
                let list = fetching.await?;
                serde_json::to_string(&list).map_err(|err| PullError::Internal(err.to_string()))
            }
        };
        let (fetched, role) = self.lists.run((scope.clone(), name.to_owned()), work).await?;
        let counted = |result| {
            if role == Role::Led && row.is_some() {
                let labels = ByResult { authority: member.name().to_owned(), result };
                self.metrics.revalidations.get_or_create(&labels).inc();
            }
        };
        match fetched {
            Ok(content) => {
                counted("changed");
                let list = serde_json::from_str(&content).map_err(|err| PullError::Internal(err.to_string()))?;
                if role == Role::Led {
                    let row = ListRow { content, checked: now, hold_until: crate::clock::Timestamp::default() };
                    self.put_list(scope, name, row).await;
                }
                Ok((list, Provenance { age: Some(Duration::ZERO), ..Provenance::of(Outcome::Fill.seen_by(role)) }))
            }
            Err(error) => {
                counted("failed");
                let (Some(held), Some(row)) = (held, row) else { return Err(error) };
                let age = now.since(row.checked);
                let kept = if error.is_not_found() {
                    member.policy.keep_deleted
                } else if error.is_denied() {
                    member.policy.on_denied == OnDenied::Stale
                } else {
                    member.within_max_stale(age)
                };
                if !kept {
                    return Err(error);
                }
                let hold_for = member.policy.tag_ttl.max(MIN_HOLD).max(error.retry_after().unwrap_or_default());
                if role == Role::Led {
                    tracing::warn!(authority = member.name(), repository = %scope.repository, list = name, %error,
                        "a list could not be checked; the one held is served");
                    self.put_list(scope, name, ListRow { hold_until: now.plus(hold_for), ..row }).await;
                }
                let stale_because = Some(error.to_string());
                Ok((held, Provenance { outcome: Outcome::Stale, age: Some(age), stale_because }))
            }
        }
    }

    async fn put_list(&self, scope: &Scope, list: &str, row: ListRow) {
        let change = Change::PutList { scope: scope.clone(), list: list.to_owned(), row };
        // The writer has logged a failure; the list is fetched again next time.
        let _lost = self.index.apply(vec![change]).await;
    }
}
