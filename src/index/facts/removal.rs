//! What an operator removes: the next pull asks upstream for it again.

use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::list::drop_lists;
use super::{GrantRow, Kind};
use crate::index::generation::Generations;
use crate::index::schema::{self, BLOB_GRANTS, Key, LAST, MANIFEST_GRANTS, REFERRED, REFERRERS, TAGS};
use crate::index::{IndexError, Scope, is_default};
use crate::oci::{Digest, Tag};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveTag {
    pub scope: Scope,
    pub tag: Tag,
}

impl Kind for RemoveTag {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        to.open_table(TAGS)?.remove(Key::tag(&self.scope, &self.tag).as_tuple())?;
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_tag(&self.scope, &self.tag);
    }
}

/// These may not be read in this scope any more without asking. Where a grant is of the whole authority, a manifest that other
/// repositories asked for stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveGrants {
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "is_default")]
    pub whole_authority: bool,
    pub digests: Vec<Digest>,
}

impl Kind for RemoveGrants {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let Self { scope, whole_authority, digests } = self;
        let (mut manifests, mut blobs) = (to.open_table(MANIFEST_GRANTS)?, to.open_table(BLOB_GRANTS)?);
        for digest in digests {
            let key = Key::digest(scope, *digest, *whole_authority);
            let row: Option<GrantRow> = schema::row(&manifests, &key)?;
            let others = row.as_ref().filter(|_| *whole_authority).and_then(|row| row.repositories.clone());
            let others =
                others.map(|all| all.into_iter().filter(|known| *known != scope.repository).collect::<Vec<_>>());
            match (row, others) {
                (Some(row), Some(others)) if !others.is_empty() => {
                    let row = GrantRow { repositories: Some(others), ..row };
                    manifests.insert(key.as_tuple(), schema::json(&row)?.as_slice())?;
                }
                _ => {
                    manifests.remove(key.as_tuple())?;
                    blobs.remove(key.as_tuple())?;
                }
            }
        }
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        for digest in &self.digests {
            generations.bump_digest(*digest);
        }
    }

    fn weight(&self) -> usize {
        self.digests.len()
    }
}

/// All grants, lists and referrers of a scope. Its tags go one by one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveRepository {
    pub scope: Scope,
}

impl Kind for RemoveRepository {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        drop_lists(to, &self.scope, "")?;
        for table in [MANIFEST_GRANTS, BLOB_GRANTS] {
            to.open_table(table)?.retain_in(schema::range(&self.scope, "", LAST), |_, _| false)?;
        }
        let (mut rows, mut by_name) = (to.open_table(REFERRERS)?, to.open_table(REFERRED)?);
        for removed in rows.extract_from_if(schema::range(&self.scope, "", LAST), |_, _| true)? {
            let (key, _) = removed?;
            let (domain, authority, repository, both) = key.value();
            if let Some((subject, referrer)) = both.split_once(' ') {
                by_name.remove((referrer, domain, authority, repository, subject))?;
            }
        }
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_scope(&self.scope);
    }
}

#[cfg(test)]
mod tests {
    use redb::ReadableTableMetadata as _;

    use super::*;
    use crate::clock::Timestamp;
    use crate::health::Health;
    use crate::index::{Change, Index, PutReferrer, ReferrerRow};
    use crate::oci::Algorithm;

    #[tokio::test]
    async fn a_removed_repository_leaves_no_row_of_its_referrers() {
        let root = tempfile::tempdir().unwrap();
        let index = Index::open(root.path(), Health::default(), Timestamp::default(), &|_| Ok(())).unwrap().0;
        let scope = |repository: &str| Scope {
            domain: 0,
            authority: "a.test".parse().unwrap(),
            repository: repository.parse().unwrap(),
        };
        let digest = |name: &str| Digest::of(Algorithm::Sha256, name.as_bytes());
        let refers = |repository: &str, referrer: &str| {
            let row = ReferrerRow { descriptor: serde_json::json!({}) };
            let (subject, referrer) = (digest("subject"), digest(referrer));
            Change::from(PutReferrer { scope: scope(repository), subject, referrer, row })
        };
        index.apply(vec![refers("app", "one"), refers("app", "two"), refers("other", "one")]).await.unwrap();
        index.apply(vec![RemoveRepository { scope: scope("app") }.into()]).await.unwrap();
        let rows = index.read(|from| Ok((from.open_table(REFERRERS)?.len()?, from.open_table(REFERRED)?.len()?)));
        assert_eq!(rows.await.unwrap(), (1, 1));
        assert_eq!(index.referrers_of(&scope("other"), digest("subject")).await.unwrap().len(), 1);
        index.close().await;
    }
}
