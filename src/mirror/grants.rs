//! Who may read what (design §6): a stored digest is served in a scope only if upstream serves it there.

use std::sync::Arc;

use crate::index::{Aging, BlobRow, Change, GrantRow, Scope};
use crate::metrics::ByAuthority;
use crate::oci::Digest;
use crate::store::{BlobFile, Checked};
use crate::upstream::Failure;

use crate::mirror::answer::PullError;
use crate::mirror::fill::progress::WITHHELD_BYTES;
use crate::mirror::{Mirror, Registry};

/// Grants that nobody used for so long are dropped.
pub const UNUSED_DAYS: u64 = 90;
/// Bytes that another authority has to show.
const PROOF_BYTES: u64 = WITHHELD_BYTES;

impl Mirror {
    /// Asks upstream whether `scope` serves the stored blob, and grants it if so. All who ask at once share the answer.
    pub(in crate::mirror) async fn prove_blob(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        digest: Digest,
        row: &BlobRow,
        file: &BlobFile,
    ) -> Result<(), PullError> {
        let prove = || {
            let (mirror, registry, scope) = (Arc::clone(self), Arc::clone(registry), scope.clone());
            let (row, file) = (row.clone(), file.clone());
            async move { mirror.prove_blob_once(&registry, &scope, digest, &row, &file).await }
        };
        self.proofs.run((scope.clone(), digest), prove).await?.0
    }

    async fn prove_blob_once(
        &self,
        registry: &Registry,
        scope: &Scope,
        digest: Digest,
        row: &BlobRow,
        file: &BlobFile,
    ) -> Result<(), PullError> {
        let upstream = &registry.client;
        let deadline = upstream.patience();
        let is_origin = row.origin.as_ref() == Some(&scope.authority) || row.size_bytes == 0;
        let told = if is_origin { upstream.probe_blob(&scope.repository, digest, deadline).await? } else { None };
        // An authority that the bytes did not come from may say yes to anything: it has to show some of them. So has one that
        // says yes to something of another size, as a front door does that answers everything with its own page.
        if row.size_bytes > 0 && told != Some(row.size_bytes) {
            let range = random_range(row.size_bytes);
            let shown = upstream.read_blob_range(&scope.repository, digest, range.clone(), deadline).await?;
            let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let same_size = shown.size_bytes.is_none_or(|told| told == row.size_bytes);
            let is_proof = same_size && file.read(range.start, length).await.is_ok_and(|stored| stored == shown.bytes);
            if !is_proof {
                return Err(self.judge_mismatch(registry, scope, digest, shown.endpoint).await);
            }
        }
        self.grant_blob(registry, scope, digest).await;
        self.record_access(digest, self.clock.now());
        if row.origin.is_none() {
            // The writer has logged a failure; the blob stays.
            let _lost = self.index.apply(vec![Change::NoteObtainable { digest, scope: scope.clone() }]).await;
        }
        Ok(())
    }

    /// Upstream and the stored bytes disagree. The stored ones are read again before anyone is blamed.
    async fn judge_mismatch(&self, registry: &Registry, scope: &Scope, digest: Digest, endpoint: usize) -> PullError {
        match self.store.check(digest).await {
            Ok(Checked::Right(_)) => {}
            Ok(Checked::Wrong(_, file_id)) => {
                self.take_out(digest, file_id).await;
                return PullError::Restarted;
            }
            // Evicted in this moment.
            Ok(Checked::Missing | Checked::Unreadable | Checked::NotOpened) => return PullError::Restarted,
            // Not read is not wrong: the bytes stay, and are looked at again in the background.
            Err(err) => return PullError::Uncacheable(format!("the disk does not give the stored bytes: {err}")),
        }
        self.metrics.digest_mismatches.get_or_create(&ByAuthority::of(registry.name())).inc();
        let error = registry.client.error_at(endpoint, Failure::BadDigest);
        tracing::warn!(authority = registry.name(), repository = %scope.repository, %digest, endpoint = %error.endpoint,
            "upstream claims to have a blob and showed other bytes");
        error.into()
    }

