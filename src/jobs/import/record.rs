//! One image of an archive: whole, then recorded at once. What is not whole leaves no trace.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::collect::Collected;
use super::list::{Content, Item};
use super::staging::Arrival;
use crate::cache::Cache;
use crate::index::{
    Change, GrantBlob, GrantManifest, IndexError, PutChildren, PutReferrer, PutTag, ReferrerRow, TagRow,
};
use crate::jobs::export::held::{EMPTY, empty_in};
use crate::jobs::job::RunningJob;
use crate::jobs::job_report::{JobItem, JobOutcome};
use crate::mirror::{Mirror, Placement};
use crate::oci::{Authority, Child, Digest, ImageName, Inspected, MediaType, Role, Tag};
use crate::store::Verified;

/// Most manifests, and most blobs, of one image.
const MAX_MANIFESTS: usize = 1000;
const MAX_BLOBS: usize = 20_000;
/// How deep indexes may list indexes.
const MAX_DEPTH: u8 = 4;
/// Digests that are named when some are not there.
const MAX_NAMED: usize = 5;

/// Why an item is not recorded, whatever else comes.
struct Refusal(JobOutcome, String);

impl From<IndexError> for Refusal {
    fn from(err: IndexError) -> Self {
        Self(JobOutcome::Failed, err.to_string())
    }
}

/// An item that is whole.
#[derive(Default)]
struct Whole {
    facts: Vec<Change>,
    digests: Vec<Digest>,
    bytes: u64,
    has_news: bool,
    /// An empty config, which the archive may have left out.
    empty: Option<Digest>,
}

/// Records the items, each with its result. Gives the digests that they need, also those of items that wait for other
/// parts.
pub(super) async fn record_all(
    mirror: &Arc<Mirror>,
    job: &RunningJob,
    collected: &mut Collected,
    items: Vec<Item>,
) -> HashSet<Digest> {
    let mut needed = HashSet::new();
    for item in items {
        if job.is_cancelled() {
            break;
        }
        let result = record(mirror, collected, &item, &mut needed).await;
        job.add(result);
    }
    needed
}

async fn record(mirror: &Arc<Mirror>, collected: &mut Collected, item: &Item, needed: &mut HashSet<Digest>) -> JobItem {
    let result = |outcome| JobItem::new(item.shown.clone(), outcome, 0);
    let (name, content) = match (&item.name, &item.content) {
        (Ok(name), Ok(content)) => (name, content),
        (Err(why), _) => return result(JobOutcome::Refused).because(why),
        (Ok(_), Err(why)) => return result(JobOutcome::Missing).because(why),
    };
    let at = match mirror.place(name) {
        Ok(at) => at,
        Err(err) => return result(JobOutcome::Refused).because(err),
    };
    let (root, media_type) = match content {
        Content::Stored(digest, media_type) => (*digest, media_type.clone()),
        Content::Made(digest, bytes) => {
            collected.staging.put(*digest, bytes.clone()).await;
            (*digest, None)
        }
    };
    if let Some(tag) = name.tag.as_ref().filter(|_| name.digest.is_none())
        && let Ok(Some(facts)) = mirror.cache().index.tag(&at.scope, tag, at.whole_authority).await
        && (facts.row.alias.is_some() || (facts.row.is_pinned && facts.row.digest != Some(root)))
    {
        return result(JobOutcome::Refused).because("its tag is pinned to another digest, or an alias of another tag");
    }
    if name.digest.as_ref().is_some_and(|digest| !digest.begins(root)) {
        return result(JobOutcome::Refused).because(format!("its name has another digest than {root}, which it is"));
    }
    let cache = mirror.cache();
    let by_tag = name.tag.as_ref().and_then(|tag| cache.blocks.of_tag(&at.scope, tag));
    let by_content = cache.blocks.of_content(root).filter(|blocked| blocked.is_named);
    if let Some(blocked) = by_tag.or(by_content) {
        return result(JobOutcome::Refused).because(blocked);
    }
    let mut look = Look { cache, at: &at, collected, whole: Whole::default(), seen: HashSet::new(), lacks: Vec::new() };
    let looked = look.image(root, media_type.as_ref()).await;
    let (mut whole, lacks) = (look.whole, look.lacks);
    match looked {
        Ok(()) if lacks.is_empty() => {
            if let Some(empty) = whole.empty {
                collected.staging.put(empty, Bytes::from_static(EMPTY)).await;
                let (scope, day) = (at.scope.clone(), cache.context.clock.now().day());
                whole.digests.push(empty);
                whole.facts.push(GrantBlob { scope, whole_authority: at.whole_authority, digest: empty, day }.into());
            }
            needed.extend(whole.digests.iter().copied());
            // The index has logged a failure; it is in force all the same.
            let _logged = cache.blocks.release(&cache.index, &whole.digests).await;
            match write(mirror, &at, name, root, whole).await {
                Ok((outcome, bytes)) => JobItem::new(item.shown.clone(), outcome, bytes),
                Err(err) => result(JobOutcome::Failed).because(err),
            }
        }
        Ok(()) => {
            let refused = refuse(collected, &lacks, &item.shown);
            if refused.is_waiting {
                needed.extend(whole.digests);
            }
            refused
        }
        Err(Refusal(outcome, why)) => result(outcome).because(why),
    }
}

