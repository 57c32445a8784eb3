//! Removes tags, manifests with what only they need, repositories, and blobs.

use std::sync::Arc;

use serde::Serialize;

use crate::index::{
    Candidate, Change, Leaving, LeavingContent, RemoveGrants, RemoveRepository, RemoveTag, content, leaving,
    tags_pointing_to,
};
use crate::jobs::{JobOutcome, Refused, RefusedCode, look};
use crate::mirror::{Holdings, Mirror};
use crate::oci::{Digest, ImageName, Named, ShortDigest, Tag};
use crate::quote::quoted;

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct Removal {
    /// Tell what would go, and change nothing.
    pub dry_run: bool,
    /// What pins keep goes, too.
    pub force: bool,
}

#[derive(Debug, Serialize)]
pub struct Removed {
    pub items: Vec<RemovedItem>,
    pub failed: usize,
    pub dry_run: bool,
}

/// One item.
#[derive(Debug, Serialize)]
pub struct RemovedItem {
    pub item: String,
    pub outcome: JobOutcome,
    /// Bytes that are gone, or would be.
    pub bytes: u64,
    pub problem: Option<String>,
    pub blobs: usize,
    /// Tags that are gone, or would be.
    pub tags: Vec<Tag>,
    /// Bytes among them that no registry can give again.
    pub last_copy_bytes: u64,
}

/// What goes, before it goes.
struct Plan {
    changes: Vec<Change>,
    tags: Vec<Tag>,
    content: Vec<LeavingContent>,
    is_pinned: bool,
}

/// Removes each of these. A name without tag and digest is the whole repository.
pub async fn remove(mirror: &Arc<Mirror>, names: &[String], how: Removal) -> Removed {
    let mut items = Vec::new();
    for text in names {
        let item = match one(mirror, text, how).await {
            Ok(item) => item,
            Err(Refused { code, message }) => {
                let outcome = code.outcome();
                let (item, problem, tags) = (quoted(text), Some(message), Vec::new());
                RemovedItem { item, outcome, bytes: 0, problem, blobs: 0, tags, last_copy_bytes: 0 }
            }
        };
        items.push(item);
    }
    let failed = items.iter().filter(|item| item.outcome != JobOutcome::Done).count();
    Removed { items, failed, dry_run: how.dry_run }
}

async fn one(mirror: &Arc<Mirror>, text: &str, how: Removal) -> Result<RemovedItem, Refused> {
    let named: Named = text.parse().map_err(Refused::invalid)?;
    // A mark of a pin that is not made yet must not let go what it keeps.
    let cache = mirror.cache();
    if !cache.pins.are_known(&cache.index) && !how.force {
        cache.pins.refresh(&cache.index, cache.context.clock.now()).await;
    }
    let plan = match &named {
        Named::Content(short) => plan_content(mirror, short).await?,
        Named::Image(name) => plan_image(mirror, name).await?,
    };
    if plan.is_pinned && !how.force {
        let why = format!("a pin keeps {named}: take the pin back first, or force it");
        return Err(Refused::new(RefusedCode::Pinned, why));
    }
    let Plan { changes, tags, content, .. } = plan;
    let kept = |content: &LeavingContent| content.is_pinned && !how.force;
    let content: Vec<LeavingContent> = content.into_iter().filter(|content| !kept(content)).collect();
    let last: Vec<&LeavingContent> =
        content.iter().filter(|content| !cache.can_come_again(&content.authority)).collect();
    let last_copy_bytes = last.iter().map(|content| content.size_bytes).sum();
    let told = (!last.is_empty()).then(|| {
        format!("{} of its blobs were last copies: no registry that is online can give them again", last.len())
    });
    let all: u64 = content.iter().map(|content| content.size_bytes).sum();
    let mut item = RemovedItem {
        item: named.to_string(),
        outcome: JobOutcome::Done,
        bytes: all,
        problem: told,
        blobs: content.len(),
        tags,
        last_copy_bytes,
    };
    if how.dry_run {
        return Ok(item);
    }
    // Nobody may read it before it goes: a crash in between leaves bytes that age like any others.
    if !changes.is_empty() {
        cache.index.apply_durably(changes).await?;
    }
    let going = content.into_iter().map(|content| {
        let LeavingContent { digest, size_bytes, authority, .. } = content;
        Candidate { digest, size_bytes, authority }
    });
    let gone = mirror.evictor().remove(going.collect()).await;
    let (blobs, bytes) =
        gone.ok_or_else(|| Refused::new(RefusedCode::Unavailable, "the bytes could not be removed: see the log"))?;
    if bytes < all {
        item.problem = Some(format!("{} of its blobs stay for now: they are being read, or cannot be removed", {
            item.blobs.saturating_sub(usize::try_from(blobs).unwrap_or(usize::MAX))
        }));
    }
    (item.bytes, item.blobs) = (bytes, usize::try_from(blobs).unwrap_or(usize::MAX));
    tracing::info!(item = item.item, blobs, bytes, "removed by command");
    Ok(item)
}