    pub(in crate::mirror) async fn grant_blob(&self, registry: &Registry, scope: &Scope, digest: Digest) {
        let grant = Change::GrantBlob {
            scope: scope.clone(),
            whole_authority: registry.policy.public,
            digest,
            day: self.clock.now().day(),
        };
        // The writer has logged a failure; the grant is asked for again next time.
        let _lost = self.index.apply(vec![grant]).await;
    }

    /// The grant, unless it was last used so long ago that it counts as dropped.
    pub(in crate::mirror) async fn unless_unused(
        &self,
        registry: &Registry,
        digest: Digest,
        grant: Option<GrantRow>,
    ) -> Option<GrantRow> {
        let grant = grant?;
        let is_dropped = self.is_unused(registry, &grant) && !self.index.is_pinned(digest).await.unwrap_or(false);
        (!is_dropped).then_some(grant)
    }

    /// Whether it counts as dropped if nothing pins what it opens. Where upstream is never asked, nothing could renew it.
    pub(in crate::mirror) fn is_unused(&self, registry: &Registry, grant: &GrantRow) -> bool {
        !registry.policy.offline && grant.used_day < self.clock.now().day().saturating_sub(UNUSED_DAYS)
    }

    /// Notes that a grant was used, at most once a day and off the request's path.
    pub(in crate::mirror) fn touch(
        self: &Arc<Self>,
        registry: &Registry,
        scope: &Scope,
        digest: Digest,
        grant: &GrantRow,
    ) {
        let now = self.clock.now();
        self.record_access(digest, now);
        let day = now.day();
        if grant.used_day >= day {
            return;
        }
        let table = if grant.media_type.is_some() { Aging::ManifestGrants } else { Aging::BlobGrants };
        let (scope, whole_authority) = (scope.clone(), registry.policy.public);
        let change = Change::UseGrant { scope, whole_authority, digest, table, day };
        let mirror = Arc::clone(self);
        self.tasks.spawn(async move { drop(mirror.index.apply(vec![change]).await) });
    }

    /// Upstream no longer lets the mirror in: what it granted in this scope is forgotten. Grants to a whole authority are
    /// nobody's: of these, those of the manifest that was `refused` and of all it lists.
    pub(in crate::mirror) async fn revoke(&self, registry: &Registry, scope: &Scope, refused: Option<Digest>) {
        self.in_flight.revoke(scope);
        let mut drops = Vec::new();
        let (authority, repository) = (&scope.authority, &scope.repository);
        if registry.policy.public {
            tracing::warn!(%authority, %repository, manifest = refused.map(|digest| digest.to_string()),
                "upstream refuses access; its lists and the manifest that was asked for, with what that lists, are \
                forgotten. What else was served stays readable in all of this registry: it is configured as `public`");
            if let Some(manifest) = refused {
                let digests = self.index.reached(manifest).await.unwrap_or_else(|_not_read| vec![manifest]);
                drops = digests;
            }
        } else {
            tracing::warn!(%authority, %repository,
                "upstream refuses access; what it granted in this repository is forgotten");
        }
        // The writer has logged a failure; until it is written down, it holds in memory.
        let _lost = self.index.revoke(scope, drops).await;
    }

    /// Drops grants and lists that were not used for [`UNUSED_DAYS`], in small steps; not those of what is pinned, nor of
    /// upstreams that are offline.
    pub async fn sweep(&self) {
        const STEP: usize = 1000;
        if !self.are_pins_known() {
            return;
        }
        let before_day = self.clock.now().day().saturating_sub(UNUSED_DAYS);
        for table in Aging::ALL {
            let mut after = None;
            loop {
                let Ok((mut expired, next)) = self.index.expired(table, after, before_day, STEP).await else {
                    break;
                };
                if !self.are_pins_known() {
                    return;
                }
                expired.retain(|change| !self.is_offline(change));
                if !expired.is_empty() && self.index.apply(expired).await.is_err() {
                    break;
                }
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Mirror {
    /// Whether this is about an upstream that is never asked.
    fn is_offline(&self, change: &Change) -> bool {
        let Change::DropExpired { key: (_, authority, _, _), .. } = change else { return false };
        let registry = authority.parse().ok().and_then(|authority| self.registry(&authority));
        registry.is_some_and(|registry| registry.policy.offline)
    }
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