/// Says what became of what is not here.
fn refuse(collected: &Collected, lacks: &[Digest], shown: &str) -> JobItem {
    let mut reasons = Vec::new();
    let (mut outcome, mut is_waiting) = (JobOutcome::Missing, true);
    let mut parts: BTreeSet<u32> = BTreeSet::new();
    let own = collected.receipt.as_ref().and_then(|receipt| receipt.part);
    for digest in lacks {
        let of_part = collected.receipt.as_ref().and_then(|receipt| receipt.blobs.get(digest)).map(|(_, part)| *part);
        let reason = match (collected.staging.arrival(*digest), of_part, own) {
            (Some(Arrival::Wrong(got)), ..) => {
                outcome = JobOutcome::Failed;
                format!("its {digest} has other bytes, {got}")
            }
            (Some(Arrival::NoSpace(bytes)), ..) => {
                outcome = JobOutcome::Failed;
                format!("there is no room for its {digest} of {bytes} bytes")
            }
            (Some(Arrival::Failed(why)), ..) => {
                outcome = JobOutcome::Failed;
                format!("its {digest} was not stored: {why}")
            }
            (Some(Arrival::Held | Arrival::Stored) | None, Some(part), Some((own, _))) if part != 0 && part != own => {
                parts.insert(part);
                continue;
            }
            (Some(Arrival::Held | Arrival::Stored) | None, ..) => {
                format!("{digest} is neither in the archive nor held for this registry")
            }
        };
        is_waiting = false;
        reasons.push(reason);
    }
    let more = reasons.len().saturating_sub(MAX_NAMED);
    reasons.truncate(MAX_NAMED);
    reasons.extend((more > 0).then(|| format!("and {more} more are missing")));
    if !parts.is_empty() {
        let numbers: Vec<String> = parts.iter().map(u32::to_string).collect();
        let of = own.map_or(0, |(_, parts)| parts);
        reasons.push(format!("it waits for part {} of {of}", numbers.join(" and part ")));
    }
    let mut item = JobItem::new(shown, outcome, 0).because(reasons.join("; "));
    item.is_waiting = is_waiting && !parts.is_empty();
    item
}

struct Look<'a> {
    cache: &'a Arc<Cache>,
    at: &'a Placement,
    collected: &'a Collected,
    whole: Whole,
    seen: HashSet<Digest>,
    lacks: Vec<Digest>,
}

