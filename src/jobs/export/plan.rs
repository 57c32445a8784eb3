//! What goes into an export, in which part, and in which order.

use std::collections::HashSet;
use std::sync::Arc;

use super::divide::{Entry, ExportRefused, Part, divide};
use super::held::{HeldImage, Lacking, WantedPlatforms, look_up};
use super::{Chosen, ExportRequest};
use crate::cache::retention::Lease;
use crate::index::{IndexError, PinRoots, Scope, aliases};
use crate::jobs::bundle::layout::MAX_IMAGES;
use crate::jobs::bundle::receipt::Receipt;
use crate::jobs::job::RunningJob;
use crate::jobs::job_report::{JobItem, JobOutcome};
use crate::jobs::look::{find, held_names};
use crate::jobs::{Refused, RefusedCode};
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

/// One image that is asked for.
struct Asked {
    /// As it is told.
    item: String,
    /// The repository and the tag whose name it gets, and where its content belongs: elsewhere for an alias.
    scope: Scope,
    tag: Option<Tag>,
    at: Placement,
    digest: Digest,
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
            let mut found = Vec::new();
            for text in names {
                match held_names(mirror, text).await {
                    Ok(names) => found.extend(names),
                    Err(Refused { code, message }) => planner.refuse(text, code.outcome(), &message)?,
                }
            }
            job.expect_items(found.len() + usize::try_from(job.report().items).unwrap_or_default());
            for name in found {
                planner.add_named(&name).await?;
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
        match self.resolve(text).await {
            Ok(asked) => self.add(&asked).await,
            Err(Refused { code, message }) => self.refuse(text, code.outcome(), &message),
        }
    }

    /// What a pull of this name would give, as far as it is known here.
    async fn resolve(&self, text: &str) -> Result<Asked, Refused> {
        let name: ImageName = text.parse().map_err(Refused::invalid)?;
        let place =
            |name: &ImageName| self.mirror.place(name).map_err(|err| Refused::new(RefusedCode::UnknownRegistry, err));
        let scope = place(&name)?.scope;
        let found = find(self.mirror, &name).await?;
        let Scope { authority, repository, .. } = found.holdings.scope().clone();
        let at = place(&ImageName { authority, repository, tag: None, digest: None })?;
        let tag = found.tag.is_some().then(|| name.tag_or_latest());
        Ok(Asked { item: text.to_owned(), scope, tag, at, digest: found.digest })
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
                    if !self.was_used(&at, root.manifest, since_day).await? {
                        continue;
                    }
                    let tag: Option<Tag> = root.tag.as_deref().and_then(|tag| tag.parse().ok());
                    let item = full_name(&at.scope, tag.as_ref(), root.manifest);
                    if self.is_there(&item, root.manifest) {
                        let reached = self.mirror.cache().index.reached(root.manifest).await?;
                        seen.extend(reached.into_iter().map(|digest| (at.scope.clone(), digest)));
                    }
                    let before = self.entries.len();
                    let scope = at.scope.clone();
                    self.add(&Asked { item, scope, tag, at, digest: root.manifest }).await?;
                    for entry in self.entries.iter().skip(before) {
                        seen.extend(entry.image.manifests.iter().map(|(digest, _)| (root.scope.clone(), *digest)));
                    }
                }
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        self.add_aliases(since_day).await
    }

    /// The aliases of what is held: there is no alias at the other side.
    async fn add_aliases(&mut self, since_day: Option<u64>) -> Result<(), ExportRefused> {
        for name in aliases(&self.mirror.cache().index).await? {
            self.may_go_on()?;
            let Ok(asked) = self.resolve(&name).await else { continue };
            if self.was_used(&asked.at, asked.digest, since_day).await? {
                self.add(&asked).await?;
            }
        }
        Ok(())
    }

    /// Whether a manifest may be given, and was on `since_day` or later.
    async fn was_used(&self, at: &Placement, digest: Digest, since_day: Option<u64>) -> Result<bool, IndexError> {
        let facts = self.mirror.cache().index.manifest(&at.scope, digest, at.whole_authority).await?;
        Ok(facts.grant.is_some_and(|grant| since_day.is_none_or(|day| grant.used_day >= day)))
    }

    /// Whether the other side has it: under this name, or at all if no tag names it.
    fn is_there(&self, full: &str, digest: Digest) -> bool {
        let Some(since) = &self.request.since else { return false };
        since.images.contains(&(full.to_owned(), digest)) || (full.contains('@') && since.blobs.contains_key(&digest))
    }

    /// Adds an image with what refers to it, and its result.
    async fn add(&mut self, asked: &Asked) -> Result<(), ExportRefused> {
        let Asked { item, scope, tag, at, digest } = asked;
        if let Some(blocked) = tag.as_ref().and_then(|tag| self.mirror.cache().blocks.of_tag(scope, tag)) {
            return self.refuse(item, JobOutcome::Refused, &blocked);
        }
        let full = full_name(scope, tag.as_ref(), *digest);
        if self.names.contains(&(full.clone(), *digest)) {
            self.job.add(JobItem::new(item, JobOutcome::Held, 0).because("it is in the bundle already"));
            return Ok(());
        }
        if self.is_there(&full, *digest) {
            self.job.add(JobItem::new(item, JobOutcome::Held, 0));
            return Ok(());
        }
        let image = match look_up(self.mirror.cache(), at, *digest, &self.request.platforms).await {
            Ok(image) => image,
            Err(Lacking::Index(err)) => return Err(err.into()),
            Err(error) => return self.refuse(item, JobOutcome::Missing, &error),
        };
        let size_bytes = image.manifests.iter().chain(&image.blobs).map(|(_, size)| size).sum();
        let subjects: Vec<Digest> = image.manifests.iter().map(|(digest, _)| *digest).collect();
        self.push(full, true, image)?;
        if self.request.referrers {
            self.add_referrers(scope, at, subjects).await?;
        }
        self.job.add(JobItem::new(item, JobOutcome::Done, size_bytes));
        Ok(())
    }

    /// What refers to these manifests, as far as it is held: by the record of it, and by the tags of cosign.
    async fn add_referrers(
        &mut self,
        scope: &Scope,
        at: &Placement,
        mut subjects: Vec<Digest>,
    ) -> Result<(), ExportRefused> {
        let (cache, repository) =
            (Arc::clone(self.mirror.cache()), format!("{}/{}", scope.authority, scope.repository));
        for _depth in 0..MAX_REFERRER_DEPTH {
            let mut next = Vec::new();
            for subject in subjects {
                let rows = cache.index.referrers_of(&at.scope, subject).await?;
                let digests =
                    rows.iter().filter_map(|row| row.descriptor.get("digest")?.as_str()?.parse::<Digest>().ok());
                for digest in digests {
                    let Ok(image) = look_up(&cache, at, digest, &WantedPlatforms::Held).await else { continue };
                    next.push(digest);
                    self.push(repository.clone(), false, image)?;
                }
                for tag in Tag::of_cosign(subject) {
                    let held = cache.index.tag(&at.scope, &tag, at.whole_authority).await?;
                    let Some(digest) = held.and_then(|held| held.row.digest) else { continue };
                    let Ok(image) = look_up(&cache, at, digest, &WantedPlatforms::Held).await else { continue };
                    self.push(full_name(scope, Some(&tag), digest), true, image)?;
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

fn full_name(scope: &Scope, tag: Option<&Tag>, digest: Digest) -> String {
    let Scope { authority, repository, .. } = scope;
    tag.map_or_else(|| format!("{authority}/{repository}@{digest}"), |tag| format!("{authority}/{repository}:{tag}"))
}
