//! One manifest: what it lists is proved, or fetched, as far as the configuration wants it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::lacked::Subject;
use super::pull::Pull;
use super::queue::Ended;
use crate::fill::{FillError, Priority};
use crate::index::{HeldDigest, Scope, held_digests};
use crate::metrics::ByCompletion;
use crate::mirror::Mirror;
use crate::mirror::error::PullError;
use crate::mirror::grants::Proof;
use crate::mirror::lists;
use crate::mirror::policy::{Complete, Completion, MAX_CONFIG_BYTES};
use crate::mirror::registries::Registry;
use crate::mirror::tag::Belief;
use crate::oci::{Child, Digest, Inspected, Reference, Role, Tag};
use crate::upstream::Deadline;

/// Most blobs, and most manifests, that are looked at for one manifest.
pub(super) const MAX_LISTED: usize = 1000;
/// Blobs of one manifest that begin before its client asks for them, at one time.
const MAX_AHEAD: usize = 10;
/// Longest wait for a registry's clients, for a question and for a download. A registry that is never idle must not wait
/// for ever to be complete.
const PATIENCE: Duration = Duration::from_secs(5);
const DOWNLOAD_PATIENCE: Duration = Duration::from_mins(5);
/// Between two looks whether clients are served.
const LOOK: Duration = Duration::from_millis(100);
/// Longest download that is waited for.
const LONGEST_DOWNLOAD: Duration = Duration::from_hours(6);
/// Least pause after upstream could not be asked, or had no room.
const PAUSE: Duration = Duration::from_secs(30);

/// The work in one scope.
pub(super) struct Work {
    mirror: Arc<Mirror>,
    registry: Arc<Registry>,
    scope: Scope,
}

/// Why something was not obtained.
enum Refused {
    /// Upstream does not have it here.
    Here,
    For(Duration),
}

impl From<&PullError> for Refused {
    fn from(error: &PullError) -> Self {
        if error.could_not_be_asked() {
            Self::For(error.retry_after().unwrap_or_default().max(PAUSE))
        } else {
            Self::Here
        }
    }
}

impl Work {
    /// `None` if the registry is not served any more, or never asked, or if the rules refuse the repository.
    pub(super) fn new(mirror: &Arc<Mirror>, scope: &Scope) -> Option<Self> {
        let registry = mirror.registries.get(&scope.authority)?;
        let is_asked = !registry.policy.offline && registry.policy.allows(&scope.repository);
        is_asked.then(|| Self { mirror: Arc::clone(mirror), registry, scope: scope.clone() })
    }

    pub(super) async fn complete(self, manifest: Digest, pull: Pull) -> Ended {
        if self.mirror.cache.blocks.of_digest(&self.scope, manifest).is_some() {
            return Ended::Done;
        }
        let Some(inspected) = self.inspect(manifest).await else { return Ended::Done };
        let completion = self.registry.policy.completion_of(&self.scope.repository).clone();
        let work = async {
            self.complete_blobs(manifest, &inspected, &completion).await?;
            if !pull.may_go_on() {
                return Ok(());
            }
            self.complete_index(&inspected, &completion, &pull).await?;
            if completion.referrers {
                self.complete_referrers(manifest, &pull).await?;
            }
            Ok(())
        };
        match work.await {
            Ok(()) => Ended::Done,
            Err(pause) => Ended::Later(pause),
        }
    }

    /// The manifest, if this scope may read it and its bytes are here. It does not count as used.
    async fn inspect(&self, manifest: Digest) -> Option<Inspected> {
        let is_public = self.registry.policy.public;
        self.mirror.cache.index.manifest(&self.scope, manifest, is_public).await.ok()?.grant?;
        let held = self.mirror.held_in_authority(&self.registry, &self.scope, manifest).await.ok()??;
        Inspected::read(&held.bytes, Some(&held.media_type)).ok()
    }

    async fn complete_blobs(
        &self,
        manifest: Digest,
        inspected: &Inspected,
        completion: &Completion,
    ) -> Result<(), Duration> {
        let blobs: Vec<&Child> = inspected.children.iter().filter(|c| c.role.is_blob()).take(MAX_LISTED).collect();
        let mut lacked = Vec::new();
        for (blob, held) in blobs.iter().zip(self.held(&blobs, false).await) {
            if held.is_served() || self.is_given_up(blob.digest) {
                continue;
            }
            let is_wanted = match completion.complete {
                Complete::Off => false,
                Complete::Config => blob.role == Role::Config && blob.size_bytes <= MAX_CONFIG_BYTES,
                Complete::Image => true,
            };
            let what = if held.is_stored { "proof" } else { "blob" };
            let obtained = if held.is_stored {
                self.prove(blob.digest).await
            } else if is_wanted {
                self.fetch(blob.digest).await
            } else {
                lacked.push(blob.digest);
                continue;
            };
            self.count(what, obtained.is_ok());
            match obtained {
                Ok(()) => {}
                Err(Refused::Here) => self.give_up(blob.digest),
                Err(Refused::For(pause)) => return Err(pause),
            }
        }
        self.mirror.completion.lacks(&(self.scope.clone(), manifest), &lacked);
        Ok(())
    }

