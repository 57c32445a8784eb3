//! Grants: a stored digest is served in a scope only if upstream serves it there (docs/ARCHITECTURE.md, "Grants").

use std::sync::Arc;
use std::time::Duration;

use super::completion::queue::CompletionQueue;
use super::error::PullError;
use super::registries::{Registries, Registry};
use crate::cache::{Cache, Manifest, scrub};
use crate::coalesce::Coalesce;
use crate::fill::{Fills, WITHHELD_BYTES};
use crate::index::{
    Aging, BlobRow, Change, DropExpired, GrantBlob, GrantManifest, GrantRow, NoteObtainable, Scope, UseGrant,
    gone_referrers,
};
use crate::metrics::ByAuthority;
use crate::oci::Digest;
use crate::store::{BlobFile, Checked};
use crate::upstream::Failure;

/// Grants that nobody used for so long are dropped.
pub const UNUSED_DAYS: u64 = 90;
/// Bytes that another registry has to show.
const PROOF_BYTES: u64 = WITHHELD_BYTES;
/// From the start to the first look for unused grants, and from one look to the next.
const FIRST_EXPIRY: Duration = Duration::from_mins(10);
const EXPIRY_PERIOD: Duration = Duration::from_hours(24);

/// How a proof that a scope serves a stored blob has ended, other than in an error.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    Granted,
    /// The stored bytes have gone meanwhile.
    Again,
    /// The stored bytes cannot be read: they are neither right nor wrong.
    PassThrough(String),
}

/// Grants and revokes.
#[derive(Clone)]
pub(super) struct Grants {
    cache: Arc<Cache>,
    fills: Arc<Fills>,
    proofs: Arc<Coalesce<(Scope, Digest), Result<Proof, PullError>>>,
    completion: Arc<CompletionQueue>,
}

impl Grants {
    pub(super) fn new(cache: &Arc<Cache>, fills: &Arc<Fills>, completion: &Arc<CompletionQueue>) -> Self {
        let proofs = Arc::new(Coalesce::new(cache.context.tasks.clone()));
        Self { cache: Arc::clone(cache), fills: Arc::clone(fills), proofs, completion: Arc::clone(completion) }
    }

    /// Asks upstream whether `scope` serves the stored blob, and grants it if so. All requests at once share the answer.
    pub(super) async fn prove(
        &self,
        registry: &Arc<Registry>,
        scope: &Scope,
        digest: Digest,
        (row, file): (&BlobRow, &BlobFile),
    ) -> Result<Proof, PullError> {
        let prove = || {
            let (grants, registry, scope) = (self.clone(), Arc::clone(registry), scope.clone());
            let (row, file) = (row.clone(), file.clone());
            async move { grants.prove_once(&registry, &scope, digest, &row, &file).await }
        };
        self.proofs.run((scope.clone(), digest), prove).await?.0
    }

    async fn prove_once(
        &self,
        registry: &Registry,
        scope: &Scope,
        digest: Digest,
        row: &BlobRow,
        file: &BlobFile,
    ) -> Result<Proof, PullError> {
        let client = registry.client();
        let deadline = client.answer_deadline();
        let is_origin = row.origin.as_ref() == Some(&scope.authority) || row.size_bytes == 0;
        // A registry that does not have it, or something else, must not learn from a range how large the stored one is.
        let told = client.probe_blob(&scope.repository, digest, deadline).await?;
        if !is_origin {
            match told {
                Some(told) if told == row.size_bytes => {}
                Some(_) => return Err(self.claimed_wrongly(registry, scope, digest, 0)),
                None => return Err(client.error_at(0, Failure::RangeNotThere).into()),
            }
        }
        // A registry that the bytes did not come from may say yes to anything: it has to show some of them. So has one that
        // says yes to something of another size, as a front door does that answers everything with its own page.
        let is_proven = is_origin && told == Some(row.size_bytes);
        if row.size_bytes > 0 && !is_proven {
            let range = random_range(row.size_bytes);
            let shown = client.read_blob_range(&scope.repository, digest, range.clone(), deadline).await?;
            let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let same_size = shown.size_bytes.is_none_or(|told| told == row.size_bytes);
            let is_proof = same_size && file.read(range.start, length).await.is_ok_and(|stored| stored == shown.bytes);
            if !is_proof {
                return self.judge_mismatch(registry, scope, digest, shown.endpoint).await;
            }
        }
        self.grant_blob(registry, scope, digest).await;
        self.cache.access_times.record(digest, self.cache.context.clock.now());
        if row.origin.is_none() {
            // The index has logged a failure; the blob stays.
            let _logged =
                self.cache.index.apply(vec![Change::from(NoteObtainable { digest, scope: scope.clone() })]).await;
        }
        Ok(Proof::Granted)
    }

