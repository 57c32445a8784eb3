//! Lists as cached facts: fresh for `tag_ttl`, fetched once for all requests, served stale like tags.

mod referrers;
mod tags_page;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::task::TaskTracker;

pub(super) use referrers::referrers;
pub use tags_page::TagsQuery;
pub(super) use tags_page::tags;

use super::Mirror;
use super::answer::{Outcome, Provenance};
use super::error::PullError;
use super::freshness::{Check, Freshness, deferral, is_young};
use super::negative_cache::Asked;
use super::policy::{OnDenied, Ttl};
use super::registries::Registry;
use crate::clock::Timestamp;
use crate::coalesce::Coalesce;
use crate::index::{ALL_TAGS, Change, DropLists, IndexError, ListRow, PutList, Scope, is_named};
use crate::metrics::ByResult;
use crate::oci::{Algorithm, Authority, Digest, read_object};
use crate::quote::quoted;
use crate::shared_bytes::{self, SharedBytes};
use crate::upstream::{TagList, read_in_turn};

/// The names of lists of referrers begin so; the subject follows.
const REFERRERS_OF: &str = "referrers:";

/// A list in the form in which it is kept and answered: a hit reads nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct List {
    /// A JSON array.
    json: Bytes,
    /// The query of the next page.
    next: Option<String>,
}

impl List {
    const fn whole(json: Bytes) -> Self {
        Self { json, next: None }
    }

    const fn nothing() -> Self {
        Self::whole(Bytes::from_static(b"[]"))
    }

    /// `None` if it is of a form that is not known.
    fn of(row: &ListRow) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Page {
            next: Option<String>,
        }

        if row.content.starts_with(b"{") {
            // Earlier releases kept a page of tags as an object.
            let page: Page = read_object(&row.content)?;
            return Some(Self { json: TagList::read(&row.content)?.json().clone(), next: page.next });
        }
        Some(Self { json: row.content.clone(), next: row.next.clone() })
    }
}

fn unread() -> PullError {
    PullError::Internal("a list could not be read to its end".to_owned())
}

/// The outcome of one fetch, shared by all who waited.
type FetchedList = Result<List, PullError>;

/// Work on lists that is done once for all who wait.
pub(super) struct Lists {
    /// For each scope and name.
    fetches: Coalesce<(Scope, String), FetchedList>,
    /// For each scope, subject and types of artifacts.
    filters: Coalesce<(Scope, Digest, Vec<String>), Result<Bytes, PullError>>,
}

impl Lists {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { fetches: Coalesce::new(tasks.clone()), filters: Coalesce::new(tasks) }
    }
}

/// A list that was made here, as all answers with this content have it.
async fn shared(contents: &SharedBytes<Digest>, owner: &Authority, json: Bytes) -> Result<Bytes, PullError> {
    let (contents, owner, length) = (contents.clone(), owner.clone(), json.len());
    if length <= shared_bytes::SHORT {
        return Ok(json);
    }
    let share = move || contents.share(owner.as_str(), &Digest::of(Algorithm::Sha256, &json), length, || json.clone());
    Ok(read_in_turn(length, share).await.ok_or_else(unread)??)
}

/// A list that is asked for.
#[derive(Clone)]
struct ListRequest {
    mirror: Arc<Mirror>,
    registry: Arc<Registry>,
    scope: Scope,
    /// The name under which the list is kept.
    name: String,
    /// When upstream says that there is no such list any more, or refuses it, all lists whose names begin so are forgotten:
    /// they must not be served stale later.
    family: String,
    /// The manifest that the list is about. An empty list about one that is not held here is kept in memory only: clients
    /// can ask about any number of them.
    about: Option<Digest>,
}