    /// The manifests of an index: those that are held for another repository, and those of wanted platforms.
    async fn complete_index(
        &self,
        inspected: &Inspected,
        completion: &Completion,
        pull: &Pull,
    ) -> Result<(), Duration> {
        let listed: Vec<&Child> =
            inspected.children.iter().filter(|c| c.role == Role::Manifest).take(MAX_LISTED).collect();
        for (child, held) in listed.iter().zip(self.held(&listed, true).await) {
            let is_wanted = completion.platforms.contain(child.platform.as_ref());
            if held.is_served() || !(held.is_stored || is_wanted) || self.is_given_up(child.digest) {
                continue;
            }
            Box::pin(self.obtain_manifest(&Reference::Digest(child.digest), pull)).await?;
        }
        Ok(())
    }

    /// What refers to the manifest, by upstream's list and by the tags of cosign.
    async fn complete_referrers(&self, subject: Digest, pull: &Pull) -> Result<(), Duration> {
        if !pull.may_ask(&self.scope) {
            return Ok(());
        }
        self.wait_for_clients(PATIENCE).await;
        match lists::referrers(&self.mirror, &self.registry, &self.scope, subject, Vec::new()).await {
            Ok(list) => {
                pull.took(list.descriptors.len());
                for digest in list.digests().take(MAX_LISTED) {
                    if !self.is_given_up(digest) && self.inspect(digest).await.is_none() {
                        Box::pin(self.obtain_manifest(&Reference::Digest(digest), pull)).await?;
                    }
                }
            }
            Err(error) => {
                if let Refused::For(pause) = Refused::from(&error) {
                    return Err(pause);
                }
            }
        }
        for tag in Tag::of_cosign(subject) {
            Box::pin(self.obtain_manifest(&Reference::Tag(tag), pull)).await?;
        }
        Ok(())
    }

    /// Asks for a manifest as a client would. It is looked at in its turn.
    async fn obtain_manifest(&self, reference: &Reference, pull: &Pull) -> Result<(), Duration> {
        if !pull.may_ask(&self.scope) {
            return Ok(());
        }
        self.wait_for_clients(PATIENCE).await;
        let (mirror, scope) = (&self.mirror, &self.scope);
        let next = pull.next();
        let asking = async {
            match reference {
                Reference::Digest(digest) => mirror.manifest_by_digest(&self.registry, scope, *digest).await,
                Reference::Tag(tag) => mirror.manifest_by_tag(&self.registry, scope, tag, Belief::Usual).await,
            }
        };
        let answer = Box::pin(next.clone().follow(asking)).await;
        self.count("manifest", answer.is_ok());
        match answer {
            Ok(answer) => {
                pull.took(answer.bytes.len());
                mirror.completion.push(scope, answer.digest, Duration::ZERO, next);
            }
            Err(error) => match (Refused::from(&error), reference) {
                (Refused::For(pause), _) => return Err(pause),
                (Refused::Here, Reference::Digest(digest)) => self.give_up(*digest),
                (Refused::Here, Reference::Tag(_)) => {}
            },
        }
        Ok(())
    }

    /// Asks upstream whether this scope may read what is stored.
    async fn prove(&self, digest: Digest) -> Result<(), Refused> {
        self.wait_for_clients(PATIENCE).await;
        let cache = &self.mirror.cache;
        let Ok(Some(row)) = cache.index.blob_row(digest).await else { return Err(Refused::For(PAUSE)) };
        let Ok(Some(file)) = cache.open(digest, &row).await else { return Err(Refused::For(PAUSE)) };
        match self.mirror.grants.prove(&self.registry, &self.scope, digest, (&row, &file)).await {
            Ok(Proof::Granted) => Ok(()),
            Ok(Proof::Again | Proof::PassThrough(_)) => Err(Refused::For(PAUSE)),
            Err(error) => Err(Refused::from(&error)),
        }
    }

