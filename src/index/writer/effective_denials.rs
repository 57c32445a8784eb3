//! Which denials take anything away. Clients ask for any number of made-up names, which upstream refuses or does not have:
//! while facts cannot be written, only those are kept back behind which there is something.

use std::collections::HashSet;

use redb::ReadTransaction;

use super::Run;
use crate::index::change::has_rows;
use crate::index::revocations::Revocation;
use crate::index::schema::{BLOB_GRANTS, Key, LISTS, MANIFEST_GRANTS};
use crate::index::{Change, IndexError, Scope};
use crate::oci::{Authority, Digest};

/// Where changes give rows that the index may not have yet, or may have lost.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingGrants {
    scopes: HashSet<Scope>,
    digests: HashSet<(u32, Authority, Digest)>,
}

impl PendingGrants {
    pub(super) fn note(&mut self, change: &Change) {
        let Some((scope, digest)) = opens(change) else { return };
        self.scopes.insert(scope.clone());
        if let Some(digest) = digest {
            self.digests.insert((scope.domain, scope.authority.clone(), digest));
        }
    }

    pub(super) fn forget(&mut self, authority: &Authority) {
        self.scopes.retain(|scope| scope.authority != *authority);
        self.digests.retain(|(_, of, _)| of != authority);
    }

    pub(super) fn clear(&mut self) {
        self.scopes.clear();
        self.digests.clear();
    }
}

/// What a change lets somebody read: in a scope, and a digest in its whole authority.
pub(super) fn opens(change: &Change) -> Option<(&Scope, Option<Digest>)> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other kind opens anything")]
    match change {
        Change::GrantManifest { scope, whole_authority, digest, .. }
        | Change::GrantBlob { scope, whole_authority, digest, .. } => Some((scope, whole_authority.then_some(*digest))),
        Change::PutList { scope, .. } => Some((scope, None)),
        _ => None,
    }
}

impl Run {
    /// The changes without what takes nothing away, whose refusal ends here. All of them where that cannot be told.
    pub(super) async fn effective_denials(&self, changes: Vec<Change>) -> Vec<Change> {
        let denials: Vec<Change> = changes.iter().filter(|change| change.is_denial()).cloned().collect();
        let Some(outage) = self.outage.as_ref().filter(|outage| !outage.is_closed && !denials.is_empty()) else {
            return changes;
        };
        let rows = self.blocking(move |view| {
            let from = view.database.begin_read()?;
            denials.iter().map(|denial| rows_behind(&from, denial)).collect::<Result<Vec<_>, IndexError>>()
        });
        let Some(Ok(rows)) = rows.await else { return changes };
        let mut together = PendingGrants::default();
        for change in &changes {
            together.note(change);
        }
        let opened = [&together, outage.held.opened(), &self.recent];
        let mut rows = rows.into_iter();
        let mut effective_denials = Vec::with_capacity(changes.len());
        for change in changes {
            if !change.is_denial() {
                effective_denials.push(change);
            } else if let Some(rows) = rows.next() {
                let before = Revocation::by(&change);
                let change = without_ineffective(change, &rows, &opened);
                let after: HashSet<Revocation> = change.iter().flat_map(Revocation::by).collect();
                before
                    .iter()
                    .filter(|refused| !after.contains(refused))
                    .for_each(|refused| self.view.revocations.end(refused));
                effective_denials.extend(change);
            }
        }
        effective_denials
    }
}

/// Whether there are rows for it to drop: of a scope, or of each digest.
fn rows_behind(from: &ReadTransaction, denial: &Change) -> Result<Vec<bool>, IndexError> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "nobody makes up names for the other denials")]
    Ok(match denial {
        Change::DropLists { scope, family } => vec![has_rows(&from.open_table(LISTS)?, scope, family)?],
        Change::DropGrants { scope } => vec![
            has_rows(&from.open_table(LISTS)?, scope, "")?
                || has_rows(&from.open_table(MANIFEST_GRANTS)?, scope, "")?
                || has_rows(&from.open_table(BLOB_GRANTS)?, scope, "")?,
        ],
        Change::DropPublicGrants { scope, digests } => {
            let (manifests, blobs) = (from.open_table(MANIFEST_GRANTS)?, from.open_table(BLOB_GRANTS)?);
            let is_there = |digest: &Digest| {
                let key = Key::digest(scope, *digest, true);
                Ok(manifests.get(key.as_tuple())?.is_some() || blobs.get(key.as_tuple())?.is_some())
            };
            digests.iter().map(is_there).collect::<Result<_, IndexError>>()?
        }
        _ => Vec::new(),
    })
}

