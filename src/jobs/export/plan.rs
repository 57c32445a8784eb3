//! What goes into an export, in which part, and in which order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::names::{full_name, resolve_short};
use super::{Chosen, ExportRequest};
use crate::cache::blocks::Blocked;
use crate::cache::retention::Lease;
use crate::index::{IndexError, PinRoots};
use crate::jobs::bundle::docker_archive::{MANIFEST_FILE, ToSave, write_saved};
use crate::jobs::bundle::layout::{INDEX_FILE, LAYOUT, LAYOUT_FILE, MAX_IMAGES, ToList, blob_path, write_index};
use crate::jobs::bundle::receipt::{RECEIPT_FILE, Receipt};
use crate::jobs::bundle::tar_writer::{TAR_END, tar_bytes};
use crate::jobs::export::held::{HeldImage, Lacking, Sized, WantedPlatforms, look_up};
use crate::jobs::job::RunningJob;
use crate::jobs::job_report::{JobItem, JobOutcome};
use crate::mirror::{Mirror, Placement};
use crate::oci::{Digest, ImageName, Tag};

/// How far referrers of referrers are followed.
const MAX_REFERRER_DEPTH: u8 = 3;
/// Rows that are read from the index at a time.
const STEP: usize = 1000;

/// Everything that will be written.
pub struct Plan {
    pub parts: Vec<Part>,
    /// What the other side has when it has imported this.
    pub receipt: Arc<Receipt>,
    /// Keeps the content until it is written.
    _lease: Lease,
}

/// One layout: its small files, then its blobs.
#[derive(Debug, Clone, Default)]
pub struct Part {
    pub head: Vec<(&'static str, Bytes)>,
    pub blobs: Vec<Sized>,
    /// As a tar archive.
    pub bytes: u64,
}

/// Nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportRefused {
    #[error("more than {MAX_IMAGES} images are to be exported")]
    TooMany,
    #[error("parts of {0} bytes are too small: what each has to carry about all images takes {1}")]
    SmallParts(u64, u64),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("it was cancelled")]
    Cancelled,
}

/// An image with its name.
struct Entry {
    name: String,
    has_name: bool,
    image: HeldImage,
}

struct Planner<'a> {
    mirror: &'a Arc<Mirror>,
    job: &'a RunningJob,
    request: &'a ExportRequest,
    entries: Vec<Entry>,
    names: HashSet<(String, Digest)>,
}

/// Looks up what is asked for, with a result for each item. Images that are not whole are left out.
pub async fn make_plan(mirror: &Arc<Mirror>, job: &RunningJob, request: &ExportRequest) -> Result<Plan, ExportRefused> {
    let mut planner = Planner { mirror, job, request, entries: Vec::new(), names: HashSet::new() };
    match &request.chosen {
        Chosen::Named(names) => {
            job.expect_items(names.len());
            for text in names {
                planner.add_named(text).await?;
            }
        }
        Chosen::All => planner.add_held(None).await?,
        Chosen::UsedSince(age) => {
            let day = mirror.cache().context.clock.now().before(*age).day();
            planner.add_held(Some(day)).await?;
        }
    }
    planner.finish()
}