    /// Downloads a blob that nobody has asked for.
    async fn fetch(&self, digest: Digest) -> Result<(), Refused> {
        self.wait_for_clients(DOWNLOAD_PATIENCE).await;
        let (source, fills) = (&self.registry.source, &self.mirror.fills);
        let (fill, _) = fills.join_or_start(source, &self.scope, digest, Priority::Background, || true);
        let mut watcher = fill.follow();
        drop(fill);
        let deadline = Deadline::now() + LONGEST_DOWNLOAD;
        let refused = match watcher.begun(deadline, LONGEST_DOWNLOAD).await {
            Ok(_) => None,
            Err(FillError::Upstream(error)) => Some(Refused::from(&PullError::from(error))),
            Err(_not_upstreams) => Some(Refused::For(PAUSE)),
        };
        watcher.ended(deadline).await;
        match (self.held_one(digest).await, refused) {
            (Some(held), _) if held.is_served() => Ok(()),
            // It was a download for another scope.
            (Some(held), _) if held.is_stored => self.prove(digest).await,
            (_, refused) => Err(refused.unwrap_or(Refused::For(PAUSE))),
        }
    }

    async fn held(&self, children: &[&Child], are_manifests: bool) -> Vec<HeldDigest> {
        let digests = children.iter().map(|child| child.digest).collect();
        let (index, is_public) = (&self.mirror.cache.index, self.registry.policy.public);
        held_digests(index, &self.scope, digests, are_manifests, is_public).await.unwrap_or_default()
    }

    async fn held_one(&self, digest: Digest) -> Option<HeldDigest> {
        let (index, is_public) = (&self.mirror.cache.index, self.registry.policy.public);
        held_digests(index, &self.scope, vec![digest], false, is_public).await.ok()?.pop()
    }

    /// Waits while downloads of this registry run, so that no client shares its connection with the background.
    async fn wait_for_clients(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.mirror.fills.count_running(&self.scope.authority) > 0 && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Nor is what is blocked fetched.
    fn is_given_up(&self, digest: Digest) -> bool {
        if self.mirror.cache.blocks.of_digest(&self.scope, digest).is_some() {
            return true;
        }
        self.mirror.completion.given_up.contains_key(&(self.scope.clone(), digest))
    }

    fn give_up(&self, digest: Digest) {
        self.mirror.completion.given_up.insert((self.scope.clone(), digest), ());
    }

    fn count(&self, what: &'static str, is_ok: bool) {
        let result = if is_ok { "obtained" } else { "refused" };
        let labels = ByCompletion { authority: self.registry.name().to_owned(), what, result };
        self.mirror.cache.context.metrics.completed.get_or_create(&labels).inc();
    }
}

/// A client was given a manifest that is new here: where the configuration wants images complete, the blobs begin before
/// it asks for them, a few at a time.
pub(in crate::mirror) fn begin_blobs(
    mirror: &Arc<Mirror>,
    registry: &Arc<Registry>,
    subject: Subject,
    inspected: &Inspected,
) {
    let is_wanted = registry.policy.completion_of(&subject.0.repository).complete == Complete::Image;
    if !is_wanted || Pull::followed().is_some() {
        return;
    }
    let blobs: Vec<Digest> =
        inspected.children.iter().filter(|c| c.role.is_blob()).map(|c| c.digest).take(MAX_LISTED).collect();
    let (mirror, registry) = (Arc::clone(mirror), Arc::clone(registry));
    let tasks = mirror.cache.context.tasks.clone();
    tasks.clone().spawn(async move {
        let (scope, is_public) = (&subject.0, registry.policy.public);
        let held = held_digests(&mirror.cache.index, scope, blobs, false, is_public).await.unwrap_or_default();
        let few = Arc::new(Semaphore::new(MAX_AHEAD));
        let stopping = &mirror.cache.context.stopping;
        let is_blocked = |digest| mirror.cache.blocks.of_digest(scope, digest).is_some();
        for blob in held.iter().filter(|held| !held.is_stored && !is_blocked(held.digest)) {
            let turn = tokio::select! {
                turn = Arc::clone(&few).acquire_owned() => turn,
                () = stopping.cancelled() => return,
            };
            // Where others have the places, this is left to the client, and to the background.
            let place = Arc::clone(&mirror.completion.ahead).try_acquire_owned();
            let (Ok(turn), Ok(place), true) = (turn, place, mirror.fills.has_place(&registry.source)) else { return };
            let (fill, _) = mirror.fills.join_or_start(&registry.source, scope, blob.digest, Priority::Ahead, || true);
            let (gone, stopping) = (fill.gone(), stopping.clone());
            drop(fill);
            tasks.spawn(async move {
                tokio::select! {
                    () = gone => {}
                    () = stopping.cancelled() => {}
                }
                drop((turn, place));
            });
        }
    });
}