impl ListRequest {
    /// The list: from the index while it is fresh, else by `fetch`, else what the index still has.
    async fn get<W, F>(&self, fetch: W) -> Result<(List, Provenance), PullError>
    where
        W: Fn() -> F,
        F: Future<Output = FetchedList> + Send + 'static,
    {
        let policy = &self.registry.policy;
        let now = self.now();
        let row = match self.mirror.cache.index.list(&self.scope, &self.name).await {
            Ok(row) => row,
            // Upstream's answer would have no room either.
            Err(IndexError::Crowded(crowded)) => return Err(crowded.into()),
            Err(err) => {
                tracing::warn!(error = %err, list = quoted(&self.name), "upstream is asked instead");
                None
            }
        };
        let held = row.and_then(|row| Some((List::of(&row)?, row.checked, row.hold_until)));
        let freshness = match held {
            Some((_, checked, hold_until)) => {
                Freshness::of(Check { checked, hold_until }, Ttl::For(policy.tag_ttl), policy, now)
            }
            None => Freshness::Ask,
        };
        let held = held.map(|(list, checked, _)| (list, now.since(checked)));
        let (outcome, stale_because) = match freshness {
            Freshness::Fresh => (Outcome::Hit, None),
            Freshness::Stale(because) => (Outcome::Stale, Some(because)),
            Freshness::Ask if policy.offline => return Err(self.registry.not_found(true)),
            Freshness::Ask => {
                return match self.denial().filter(|_| held.is_none()) {
                    Some(denial) => Err(denial),
                    None => self.ask(fetch, held).await,
                };
            }
        };
        let (list, age) = held.ok_or_else(|| self.registry.not_found(true))?;
        Ok((list, Provenance { outcome, age: Some(age), stale_because, held_back: None }))
    }

    /// Asks upstream. A list that is `held`, with its age, is served if the check fails for a reason that allows it.
    async fn ask<W, F>(&self, fetch: W, held: Option<(List, Duration)>) -> Result<(List, Provenance), PullError>
    where
        W: Fn() -> F,
        F: Future<Output = FetchedList> + Send + 'static,
    {
        let look = || {
            let request = self.clone();
            async move { request.fetched_meanwhile().await.map(Ok) }
        };
        let work = || {
            let (request, fetching) = (self.clone(), fetch());
            async move {
                let before = request.row().await;
                let fetched = match fetching.await {
                    Ok(List { json, next }) => {
                        shared(request.mirror.cache.index.contents(), &request.scope.authority, json)
                            .await
                            .map(|json| List { json, next })
                    }
                    failed => failed,
                };
                // Here and not in the request, whose client may leave.
                request.record(&fetched, before).await;
                fetched
            }
        };
        let key = (self.scope.clone(), self.name.clone());
        let (fetched, role) = self.mirror.lists.fetches.run_unless(key, look, work).await?;
        match fetched {
            Ok(list) => {
                Ok((list, Provenance { age: Some(Duration::ZERO), ..Provenance::of(Outcome::Fill.seen_by(role)) }))
            }
            Err(error) => match held {
                Some((list, age)) if self.registry.serves_despite(&error, age) => {
                    let stale_because = Some(error.to_string());
                    Ok((list, Provenance { outcome: Outcome::Stale, age: Some(age), stale_because, held_back: None }))
                }
                Some(_) | None => Err(error),
            },
        }
    }

    /// The question whose denial is remembered. A client's cursor may be refused by itself: only the beginning of a list of
    /// tags stands for the list.
    fn asked(&self) -> Option<Asked> {
        match self.about {
            Some(subject) => Some(Asked::Referrers(subject)),
            None => (self.family == ALL_TAGS).then_some(Asked::Tags),
        }
    }

    /// A denial that is still believed.
    fn denial(&self) -> Option<PullError> {
        self.mirror.negative_cache.denial(&self.scope, self.asked()?)
    }

    /// The outcome of a fetch that has ended between this request's look and its turn.
    async fn fetched_meanwhile(&self) -> Option<List> {
        if let Some(subject) = self.about
            && self.mirror.negative_cache.is_missing(&self.scope, Asked::Referrers(subject))
        {
            return Some(List::nothing());
        }
        let row = self.row().await?;
        is_young(row.checked, self.registry.policy.tag_ttl, self.now()).then(|| List::of(&row))?
    }

