//! Removes tags, manifests with what only they need, repositories, and blobs.

use std::sync::Arc;

use serde::Serialize;

use crate::index::{
    Candidate, Change, Leaving, LeavingContent, RemoveGrants, RemoveRepository, RemoveTag, content, leaving,
    tags_pointing_to,
};
use crate::jobs::job::RunningJob;
use crate::jobs::{ItemDetails, JobItem, JobOutcome, Refused, RefusedCode, look};
use crate::mirror::{Holdings, Mirror};
use crate::oci::{Digest, ImageName, Named, ShortDigest, Tag};
use crate::quote::quoted;

/// Blobs that are removed between two looks at whether the job is cancelled.
const STEP: usize = 500;

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
    pub items: Vec<JobItem>,
    pub failed: usize,
    pub dry_run: bool,
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
        items.push(remove_one(mirror, text, how, None).await);
    }
    let failed = items.iter().filter(|item| item.is_failed()).count();
    Removed { items, failed, dry_run: how.dry_run }
}

/// Removes each of these, until the job is cancelled.
pub(super) async fn remove_all(mirror: &Arc<Mirror>, job: &RunningJob, names: &[String], how: Removal) {
    job.expect_items(names.len());
    for text in names {
        if job.is_cancelled() {
            return;
        }
        job.note(quoted(text));
        job.add(remove_one(mirror, text, how, Some(job)).await);
    }
}

/// The bytes of the item are gone, or would be.
async fn remove_one(mirror: &Arc<Mirror>, text: &str, how: Removal, job: Option<&RunningJob>) -> JobItem {
    one(mirror, text, how, job).await.unwrap_or_else(|Refused { code, message }| {
        let nothing = ItemDetails::Removed { blobs: 0, tags: Vec::new(), last_copy_bytes: 0 };
        JobItem::new(quoted(text), code.outcome(), 0).because(message).with(nothing)
    })
}

async fn one(mirror: &Arc<Mirror>, text: &str, how: Removal, job: Option<&RunningJob>) -> Result<JobItem, Refused> {
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
    let all: u64 = content.iter().map(|content| content.size_bytes).sum();
    let (count, lasts) = (content.len(), last.len());
    let told = |blobs: usize, bytes: u64| {
        JobItem::new(named.to_string(), JobOutcome::Done, bytes).with(ItemDetails::Removed {
            blobs,
            tags: tags.clone(),
            last_copy_bytes,
        })
    };
    let were_last = |item: JobItem| match lasts {
        0 => item,
        _ => item
            .because(format!("{lasts} of its blobs were last copies: no registry that is online can give them again")),
    };
    if how.dry_run {
        return Ok(were_last(told(count, all)));
    }
    // Nobody may read it before it goes: a crash in between leaves bytes that age like any others.
    if !changes.is_empty() {
        cache.index.apply_durably(changes).await?;
    }
    if let Some(job) = job {
        job.expect_bytes(all);
    }
    let (mut blobs, mut bytes, mut left) = (0, 0, content.into_iter().peekable());
    while left.peek().is_some() && job.is_none_or(|job| !job.is_cancelled()) {
        let going = left.by_ref().take(STEP).map(|content| {
            let LeavingContent { digest, size_bytes, authority, .. } = content;
            Candidate { digest, size_bytes, authority }
        });
        let gone = mirror.evictor().remove(going.collect()).await;
        let (some, of_them) =
            gone.ok_or_else(|| Refused::new(RefusedCode::Unavailable, "the bytes could not be removed: see the log"))?;
        blobs += usize::try_from(some).unwrap_or(usize::MAX);
        bytes += of_them;
        if let Some(job) = job {
            job.add_bytes(of_them);
        }
    }
    tracing::info!(item = %named, blobs, bytes, "removed by command");
    let item = told(blobs, bytes);
    Ok(match (left.next().is_some(), bytes < all) {
        (true, _) => JobItem { outcome: JobOutcome::Failed, ..item }.because(format!(
            "it was cancelled: nobody can read it, and {} of its blobs stay until they are evicted",
            count - blobs
        )),
        (false, true) => item.because(format!(
            "{} of its blobs stay for now: they are being read, or cannot be removed",
            count.saturating_sub(blobs)
        )),
        (false, false) => were_last(item),
    })
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
