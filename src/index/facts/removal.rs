//! What an operator removes: the next pull asks upstream for it again.

use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::list::drop_lists;
use super::{GrantRow, Kind};
use crate::index::generation::Generations;
use crate::index::schema::{self, BLOB_GRANTS, Key, LAST, MANIFEST_GRANTS, REFERRERS, TAGS};
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
        for table in [MANIFEST_GRANTS, BLOB_GRANTS, REFERRERS] {
            to.open_table(table)?.retain_in(schema::range(&self.scope, "", LAST), |_, _| false)?;
        }
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_scope(&self.scope);
    }
}