    /// Writes down how a fetch ended: the list, that the next check is put off, or that the list is gone. A row that was
    /// there before it was checked by it.
    async fn record(&self, fetched: &FetchedList, before: Option<ListRow>) {
        let (registry, policy, now) = (&self.registry, &self.registry.policy, self.now());
        if let (Ok(list), Some(subject)) = (fetched, self.about)
            && *list == List::nothing()
            && !self.is_known(subject).await
        {
            self.mirror.negative_cache.remember(&self.scope, Asked::Referrers(subject), policy.tag_ttl);
            if before.is_some() {
                self.drop_all(&self.name).await;
            }
            return;
        }
        let count = |result| {
            let labels = ByResult { authority: registry.name().to_owned(), result };
            self.mirror.cache.context.metrics.revalidations.get_or_create(&labels).inc();
        };
        match (fetched, before) {
            (Ok(list), row) => {
                if let Some(row) = row {
                    count(if List::of(&row).as_ref() == Some(list) { "unchanged" } else { "changed" });
                }
                self.put(&self.name, list.clone()).await;
            }
            (Err(error), Some(row)) if registry.serves_despite(error, now.since(row.checked)) => {
                count("failed");
                tracing::warn!(authority = registry.name(), repository = %self.scope.repository, list = quoted(&self.name),
                    %error, "a list could not be checked; the one held is served");
                let hold_until = now.plus(deferral(Ttl::For(policy.tag_ttl), error));
                // Unless it was revoked meanwhile.
                if let Some(row) = self.row().await {
                    self.write(&self.name, ListRow { hold_until, ..row }).await;
                }
            }
            (Err(error), row) => {
                if row.is_some() {
                    count("failed");
                }
                let kept = (error.is_not_found() && policy.keep_deleted)
                    || (error.is_denied() && policy.on_denied == OnDenied::Stale);
                if (error.is_not_found() || error.is_denied()) && !kept {
                    self.drop_all(&self.family).await;
                }
                if let Some(asked) = self.asked() {
                    self.mirror.negative_cache.remember_denial(&self.scope, asked, error, policy.negative_ttl);
                }
            }
        }
    }

    async fn row(&self) -> Option<ListRow> {
        self.mirror.cache.index.list(&self.scope, &self.name).await.ok().flatten()
    }

    fn now(&self) -> Timestamp {
        self.mirror.cache.context.clock.now()
    }

    /// Whether a manifest was served in this repository, or something that was served there names it. Clients that follow
    /// referrers ask about each that a list names, and must find it in an outage too.
    async fn is_known(&self, manifest: Digest) -> bool {
        let is_named = || is_named(&self.mirror.cache.index, &self.scope, manifest, REFERRERS_OF);
        self.is_held(manifest).await || is_named().await.unwrap_or(false)
    }

    /// Whether a manifest was served in this repository.
    async fn is_held(&self, manifest: Digest) -> bool {
        let (scope, is_public) = (&self.scope, self.registry.policy.public);
        let known = self.mirror.cache.index.manifest(scope, manifest, is_public).await.ok();
        let grant = known.and_then(|known| known.grant);
        grant.is_some_and(|grant| !is_public || grant.repositories.is_some_and(|all| all.contains(&scope.repository)))
    }

    /// Records a list that upstream has sent just now.
    async fn put(&self, name: &str, list: List) {
        let List { json: content, next } = list;
        self.write(name, ListRow { content, next, checked: self.now(), hold_until: Timestamp::default() }).await;
    }

    async fn write(&self, name: &str, row: ListRow) {
        let change = Change::from(PutList { scope: self.scope.clone(), list: name.to_owned(), row });
        // The index has logged a failure; the list is fetched again next time.
        let _logged = self.mirror.cache.index.apply(vec![change]).await;
    }

    async fn drop_all(&self, family: &str) {
        let change = Change::from(DropLists { scope: self.scope.clone(), family: family.to_owned() });
        // The index has logged a failure; upstream is asked again before the list is served.
        let _logged = self.mirror.cache.index.apply(vec![change]).await;
    }
}