/// Bytes alone: whoever may read them may fetch them again.
async fn plan_content(mirror: &Arc<Mirror>, short: &ShortDigest) -> Result<Plan, Refused> {
    let digest = look::full_digest(mirror, None, short).await?;
    let Some(facts) = content(&mirror.cache().index, digest).await? else {
        return Err(Refused::not_found(format!("{digest} is not stored")));
    };
    let (is_pinned, size_bytes) = (facts.is_pinned, facts.row.size_bytes);
    let content = vec![LeavingContent { digest, size_bytes, authority: facts.obtainable_from, is_pinned }];
    Ok(Plan { changes: Vec::new(), tags: Vec::new(), content, is_pinned })
}

async fn plan_image(mirror: &Arc<Mirror>, name: &ImageName) -> Result<Plan, Refused> {
    let holdings = look::holdings(mirror, &name.authority, &name.repository)?;
    match (&name.tag, &name.digest) {
        (_, Some(short)) => {
            let digest = look::full_digest(mirror, Some(&holdings), short).await?;
            let held = holdings.held(vec![digest], true).await?;
            if !held.iter().any(|held| held.is_granted) {
                return Err(Refused::not_found(format!("{name} is not held")));
            }
            plan_manifest(mirror, &holdings, digest, None).await
        }
        (Some(tag), None) => {
            let Some(row) = holdings.tag(tag).await? else {
                return Err(Refused::not_found(format!("{name} is not held")));
            };
            let mut plan = match row.digest {
                Some(digest) => plan_manifest(mirror, &holdings, digest, Some(tag)).await?,
                None => Plan { changes: Vec::new(), tags: Vec::new(), content: Vec::new(), is_pinned: false },
            };
            plan.is_pinned |= row.is_pinned;
            if !plan.tags.contains(tag) {
                plan.tags.push(tag.clone());
                plan.changes.push(RemoveTag { scope: holdings.scope().clone(), tag: tag.clone() }.into());
            }
            Ok(plan)
        }
        (None, None) => plan_repository(mirror, &holdings).await,
    }
}

/// A manifest with what only it needs. If only a tag of it is to go, another tag keeps it.
async fn plan_manifest(
    mirror: &Arc<Mirror>,
    holdings: &Holdings,
    digest: Digest,
    only: Option<&Tag>,
) -> Result<Plan, Refused> {
    let index = &mirror.cache().index;
    let scope = holdings.scope();
    let is_pinned = index.is_pinned(digest).await?;
    if let Some(tag) = only {
        let others = tags_pointing_to(index, scope, digest).await?;
        if others.iter().any(|other| other != tag) {
            return Ok(Plan { changes: Vec::new(), tags: Vec::new(), content: Vec::new(), is_pinned: false });
        }
    }
    let without = only.cloned().into_iter().collect();
    let leaving = leaving(index, scope, holdings.whole_authority(), Some(vec![digest]), without).await?;
    Ok(plan(holdings, leaving, is_pinned))
}

async fn plan_repository(mirror: &Arc<Mirror>, holdings: &Holdings) -> Result<Plan, Refused> {
    let index = &mirror.cache().index;
    let scope = holdings.scope();
    let leaving = leaving(index, scope, holdings.whole_authority(), None, Vec::new()).await?;
    if leaving.grants.is_empty() && leaving.tags.is_empty() {
        return Err(Refused::not_found(format!("nothing of {}/{} is held", scope.authority, scope.repository)));
    }
    let is_pinned = leaving.content.iter().any(|content| content.is_pinned);
    let mut plan = plan(holdings, leaving, is_pinned);
    plan.changes.push(RemoveRepository { scope: scope.clone() }.into());
    Ok(plan)
}

fn plan(holdings: &Holdings, leaving: Leaving, is_pinned: bool) -> Plan {
    let scope = holdings.scope();
    let Leaving { tags, grants, content } = leaving;
    let mut changes: Vec<Change> =
        tags.iter().map(|tag| RemoveTag { scope: scope.clone(), tag: tag.clone() }.into()).collect();
    let whole_authority = holdings.whole_authority();
    changes.extend(grants.chunks(1000).map(|digests| {
        Change::from(RemoveGrants { scope: scope.clone(), whole_authority, digests: digests.to_vec() })
    }));
    Plan { changes, tags, content, is_pinned }
}
