//! Lists as cached facts: fresh for `tag_ttl`, fetched once for all who ask, served stale like tags.

pub(in crate::mirror) mod referrers;
pub(in crate::mirror) mod tags_page;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::index::{Change, ListRow, Scope};
use crate::metrics::ByResult;
use crate::oci::Digest;

use crate::mirror::answer::{Outcome, Provenance, PullError};
use crate::mirror::negative_cache::Asked;
use crate::mirror::policy::{OnDenied, Policy};
use crate::mirror::{Mirror, Registry};

/// A failed check is not repeated sooner.
const MIN_DEFERRAL: Duration = Duration::from_secs(10);

/// An empty list of referrers, as JSON.
const NOTHING: &str = "[]";

/// The outcome of one fetch, shared by all who waited: the list as JSON.
pub(in crate::mirror) type FetchedList = Result<String, PullError>;

impl Mirror {
    /// The list `name` of `scope`: from the index while it is fresh, else by `fetch`, else what the index still has.
    ///
    /// When upstream says that there is no such list any more, or refuses it, all lists whose names begin with `family`
    /// are forgotten, so that they are not served stale later. An empty list about a manifest that is not held here is kept
    /// in memory only: clients can ask about any number of them.
    pub(in crate::mirror) async fn cached_list<T, W, F>(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        name: &str,
        family: &str,
        about: Option<Digest>,
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
            let fresh = row.checked <= now && age < registry.policy.tag_ttl;
            let because = if registry.policy.offline {
                Some("this upstream is offline by configuration".to_owned())
            } else {
                let is_put_off = Policy::is_put_off(row.checked, row.hold_until, now, registry.policy.tag_ttl);
                is_put_off.then(|| "the last check failed a moment ago".to_owned())
            };
            let outcome = match because {
                _ if fresh => Some((Outcome::Hit, None)),
                Some(because) if registry.within_max_stale(age) => Some((Outcome::Stale, Some(because))),
                _ => None,
            };
            if let (Some((outcome, stale_because)), Some(_)) = (outcome, &held) {
                let provenance = Provenance { outcome, age: Some(age), stale_because };
                return held.map(|list| (list, provenance)).ok_or_else(|| registry.not_found(true));
            }
        }
        if registry.policy.offline {
            return Err(registry.not_found(true));
        }
        let work = || {
            let (mirror, registry, scope) = (Arc::clone(self), Arc::clone(registry), scope.clone());
            let (name, family) = (name.to_owned(), family.to_owned());
            let fetching = fetch();
            async move {
                // Another fetch may have ended between this request's look and its turn.
                let row = mirror.index.list(&scope, &name).await.ok().flatten();
                let now = mirror.clock.now();
                if let Some(row) = &row
                    && row.checked <= now
                    && now.since(row.checked) < registry.policy.tag_ttl
                {
                    return Ok(row.content.clone());
                }
                let fetched = fetching
                    .await
                    .and_then(|list| serde_json::to_string(&list).map_err(|err| PullError::Internal(err.to_string())));
                // Here and not in the request, whose client may leave.
                if let (Ok(NOTHING), Some(subject)) = (fetched.as_deref(), about)
                    && !mirror.is_subject_held(&registry, &scope, subject).await
                {
                    mirror.remember_missing_for(registry.policy.tag_ttl, &scope, Asked::Referrers(subject));
                    if row.is_some() {
                        mirror.drop_lists(&scope, &name).await;
                    }
                    return fetched;
                }
                mirror.record_list(&registry, &scope, &name, &family, row, &fetched).await;
                fetched
            }
        };
        let (fetched, role) = self.lists.run((scope.clone(), name.to_owned()), work).await?;
        match fetched {
            Ok(content) => {
                let list = serde_json::from_str(&content).map_err(|err| PullError::Internal(err.to_string()))?;
                Ok((list, Provenance { age: Some(Duration::ZERO), ..Provenance::of(Outcome::Fill.seen_by(role)) }))
            }
            Err(error) => {
                let (Some(held), Some(row)) = (held, row) else { return Err(error) };
                let age = now.since(row.checked);
                if !registry.serves_despite(&error, age) {
                    return Err(error);
                }
                let stale_because = Some(error.to_string());
                Ok((held, Provenance { outcome: Outcome::Stale, age: Some(age), stale_because }))
            }
        }
    }

    /// Writes down how a fetch ended: the list, that it is held for a while, or that it is gone.
    async fn record_list(
        &self,
        registry: &Registry,
        scope: &Scope,
        name: &str,
        family: &str,
        row: Option<ListRow>,
        fetched: &FetchedList,
    ) {
        let now = self.clock.now();
        let counted = |result| {
            let labels = ByResult { authority: registry.name().to_owned(), result };
            self.metrics.revalidations.get_or_create(&labels).inc();
        };
        match (fetched, row) {
            (Ok(content), row) => {
                if let Some(row) = &row {
                    counted(if row.content == *content { "unchanged" } else { "changed" });
                }
                self.put_list(scope, name, content.clone()).await;
            }
            (Err(error), Some(row)) if registry.serves_despite(error, now.since(row.checked)) => {
                counted("failed");
                tracing::warn!(authority = registry.name(), repository = %scope.repository, list = name, %error,
                    "a list could not be checked; the one held is served");
                let hold_for = registry.policy.tag_ttl.max(MIN_DEFERRAL).max(error.retry_after().unwrap_or_default());
                self.write_list(scope, name, ListRow { hold_until: now.plus(hold_for), ..row }).await;
            }
            (Err(error), row) => {
                if row.is_some() {
                    counted("failed");
                }
                let kept = (error.is_not_found() && registry.policy.keep_deleted)
                    || (error.is_denied() && registry.policy.on_denied == OnDenied::Stale);
                if (error.is_not_found() || error.is_denied()) && !kept {
                    self.drop_lists(scope, family).await;
                }
            }
        }
    }

    async fn drop_lists(&self, scope: &Scope, family: &str) {
        let change = Change::DropLists { scope: scope.clone(), family: family.to_owned() };
        // The writer has logged a failure; upstream is asked again before the list is served.
        let _lost = self.index.apply(vec![change]).await;
    }

    /// Records a list that upstream has sent just now.
    pub(in crate::mirror) async fn put_list(&self, scope: &Scope, list: &str, content: String) {
        let row = ListRow { content, checked: self.clock.now(), hold_until: Timestamp::default() };
        self.write_list(scope, list, row).await;
    }

    async fn write_list(&self, scope: &Scope, list: &str, row: ListRow) {
        let change = Change::PutList { scope: scope.clone(), list: list.to_owned(), row };
        // The writer has logged a failure; the list is fetched again next time.
        let _lost = self.index.apply(vec![change]).await;
    }
}