    /// Upstream and the stored bytes disagree. The stored ones are read again before anyone is blamed.
    async fn judge_mismatch(
        &self,
        registry: &Registry,
        scope: &Scope,
        digest: Digest,
        endpoint: usize,
    ) -> Result<Proof, PullError> {
        match scrub::recheck(&self.cache, digest).await {
            Ok(Checked::Right(_)) => {}
            Ok(Checked::Wrong(_, file_id)) => {
                scrub::take_out(&self.cache, digest, file_id).await;
                return Ok(Proof::Again);
            }
            // Evicted in this moment.
            Ok(Checked::Missing | Checked::Unreadable | Checked::NotOpened) => return Ok(Proof::Again),
            // The bytes stay, and are looked at again in the background.
            Err(err) => return Ok(Proof::PassThrough(format!("the disk does not give the stored bytes: {err}"))),
        }
        Err(self.claimed_wrongly(registry, scope, digest, endpoint))
    }

    fn claimed_wrongly(&self, registry: &Registry, scope: &Scope, digest: Digest, endpoint: usize) -> PullError {
        self.cache.context.metrics.digest_mismatches.get_or_create(&ByAuthority::of(registry.name())).inc();
        let error = registry.client().error_at(endpoint, Failure::BadDigest);
        tracing::warn!(authority = registry.name(), repository = %scope.repository, %digest, endpoint = %error.endpoint,
            "upstream claims to have a blob and showed other bytes");
        error.into()
    }

    pub(super) async fn grant_blob(&self, registry: &Registry, scope: &Scope, digest: Digest) {
        let day = self.cache.context.clock.now().day();
        let grant =
            Change::from(GrantBlob { scope: scope.clone(), whole_authority: registry.policy.public, digest, day });
        // The index has logged a failure; the grant is asked for again next time.
        let _logged = self.cache.index.apply(vec![grant]).await;
    }

    pub(super) async fn grant_manifest(&self, registry: &Registry, scope: &Scope, manifest: &Manifest) {
        let now = self.cache.context.clock.now();
        let grant = Change::from(GrantManifest {
            scope: scope.clone(),
            whole_authority: registry.policy.public,
            digest: manifest.digest,
            media_type: manifest.media_type.clone(),
            day: now.day(),
        });
        let pinned = self.cache.pins.mark(scope, None, manifest.digest);
        self.cache.access_times.record(manifest.digest, now);
        // The index has logged a failure; the grant is asked for again next time.
        let _logged = self.cache.index.apply(std::iter::once(grant).chain(pinned).collect()).await;
        self.completion.granted(scope, manifest.digest);
    }

    /// The grant, unless it was last used so long ago that it counts as dropped.
    pub(super) async fn unless_unused(
        &self,
        registry: &Registry,
        digest: Digest,
        grant: Option<GrantRow>,
    ) -> Option<GrantRow> {
        let grant = grant?;
        let is_dropped = self.is_unused(registry, &grant) && !self.cache.index.is_pinned(digest).await.unwrap_or(false);
        (!is_dropped).then_some(grant)
    }

    /// Whether a grant counts as dropped if nothing pins what it opens. Where upstream is never asked, nothing could renew
    /// it.
    pub(super) fn is_unused(&self, registry: &Registry, grant: &GrantRow) -> bool {
        let first_day = self.cache.context.clock.now().day().saturating_sub(UNUSED_DAYS);
        !registry.policy.offline && grant.used_day < first_day
    }

    /// Notes that a grant was used, at most once a day and off the request's path.
    pub(super) fn touch(&self, registry: &Registry, scope: &Scope, digest: Digest, grant: &GrantRow) {
        let now = self.cache.context.clock.now();
        self.cache.access_times.record(digest, now);
        let day = now.day();
        if grant.used_day >= day {
            return;
        }
        let table = if grant.media_type.is_some() { Aging::ManifestGrants } else { Aging::BlobGrants };
        let (scope, whole_authority) = (scope.clone(), registry.policy.public);
        let change = Change::from(UseGrant { scope, whole_authority, digest, table, day });
        let cache = Arc::clone(&self.cache);
        self.cache.context.tasks.spawn(async move { drop(cache.index.apply(vec![change]).await) });
    }

