//! One image, pulled as a client would pull it, for every platform that is wanted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;

use crate::fill::BlobSource;
use crate::jobs::export::held::WantedPlatforms;
use crate::jobs::job::RunningJob;
use crate::jobs::job_report::JobOutcome;
use crate::mirror::{Intent, ManifestAnswer, Mirror, Outcome, Placement, PullError};
use crate::oci::{Child, Digest, ImageName, Inspected, Reference, Role, Tag};
use crate::upstream::Deadline;

/// Blobs that are fetched at one time, over all images: clients have to find room beside them.
const BLOBS_AT_ONCE: usize = 8;
/// Most manifests of one image with its referrers.
const MAX_MANIFESTS: usize = 1000;
/// How deep indexes may list indexes, and referrers refer to referrers.
const MAX_DEPTH: u8 = 4;
/// Tries of what cannot be asked now, where upstream does not say that it limits pulls; and the pauses between them.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Longest pause between two tries where pulls are limited.
const LONGEST_RATION: Duration = Duration::from_hours(6);
/// Longest download that is waited for.
const LONGEST_DOWNLOAD: Duration = Duration::from_hours(6);

/// Why an item was not pulled.
pub(super) type NotPulled = (JobOutcome, String);

/// Pulls for one job.
#[derive(Clone)]
pub(super) struct Puller {
    mirror: Arc<Mirror>,
    job: Arc<RunningJob>,
    platforms: Arc<WantedPlatforms>,
    referrers: bool,
    blobs: Arc<Semaphore>,
}

/// What was pulled of one image.
#[derive(Debug, Default)]
pub(super) struct Pulled {
    pub(super) bytes: u64,
    /// Something was not held before.
    pub(super) has_fetched: bool,
    seen: HashSet<Digest>,
}

impl Puller {
    pub(super) fn new(
        mirror: &Arc<Mirror>,
        job: &Arc<RunningJob>,
        platforms: WantedPlatforms,
        referrers: bool,
    ) -> Self {
        let (mirror, job) = (Arc::clone(mirror), Arc::clone(job));
        Self { mirror, job, platforms: Arc::new(platforms), referrers, blobs: Arc::new(Semaphore::new(BLOBS_AT_ONCE)) }
    }

    pub(super) const fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// Where the content of a name belongs.
    pub(super) fn place(&self, name: &ImageName) -> Result<Placement, NotPulled> {
        self.mirror.place(name).map_err(|err| (JobOutcome::Refused, err.to_string()))
    }

    pub(super) async fn pull(&self, name: &str) -> Result<Pulled, NotPulled> {
        let image: ImageName = name.parse().map_err(|err| (JobOutcome::Refused, format!("{err}")))?;
        let at = self.place(&image)?;
        let reference = image.reference().ok_or_else(|| {
            (JobOutcome::Refused, "a digest may not be shortened where it is to be fetched".to_owned())
        })?;
        let mut pulled = Pulled::default();
        let answer = self.manifest(&at, &reference).await?;
        self.tree(&at, answer, &mut pulled, 0).await?;
        Ok(pulled)
    }

    async fn manifest(&self, at: &Placement, reference: &Reference) -> Result<ManifestAnswer, NotPulled> {
        let (mirror, target) = (&self.mirror, &at.target);
        self.patiently(at, move || mirror.manifest(target, reference, || false)).await
    }

    /// A manifest, what it lists, and what refers to it.
    async fn tree(
        &self,
        at: &Placement,
        answer: ManifestAnswer,
        pulled: &mut Pulled,
        depth: u8,
    ) -> Result<(), NotPulled> {
        if depth > MAX_DEPTH || pulled.seen.len() > MAX_MANIFESTS {
            return Err((JobOutcome::Refused, "it lists too many manifests, or too deep in one another".to_owned()));
        }
        if !pulled.seen.insert(answer.digest) {
            return Ok(());
        }
        pulled.bytes += answer.bytes.len() as u64;
        pulled.has_fetched |= matches!(answer.provenance.outcome, Outcome::Fill | Outcome::Joined);
        let inspected = Inspected::read(&answer.bytes, Some(&answer.media_type));
        let inspected = inspected.map_err(|why| (JobOutcome::Refused, format!("{}: {why}", answer.digest)))?;
        let (manifests, blobs): (Vec<&Child>, Vec<&Child>) =
            inspected.children.iter().partition(|child| child.role == Role::Manifest);
        self.blobs(at, &blobs, pulled).await?;
        let wanted: Vec<Digest> = manifests
            .iter()
            .filter(|child| self.platforms.contain(child.platform.as_ref()))
            .map(|child| child.digest)
            .collect();
        if wanted.is_empty() && !manifests.is_empty() {
            return Err((JobOutcome::Missing, "it has no image for these platforms".to_owned()));
        }
        for digest in wanted {
            let answer = self.manifest(at, &Reference::Digest(digest)).await?;
            Box::pin(self.tree(at, answer, pulled, depth + 1)).await?;
        }
        if self.referrers {
            self.referrers_of(at, answer.digest, pulled, depth).await?;
        }
        Ok(())
    }