fn without_ineffective(denial: Change, rows: &[bool], opened: &[&PendingGrants]) -> Option<Change> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "nobody makes up names for the other denials")]
    match denial {
        Change::DropLists { ref scope, .. } | Change::DropGrants { ref scope } => {
            let is_effective = rows.contains(&true) || opened.iter().any(|opened| opened.scopes.contains(scope));
            is_effective.then_some(denial)
        }
        Change::DropPublicGrants { scope, digests } => {
            let is_effective = |digest: Digest| {
                let key = (scope.domain, scope.authority.clone(), digest);
                opened.iter().any(|opened| opened.digests.contains(&key))
            };
            let both = digests.into_iter().zip(rows);
            let digests: Vec<Digest> = both
                .filter(|(digest, has_rows)| **has_rows || is_effective(*digest))
                .map(|(digest, _)| digest)
                .collect();
            (!digests.is_empty()).then_some(Change::DropPublicGrants { scope, digests })
        }
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::Timestamp;
    use crate::health::Health;
    use crate::index::{BlobRow, Index};
    use crate::oci::Algorithm;

    fn scope(repository: &str) -> Scope {
        Scope { domain: 0, authority: "a.test".parse().unwrap(), repository: repository.parse().unwrap() }
    }

    fn granted(scope: &Scope, digest: Digest, whole_authority: bool) -> Change {
        Change::GrantBlob { scope: scope.clone(), whole_authority, digest, day: 1 }
    }

    fn open(root: &Path) -> Index {
        Index::open(root, Health::default(), Timestamp::default(), &|_| Ok(())).unwrap().0
    }

    async fn close(index: Index) {
        index.close().await;
        drop(index);
    }

    /// An index with these facts, that can be read and not written: its journal is torn, and a new file cannot be made.
    async fn failing(root: &Path, facts: Vec<Change>) -> Index {
        let index = open(root);
        index.apply_durably(facts).await.unwrap();
        close(index).await;
        let journal = root.join("facts/journal-000000000001.jsonl");
        let torn = std::fs::read(&journal).unwrap().into_iter().chain(*b"torn").collect::<Vec<_>>();
        std::fs::write(&journal, torn).unwrap();
        let index = open(root);
        std::fs::rename(root.join("facts"), root.join("away")).unwrap();
        index
            .apply(vec![granted(&scope("held/back"), Digest::of(Algorithm::Sha256, b"held"), false)])
            .await
            .unwrap_err();
        index
    }

    async fn heal(root: &Path, index: Index) -> Index {
        std::fs::rename(root.join("away"), root.join("facts")).unwrap();
        close(index).await;
        open(root)
    }

    #[tokio::test]
    async fn while_facts_cannot_be_written_only_what_has_something_behind_it_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let [app, held] = ["org/app", "held/back"].map(scope);
        let [digest, public, unknown] = [&b"a"[..], b"public", b"unknown"].map(|of| Digest::of(Algorithm::Sha256, of));
        let index = failing(root, vec![granted(&app, digest, false), granted(&app, public, true)]).await;
        let revocations = &index.view.revocations;
        for nth in 0..200 {
            index.revoke(&scope(&format!("made/up{nth}")), vec![unknown]).await.unwrap_err();
            index
                .apply(vec![Change::DropLists { scope: app.clone(), family: format!("made/up{nth}") }])
                .await
                .unwrap_err();
        }
        assert!(revocations.is_empty(), "there is nothing to refuse");
        index.revoke(&scope("made/up"), vec![unknown, public]).await.unwrap_err();
        assert!(!revocations.contains(&scope("made/up")) && revocations.contains_digest(&app, public, true));
        for scope in [&app, &held] {
            assert!(!revocations.contains(scope));
            index.revoke(scope, Vec::new()).await.unwrap_err();
            assert!(revocations.contains(scope), "{scope:?}");
        }
        let index = heal(root, index).await;
        assert_eq!(index.counts().await.unwrap().blob_grants, 0);
    }

    #[tokio::test]
    async fn a_registry_that_is_dropped_as_a_whole_keeps_what_nobody_can_be_asked_for_again() {
        let root = tempfile::tempdir().unwrap();
        let index = open(root.path());
        let app = scope("org/app");
        let [imported, fetched] = [&b"a"[..], b"b"].map(|of| Digest::of(Algorithm::Sha256, of));
        let put = |digest, origin| {
            let row = BlobRow { size_bytes: 1, origin, stored: Timestamp::default() };
            Change::PutBlob { digest, row }
        };
        index
            .apply(vec![
                put(imported, None),
                put(fetched, Some(app.authority.clone())),
                granted(&app, imported, false),
                granted(&app, fetched, false),
                Change::DropAllGrants { authority: Some(app.authority.clone()) },
            ])
            .await
            .unwrap();
        assert!(index.blob(&app, imported, false).await.unwrap().1.is_some());
        assert!(index.blob(&app, fetched, false).await.unwrap().1.is_none());
        index.close().await;
    }
}