    /// Upstream refuses access: its grants in this scope are forgotten. Grants to a whole registry belong to no scope: of
    /// these, those of the manifest that was `refused` and of all it lists are forgotten.
    pub(super) async fn revoke(&self, registry: &Registry, scope: &Scope, refused: Option<Digest>) {
        self.fills.revoke(scope);
        let index = &self.cache.index;
        let mut drops = Vec::new();
        let (authority, repository) = (&scope.authority, &scope.repository);
        if registry.policy.public {
            tracing::warn!(%authority, %repository, manifest = refused.map(|digest| digest.to_string()),
                "upstream refuses access; its lists and the manifest that was asked for, with what that lists, are \
                forgotten. What else was served stays readable in all of this registry: it is configured as `public`");
            if let Some(manifest) = refused {
                drops = index.reached(manifest).await.unwrap_or_else(|_not_read| vec![manifest]);
            }
        } else {
            tracing::warn!(%authority, %repository,
                "upstream refuses access; what it granted in this repository is forgotten");
        }
        // The index has logged a failure; until the revocation is written down, it holds in memory.
        let _logged = index.revoke(scope, drops).await;
    }

    /// Drops unused grants and lists some time after the start and once a day, until the mirror stops.
    pub(super) async fn run_expiry(&self, registries: &Registries) {
        let mut pause = FIRST_EXPIRY;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => self.expire(registries).await,
                () = self.cache.context.stopping.cancelled() => return,
            }
            pause = EXPIRY_PERIOD;
        }
    }

    /// Drops grants and lists that were not used for [`UNUSED_DAYS`], in small steps; not those of pinned content, nor of
    /// upstreams that are offline. Then what is known of referrers that are not stored any more.
    pub(super) async fn expire(&self, registries: &Registries) {
        const STEP: usize = 1000;
        let Cache { index, pins, context, .. } = &*self.cache;
        if !pins.are_known(index) {
            return;
        }
        let before_day = context.clock.now().day().saturating_sub(UNUSED_DAYS);
        for table in Aging::ALL {
            let mut after = None;
            loop {
                let Ok((mut expired, next)) = index.expired(table, after, before_day, STEP).await else {
                    break;
                };
                if !pins.are_known(index) {
                    return;
                }
                expired.retain(|expired| !is_offline(registries, expired));
                let expired: Vec<Change> = expired.into_iter().map(Change::from).collect();
                if !expired.is_empty() && index.apply(expired).await.is_err() {
                    break;
                }
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
                tokio::task::yield_now().await;
            }
        }
        let mut after = None;
        loop {
            let Ok((gone, next)) = gone_referrers(index, after, STEP).await else { return };
            if !gone.0.is_empty() && index.apply(vec![gone.into()]).await.is_err() {
                return;
            }
            match next {
                Some(next) => after = Some(next),
                None => return,
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Whether this is about an upstream that is never asked.
fn is_offline(registries: &Registries, expired: &DropExpired) -> bool {
    let (_, authority, _, _) = &expired.key;
    let registry = authority.parse().ok().and_then(|authority| registries.get(&authority));
    registry.is_some_and(|registry| registry.policy.offline)
}

/// A range that could not be guessed; the whole of a small blob.
fn random_range(size_bytes: u64) -> std::ops::Range<u64> {
    let Some(span) = size_bytes.checked_sub(PROOF_BYTES).filter(|span| *span > 0) else { return 0..size_bytes };
    let mut random = [0; 8];
    // Without randomness the end is as good as any fixed place, and better than none.
    let start = getrandom::fill(&mut random).map_or(span, |()| u64::from_le_bytes(random) % (span + 1));
    start..start + PROOF_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_to_show_lies_within_the_blob() {
        assert_eq!(random_range(10), 0..10);
        assert_eq!(random_range(PROOF_BYTES), 0..PROOF_BYTES);
        for size in [PROOF_BYTES + 1, 10 * PROOF_BYTES] {
            for _ in 0..100 {
                let range = random_range(size);
                assert!(range.end <= size && range.end - range.start == PROOF_BYTES);
            }
        }
    }
}