    async fn referrers_of(
        &self,
        at: &Placement,
        subject: Digest,
        pulled: &mut Pulled,
        depth: u8,
    ) -> Result<(), NotPulled> {
        let (mirror, target) = (&self.mirror, &at.target);
        let found = self.patiently(at, move || mirror.referrers(target, subject, Vec::new())).await?;
        let tags = Tag::of_cosign(subject).map(Reference::Tag);
        for reference in found.digests().map(Reference::Digest).chain(tags) {
            match self.manifest(at, &reference).await {
                Ok(answer) => Box::pin(self.tree(at, answer, pulled, depth + 1)).await?,
                // Most images have no such tag, and a list may name what is not there any more.
                Err((JobOutcome::Missing, _)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn blobs(&self, at: &Placement, listed: &[&Child], pulled: &mut Pulled) -> Result<(), NotPulled> {
        let new: Vec<(Digest, u64)> = listed
            .iter()
            .filter(|child| pulled.seen.insert(child.digest))
            .map(|child| (child.digest, child.size_bytes))
            .collect();
        self.job.expect_bytes(new.iter().map(|(_, size)| size).sum());
        let fetches = stream::iter(new).map(|(digest, size_bytes)| async move {
            // Nobody closes it.
            let _permit = self.blobs.acquire().await;
            let fetched = self.patiently(at, move || self.blob(at, digest)).await;
            if fetched.is_ok() {
                self.job.add_bytes(size_bytes);
            }
            fetched.map(|fetched| (fetched, size_bytes))
        });
        let mut fetches = std::pin::pin!(fetches.buffer_unordered(BLOBS_AT_ONCE));
        while let Some(fetched) = fetches.next().await {
            let (has_fetched, size_bytes) = fetched?;
            pulled.bytes += size_bytes;
            pulled.has_fetched |= has_fetched;
        }
        Ok(())
    }

    /// Asks for a blob as a client does, and waits until it is stored. `true` if it was not.
    async fn blob(&self, at: &Placement, digest: Digest) -> Result<bool, PullError> {
        let answer = self.mirror.blob(&at.target, digest, Intent::Get).await?;
        match answer.source {
            BlobSource::Memory(_) | BlobSource::Stored(_) | BlobSource::Nothing => Ok(false),
            BlobSource::Filling(fill) => {
                let failed = fill.into_end(Deadline::now() + LONGEST_DOWNLOAD).await;
                failed.map_or(Ok(true), |error| Err(error.into()))
            }
            BlobSource::PassThrough(_) | BlobSource::Unproven(_) => {
                Err(PullError::Internal(format!("there is no room for {digest} of {} bytes", answer.size_bytes)))
            }
        }
    }

    /// Tries again what cannot be asked now: for as long as pulls are limited, else some times.
    pub(super) async fn patiently<T, A>(&self, at: &Placement, ask: impl Fn() -> A) -> Result<T, NotPulled>
    where
        A: Future<Output = Result<T, PullError>>,
    {
        let (mut tries, mut pause) = (0, FIRST_PAUSE);
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let is_rationed = error.is_rationed();
            tries += u32::from(!is_rationed);
            if !error.could_not_be_asked() || tries >= TRIES || matches!(error, PullError::Internal(_)) {
                return Err((outcome(&error), error.to_string()));
            }
            let wait = match error.retry_after() {
                Some(told) if is_rationed => told.clamp(FIRST_PAUSE, LONGEST_RATION),
                Some(told) => told.clamp(FIRST_PAUSE, LONGEST_PAUSE),
                None => pause,
            };
            pause = (pause * 2).min(LONGEST_PAUSE);
            let cache = self.mirror.cache();
            let then = cache.context.clock.now().plus(wait).rfc3339();
            let why = if is_rationed { "limits pulls" } else { "cannot be asked" };
            self.job.note(format!("{} {why}; goes on at {then}", at.scope.authority));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.job.cancelled() => return Err((JobOutcome::Failed, error.to_string())),
            }
        }
    }
}

fn outcome(error: &PullError) -> JobOutcome {
    if error.is_not_found() {
        JobOutcome::Missing
    } else if error.is_denied() || matches!(error, PullError::RefusedByRule { .. } | PullError::Blocked(_)) {
        JobOutcome::Refused
    } else {
        JobOutcome::Failed
    }
}
