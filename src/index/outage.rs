//! Facts cannot be written: what must not be forgotten is kept until they can, and everything else is answered with an
//! error and forgotten.
//!
//! Kept are denials, which [`super::revocations`] bounds and coarsens by registry, and facts about the bytes of blobs.

use std::time::Duration;

use redb::ReadTransaction;
use tokio::time::Instant;

use super::revocations::Revocation;
use super::schema::{BLOB_GRANTS, LISTS, MANIFEST_GRANTS, has_rows};
use super::view::View;
use super::{Change, IndexError};

/// Between attempts to write again.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Facts about bytes that are kept. If there are more, the next start finds the blobs that the index does not know.
const MAX: usize = 10_000;

/// From the first failure until facts are written again.
pub(super) struct Outage {
    /// Facts about the bytes of blobs, in order.
    pub(super) kept: Vec<Change>,
    /// The database answers nothing until it is opened anew.
    pub(super) is_closed: bool,
    /// The database was closed, and does not hold all that the log holds yet.
    pub(super) is_behind: bool,
    pub(super) try_at: Instant,
    pub(super) pause: Duration,
}

impl Outage {
    pub(super) fn new(err: &IndexError) -> Self {
        // The log's failure leaves the database as it is.
        let is_closed = !matches!(err, IndexError::Log(_));
        Self { kept: Vec::new(), is_closed, is_behind: is_closed, try_at: Instant::now(), pause: FIRST_PAUSE }
    }

    /// Keeps of these changes what must not be forgotten.
    pub(super) fn keep(&mut self, changes: &[Change], effective: &[bool], view: &View) {
        let mut effective = effective.iter();
        for change in changes {
            for revocation in change.revocations() {
                if effective.next().is_none_or(|is_effective| *is_effective) {
                    view.revocations.keep(revocation);
                } else {
                    view.revocations.end(&revocation);
                }
            }
            if change.is_of_bytes() && self.kept.len() < MAX {
                self.kept.push(change.clone());
            }
        }
    }
}

impl View {
    /// Whether there are rows behind each revocation of these changes. Clients ask for any number of made-up names, which
    /// upstream refuses or does not have: those would fill the room for others. Ask only where the database holds all
    /// that the log holds.
    pub(super) fn effective(&self, changes: &[Change]) -> Result<Vec<bool>, IndexError> {
        let from = self.database.begin_read()?;
        changes.iter().flat_map(Change::revocations).map(|revocation| has_rows_behind(&from, &revocation)).collect()
    }
}