impl Planner<'_> {
    async fn add_named(&mut self, text: &str) -> Result<(), ExportRefused> {
        self.may_go_on()?;
        let name: ImageName = match text.parse() {
            Ok(name) => name,
            Err(err) => return self.refuse(text, JobOutcome::Refused, &err),
        };
        let at = match self.mirror.place(&name) {
            Ok(at) => at,
            Err(err) => return self.refuse(text, JobOutcome::Refused, &err),
        };
        if let Some(blocked) = self.blocked(&at, Some(&name.tag_or_latest()).filter(|_| name.digest.is_none())) {
            return self.refuse(text, JobOutcome::Refused, &blocked);
        }
        let digest = match self.digest_of(&at, &name).await? {
            Ok(digest) => digest,
            Err(why) => return self.refuse(text, JobOutcome::Missing, &why),
        };
        let full = full_name(&at, name.digest.is_none().then(|| name.tag_or_latest()).as_ref(), digest);
        self.add(&at, text, full, digest).await
    }

    /// What a name points to here.
    async fn digest_of(&self, at: &Placement, name: &ImageName) -> Result<Result<Digest, String>, IndexError> {
        let index = &self.mirror.cache().index;
        let Some(digest) = &name.digest else {
            let held = index.tag(&at.scope, &name.tag_or_latest(), at.whole_authority).await?;
            let digest = held.and_then(|held| held.row.digest);
            return Ok(digest.ok_or_else(|| "it is not held".to_owned()));
        };
        if let Some(digest) = digest.whole() {
            return Ok(Ok(digest));
        }
        resolve_short(self.mirror, at, digest).await
    }

    /// Everything that is held, or was used on `since_day` or later: by tag, then what no tag has brought.
    async fn add_held(&mut self, since_day: Option<u64>) -> Result<(), ExportRefused> {
        let mut seen = HashSet::new();
        for roots in [PinRoots::Tags, PinRoots::Manifests] {
            let mut after = None;
            loop {
                self.may_go_on()?;
                let (found, next) = self.mirror.cache().index.pin_roots(roots, after, STEP).await?;
                for root in found {
                    let (authority, repository) = (root.scope.authority.clone(), root.scope.repository.clone());
                    let name = ImageName { authority, repository, tag: None, digest: None };
                    // Of a registry that is not served any more.
                    let Ok(at) = self.mirror.place(&name) else { continue };
                    if root.anywhere
                        || (roots == PinRoots::Manifests && seen.contains(&(at.scope.clone(), root.manifest)))
                    {
                        continue;
                    }
                    let facts =
                        self.mirror.cache().index.manifest(&at.scope, root.manifest, at.whole_authority).await?;
                    let is_wanted = facts.grant.is_some_and(|grant| since_day.is_none_or(|day| grant.used_day >= day));
                    if !is_wanted {
                        continue;
                    }
                    let tag: Option<Tag> = root.tag.as_deref().and_then(|tag| tag.parse().ok());
                    let full = full_name(&at, tag.as_ref(), root.manifest);
                    if let Some(blocked) = self.blocked(&at, tag.as_ref()) {
                        self.refuse(&full, JobOutcome::Refused, &blocked)?;
                        continue;
                    }
                    if self.is_there(&full, root.manifest) {
                        let reached = self.mirror.cache().index.reached(root.manifest).await?;
                        seen.extend(reached.into_iter().map(|digest| (at.scope.clone(), digest)));
                    }
                    let before = self.entries.len();
                    self.add(&at, &full.clone(), full, root.manifest).await?;
                    for entry in self.entries.iter().skip(before) {
                        seen.extend(entry.image.manifests.iter().map(|(digest, _)| (at.scope.clone(), *digest)));
                    }
                }
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }

    fn blocked(&self, at: &Placement, tag: Option<&Tag>) -> Option<Arc<Blocked>> {
        tag.and_then(|tag| self.mirror.cache().blocks.of_tag(&at.scope, tag))
    }

    /// Whether the other side has it: under this name, or at all if no tag names it.
    fn is_there(&self, full: &str, digest: Digest) -> bool {
        let Some(since) = &self.request.since else { return false };
        since.images.contains(&(full.to_owned(), digest)) || (full.contains('@') && since.blobs.contains_key(&digest))
    }

    /// Adds an image with what refers to it, and its result.
    async fn add(&mut self, at: &Placement, item: &str, full: String, digest: Digest) -> Result<(), ExportRefused> {
        if self.names.contains(&(full.clone(), digest)) {
            self.job.add(JobItem::new(item, JobOutcome::Held, 0).because("it is in the bundle already"));
            return Ok(());
        }
        if self.is_there(&full, digest) {
            self.job.add(JobItem::new(item, JobOutcome::Held, 0));
            return Ok(());
        }
        let image = match look_up(self.mirror.cache(), at, digest, &self.request.platforms).await {
            Ok(image) => image,
            Err(Lacking::Index(err)) => return Err(err.into()),
            Err(error @ Lacking::Blocked(..)) => return self.refuse(item, JobOutcome::Refused, &error),
            Err(error) => return self.refuse(item, JobOutcome::Missing, &error),
        };
        let size_bytes = image.manifests.iter().chain(&image.blobs).map(|(_, size)| size).sum();
        let subjects: Vec<Digest> = image.manifests.iter().map(|(digest, _)| *digest).collect();
        self.push(full, true, image)?;
        if self.request.referrers {
            self.add_referrers(at, subjects).await?;
        }
        self.job.add(JobItem::new(item, JobOutcome::Done, size_bytes));
        Ok(())
    }

    /// What refers to these manifests, as far as it is held: by the record of it, and by the tags of cosign.
    async fn add_referrers(&mut self, at: &Placement, mut subjects: Vec<Digest>) -> Result<(), ExportRefused> {
        let repository = format!("{}/{}", at.scope.authority, at.scope.repository);
        for _depth in 0..MAX_REFERRER_DEPTH {
            let mut next = Vec::new();
            for subject in subjects {
                let rows = self.mirror.cache().index.referrers_of(&at.scope, subject).await?;
                let digests =
                    rows.iter().filter_map(|row| row.descriptor.get("digest")?.as_str()?.parse::<Digest>().ok());
                for digest in digests {
                    let Ok(image) = look_up(self.mirror.cache(), at, digest, &WantedPlatforms::Held).await else {
                        continue;
                    };
                    next.push(digest);
                    self.push(repository.clone(), false, image)?;
                }
                for tag in Tag::of_cosign(subject) {
                    let held = self.mirror.cache().index.tag(&at.scope, &tag, at.whole_authority).await?;
                    let Some(digest) = held.and_then(|held| held.row.digest) else { continue };
                    let Ok(image) = look_up(self.mirror.cache(), at, digest, &WantedPlatforms::Held).await else {
                        continue;
                    };
                    self.push(full_name(at, Some(&tag), digest), true, image)?;
                }
            }
            subjects = next;
        }
        Ok(())
    }

    fn push(&mut self, name: String, has_name: bool, image: HeldImage) -> Result<(), ExportRefused> {
        if self.entries.len() >= MAX_IMAGES {
            return Err(ExportRefused::TooMany);
        }
        if self.names.insert((name.clone(), image.root)) {
            self.entries.push(Entry { name, has_name, image });
        }
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is what the caller returns")]
    fn refuse(&self, item: &str, outcome: JobOutcome, why: &dyn std::fmt::Display) -> Result<(), ExportRefused> {
        self.job.add(JobItem::new(crate::quote::quoted(item), outcome, 0).because(why));
        Ok(())
    }

    fn may_go_on(&self) -> Result<(), ExportRefused> {
        if self.job.is_cancelled() { Err(ExportRefused::Cancelled) } else { Ok(()) }
    }

    fn finish(mut self) -> Result<Plan, ExportRefused> {
        self.entries.sort_by(|one, other| (&one.name, one.image.root).cmp(&(&other.name, other.image.root)));
        let digests = self.entries.iter().flat_map(|entry| entry.image.manifests.iter().chain(&entry.image.blobs));
        let lease = self.mirror.cache().leases.lease(digests.map(|(digest, _)| *digest).collect());
        let (mut parts, receipt) = divide(&self.entries, self.request)?;
        if self.entries.is_empty() && self.job.report().failed > 0 {
            parts.clear();
        }
        self.job.expect_bytes(parts.iter().map(|part| part.bytes).sum());
        Ok(Plan { parts, receipt: Arc::new(receipt), _lease: lease })
    }
}

/// Gives each blob its part, and each part the manifests of all its images.
fn divide(entries: &[Entry], request: &ExportRequest) -> Result<(Vec<Part>, Receipt), ExportRefused> {
    let (budget, mut sent) = (budget(entries, request.split)?, Receipt::default());
    // The images and the blobs of each part.
    let mut parts: Vec<(Vec<&Entry>, Vec<Sized>, u64)> = vec![Default::default()];
    let mut placed: HashMap<Digest, u32> = HashMap::new();
    let has = |digest: &Digest| request.since.as_ref().is_some_and(|since| since.blobs.contains_key(digest));
    for entry in entries {
        let manifests: u64 = entry.image.manifests.iter().map(|(_, size)| tar_bytes(*size)).sum();
        let mut is_listed = false;
        for (digest, size_bytes) in entry.image.blobs.iter().filter(|(digest, _)| !has(digest)) {
            if placed.contains_key(digest) {
                continue;
            }
            let used = parts.last().map_or(0, |(_, _, used)| *used);
            let cost = tar_bytes(*size_bytes) + if is_listed { 0 } else { manifests };
            if used.saturating_add(cost) > budget && used > 0 {
                parts.push(Default::default());
                is_listed = false;
            }
            let number = parts.len();
            let Some((listed, blobs, used)) = parts.last_mut() else { break };
            if !is_listed {
                listed.push(entry);
                *used += manifests;
                is_listed = true;
            }
            blobs.push((*digest, *size_bytes));
            *used += tar_bytes(*size_bytes);
            placed.insert(*digest, u32::try_from(number).unwrap_or(u32::MAX));
        }
        // Its blobs are in other parts, or there already.
        if !is_listed && let Some((listed, _, used)) = parts.last_mut() {
            listed.push(entry);
            *used += manifests;
        }
        sent.images.extend(entry.has_name.then(|| (entry.name.clone(), entry.image.root)));
        sent.blobs.extend(entry.image.manifests.iter().map(|(digest, size)| (*digest, (*size, 0))));
    }
    let sizes = parts.iter().flat_map(|(_, blobs, _)| blobs);
    sent.blobs.extend(sizes.map(|(digest, size)| (*digest, (*size, placed.get(digest).copied().unwrap_or(0)))));
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let made = (1..).zip(&parts).map(|(number, (listed, blobs, _))| {
        sent.part = (count > 1).then_some((number, count));
        part(listed, blobs, &sent)
    });
    let made = made.collect();
    // The sender's record: what was there before, and what was sent, whatever the part.
    sent.part = None;
    for (_, part) in sent.blobs.values_mut() {
        *part = 0;
    }
    if let Some(since) = &request.since {
        sent.images.extend(since.images.iter().cloned());
        sent.blobs.extend(since.blobs.iter().map(|(digest, (size, _))| (*digest, (*size, 0))));
    }
    Ok((made, sent))
}

/// Bytes of manifests and blobs that fit into one part, beside what describes it.
fn budget(entries: &[Entry], split: Option<u64>) -> Result<u64, ExportRefused> {
    let Some(split) = split else { return Ok(u64::MAX) };
    // More than each image and each blob takes in the index, the manifest of Docker and the receipt.
    let described: u64 = entries
        .iter()
        .map(|entry| {
            1024 + 4 * entry.name.len() as u64 + 400 * (entry.image.blobs.len() + entry.image.manifests.len()) as u64
        })
        .sum();
    let described = described + 8 * 1024;
    if described > split / 2 {
        return Err(ExportRefused::SmallParts(split, described));
    }
    Ok(split - described)
}

fn part(listed: &[&Entry], blobs: &[Sized], receipt: &Receipt) -> Part {
    let items: Vec<ToList> = listed
        .iter()
        .map(|entry| ToList {
            digest: entry.image.root,
            media_type: entry.image.media_type.clone(),
            size_bytes: entry.image.size_bytes,
            name: entry.name.clone(),
            has_name: entry.has_name,
        })
        .collect();
    // Docker before version 25, and `podman load`, read only this.
    let saved: Vec<ToSave> = listed.iter().filter(|entry| entry.has_name).filter_map(|entry| to_save(entry)).collect();
    let head = vec![
        (LAYOUT_FILE, Bytes::from_static(LAYOUT.as_bytes())),
        (INDEX_FILE, Bytes::from(write_index(&items))),
        (MANIFEST_FILE, Bytes::from(write_saved(&saved))),
        (RECEIPT_FILE, Bytes::from(receipt.to_bytes())),
    ];
    let mut seen = HashSet::new();
    let manifests = listed.iter().flat_map(|entry| &entry.image.manifests).copied();
    let blobs: Vec<Sized> = manifests.chain(blobs.iter().copied()).filter(|(digest, _)| seen.insert(*digest)).collect();
    let of_head: u64 = head.iter().map(|(_, content)| tar_bytes(content.len() as u64)).sum();
    let of_blobs: u64 = blobs.iter().map(|(_, size)| tar_bytes(*size)).sum();
    Part { head, blobs, bytes: of_head + of_blobs + TAR_END.len() as u64 }
}

fn to_save(entry: &Entry) -> Option<ToSave> {
    let (config, layers) = entry.image.single.as_ref()?;
    let tags = if entry.name.contains('@') { Vec::new() } else { vec![entry.name.clone()] };
    let layers = layers.iter().map(|layer| blob_path(*layer)).collect();
    Some(ToSave { config: blob_path(*config), repo_tags: tags, layers })
}