impl Look<'_> {
    async fn image(&mut self, root: Digest, media_type: Option<&MediaType>) -> Result<(), Refusal> {
        let Some(bytes) = self.bytes(root).await? else {
            self.lacks.push(root);
            return Ok(());
        };
        self.manifest(root, &bytes, media_type, 0).await
    }

    async fn manifest(
        &mut self,
        digest: Digest,
        bytes: &Bytes,
        media_type: Option<&MediaType>,
        depth: u8,
    ) -> Result<(), Refusal> {
        let refused = |why: String| Err(Refusal(JobOutcome::Refused, why));
        if depth > MAX_DEPTH || self.seen.len() > MAX_MANIFESTS {
            return refused("it lists too many manifests, or manifests too deep in one another".to_owned());
        }
        if !self.seen.insert(digest) {
            return Ok(());
        }
        let inspected = match Inspected::read(bytes, media_type) {
            Ok(inspected) => inspected,
            Err(why) => return refused(format!("{digest} is no manifest: {why}")),
        };
        let (manifests, blobs): (Vec<&Child>, Vec<&Child>) =
            inspected.children.iter().partition(|child| child.role == Role::Manifest);
        self.add_manifest(digest, bytes, &inspected).await?;
        for blob in blobs {
            self.blob(blob).await?;
        }
        let mut missing = Vec::new();
        for child in &manifests {
            // Platforms that were left out are no fault; what is there has to be whole.
            match self.bytes(child.digest).await? {
                Some(bytes) => Box::pin(self.manifest(child.digest, &bytes, None, depth + 1)).await?,
                None => missing.push(child.digest),
            }
        }
        if !manifests.is_empty() && missing.len() == manifests.len() {
            self.lacks.extend(missing);
        }
        Ok(())
    }

    async fn add_manifest(&mut self, digest: Digest, bytes: &Bytes, inspected: &Inspected) -> Result<(), Refusal> {
        let Placement { scope, whole_authority, .. } = self.at;
        let facts = self.cache.index.manifest(scope, digest, *whole_authority).await?;
        self.whole.has_news |= facts.grant.is_none();
        let media_type = facts.media_type.unwrap_or_else(|| inspected.media_type.clone());
        let day = self.cache.context.clock.now().day();
        let (scope, whole_authority, size_bytes) = (scope.clone(), *whole_authority, bytes.len() as u64);
        self.whole.bytes += size_bytes;
        self.whole.digests.push(digest);
        self.whole.empty = self.whole.empty.or_else(|| empty_in(bytes));
        let children = inspected.children.iter().map(|child| child.digest).collect();
        self.whole.facts.push(PutChildren { manifest: digest, children }.into());
        if let Some(subject) = inspected.subject {
            let descriptor = serde_json::json!({
                "mediaType": media_type,
                "digest": digest,
                "size": size_bytes,
                "artifactType": inspected.artifact_type,
                "annotations": inspected.annotations,
            });
            let (scope, row) = (scope.clone(), ReferrerRow { descriptor });
            self.whole.facts.push(PutReferrer { scope, subject, referrer: digest, row }.into());
        }
        self.whole.facts.push(GrantManifest { scope, whole_authority, digest, media_type, day }.into());
        Ok(())
    }

    async fn blob(&mut self, blob: &Child) -> Result<(), Refusal> {
        if !self.seen.insert(blob.digest) {
            return Ok(());
        }
        if self.whole.digests.len() > MAX_BLOBS {
            return Err(Refusal(JobOutcome::Refused, format!("it has more than {MAX_BLOBS} blobs")));
        }
        let (row, grant) = self.cache.index.blob(&self.at.scope, blob.digest, self.at.whole_authority).await?;
        let Some(row) = row.filter(|row| row.size_bytes == blob.size_bytes) else {
            self.lacks.push(blob.digest);
            return Ok(());
        };
        if grant.is_none() && !self.may_use(blob.digest, row.origin.as_ref().map(Authority::as_str)) {
            self.lacks.push(blob.digest);
            return Ok(());
        }
        if !matches!(self.cache.open(blob.digest, &row).await, Ok(Some(_))) {
            self.lacks.push(blob.digest);
            return Ok(());
        }
        self.whole.has_news |= grant.is_none();
        self.whole.bytes += row.size_bytes;
        self.whole.digests.push(blob.digest);
        let day = self.cache.context.clock.now().day();
        let (scope, whole_authority) = (self.at.scope.clone(), self.at.whole_authority);
        self.whole.facts.push(GrantBlob { scope, whole_authority, digest: blob.digest, day }.into());
        Ok(())
    }

    /// Content that the archive did not bring opens to nobody because the archive names it: it must have come from the same
    /// registry, or from an import (T76).
    fn may_use(&self, digest: Digest, origin: Option<&str>) -> bool {
        let is_brought = matches!(self.collected.staging.arrival(digest), Some(Arrival::Held | Arrival::Stored));
        is_brought || origin.is_none_or(|origin| origin == self.at.scope.authority.as_str())
    }

    /// The bytes of a manifest that this item may use; `None` if they are not here.
    async fn bytes(&self, digest: Digest) -> Result<Option<Bytes>, Refusal> {
        let Placement { scope, whole_authority, max_manifest_bytes, .. } = self.at;
        let Some(row) = self.cache.index.blob_row(digest).await? else { return Ok(None) };
        let is_granted = self.cache.index.manifest(scope, digest, *whole_authority).await?.grant.is_some();
        if !is_granted && !self.may_use(digest, row.origin.as_ref().map(Authority::as_str)) {
            return Ok(None);
        }
        match self.cache.store.read_verified(digest, *max_manifest_bytes).await {
            Ok(Verified::Right(bytes)) => Ok(Some(bytes)),
            Ok(Verified::Missing | Verified::Wrong(_)) => Ok(None),
            Ok(Verified::TooLarge) => {
                let why = format!("its manifest {digest} is larger than {max_manifest_bytes} bytes");
                Err(Refusal(JobOutcome::Refused, why))
            }
            Err(err) => Err(Refusal(JobOutcome::Failed, format!("{digest} cannot be read: {err}"))),
        }
    }
}

/// Makes all facts about an image visible together, and durable.
async fn write(
    mirror: &Mirror,
    at: &Placement,
    name: &ImageName,
    root: Digest,
    whole: Whole,
) -> Result<(JobOutcome, u64), IndexError> {
    let (cache, scope) = (mirror.cache(), &at.scope);
    let Whole { mut facts, digests, bytes, mut has_news, .. } = whole;
    let _lease = cache.leases.lease(digests);
    let now = cache.context.clock.now();
    // A name with a digest is that; its tag is only a remark, as Docker has it.
    let tag: Option<&Tag> = name.tag.as_ref().filter(|_| name.digest.is_none());
    if let Some(tag) = tag {
        let before = cache.index.tag(scope, tag, at.whole_authority).await?.map(|facts| facts.row);
        has_news |= before.as_ref().is_none_or(|row| row.digest != Some(root));
        let is_pinned = before.as_ref().is_some_and(|row| row.is_pinned);
        let row = TagRow { is_pinned, ..TagRow::moved_to(before, root, now) };
        facts.push(PutTag { scope: scope.clone(), tag: tag.clone(), row }.into());
    }
    facts.extend(cache.pins.mark(scope, tag.map(Tag::as_str), root));
    cache.access_times.record(root, now);
    if !has_news {
        return Ok((JobOutcome::Held, bytes));
    }
    cache.index.apply_durably(facts).await?;
    Ok((JobOutcome::Done, bytes))
}