fn has_rows_behind(from: &ReadTransaction, revocation: &Revocation) -> Result<bool, IndexError> {
    Ok(match revocation {
        Revocation::Lists(scope, family) => has_rows(&from.open_table(LISTS)?, scope, family)?,
        Revocation::Scope(scope) => {
            has_rows(&from.open_table(LISTS)?, scope, "")?
                || has_rows(&from.open_table(MANIFEST_GRANTS)?, scope, "")?
                || has_rows(&from.open_table(BLOB_GRANTS)?, scope, "")?
        }
        Revocation::Digest(domain, authority, digest) => {
            let name = digest.to_string();
            let key = (*domain, authority.as_str(), "", name.as_str());
            from.open_table(MANIFEST_GRANTS)?.get(key)?.is_some() || from.open_table(BLOB_GRANTS)?.get(key)?.is_some()
        }
        Revocation::All(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::Timestamp;
    use crate::health::Health;
    use crate::index::{
        BeginEviction, BlobRow, DropAllGrants, DropLists, EndEviction, GrantBlob, Index, PutBlob, PutChildren, PutPin,
        Scope,
    };
    use crate::oci::{Algorithm, Digest};

    fn scope(repository: &str) -> Scope {
        Scope { domain: 0, authority: "a.test".parse().unwrap(), repository: repository.parse().unwrap() }
    }

    fn granted(scope: &Scope, digest: Digest, whole_authority: bool) -> Change {
        Change::from(GrantBlob { scope: scope.clone(), whole_authority, digest, day: 1 })
    }

    fn stored(digest: Digest, origin: Option<&Scope>) -> Change {
        let origin = origin.map(|scope| scope.authority.clone());
        Change::from(PutBlob { digest, row: BlobRow { size_bytes: 1, origin, stored: Timestamp::default() } })
    }

    fn open(root: &Path) -> Index {
        Index::open(root, Health::default(), Timestamp::default(), &|_| Ok(())).unwrap().0
    }

    /// An index with these facts, that can be read and not written: its log is torn, and a new file cannot be made.
    async fn failing(root: &Path, facts: Vec<Change>) -> Index {
        let index = open(root);
        index.apply_durably(facts).await.unwrap();
        index.close().await;
        drop(index);
        let journal = root.join("facts/journal-000000000001.jsonl");
        let torn = std::fs::read(&journal).unwrap().into_iter().chain(*b"torn").collect::<Vec<_>>();
        std::fs::write(&journal, torn).unwrap();
        let index = open(root);
        std::fs::rename(root.join("facts"), root.join("away")).unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"forgotten");
        index.apply(vec![granted(&scope("org/forgotten"), digest, false)]).await.unwrap_err();
        index
    }

    async fn heal(root: &Path, index: Index) -> Index {
        std::fs::rename(root.join("away"), root.join("facts")).unwrap();
        index.close().await;
        drop(index);
        open(root)
    }

    #[tokio::test]
    async fn while_facts_cannot_be_written_only_what_has_something_behind_it_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let app = scope("org/app");
        let [digest, public, unknown] = [&b"a"[..], b"public", b"unknown"].map(|of| Digest::of(Algorithm::Sha256, of));
        let index = failing(root, vec![granted(&app, digest, false), granted(&app, public, true)]).await;
        let revocations = &index.view.revocations;
        for nth in 0..200 {
            index.revoke(&scope(&format!("made/up{nth}")), vec![unknown]).await.unwrap_err();
            index
                .apply(vec![Change::from(DropLists { scope: app.clone(), family: format!("made/up{nth}") })])
                .await
                .unwrap_err();
        }
        assert!(revocations.is_empty(), "there is nothing to refuse");
        index.revoke(&scope("made/up"), vec![unknown, public]).await.unwrap_err();
        assert!(!revocations.contains(&scope("made/up")) && revocations.contains_digest(&app, public, true));
        assert!(!revocations.contains(&app));
        index.revoke(&app, Vec::new()).await.unwrap_err();
        assert!(revocations.contains(&app));
        let index = heal(root, index).await;
        assert_eq!(index.counts().await.unwrap().blob_grants, 0);
        index.close().await;
    }

    #[tokio::test]
    async fn what_became_of_bytes_is_written_when_facts_are_and_the_rest_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let app = scope("org/app");
        let [going, coming, list] = [&b"going"[..], b"coming", b"list"].map(|of| Digest::of(Algorithm::Sha256, of));
        let index = failing(root, vec![stored(going, Some(&app)), Change::from(BeginEviction(vec![going]))]).await;
        for change in [
            Change::from(EndEviction { digests: vec![going], gone: true }),
            stored(coming, Some(&app)),
            stored(list, Some(&app)),
            Change::from(PutChildren { manifest: list, children: vec![coming] }),
            granted(&app, coming, false),
            Change::from(PutPin { pin: "a.test/org/app".parse().unwrap(), at: Timestamp::default() }),
        ] {
            index.apply_durably(vec![change]).await.unwrap_err();
        }
        let index = heal(root, index).await;
        assert!(index.blob_row(going).await.unwrap().is_none());
        let (row, grant) = index.blob(&app, coming, false).await.unwrap();
        assert!(row.is_some() && grant.is_none());
        assert_eq!(index.reached(list).await.unwrap(), [list, coming]);
        assert_eq!(index.pins().await.unwrap(), []);
        index.close().await;
    }

    #[tokio::test]
    async fn a_registry_that_is_dropped_as_a_whole_keeps_what_nobody_can_be_asked_for_again() {
        let root = tempfile::tempdir().unwrap();
        let index = open(root.path());
        let app = scope("org/app");
        let [imported, fetched] = [&b"a"[..], b"b"].map(|of| Digest::of(Algorithm::Sha256, of));
        index
            .apply(vec![
                stored(imported, None),
                stored(fetched, Some(&app)),
                granted(&app, imported, false),
                granted(&app, fetched, false),
                Change::from(DropAllGrants { authority: Some(app.authority.clone()) }),
            ])
            .await
            .unwrap();
        assert!(index.blob(&app, imported, false).await.unwrap().1.is_some());
        assert!(index.blob(&app, fetched, false).await.unwrap().1.is_none());
        index.close().await;
    }
}
