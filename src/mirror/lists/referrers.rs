//! Referrers of a digest: upstream's API, else the tag schema, else none (distribution-spec, "Listing Referrers").

use std::collections::HashSet;
use std::sync::Arc;

use super::{ListRequest, REFERRERS_OF};
use crate::index::Scope;
use crate::mirror::Mirror;
use crate::mirror::answer::{Outcome, Provenance, ReferrersAnswer};
use crate::mirror::error::PullError;
use crate::mirror::negative_cache::Asked;
use crate::mirror::registries::Registry;
use crate::oci::{Digest, Inspected, MediaType, Reference, Shape};
use crate::upstream::{Deadline, Failure};

/// Pages of one answer; a list that is longer is refused.
const MAX_PAGES: usize = 50;

/// All referrers, whatever their type. Never "not found": a subject without referrers has an empty list.
pub(in crate::mirror) async fn referrers(
    mirror: &Arc<Mirror>,
    registry: &Arc<Registry>,
    scope: &Scope,
    subject: Digest,
) -> Result<ReferrersAnswer, PullError> {
    let is_offline = registry.policy.offline;
    if !is_offline && mirror.negative_cache.is_missing(scope, Asked::Referrers(subject)) {
        return Ok(ReferrersAnswer { descriptors: Vec::new(), provenance: Provenance::of(Outcome::Hit) });
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
        async move { fetch(&registry, &scope, subject).await }
    };
    match request.get(fetch).await {
        Ok((descriptors, provenance)) => Ok(ReferrersAnswer { descriptors, provenance }),
        Err(error) if is_offline && error.is_not_found() => held_referrers(mirror, scope, subject).await,
        Err(error) => Err(error),
    }
}

async fn held_referrers(mirror: &Mirror, scope: &Scope, subject: Digest) -> Result<ReferrersAnswer, PullError> {
    let held = mirror.cache.index.referrers_of(scope, subject).await;
    let held = held.map_err(|err| PullError::Internal(err.to_string()))?;
    let descriptors = held.into_iter().map(|row| row.descriptor).collect();
    let stale_because = Some("this upstream is offline by configuration; this is what is held".to_owned());
    let provenance = Provenance { outcome: Outcome::Stale, age: None, stale_because };
    Ok(ReferrersAnswer { descriptors, provenance })
}

async fn fetch(registry: &Registry, scope: &Scope, subject: Digest) -> Result<Vec<serde_json::Value>, PullError> {
    let upstream = registry.client();
    let deadline = upstream.answer_deadline();
    let mut found = Vec::new();
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
        found.extend(page.descriptors);
        let size: usize = found.iter().map(|descriptor| descriptor.to_string().len()).sum();
        let limit = upstream.settings().max_list_size;
        if size as u64 > limit {
            let failure = Failure::TooLarge { limit_bytes: limit, key: "max_list_size" };
            return Err(upstream.error_at(0, failure).into());
        }
        match page.next {
            Some(next) => query = next,
            None => return Ok(usable(found)),
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
) -> Result<Vec<serde_json::Value>, PullError> {
    let upstream = registry.client();
    let Ok(tag) = subject.referrers_tag().parse() else { return Ok(Vec::new()) };
    let reference = Reference::Tag(tag);
    let fetched = match upstream.get_manifest(&scope.repository, &reference, deadline).await {
        Ok(fetched) => fetched,
        Err(error) if error.failure == Failure::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    // registry.gitlab.com resolves this tag to the subject itself, which is no list of referrers.
    let is_index =
        Inspected::read(&fetched.bytes, fetched.content_type.as_ref()).is_ok_and(|m| m.shape == Shape::Index);
    let index: serde_json::Value = serde_json::from_slice(&fetched.bytes).unwrap_or_default();
    let listed = index.get("manifests").and_then(|manifests| manifests.as_array()).cloned();
    Ok(if is_index { usable(listed.unwrap_or_default()) } else { Vec::new() })
}

/// Descriptors that name something which can be pulled, each once.
fn usable(descriptors: Vec<serde_json::Value>) -> Vec<serde_json::Value> {
    let mut seen = HashSet::new();
    let mut usable = descriptors;
    usable.retain(|descriptor| {
        let text = |field: &str| descriptor.get(field).and_then(serde_json::Value::as_str);
        let digest = text("digest").and_then(|digest| digest.parse::<Digest>().ok());
        let typed = text("mediaType").and_then(MediaType::parse).is_some();
        let sized = descriptor.get("size").and_then(serde_json::Value::as_u64).is_some();
        typed && sized && digest.is_some_and(|digest| seen.insert(digest))
    });
    usable
}

/// Whether a descriptor has the type that was asked for: its `artifactType`, else the type of its config is not known
/// here and it does not match.
pub fn has_artifact_type(descriptor: &serde_json::Value, wanted: &[String]) -> bool {
    let artifact_type = descriptor.get("artifactType").and_then(serde_json::Value::as_str);
    wanted.is_empty() || artifact_type.is_some_and(|have| wanted.iter().any(|want| want == have))
}
