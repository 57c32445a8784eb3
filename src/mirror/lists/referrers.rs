//! Referrers of a digest: upstream's API, else the tag schema, else none (distribution-spec, "Listing Referrers").

use std::sync::Arc;

use super::{List, ListRequest, REFERRERS_OF, shared, unread};
use crate::index::Scope;
use crate::mirror::Mirror;
use crate::mirror::answer::{Outcome, Provenance, ReferrersAnswer};
use crate::mirror::error::PullError;
use crate::mirror::negative_cache::Asked;
use crate::mirror::registries::Registry;
use crate::oci::{Digest, Inspected, NotAManifest, Reference, Shape};
use crate::shared_bytes::SHORT;
use crate::upstream::{Deadline, Failure, ReferrerList, read_in_turn};

/// Pages of one answer; a list that is longer is refused.
const MAX_PAGES: usize = 50;

/// All referrers, or those of the types that are `wanted`. Never "not found": a subject without referrers has an empty list.
pub(in crate::mirror) async fn referrers(
    mirror: &Arc<Mirror>,
    registry: &Arc<Registry>,
    scope: &Scope,
    subject: Digest,
    wanted: Vec<String>,
) -> Result<ReferrersAnswer, PullError> {
    let (list, provenance) = all(mirror, registry, scope, subject).await?;
    if wanted.is_empty() || list.is_empty() {
        return Ok(ReferrersAnswer { descriptors: list.json().clone(), provenance });
    }
    if list.json().len() <= SHORT {
        return Ok(ReferrersAnswer { descriptors: list.of_types(&wanted).json().clone(), provenance });
    }
    let filter = || {
        let (list, wanted, contents) = (list.clone(), wanted.clone(), mirror.cache.index.contents().clone());
        let owner = scope.authority.clone();
        async move {
            let filtered = read_in_turn(list.json().len(), move || list.of_types(&wanted).json().clone());
            shared(&contents, &owner, filtered.await.ok_or_else(unread)?).await
        }
    };
    let (descriptors, _role) = mirror.lists.filters.run((scope.clone(), subject, wanted.clone()), filter).await?;
    Ok(ReferrersAnswer { descriptors: descriptors?, provenance })
}

async fn all(
    mirror: &Arc<Mirror>,
    registry: &Arc<Registry>,
    scope: &Scope,
    subject: Digest,
) -> Result<(ReferrerList, Provenance), PullError> {
    let is_offline = registry.policy.offline;
    if !is_offline && mirror.negative_cache.is_missing(scope, Asked::Referrers(subject)) {
        return Ok((ReferrerList::default(), Provenance::of(Outcome::Hit)));
    }
    let name = format!("{REFERRERS_OF}{subject}");
    let request = ListRequest {
        mirror: Arc::clone(mirror),
        registry: Arc::clone(registry),
        scope: scope.clone(),
        family: name.clone(),
        name,
        about: Some(subject),
    };
    let fetch = || {
        let (registry, scope) = (Arc::clone(registry), scope.clone());
        async move { fetch(&registry, &scope, subject).await.map(|list| List::whole(list.json().clone())) }
    };
    match request.get(fetch).await {
        Ok((list, provenance)) => Ok((ReferrerList::kept(list.json), provenance)),
        Err(error) if is_offline && error.is_not_found() => held_referrers(mirror, scope, subject).await,
        Err(error) => Err(error),
    }
}

async fn held_referrers(
    mirror: &Mirror,
    scope: &Scope,
    subject: Digest,
) -> Result<(ReferrerList, Provenance), PullError> {
    let held = mirror.cache.index.referrers_of(scope, subject).await;
    let held = held.map_err(|err| PullError::Internal(err.to_string()))?;
    let descriptors: Vec<_> = held.into_iter().map(|row| row.descriptor).collect();
    let stale_because = Some("this upstream is offline by configuration; this is what is held".to_owned());
    let provenance = Provenance { outcome: Outcome::Stale, age: None, stale_because, held_back: None };
    Ok((ReferrerList::of(&descriptors), provenance))
}

async fn fetch(registry: &Registry, scope: &Scope, subject: Digest) -> Result<ReferrerList, PullError> {
    let upstream = registry.client();
    let deadline = upstream.answer_deadline();
    let (mut found, mut size) = (Vec::new(), 0);
    let mut query = String::new();
    for _page in 0..MAX_PAGES {
        let page = upstream.list_referrers(&scope.repository, subject, &query, deadline).await?;
        let Some(page) = page else {
            if found.is_empty() {
                return by_tag_schema(registry, scope, subject, deadline).await;
            }
            let failure = Failure::Refused("its list of referrers breaks off".to_owned());
            return Err(upstream.error_at(0, failure).into());
        };
        size += page.list.json().len();
        found.push(page.list);
        let limit = upstream.settings().max_list_size;
        if size as u64 > limit {
            let failure = Failure::TooLarge { limit_bytes: limit, key: "max_list_size" };
            return Err(upstream.error_at(0, failure).into());
        }
        match page.next {
            Some(next) => query = next,
            None => return read_in_turn(size, move || ReferrerList::joined(&found)).await.ok_or_else(unread),
        }
    }
    let failure = Failure::Refused(format!("its list of referrers has more than {MAX_PAGES} pages"));
    Err(upstream.error_at(0, failure).into())
}

async fn by_tag_schema(
    registry: &Registry,
    scope: &Scope,
    subject: Digest,
    deadline: Deadline,
) -> Result<ReferrerList, PullError> {
    let upstream = registry.client();
    let Ok(tag) = subject.referrers_tag().parse() else { return Ok(ReferrerList::default()) };
    let reference = Reference::Tag(tag);
    let fetched = match upstream.get_manifest(&scope.repository, &reference, deadline).await {
        Ok(fetched) => fetched,
        Err(error) if error.failure == Failure::NotFound => return Ok(ReferrerList::default()),
        Err(error) => return Err(error.into()),
    };
    let endpoint = fetched.endpoint;
    let read = read_in_turn(fetched.bytes.len(), move || {
        match Inspected::read(&fetched.bytes, fetched.content_type.as_ref()) {
            // A list may be longer than what an image lists.
            Ok(Inspected { shape: Shape::Index, .. }) | Err(NotAManifest::TooMany) => {
                ReferrerList::read(&fetched.bytes, false)
            }
            // registry.gitlab.com resolves this tag to the subject itself, which is no list of referrers.
            Ok(_) | Err(NotAManifest::Schema1 | NotAManifest::Untyped) => Some(ReferrerList::default()),
            Err(NotAManifest::NotJson | NotAManifest::Ambiguous) => None,
        }
    });
    read.await.ok_or_else(unread)?.ok_or_else(|| {
        let failure = Failure::Refused("what its tag for referrers names is no list of them".to_owned());
        upstream.error_at(endpoint, failure).into()
    })
}
